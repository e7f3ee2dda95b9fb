"""From what is on a picture to questions and answers: what the vision model learns from and is measured by.

    dialogues(page, random, 8, names)   # one to three turns each, about one picture
    dialogues_of_two(first, second, random, 4)   # about two pictures in one prompt
    evaluation(page, random)   # one question of each kind that fits, asked in the main way
    tool_dialogue(page, random)   # tools, and a question which a call answers

Boxes are pixels of the picture as the model sees it: give a page whose boxes are scaled to that.
"""

from collections import Counter
from collections.abc import Sequence
from random import Random

from pages.page import SHAPES, Page

from questions.answers import ORDER
from questions.asking import Asker, Dialogue, Turn, View, Way
from questions.boxes import all_boxes, box_of_it, boxes, read_boxes, some_boxes
from questions.calls import tool_dialogue
from questions.descriptions import description
from questions.drafts import code
from questions.kinds import COUNTED, NAMED, about_it, at, colour, count, exists, shapes, where
from questions.pairs import dialogues_of_two
from questions.reading import ORDERED, missing, nth, read, state
from questions.templates import AND_COUNT, AND_THE, COUNT, EXISTS

__all__ = (
    "Dialogue",
    "Turn",
    "dialogues",
    "dialogues_of_two",
    "evaluation",
    "is_right",
    "read_boxes",
    "tool_dialogue",
)

# Of the turns a quarter comes out as boxes, a quarter as reading: most pages have no state to ask about, nor shapes.
SHARES: dict[Way, int] = {
    boxes: 50,
    read: 38,
    state: 18,
    description: 18,
    exists: 16,
    colour: 27,
    count: 8,
    missing: 3,
    where: 7,
    shapes: 20,
    at: 3,
    code: 5,
}
_WAYS = tuple(way for way, share in SHARES.items() for _ in range(share))
_LENGTHS = (1, 1, 2, 2, 3)  # turns of a dialogue
EVALUATED = tuple(way for way in SHARES if way is not boxes)
CHINESE_SHARE = 0.1
FOLLOW_UP_SHARE = 0.25


def dialogues(page: Page, random: Random, count: int, names: Sequence[str] = ()) -> list[Dialogue]:
    """`names` are from other pages, for questions about what this page does not have."""
    if not page.elements:  # nothing is annotated, which does not mean that nothing can be seen
        return []
    view = View(page, names)
    askers = Asker(random), Asker(random, chinese=True)
    return [_dialogue(view, askers[random.random() < CHINESE_SHARE]) for _ in range(count)]


def _dialogue(view: View, asker: Asker) -> Dialogue:
    if asker.chance(FOLLOW_UP_SHARE):
        found = asker.random.choice((_counts, _in_order, _in_order, _about_one, _about_one))(view, asker)
        if found:
            return tuple(found)
    turns: list[Turn] = []
    for _ in range(asker.random.choice(_LENGTHS)):
        turn = asker.first(_WAYS, view) or description(view, asker)
        if turn and not any(turn.answer == one.answer or turn.kind == one.kind == "boxes" for one in turns):
            turns.append(turn)
    return tuple(turns)


def _counts(view: View, asker: Asker) -> list[Turn] | None:
    """How many buttons? And links?"""
    roles = [role for role in (*COUNTED, *SHAPES) if role in view.by_role]
    roles = asker.random.sample(roles, min(len(roles), asker.random.choice((2, 2, 3))))
    if asker.chance(0.3):
        roles.append(asker.random.choice(SHAPES if view.shapes else COUNTED))
    roles = list(dict.fromkeys(roles))
    if len(roles) < 2:
        return None
    asker.random.shuffle(roles)
    roles = roles[:3]
    return [
        Turn(
            asker.ask(AND_COUNT if number else COUNT, many=asker.many(role)),
            asker.say.counted(len(view.of(role)), role),
            "count",
        )
        for number, role in enumerate(roles)
    ]


def _in_order(view: View, asker: Asker) -> list[Turn] | None:
    """What does the first button say? And the second?"""
    roles = [role for role in ORDERED if len(view.of(role)) > 1]
    if not roles:
        return None
    role = asker.random.choice(roles)
    places = asker.random.sample(range(len(ORDER)), asker.random.choice((2, 2, 3)))
    places.sort()
    turns = [nth(view, asker, role, places[0])]
    return turns + [nth(view, asker, role, place, asker.ask(AND_THE, nth=asker.nth(place))) for place in places[1:]]


def _about_one(view: View, asker: Asker) -> list[Turn] | None:
    """Is there a button "Save"? What colour is it?"""
    named = [one for one in view.named if one.role in NAMED] or view.shapes
    if view.all_coloured and asker.chance(0.5):
        named = [one for one in named if one.color] or named
    if not named:
        return None
    one = asker.random.choice(named)
    if one.name:
        question = asker.ask(EXISTS, a=asker.a(one.role, one.name))
        first = Turn(question, asker.say.exists(one.role, one.name), "exists")
    elif len(view.by_role[one.role]) == 1:
        first = Turn(asker.ask(EXISTS, a=asker.a(one.role)), asker.say.exists(one.role), "exists")
    else:
        return None
    second = about_it(view, asker, one) or box_of_it(asker, one)
    return [first, second]


def evaluation(page: Page, random: Random, names: Sequence[str] = ()) -> list[Turn]:
    """One question of each kind that fits the page, asked in the main way, in English."""
    if not page.elements:
        return []
    view, asker = View(page, names), Asker(random, plain=True)
    asked = [asker.first((way,), view) for way in (*EVALUATED, all_boxes, some_boxes)]
    return [turn for turn in asked if turn]


def is_right(turn: Turn, answer: str) -> bool:
    """Word for word, except for boxes: all the right labels. How well the boxes fit is measured elsewhere."""
    if turn.kind != "boxes":
        return answer.strip() == turn.answer
    expected, given = (Counter(name for name, _ in read_boxes(text.strip())) for text in (turn.answer, answer))
    return expected == given and (bool(given) or answer.strip() == turn.answer)
