"""What a user may tell and ask for later."""

from collections.abc import Callable
from dataclasses import dataclass

from conversations.values import chinese_city, chinese_name, city, code, first_name
from conversations.words import CHINESE_COLORS, COLORS, THINGS, WEEKDAYS, Dice, pseudo_word


@dataclass(frozen=True)
class Memory:
    """Something to remember: how it is told, what is said then, how it is asked for, and the answers."""

    told: tuple[str, ...]
    heard: str
    recalled: tuple[str, ...]
    answer: str
    not_told: str
    value: Callable[[Dice], str]
    is_chinese: bool = False


def _age(dice: Dice) -> str:
    return str(dice.number(18, 99))


def _pet(dice: Dice) -> str:
    return pseudo_word(dice).capitalize() if dice.chance(0.6) else dice.one(("Rex", "Bella", "Max", "Luna", "Fido"))


def _one_of(options: tuple[str, ...]) -> Callable[[Dice], str]:
    return lambda dice: dice.one(options)


MEMORIES = (
    Memory(
        (
            "My name is {}.",
            "I am {}.",
            "I'm {}.",
            "Call me {}.",
            "Hello, my name is {}.",
            "Hi, I am {}.",
            "The name is {}.",
        ),
        "Nice to meet you, {}.",
        (
            "What is my name?",
            "What's my name?",
            "Who am I?",
            "Do you remember my name?",
            "How am I called?",
            "Tell me my name.",
        ),
        "Your name is {}.",
        "You have not told me your name.",
        first_name,
    ),
    Memory(
        ("I live in {}.", "My home is in {}.", "I am from {}.", "I live in the city of {}.", "My city is {}."),
        "You live in {}. I will remember it.",
        (
            "Where do I live?",
            "Which city do I live in?",
            "What is my city?",
            "Do you know where I live?",
            "Where is my home?",
        ),
        "You live in {}.",
        "You have not told me where you live.",
        city,
    ),
    Memory(
        (
            "My favourite colour is {}.",
            "My favorite color is {}.",
            "I like {} best.",
            "The colour that I like best is {}.",
        ),
        "Your favourite colour is {}. I will remember it.",
        (
            "What is my favourite colour?",
            "Which colour do I like best?",
            "What's my favorite color?",
            "Which is my favorite color?",
        ),
        "Your favourite colour is {}.",
        "You have not told me your favourite colour.",
        _one_of(COLORS),
    ),
    Memory(
        (
            "The order number is {}.",
            "My order number is {}.",
            "The order has the number {}.",
            "Remember the order number {}.",
        ),
        "The order number is {}. I will remember it.",
        (
            "What is the order number?",
            "What was my order number?",
            "Which number has the order?",
            "Tell me the order number.",
        ),
        "The order number is {}.",
        "You have not told me the order number.",
        code,
    ),
    Memory(
        ("I am {} years old.", "My age is {}.", "I'm {} years old.", "I am {} years of age."),
        "You are {} years old. I will remember it.",
        ("How old am I?", "What is my age?", "Do you know how old I am?", "Tell me my age."),
        "You are {} years old.",
        "You have not told me your age.",
        _age,
    ),
    Memory(
        ("My dog is called {}.", "My dog's name is {}.", "I have a dog called {}.", "The name of my dog is {}."),
        "Your dog is called {}. I will remember it.",
        ("What is my dog called?", "What is the name of my dog?", "How is my dog called?", "What's my dog's name?"),
        "Your dog is called {}.",
        "You have not told me about a dog.",
        _pet,
    ),
    Memory(
        ("The meeting is on {}.", "Our meeting is on {}.", "We meet on {}.", "The meeting will be on {}."),
        "The meeting is on {}. I will remember it.",
        ("When is the meeting?", "On which day is the meeting?", "When do we meet?", "What day is the meeting?"),
        "The meeting is on {}.",
        "You have not told me about a meeting.",
        _one_of(WEEKDAYS),
    ),
    Memory(
        ("我叫{}。", "我的名字是{}。", "我是{}。", "你好，我叫{}。", "叫我{}。"),
        "很高兴认识你，{}。",
        ("我叫什么名字？", "我的名字是什么？", "我是谁？", "你记得我的名字吗？", "我叫什么？"),
        "你叫{}。",
        "你还没有告诉我你的名字。",
        chinese_name,
        True,
    ),
    Memory(
        ("我住在{}。", "我家在{}。", "我来自{}。", "我的城市是{}。"),
        "你住在{}。我会记住的。",
        ("我住在哪里？", "我住在哪个城市？", "我的城市是什么？", "我家在哪里？"),
        "你住在{}。",
        "你还没有告诉我你住在哪里。",
        chinese_city,
        True,
    ),
    Memory(
        ("我最喜欢的颜色是{}。", "我最喜欢{}。", "我喜欢的颜色是{}。"),
        "你最喜欢的颜色是{}。我会记住的。",
        ("我最喜欢的颜色是什么？", "我喜欢什么颜色？", "我最喜欢哪种颜色？"),
        "你最喜欢的颜色是{}。",
        "你还没有告诉我你最喜欢的颜色。",
        _one_of(CHINESE_COLORS),
        True,
    ),
    Memory(
        ("订单号是{}。", "我的订单号是{}。", "请记住订单号{}。"),
        "订单号是{}。我会记住的。",
        ("订单号是什么？", "我的订单号是什么？", "订单号是多少？"),
        "订单号是{}。",
        "你还没有告诉我订单号。",
        code,
        True,
    ),
)
_OWNED = (
    *THINGS[:40],
    "hotel",
    "team",
    "favourite food",
    "favourite animal",
    "favourite city",
    "best friend",
    "boss",
    "company",
)


def anything(dice: Dice) -> Memory:
    """The same of any thing, so that not the thing but how it is told counts."""
    noun = pseudo_word(dice) if dice.chance(0.2) else dice.one(_OWNED)
    return Memory(
        (
            f"My {noun} is {{}}.",
            f"My {noun} is called {{}}.",
            f"Remember that my {noun} is {{}}.",
            f"The {noun} of mine is {{}}.",
        ),
        f"Your {noun} is {{}}. I will remember it.",
        (f"What is my {noun}?", f"Do you remember my {noun}?", f"Tell me my {noun}.", f"What was my {noun}?"),
        f"Your {noun} is {{}}.",
        f"You have not told me your {noun}.",
        lambda dice: dice.one((pseudo_word(dice).capitalize(), first_name(dice), dice.one(COLORS), code(dice))),
    )
