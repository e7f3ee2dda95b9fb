"""What one asks with: a page sorted by what can be asked about it, and someone who words the question."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

from pages.page import ROLES, SHAPES, Element, Page

from questions.answers import CHINESE, COLOURS, ENGLISH, NOUNS, ORDER, ORDER_CHINESE, an
from questions.templates import Phrasing

# A table's cells and headers are left out of lists of elements.
LISTED = frozenset((*ROLES, *SHAPES)) - {"columnheader", "cell"}
# Nobody can tell from a picture which of these a label belongs to, so "there is no …" is not said about the others.
ALIKE = {
    role: group
    for group in (
        ("textbox", "combobox"),
        ("checkbox", "radio", "switch"),
        ("tab", "link", "menuitem"),
        ("heading", "dialog", "text", "alert"),
    )
    for role in group
}
SHOWN_ELSEWHERE = (  # names of elements that a page may not have, where the caller gives none
    *("Save", "Cancel", "Delete", "Sign in", "Sign out", "Help", "Settings", "Profile", "Email", "Password", "Phone"),
    *("Search", "Next", "Back", "Close", "Continue", "Home", "About", "Contact", "Country", "Name", "Message", "Send"),
    *("Remember me", "Forgot password?", "Notifications", "Dark mode", "Language", "Upload", "Download", "Edit"),
)
TRIES = 8
LONG = 40  # letters: nobody calls an element by a longer name
_SHAPES = frozenset(SHAPES)


@dataclass(frozen=True)
class Turn:
    """`kind` says how an answer is scored."""

    question: str
    answer: str
    kind: str


Dialogue = tuple[Turn, ...]


class View:
    """One page, sorted for questions. `names` are names on other pages, for questions about what is not there."""

    def __init__(self, page: Page, names: Sequence[str] = ()) -> None:
        self.page = page
        self.plain = _plain(page)
        self.elements = () if self.plain else page.elements
        self.names = names or SHOWN_ELSEWHERE
        self.by_role: dict[str, list[Element]] = {}
        self.known: Counter[tuple[str, str]] = Counter()
        self.shapes: list[Element] = []
        self.listed: list[Element] = []
        for one in self.elements:
            self.by_role.setdefault(one.role, []).append(one)
            if one.role in LISTED:
                self.listed.append(one)
            if one.role in _SHAPES:
                self.shapes.append(one)
            else:
                self.known[one.role, one.name.casefold()] += 1

    def of(self, role: str) -> list[Element]:
        return self.by_role.get(role, [])

    @cached_property
    def named(self) -> list[Element]:
        """Elements that a question may call by role and name: no other has both."""
        return [
            one
            for one in self.listed
            if one.role not in _SHAPES and 0 < len(one.name) <= LONG and self.known[one.role, one.name.casefold()] == 1
        ]

    @cached_property
    def referable(self) -> list[Element]:
        """Elements that a question can mean: those with a name of their own, and the only one of a role or colour."""
        named = {id(one) for one in self.named}
        return self.named + [
            one
            for one in self.listed
            if id(one) not in named
            and (len(self.by_role[one.role]) == 1 or (one.role in _SHAPES and self.is_only_of_colour(one)))
        ]

    @cached_property
    def of_one_colour(self) -> list[tuple[Element, str]]:
        """Elements to ask the colour of, without a word on it, and that colour."""
        return [
            (one, one.color)
            for one in self.referable
            if one.color and (one.role not in _SHAPES or len(self.by_role[one.role]) == 1)
        ]

    def is_only_of_colour(self, element: Element) -> bool:
        return sum(one.color == element.color for one in self.by_role[element.role]) == 1

    @cached_property
    def all_coloured(self) -> tuple[str, ...]:
        """Roles with elements that all have a colour, so that one can ask for, say, red buttons."""
        return tuple(
            role
            for role in ("button", *SHAPES)
            if role in self.by_role and all(one.color for one in self.by_role[role])
        )

    @cached_property
    def rows(self) -> list[list[Element]]:
        """The rows of a table, cell by cell; empty if there is none or its cells make no clear grid."""
        cells, width = self.of("cell"), len(self.of("columnheader"))
        if not width or not cells or len(cells) % width:
            return []
        rows = [cells[start : start + width] for start in range(0, len(cells), width)]
        for row in rows:
            lefts = [one.box[0] for one in row]
            if lefts != sorted(lefts) or max(one.box[1] for one in row) >= min(one.box[3] for one in row):
                return []
        return rows

    def place(self, element: Element) -> int | None:
        """Which ninth of the picture an element's centre is in, row by row; None too near a border to tell."""
        x1, y1, x2, y2 = element.box
        across, down = 1.5 * (x1 + x2) / self.page.width, 1.5 * (y1 + y2) / self.page.height
        if min(abs(across - 1), abs(across - 2), abs(down - 1), abs(down - 2)) < 0.1:
            return None
        return 3 * min(int(down), 2) + min(int(across), 2)


def _plain(page: Page) -> str | None:
    """The colour of a picture of nothing but that colour, which is one rectangle from edge to edge."""
    [one, *others] = page.elements or (None,)
    return one.color if one and not others and one.box == (0, 0, page.width, page.height) else None


class Asker:
    """Words questions, in one language. A `plain` one always asks in the main way."""

    def __init__(self, random: Random, chinese: bool = False, plain: bool = False) -> None:
        self.random = random
        self.say = CHINESE if chinese else ENGLISH
        self.chinese = chinese
        self.plain = plain

    def first(self, ways: Sequence["Way"], view: View) -> Turn | None:
        """What one of several ways to ask gives, or another one where the first drawn has nothing to ask."""
        for _ in range(TRIES):
            turn = self.random.choice(ways)(view, self)
            if turn:
                return turn
        return None

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def ask(self, phrasing: Phrasing, **about: str) -> str:
        if self.chinese:
            templates = phrasing.chinese
        elif self.plain:
            return phrasing.english[0].format(**about)
        else:
            templates = phrasing.varied
        return self.random.choice(templates).format(**about)

    def quoted(self, name: str) -> str:
        roll = 0.0 if self.plain else self.random.random()
        if roll < 0.58:
            return f"“{name}”" if self.chinese and not self.plain else f'"{name}"'
        if roll < 0.70:
            return f"'{name}'"
        if roll < 0.73:
            return f"`{name}`"
        if roll < 0.77:
            return f"“{name}”"
        return name.lower() if roll > 0.96 else name

    def one(self, role: str) -> str:
        """A role's noun, as people call it."""
        noun = NOUNS[role]
        if self.chinese:
            return noun.chinese
        return self.random.choice(noun.others)[0] if noun.others and self._strays() else noun.one

    def many(self, role: str, colour: str | None = None) -> str:
        noun = NOUNS[role]
        if self.chinese:
            return self.say.noun(role, colour)
        many = self.random.choice(noun.others)[1] if noun.others and self._strays() else noun.many
        return f"{colour} {many}" if colour else many

    def coloured(self, role: str, colour: str) -> str:
        return f"{COLOURS[colour]}的{self.one(role)}" if self.chinese else f"{colour} {self.one(role)}"

    def tinted(self, colour: str) -> str:
        return f"{COLOURS[colour]}的" if self.chinese else colour

    def _strays(self) -> bool:
        return not self.plain and self.random.random() < 0.3

    def called(self, role: str, name: str) -> str:
        """`button "Save"` without article, in many ways."""
        one, quoted = self.one(role), self.quoted(name)
        if self.chinese:
            return f"{one}{quoted}" if self.plain or self.chance(0.6) else f"{quoted}{one}"
        roll = 0.0 if self.plain else self.random.random()
        if roll < 0.55:
            return f"{one} {quoted}"
        if roll < 0.85:
            return f"{quoted} {one}"
        return f"{one} {self.random.choice(('named', 'called', 'labelled', 'with the label'))} {quoted}"

    def the(self, view: View, element: Element, by_colour: bool = True) -> str:
        """The element in words that fit no other one. It is one of `view.referable`."""
        role, name = element.role, element.name
        alone = len(view.by_role[role]) == 1
        known = 0 < len(name) <= LONG and view.known[role, name.casefold()] == 1
        if known and not (alone and (role in ("alert", "dialog") or self.chance(0.2))):
            words = self.called(role, name)
        elif by_colour and element.color and role in _SHAPES and not (alone and self.chance(0.3)):
            words = self.coloured(role, element.color)
        else:
            words = self.one(role)
        return words if self.chinese else f"the {words}"

    def the_called(self, role: str, name: str) -> str:
        """Something by its name, whether it exists or not."""
        return self.called(role, name) if self.chinese else f"the {self.called(role, name)}"

    def the_only(self, role: str) -> str:
        return self.one(role) if self.chinese else f"the {self.one(role)}"

    def the_nth(self, role: str, place: int) -> str:
        return f"{ORDER_CHINESE[place]}{self.one(role)}" if self.chinese else f"the {ORDER[place]} {self.one(role)}"

    def a(self, role: str, name: str = "", colour: str | None = None) -> str:
        """One that there may or may not be."""
        words = self.called(role, name) if name else self.coloured(role, colour) if colour else self.one(role)
        return words if self.chinese else an(words)

    def picture(self, place: int) -> str:
        """Which of two pictures; the word for it follows."""
        return ("第一张", "第二张")[place] if self.chinese else ORDER[place]

    def nth(self, place: int) -> str:
        return ORDER_CHINESE[place] if self.chinese else ORDER[place]

    def without(self, view: View, role: str) -> str | None:
        """A name that nothing of this role, nor of one that looks like it, has on the page."""
        alike = ALIKE.get(role, (role,))
        taken = [name for kind, name in view.known if kind in alike and name]
        for _ in range(4):
            roll = self.random.random()
            if roll < 0.25 and view.named:
                name = self.random.choice(view.named).name
            elif roll < 0.5 and role in view.by_role:
                name = self._exchanged(self.random.choice(view.by_role[role]).name, view.names)
            else:
                name = self.random.choice(view.names)
            folded = name.casefold()
            if (
                1 < len(name) <= LONG
                and not name.endswith((".", "。"))
                and not any(folded in one or one in folded for one in taken)
            ):
                return name
        return None

    def _exchanged(self, name: str, names: Sequence[str]) -> str:
        """A name with one of its words replaced."""
        words = name.split(" ")
        others = self.random.choice(names).split(" ")
        place = self.random.randrange(len(words))
        word = self.random.choice(others)
        words[place] = word.capitalize() if place == 0 else word.lower()
        return " ".join(words)


Way = Callable[[View, Asker], Turn | None]
