"""What is on one picture, and where: what the generator of pages knows and the demo model has to find out."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

Box = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels of the picture, from its top left corner

ROLES = (
    *("button", "link", "textbox", "checkbox", "radio", "combobox", "switch", "heading", "tab", "menuitem", "alert"),
    *("dialog", "text", "columnheader", "cell"),
)
SHAPES = ("circle", "square", "triangle", "star", "rectangle", "diamond")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray")


@dataclass(frozen=True)
class Element:
    """`role` is an ARIA role or a shape; `name` what a user reads on it, empty for a shape."""

    role: str
    name: str
    box: Box
    color: str | None = None
    value: str | None = None
    state: str | None = None


@dataclass(frozen=True)
class Word:
    """One word as it is drawn."""

    text: str
    box: Box


@dataclass(frozen=True)
class Page:
    """A picture's size in pixels, what kind of page it is, its elements in reading order, and every word on it."""

    width: int
    height: int
    kind: str
    elements: tuple[Element, ...]
    words: tuple[Word, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> "Page":
        return cls(
            tree["width"],
            tree["height"],
            tree["kind"],
            tuple(Element(**{**one, "box": tuple(one["box"])}) for one in tree["elements"]),
            tuple(Word(one["text"], tuple(one["box"])) for one in tree["words"]),
        )
