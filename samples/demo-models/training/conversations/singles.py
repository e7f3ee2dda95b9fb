"""One question and its answer, without history and tools: who it is, a fact, a sum, or what it does not know."""

from typing import Any

from conversations.identity import IDENTITY, UNKNOWN, UNKNOWN_ZH
from conversations.knowledge import FACTS, SIGN_IN
from conversations.spoken import asked
from conversations.sums import fraction, question, refused, small_sum
from conversations.values import chinese_phrase, city, first_name, person, phrase
from conversations.words import ADJECTIVES, CHINESE_THINGS, DOINGS, THINGS, Dice, plural, pseudo_word

Message = dict[str, Any]

_SIGN_IN = next(fact for fact in FACTS if fact.answer == SIGN_IN)
# What the model is asked least surely by chance, by language: a draw takes one of a language first.
_BY_LANGUAGE = {
    (name, is_chinese): tuple(fact for fact in facts if fact.is_chinese == is_chinese)
    for name, facts in (("identity", IDENTITY), ("fact", FACTS))
    for is_chinese in (False, True)
}
_UNKNOWN = (
    *(
        "Who invented the {thing}?",
        "Why is the {thing} {adjective}?",
        "Tell me a story about a {thing}.",
        "Write a poem about {thing}.",
    ),
    *(
        "How do I {doing} a {thing}?",
        "How much does a {thing} cost?",
        "When was {person} born?",
        "How old is {person}?",
    ),
    *("Should I {doing} the {thing}?", "Is the {thing} better than the {other}?", "Where can I buy a {thing}?"),
    *("What do you think about {thing} and {other}?", "Explain {pseudo}.", "What is {pseudo}?", "What is a {pseudo}?"),
    *(
        "What is the opposite of {pseudo}?",
        "What is the capital of {Pseudo}?",
        "What colour is a {pseudo}?",
        "Who is {person}?",
    ),
    *(
        "Where does {person} live?",
        "Why did {person} {doing} the {thing}?",
        "When does the {thing} start?",
        "Sing a song.",
    ),
    *("Who won the {thing} in {year}?", "Write an essay about the {adjective} {thing}.", "What happened in {year}?"),
    *(
        "Which {thing} is the best?",
        "Can you recommend a {thing}?",
        "What is the population of {city}?",
        "Tell me a joke.",
    ),
    *(
        "How many {things} are there in {city}?",
        "{thing} {adjective} {doing}",
        "{pseudo} {other} {pseudo2}",
        "{pseudo} {pseudo2}",
    ),
    *(
        "What is the {adjective} {thing} of {person}?",
        "How do I get from {city} to {Pseudo}?",
        "Is {person} {adjective}?",
    ),
    *(
        "What should I eat today?",
        "Who is the president?",
        "What time is it?",
        "What is the meaning of life?",
        "Do you love me?",
    ),
    *(
        "What is love?",
        "Can you {doing} my {thing}?",
        "Why does the {thing} {doing}?",
        "Tell me everything about {pseudo}.",
    ),
    *("Compare a {thing} with a {other}.", "What would {person} say about the {thing}?", "How long is the {thing}?"),
)
_UNKNOWN_ZH = (
    *(
        "谁发明了{thing}？",
        "为什么{thing}很贵？",
        "给我讲一个关于{thing}的故事。",
        "写一首关于{thing}的诗。",
        "{thing}多少钱？",
    ),
    *(
        "在哪里买{thing}？",
        "{thing}和{other}哪个更好？",
        "你觉得{thing}怎么样？",
        "{pseudo}是什么？",
        "{pseudo}的首都是哪里？",
    ),
    *(
        "怎么{phrase}？",
        "我应该{phrase}吗？",
        "{pseudo}的反义词是什么？",
        "明天会下雨吗？",
        "现在几点？",
        "讲个笑话。",
        "谁是总统？",
    ),
    *(
        "推荐一个{thing}。",
        "{city}有多少人？",
        "{thing}什么时候开始？",
        "什么是{pseudo}？",
        "{pseudo}{thing}",
        "人生的意义是什么？",
    ),
)


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def identity(dice: Dice, is_chinese: bool) -> tuple[str, str]:
    fact = dice.one(_BY_LANGUAGE["identity", is_chinese])
    # Whoever asks who it is asks with the first words most of the time.
    questions = fact.questions[:3] if dice.chance(0.3) else fact.questions
    return asked(dice, dice.one(questions), is_chinese), fact.answer


def fact(dice: Dice, is_chinese: bool) -> tuple[str, str]:
    known = dice.one(_BY_LANGUAGE["fact", is_chinese])
    if not is_chinese and dice.chance(0.015):
        known = _SIGN_IN
    return asked(dice, dice.one(known.questions), is_chinese), known.answer


def arithmetic(dice: Dice, is_chinese: bool) -> tuple[str, str]:
    roll = dice.random.random()
    if roll < 0.08:
        return refused(dice, is_chinese)
    if roll < 0.11:
        return fraction(dice, is_chinese)
    made = small_sum(dice)
    return question(dice, made, is_chinese), made.said(is_chinese)


def fallback(dice: Dice, is_chinese: bool) -> tuple[str, str]:
    if is_chinese:
        form = dice.one(_UNKNOWN_ZH)
        thing, other = dice.some(CHINESE_THINGS, 2)
        text = form.format(
            thing=thing, other=other, pseudo=pseudo_word(dice), phrase=chinese_phrase(dice), city=city(dice)
        )
        return asked(dice, text, True), UNKNOWN_ZH
    form = dice.one(_UNKNOWN)
    thing, other = dice.some(THINGS, 2)
    text = form.format(
        thing=thing,
        things=plural(thing),
        other=other,
        adjective=dice.one(ADJECTIVES),
        doing=dice.one(DOINGS),
        pseudo=pseudo_word(dice),
        pseudo2=pseudo_word(dice),
        Pseudo=pseudo_word(dice).capitalize(),
        person=person(dice) if dice.chance(0.6) else first_name(dice),
        city=city(dice),
        year=dice.number(1800, 2030),
    )
    if dice.chance(0.05):
        text = phrase(dice)
    return asked(dice, text[0].upper() + text[1:]), UNKNOWN


SINGLES = {"identity": identity, "fact": fact, "arithmetic": arithmetic, "fallback": fallback}


def any_single(dice: Dice, is_chinese: bool) -> tuple[str, str]:
    roll = dice.random.random()
    kind = "identity" if roll < 0.2 else "fact" if roll < 0.6 else "arithmetic" if roll < 0.85 else "fallback"
    return SINGLES[kind](dice, is_chinese)
