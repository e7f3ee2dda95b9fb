"""What is on a page, as a test can speak of it."""

import json
from dataclasses import dataclass, field
from typing import Literal

Target = Literal["playwright", "selenium"]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in CSS pixels of the viewport (in a draft: in pixels of the picture)."""

By = Literal[
    "role", "label", "placeholder", "text", "alt", "title", "test_id", "id", "aria_label", "xpath", "css", "point"
]

ALERTS = frozenset({"alert", "status"})
TYPED_INTO = frozenset({"textbox", "searchbox", "spinbutton"})
TURNED_ON = frozenset({"checkbox", "radio", "switch"})
CHOSEN_FROM = frozenset({"combobox", "listbox"})
STATES = frozenset(
    {
        *("checked", "disabled", "expanded", "collapsed", "selected", "not_selected", "pressed", "not_pressed"),
        *("focused", "readonly", "required", "invalid"),
    }
)


@dataclass(frozen=True)
class Locator:
    """One way to an element: ``by`` with its ``value``; for a role also the accessible ``name``.

    ``within`` is the element around it where the page has several, such as the row of a table; ``frames`` are CSS
    selectors of the iframes around it, outermost first; a point is ``"x,y"`` in CSS pixels. ``has_role`` keeps only
    elements that contain an element of that role, such as table rows that contain a cell; ``has_text`` only those whose
    text contains it, and ``has_exact_text`` those with an element inside that has this text alone.
    """

    by: By
    value: str
    name: str | None = None
    within: "Locator | None" = None
    frames: tuple[str, ...] = ()
    has_role: str | None = None
    has_text: str | None = None
    has_exact_text: str | None = None


@dataclass(frozen=True)
class Element:
    """A visible element, or a group of them. ``id`` is short; the plan and the annotated picture use it."""

    id: str
    role: str
    """ARIA's; ``text`` for words that have none."""
    name: str
    """The accessible name, or the text."""
    box: Box
    locators: tuple[Locator, ...]
    """For one target, best first. On a live page each of them leads to this element alone. Never empty."""
    is_verified: bool = False
    """It was found on the live page."""
    context: str = ""
    """What tells it from others of the same role and name, such as ``row "Dana Reyes"``."""
    value: str = ""
    """What is typed or chosen there."""
    options: tuple[str, ...] = ()
    """Of a combobox or listbox, as far as they are known."""
    states: frozenset[str] = field(default_factory=frozenset)
    """Of `STATES`."""
    path: str = ""
    """CSS path at the time it was seen, for mutation; no locator, since any change of the page breaks it."""
    is_inert: bool = False
    """It is under a modal dialog, and nobody can use it."""
    has_label: bool = False
    """Its accessible name, of an attribute such as ``aria-label``, is not in its text."""
    takes_text: bool = False
    """A combobox that can be typed into."""
    is_secret: bool = False
    """What is typed there must not stand in code or in a report."""
    around: tuple[str, ...] = ()
    """The rows, list items, groups and dialogs around it, innermost first, each as its role and its text."""
    items: tuple[str, ...] = ()
    """Of a group: the texts of its items in the order of the page, whitespace collapsed."""

    @property
    def is_group(self) -> bool:
        """Several elements of one kind, such as the rows of a table; they can be counted and have an order."""
        return self.id.startswith("g")

    @property
    def was_there(self) -> bool:
        """Before the steps."""
        return self.id.startswith("e")

    @property
    def description(self) -> str:
        """Role, name and context, for prompts and reports. The name is quoted as JSON: it is data of the page."""
        name = f" {quoted(self.name)}" if self.name else ""
        return f"{self.role}{name}{f' in {self.context}' if self.context else ''}"


@dataclass(frozen=True)
class Look:
    """A page at one time: its elements and groups in the order of the page, its address and its title."""

    elements: tuple[Element, ...]
    url: str = ""
    title: str = ""


def quoted(text: str, longest: int = 80) -> str:
    """On one line and in quotation marks, shortened where it is longer than so many characters."""
    line = " ".join(text.split())
    return json.dumps(line if len(line) <= longest else f"{line[: longest - 1]}…", ensure_ascii=False)
