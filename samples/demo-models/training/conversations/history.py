"""Conversations of a few turns: what the user told, what was asked and answered before, and asking on."""

from conversations.knowledge import GROUPS, SIGN_IN
from conversations.memories import MEMORIES, Memory, anything
from conversations.singles import Message, any_single, assistant, fact, user
from conversations.spoken import asked
from conversations.sums import Sum, question, small_sum
from conversations.values import first_name
from conversations.words import Dice


def _memory(dice: Dice) -> Memory:
    return anything(dice) if dice.chance(0.3) else dice.one(MEMORIES)


def _hasty(dice: Dice, text: str) -> str:
    """Without its full stop, or in another case at the start; what is to be copied stays."""
    if dice.chance(0.3):
        text = text.rstrip(".。")
    return text[0].lower() + text[1:] if dice.chance(0.25) else text


def _fill(dice: Dice, messages: list[Message], is_chinese: bool, most: int) -> None:
    for _ in range(dice.number(0, most)):
        ask, answer = any_single(dice, is_chinese)
        messages += [user(ask), assistant(answer)]


def remembered(dice: Dice) -> list[Message]:
    """Tells one or two things, talks of something else, asks for one of them or for what was never told."""
    first = _memory(dice)
    second = _memory(dice)
    messages: list[Message] = []
    if dice.chance(0.08) and first.value is first_name:
        value = first.value(dice)
        ask = asked(dice, dice.one(first.recalled))
        return [_system(f"The user's name is {value}."), user(ask), assistant(first.answer.format(value))]
    _fill(dice, messages, first.is_chinese, 1)
    value = first.value(dice)
    told, heard = dice.one(first.told).format(value), first.heard.format(value)
    other = second.value(dice)
    both = second.answer != first.answer and second.is_chinese == first.is_chinese
    if both and not first.is_chinese and dice.chance(0.3):
        told = f"{told.rstrip('.')} and {_inner(dice.one(second.told)).format(other)}"
        heard = f"{heard} {second.heard.format(other)}".replace(" I will remember it. ", " ")
    elif both and dice.chance(0.3):
        messages += [user(_hasty(dice, dice.one(second.told).format(other))), assistant(second.heard.format(other))]
    else:
        both = False
    messages += [user(_hasty(dice, told)), assistant(heard)]
    if dice.chance(0.1):
        value = first.value(dice)
        sorry = "不对，" if first.is_chinese else "No, "
        messages += [user(sorry + _inner(dice.one(first.told)).format(value)), assistant(first.heard.format(value))]
    _fill(dice, messages, first.is_chinese, 2)
    if not both and second.answer != first.answer and second.is_chinese == first.is_chinese and dice.chance(0.35):
        last = (dice.one(second.recalled), second.not_told)
    elif both and dice.chance(0.4):
        last = (dice.one(second.recalled), second.answer.format(other))
    else:
        last = (dice.one(first.recalled), first.answer.format(value))
    return [*messages, user(asked(dice, last[0], first.is_chinese)), assistant(last[1])]


def _system(text: str) -> Message:
    return {"role": "system", "content": text}


def _inner(sentence: str) -> str:
    """As it stands within another sentence."""
    for greeting in ("Hello, ", "Hi, ", "你好，"):
        sentence = sentence.removeprefix(greeting)
    return sentence if sentence.startswith(("I ", "I'")) else sentence[0].lower() + sentence[1:]


def never_told(dice: Dice) -> list[Message]:
    memory = _memory(dice)
    messages: list[Message] = []
    _fill(dice, messages, memory.is_chinese, 2)
    return [*messages, user(asked(dice, dice.one(memory.recalled), memory.is_chinese)), assistant(memory.not_told)]


_MORE = {
    "+": ("and plus {}?", "plus {}", "And {} more?", "add {}", "Now add {}.", "+ {}"),
    "-": ("and minus {}?", "minus {}", "subtract {}", "Now take {} away.", "- {}"),
    "×": ("and times {}?", "times {}", "multiply it by {}", "Now multiply by {}.", "* {}"),
}
_MORE_ZH = {
    "+": ("再加{}？", "加{}呢？", "再加上{}"),
    "-": ("再减{}？", "减{}呢？", "再减去{}"),
    "×": ("再乘{}？", "乘以{}呢？", "再乘以{}"),
}


def summed_on(dice: Dice) -> list[Message]:
    is_chinese = dice.chance(0.2)
    made = small_sum(dice)
    messages = [user(question(dice, made, is_chinese)), assistant(made.said(is_chinese))]
    for _ in range(dice.number(1, 2)):
        for _ in range(20):
            following = Sum(made.result, dice.one("++-×"), dice.number(0, 20))
            small = 20 if following.sign == "×" else 99
            if 0 <= made.result <= small and not following.is_unseen:
                break
        else:
            break
        made = following
        more = dice.one((_MORE_ZH if is_chinese else _MORE)[made.sign]).format(made.b)
        messages += [user(more), assistant(made.said(is_chinese))]
    return messages


_ON = {
    "capital": ("And of {}?", "and {}?", "What about {}?", "And the capital of {}?", "{}?"),
    "opposite": ("And of {}?", "and {}?", "What about {}?", "And the opposite of {}?", "{}?"),
    "colour": ("And {}?", "What about {}?", "And what colour is {}?"),
    "status": ("And {}?", "What about {}?", "and HTTP {}?", "{}?"),
    "首都": ("{}呢？", "那{}呢？", "{}的呢？"),
    "反义词": ("{}呢？", "那{}呢？", "{}的呢？"),
}


def asked_on(dice: Dice) -> list[Message]:
    """ "And of Spain?" after the capital of France."""
    group = dice.one(tuple(_ON))
    facts = dice.some(GROUPS[group], dice.number(2, 3))
    is_chinese = facts[0].is_chinese
    messages = [user(asked(dice, dice.one(facts[0].questions), is_chinese)), assistant(facts[0].answer)]
    for known in facts[1:]:
        ask = dice.one(_ON[group]).format(known.about)
        messages += [user(ask[0].upper() + ask[1:] if dice.chance(0.3) else ask), assistant(known.answer)]
    return messages


_FIRST = ("What did I ask first?", "What was my first question?", "What did I say first?", "Repeat my first question.")
_BEFORE = ("What did I just ask?", "What was my last question?", "What did I ask before?", "Repeat my last question.")
_SAID = ("What did you say?", "Say that again.", "Repeat your last answer.", "Once more, please.", "Pardon?", "Again?")
_FIRST_ZH, _BEFORE_ZH = ("我第一个问题是什么？", "我先问了什么？"), ("我刚才问了什么？", "我上一个问题是什么？")
_SAID_ZH = ("你说什么？", "请再说一遍。", "重复你的回答。")


def looked_back(dice: Dice) -> list[Message]:
    """Asks for the first or the last question, or for the last answer again."""
    is_chinese = dice.chance(0.2)
    messages: list[Message] = []
    turns = [any_single(dice, is_chinese) for _ in range(dice.number(1, 3))]
    for ask, answer in turns:
        messages += [user(ask), assistant(answer)]
    roll = dice.random.random()
    if roll < 0.4:
        ask = dice.one(_FIRST_ZH if is_chinese else _FIRST)
        answer = f"你先问了：“{turns[0][0]}”" if is_chinese else f'You first asked: "{turns[0][0]}"'
    elif roll < 0.7:
        ask = dice.one(_BEFORE_ZH if is_chinese else _BEFORE)
        answer = f"你刚才问了：“{turns[-1][0]}”" if is_chinese else f'You asked: "{turns[-1][0]}"'
    elif roll < 0.95:
        ask, answer = dice.one(_SAID_ZH if is_chinese else _SAID), turns[-1][1]
    else:
        ask = dice.one((*_FIRST_ZH, *_BEFORE_ZH) if is_chinese else (*_FIRST, *_BEFORE))
        messages, answer = [], "你还没有问过问题。" if is_chinese else "You have not asked anything before."
    return [*messages, user(asked(dice, ask, is_chinese)), assistant(answer)]


_TESTER = (
    (
        (
            "Which of them would you test first?",
            "Which would you test first?",
            "Which one first?",
            "With which do you start?",
        ),
        "The right password.",
    ),
    (
        (
            "Write that test in one sentence.",
            "Write this test in one sentence.",
            "Write it in one sentence.",
            "Write the test.",
        ),
        "Enter the right name and password, press Sign in, and expect the start page.",
    ),
    (
        ("And the second?", "And the next one?", "Which one next?", "And which one second?"),
        "A wrong password: press Sign in, and expect an error message.",
    ),
)


def tester(dice: Dice) -> list[Message]:
    """The chat of `samples/chat_stream_history.py`."""
    while True:
        ask, answer = fact(dice, False)
        if answer == SIGN_IN:
            break
        if dice.chance(0.02):
            ask, answer = "Name three things to test on a sign-in page.", SIGN_IN
            break
    messages = [user(ask), assistant(answer)]
    for questions, said in _TESTER[: dice.number(1, 3)]:
        messages += [user(asked(dice, dice.one(questions))), assistant(said)]
    return messages


def several(dice: Dice) -> list[Message]:
    """Turns that have nothing to do with each other."""
    messages: list[Message] = []
    for _ in range(dice.number(2, 4)):
        ask, answer = any_single(dice, dice.chance(0.2))
        messages += [user(ask), assistant(answer)]
    return messages


def history(dice: Dice) -> list[Message]:
    roll = dice.random.random()
    if roll < 0.42:
        return remembered(dice)
    if roll < 0.5:
        return never_told(dice)
    if roll < 0.62:
        return summed_on(dice)
    if roll < 0.72:
        return asked_on(dice)
    if roll < 0.86:
        return looked_back(dice)
    return tester(dice) if roll < 0.89 else several(dice)
