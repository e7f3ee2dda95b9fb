"""Questions about two pictures in one prompt."""

from collections.abc import Callable
from random import Random

from pages.page import COLORS, SHAPES, Element, Page

from questions.answers import English
from questions.asking import Asker, Dialogue, Turn, View
from questions.descriptions import describe
from questions.kinds import COUNTED, NAMED, colour, count, exists, shapes
from questions.reading import only
from questions.templates import Phrasing

WHICH_HAS = Phrasing(
    (
        "Which picture has {a}?",
        "Which picture shows {a}?",
        "Which of the two pictures shows {a}?",
        "In which picture is {a}?",
        "Which one has {a}?",
        "Which image contains {a}?",
        "Tell me which picture has {a}.",
        "Where is {a}, in the first or in the second picture?",
    ),
    ("哪张图片有{a}？", "{a}在哪张图片里？", "哪一张有{a}？"),
)
WHICH_IS = Phrasing(
    (
        "Which picture is {tint}?",
        "Which of the two pictures is {tint}?",
        "Which one is {tint}?",
        "Which image is {tint}?",
        "Tell me which picture is {tint}.",
    ),
    ("哪张图片是{tint}？", "哪一张是{tint}？"),
)
MORE = Phrasing(
    (
        "Which picture has more {many}?",
        "Which one has more {many}?",
        "Which of the two pictures shows more {many}?",
        "In which picture are there more {many}?",
        "Where do you see more {many}?",
        "Which image has the most {many}?",
        "Tell me which picture has more {many}.",
    ),
    ("哪张图片的{many}更多？", "哪一张有更多的{many}？"),
)
SAME = Phrasing(
    (
        "Are the two pictures the same?",
        "Are these pictures the same?",
        "Are both pictures identical?",
        "Do the two pictures show the same?",
        "Are the pictures equal?",
        "Is the second picture the same as the first?",
        "Tell me if the two pictures are the same.",
        "Compare the pictures. Are they the same?",
    ),
    ("两张图片一样吗？", "这两张图片相同吗？"),
)
DESCRIBE_ONE = Phrasing(
    (
        "What is on the {nth} picture?",
        "What is in the {nth} picture?",
        "Describe the {nth} picture.",
        "What does the {nth} picture show?",
        "What do you see in the {nth} picture?",
        "Describe the {nth} image.",
        "What is on the {nth} screenshot?",
        "Tell me what is on the {nth} picture.",
        "Describe the {nth} one.",
    ),
    ("{nth}图片上有什么？", "描述{nth}图片。"),
)
IN_PICTURE = Phrasing(
    (
        "In the {nth} picture: {question}",
        "In the {nth} picture, {question}",
        "Look at the {nth} picture: {question}",
        "Look at the {nth} image. {question}",
        "In the {nth} screenshot: {question}",
        "The {nth} picture: {question}",
        "About the {nth} picture: {question}",
    ),
    ("{nth}图片：{question}", "看{nth}图片，{question}"),
)

Views = tuple[View, View]
CHINESE_SHARE = 0.1


def dialogues_of_two(first: Page, second: Page, random: Random, count: int) -> list[Dialogue]:
    if not first.elements or not second.elements:
        return []
    views = View(first, _names(second)), View(second, _names(first))
    askers = Asker(random), Asker(random, chinese=True)
    return [_dialogue(views, askers[random.random() < CHINESE_SHARE]) for _ in range(count)]


def _names(page: Page) -> list[str]:
    return [one.name for one in page.elements if one.name]


def _dialogue(views: Views, asker: Asker) -> Dialogue:
    turns: list[Turn] = []
    for _ in range(asker.random.choice((1, 1, 2))):
        for _ in range(8):
            turn = asker.random.choice(_WAYS)(views, asker)
            if turn and all(turn.question != one.question for one in turns):
                turns.append(turn)
                break
    return tuple(turns) or (_same(views, asker),)


def _which(has: tuple[bool, bool], say: English) -> str:
    if has[0] and has[1]:
        return say.both_pictures
    if not has[0] and not has[1]:
        return say.neither_picture
    return say.first_picture if has[0] else say.second_picture


def _which_has(views: Views, asker: Asker) -> Turn | None:
    """Which picture has a button of some name, or a circle, or a dialog?"""
    shown = asker.random.choice(views)
    options: list[Element] = shown.shapes or [one for one in shown.named if one.role in NAMED]
    if not options:
        return None
    one = asker.random.choice(options)
    role, name, tint = one.role, one.name, one.color if one.role in SHAPES and asker.chance(0.5) else None
    if asker.chance(0.12):  # what neither has, most times
        role, name = asker.random.choice(COUNTED if one.name else SHAPES), ""
        tint = asker.random.choice(COLORS) if role in SHAPES else None
    elif name and asker.chance(0.25):
        name = ""
    if name:
        has = [view.known[role, name.casefold()] > 0 for view in views]
    else:
        has = [any(tint in (None, one.color) for one in view.of(role)) for view in views]
    question = asker.ask(WHICH_HAS, a=asker.a(role, name, tint))
    return Turn(question, _which((has[0], has[1]), asker.say), "which")


def _which_is(views: Views, asker: Asker) -> Turn | None:
    """Of pictures of one colour."""
    plain = [view.plain for view in views]
    if not plain[0] or not plain[1]:
        return None
    tint = asker.random.choice((plain[0], plain[1]))
    words = asker.tinted(tint)
    has = plain[0] == tint, plain[1] == tint
    return Turn(asker.ask(WHICH_IS, tint=words), _which(has, asker.say), "which")


def _more(views: Views, asker: Asker) -> Turn | None:
    numbers = {role: tuple(len(view.of(role)) for view in views) for role in (*COUNTED, *SHAPES)}
    numbers["shape"] = tuple(len(view.shapes) for view in views)
    roles = [role for role, (first, second) in numbers.items() if first != second]
    if not roles:
        return None
    role = asker.random.choice(roles)
    first, second = numbers[role]
    answer = asker.say.first_picture if first > second else asker.say.second_picture
    return Turn(asker.ask(MORE, many=asker.many(role)), answer, "which")


def _same(views: Views, asker: Asker) -> Turn:
    first, second = views[0].page, views[1].page
    same = first == second
    return Turn(asker.ask(SAME), asker.say.same_pictures if same else asker.say.different_pictures, "same")


def _describe_one(views: Views, asker: Asker) -> Turn:
    place = asker.random.randrange(2)
    question = asker.ask(DESCRIBE_ONE, nth=asker.picture(place))
    return Turn(question, describe(views[place], asker.say), "describe")


def _about_one(views: Views, asker: Asker) -> Turn | None:
    """Any question about one picture, with a word on which is meant."""
    place = asker.random.randrange(2)
    turn = asker.first((colour, colour, count, count, exists, only, shapes), views[place])
    if not turn or any(word in turn.question for word in (" page", " screenshot", "页面")) or "page" in turn.answer:
        return None
    question = turn.question if asker.chinese else turn.question[:1].lower() + turn.question[1:]
    return Turn(asker.ask(IN_PICTURE, nth=asker.picture(place), question=question), turn.answer, turn.kind)


_WAYS: tuple[Callable[[Views, Asker], Turn | None], ...] = (
    *(_which_has, _which_has, _which_has, _which_has, _which_is, _which_is, _more, _more, _same),
    *(_describe_one, _describe_one, _about_one, _about_one, _about_one, _about_one),
)
