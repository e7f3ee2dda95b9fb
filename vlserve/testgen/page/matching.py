"""Matches the elements of the picture with those of the page, by position, text and role."""

import difflib
import functools
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vlserve.testgen.elements import CHOSEN_FROM, TURNED_ON, TYPED_INTO, Box, Element
from vlserve.testgen.page.inventory import Seen
from vlserve.testgen.scenario.quotes import is_cjk

_LIKE_ENOUGH = 0.55
_SAME_TEXT, _OTHER_WORDS = 0.9, 0.5
_FAMILIES = (TYPED_INTO | CHOSEN_FROM, TURNED_ON, frozenset({"tab", "link", "menuitem", "button"}))


@dataclass(frozen=True)
class Matches:
    """``seen_as`` maps an element's id to the index of its match in the inventory; ``unmatched`` are the indexes of
    the rest; ``shift`` is by how many CSS pixels the picture was scrolled."""

    seen_as: dict[str, int]
    unmatched: list[int]
    shift: tuple[float, float]


def match(seen: Sequence[Seen], elements: Sequence[Element], ratio: float) -> Matches:
    """``ratio`` is the picture's pixels for each CSS pixel. Each element is matched once at most."""
    boxes = [_scaled(one.box, ratio) for one in seen]
    shift = _shift(seen, boxes, elements)
    alike = Counter((one.role, one.name.casefold()) for one in elements)
    scored = []
    for number, (one, box) in enumerate(zip(seen, boxes, strict=True)):
        moved = (box[0] + shift[0], box[1] + shift[1], box[2] + shift[0], box[3] + shift[1])
        for element in elements:
            score = _likeness(one, moved, element)
            is_near = _overlap(moved, element.box) > 0
            if score >= _LIKE_ENOUGH and (is_near or alike[element.role, element.name.casefold()] == 1):
                scored.append((score, number, element.id))
    scored.sort(key=lambda entry: -entry[0])
    seen_as: dict[str, int] = {}
    taken: set[int] = set()
    for _, number, id_ in scored:
        if number not in taken and id_ not in seen_as:
            seen_as[id_] = number
            taken.add(number)
    return Matches(seen_as, [number for number in range(len(seen)) if number not in taken], shift)


def ratio_of(picture: tuple[int, int], viewport: tuple[int, int]) -> float:
    """Picture pixels for each CSS pixel."""
    return picture[0] / viewport[0]


def in_place(found: Matches, seen: Sequence[Seen], elements: Sequence[Element], ratio: float) -> float:
    """0 to 1: the share of the inventory that lies where the page has it; it is low if ``ratio`` is wrong."""
    boxes = {one.id: one.box for one in elements}
    hits = 0
    for id_, number in found.seen_as.items():
        left, top, right, bottom = _scaled(seen[number].box, ratio)
        x, y = found.shift
        hits += is_inside((left + x, top + y, right + x, bottom + y), boxes[id_])
    return hits / len(seen) if seen else 1.0


def is_inside(seen: Box, element: Box) -> bool:
    """Whether the centre of ``seen`` lies in ``element``."""
    x, y = (seen[0] + seen[2]) / 2, (seen[1] + seen[3]) / 2
    return element[0] <= x <= element[2] and element[1] <= y <= element[3]


def is_read(name: str) -> bool:
    """Whether a name can have been read: letters or digits for the most part, and not one character again and again."""
    marks = [one for one in name.casefold() if not one.isspace()]
    words = [one for one in marks if one.isalnum()]
    is_long = len(words) > 1 or any(is_cjk(one) for one in words)
    return is_long and 2 * len(words) >= len(marks) and (len(set(words)) > 1 or len(words) < 3)


def _likeness(seen: Seen, box: Box, element: Element) -> float:
    """0 to 1: half from the text, a third from the position, the rest from the role."""
    words = likeness_of_words(seen.name, element.name)
    if seen.name and element.name and words < _OTHER_WORDS:
        return 0.0
    place = max(_overlap(box, element.box), 0.6 if is_inside(box, element.box) else 0.0)
    return 0.5 * words + 0.35 * place + 0.15 * _same_role(seen.role, element.role)


@functools.lru_cache(maxsize=50_000)
def likeness_of_words(one: str, other: str) -> float:
    """0 to 1, without regard to case."""
    if not one and not other:
        return 0.5
    return difflib.SequenceMatcher(None, one.casefold(), other.casefold(), autojunk=False).ratio()


def _same_role(one: str, other: str) -> float:
    return 1.0 if one == other else 0.6 if any({one, other} <= family for family in _FAMILIES) else 0.0


def _shift(seen: Sequence[Seen], boxes: Sequence[Box], elements: Sequence[Element]) -> tuple[float, float]:
    """How far the picture's content lies from the page's, by texts that both have exactly once."""
    moves = []
    for one, box in zip(seen, boxes, strict=True):
        same = [element for element in elements if likeness_of_words(one.name, element.name) > _SAME_TEXT]
        if one.name and len(same) == 1:
            moves.append((same[0].box[0] - box[0], same[0].box[1] - box[1]))
    if len(moves) < 3:
        return 0.0, 0.0
    x, y = (statistics.median(move[side] for move in moves) for side in (0, 1))
    return (x if abs(x) > 12 else 0.0), (y if abs(y) > 12 else 0.0)


def _scaled(box: Box, ratio: float) -> Box:
    return box[0] / ratio, box[1] / ratio, box[2] / ratio, box[3] / ratio


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (_area(one) + _area(other) - both)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
