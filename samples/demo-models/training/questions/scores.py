"""Scores of the demo models' answers, and the table that tells them. Pure: no service, no pictures."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pages.page import Box

from questions.boxes import read_boxes

Message = dict[str, Any]


@dataclass(frozen=True)
class Fit:
    """How well a list of elements is the expected one. Numbers of elements, so that those of all pages add up."""

    expected: int = 0
    given: int = 0
    named: int = 0  # given with the right label
    inside: int = 0  # and with the box's centre inside an element of that label

    def __add__(self, other: "Fit") -> "Fit":
        mine, theirs = vars(self).values(), vars(other).values()
        return Fit(*(a + b for a, b in zip(mine, theirs, strict=True)))

    @property
    def f1(self) -> float:
        return 2 * self.named / (self.expected + self.given) if self.expected + self.given else 1.0

    @property
    def centred(self) -> float:
        return self.inside / self.named if self.named else 0.0


def fit(expected: str, answer: str) -> Fit:
    """A label that stands there twice counts twice, but only as often as it is expected."""
    wanted, found = _by_label(expected), _by_label(answer)
    named = sum(min(len(boxes), len(found.get(label, ()))) for label, boxes in wanted.items())
    inside = sum(_hits(boxes, found.get(label, [])) for label, boxes in wanted.items())
    return Fit(sum(map(len, wanted.values())), sum(map(len, found.values())), named, inside)


def _by_label(answer: str) -> dict[str, list[Box]]:
    found: dict[str, list[Box]] = defaultdict(list)
    for label, box in read_boxes(answer.strip()):
        found[label].append(box)
    return found


def _hits(wanted: Sequence[Box], found: Sequence[Box]) -> int:
    """Boxes whose centre is inside one of those wanted, each of which can be hit once."""
    left, hits = list(wanted), 0
    for box in found:
        hit = next((one for one in left if centre_inside(box, one)), None)
        if hit is not None:
            left.remove(hit)
            hits += 1
    return hits


def centre_inside(box: Box, other: Box) -> bool:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return box[0] <= box[2] and box[1] <= box[3] and other[0] <= x <= other[2] and other[1] <= y <= other[3]


def is_expected(expected: Message, answer: Message) -> bool:
    """The same calls, in order and with equal arguments, or else the same words."""
    wanted, found = (message.get("tool_calls") or [] for message in (expected, answer))
    if wanted or found:
        return [_call(call) for call in wanted] == [_call(call) for call in found]
    return bool((answer.get("content") or "").strip() == expected["content"])


def _call(call: Message) -> tuple[str, str]:
    """Name and arguments, these as JSON with sorted keys: Python takes true for 1."""
    arguments = call["function"]["arguments"]
    try:
        arguments = json.dumps(json.loads(arguments), sort_keys=True)
    except ValueError:
        arguments = f"not JSON: {arguments}"
    return call["function"]["name"], arguments


@dataclass(frozen=True)
class Row:
    """A line of the table; `mark` is what is asked for."""

    what: str
    asked: int | None
    right: int | None
    figure: float
    mark: float | None = None
    in_seconds: bool = False

    @property
    def is_below(self) -> bool:
        if self.mark is None:
            return False
        return self.figure > self.mark if self.in_seconds else self.figure < self.mark

    def cells(self) -> tuple[str, ...]:
        counts = ("" if number is None else str(number) for number in (self.asked, self.right))
        if self.in_seconds:
            figure, mark = f"{self.figure:.2f} s", f"≤ {self.mark:g} s"
        else:
            figure, mark = f"{self.figure:.1%}", "" if self.mark is None else f"≥ {self.mark:.0%}"
        return (self.what, *counts, figure, mark, "below" if self.is_below else "")


def printed(rows: Sequence[Row]) -> str:
    cells = [("what", "asked", "right", "share", "asked for", ""), *(row.cells() for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    lines = []
    for what, *others in cells:
        aligned = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        lines.append("  ".join((what.ljust(widths[0]), *aligned)).rstrip())
    return "\n".join(lines)
