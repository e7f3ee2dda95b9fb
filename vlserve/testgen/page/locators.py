"""Locators of an element, best first, made of its role, name and attributes. The live page tells which are unique."""

from collections.abc import Sequence
from typing import TypedDict

from vlserve.testgen.code import selenium_xpath
from vlserve.testgen.elements import ALERTS, CHOSEN_FROM, TURNED_ON, TYPED_INTO, Box, By, Locator, Target

_WAYS_IN_ITEM, _TEXTS_OF_ITEM = 3, 2
"""Each way is a round trip to the page."""


class Item(TypedDict):
    """A list item, row or card around an element, with the texts in it that can identify it, best first."""

    role: str
    """Empty for a card without a role."""
    css: str
    xpath: str
    texts: list[str]


class Facts(TypedDict):
    """What facts.js returns for an element."""

    tag: str
    type: str
    id: str
    test_id: str
    aria_label: str
    placeholder: str
    alt: str
    title: str
    labels: list[str]
    text: str
    value: str
    options: list[str]
    css: str
    frame: str
    inert: bool
    states: list[str]
    block: str
    items: list[Item]
    """What the element lies in, where others like it lie in parts of the same kind."""


def candidates(
    role: str, name: str, facts: Facts, target: Target, within: Locator | None, frames: tuple[str, ...]
) -> list[Locator]:
    """All locators worth trying; ``within`` is the row, group or dialog around it, for where several are alike.

    The words of the list item, row or card around it are tried where its accessible name does not help.
    """
    found = _of_playwright(role, name, facts) if target == "playwright" else _of_selenium(role, name, facts)
    plain = [Locator(one.by, one.value, one.name, frames=frames) for one in found if one.value]
    inside = [
        Locator(one.by, one.value, one.name, within=within, frames=frames)
        for one in plain
        if within and one.by in ("role", "label", "text", "xpath")
    ]
    inside += _in_items(role, plain, facts, target, frames)
    if not inside:
        return plain
    steady = [one for one in plain if one.by in ("test_id", "id", "aria_label")]
    first = [one for one in plain if one not in steady and one.by != "css"]
    last = [one for one in plain if one.by == "css"]
    return [*steady, *first, *inside, *last] if target == "selenium" else [*first, *inside, *steady, *last]


def _in_items(
    role: str, plain: Sequence[Locator], facts: Facts, target: Target, frames: tuple[str, ...]
) -> list[Locator]:
    """Locators within the item around the element, which is found by its words."""
    inner = [one for one in plain if one.by not in ("id", "css")][:_WAYS_IN_ITEM]
    if not inner and role != "text":
        kind = f"[@type={selenium_xpath.text(facts['type'])}]" if facts["tag"] == "input" and facts["type"] else ""
        inner = [
            Locator("role", role)
            if target == "playwright"
            else Locator("xpath", f"//{selenium_xpath.tag(facts['tag'])}{kind}")
        ]
    return [
        Locator(one.by, one.value, one.name, within=outer, frames=frames)
        for item in facts["items"]
        for text in item["texts"][:_TEXTS_OF_ITEM]
        for outer in _with_text(item, text, target)
        for one in inner
    ]


def _with_text(item: Item, text: str, target: Target) -> tuple[Locator, Locator]:
    """The item whose text contains this; then the one with an element of this text alone, for where that is part of
    another item's."""
    by: By
    if target == "selenium":
        by, value = "xpath", item["xpath"]
    else:
        by, value = ("role", item["role"]) if item["role"] else ("css", item["css"])
    return Locator(by, value, has_text=text), Locator(by, value, has_exact_text=text)


def _of_playwright(role: str, name: str, facts: Facts) -> list[Locator]:
    by_role = [Locator("role", role, name)] if name and role != "text" and role not in ALERTS else []
    by_text = [Locator("text", name)] if name and role not in TYPED_INTO | TURNED_ON | CHOSEN_FROM else []
    return [
        *by_role,
        *(Locator("label", label) for label in facts["labels"] if label),
        Locator("placeholder", facts["placeholder"]),
        *by_text,
        Locator("alt", facts["alt"]),
        Locator("title", facts["title"]),
        Locator("test_id", facts["test_id"]),
        *([Locator("role", role)] if role in ALERTS or role in ("dialog", "alertdialog") else []),
        Locator("css", facts["css"]),
    ]


def _of_selenium(role: str, name: str, facts: Facts) -> list[Locator]:
    words = name or facts["text"]
    is_field = role in TYPED_INTO | TURNED_ON | CHOSEN_FROM
    return [
        Locator("id", facts["id"]),
        Locator("test_id", facts["test_id"]),
        Locator("aria_label", facts["aria_label"]),
        *(Locator("label", label) for label in facts["labels"] if label),
        *([Locator("xpath", xpath)] if (xpath := _by_text(facts["tag"], words)) and not is_field else []),
        *([Locator("role", role, words)] if words and role != "text" and role not in ALERTS else []),
        Locator("placeholder", facts["placeholder"]),
        Locator("alt", facts["alt"]),
        Locator("title", facts["title"]),
        *([] if is_field or not words else [Locator("text", words)]),
        Locator("css", facts["css"]),
    ]


def _by_text(tag: str, words: str) -> str:
    """XPath of the tag and its whole text; empty if there is no text."""
    return (
        f"//{selenium_xpath.tag(tag)}[normalize-space()={selenium_xpath.text(' '.join(words.split()))}]"
        if words
        else ""
    )


def group_candidates(
    role: str, name: str, item_role: str, facts: Facts | None, frames: tuple[str, ...]
) -> list[Locator]:
    """Locators of all items of a list, table or other container; ``facts`` are the container's, if it has a size.

    Of a table only rows that contain a cell are items. Which of the locators find these items alone, the live page
    tells.
    """
    cells = ("cell", "gridcell") if item_role == "row" else (None,)
    outer: list[Locator | None] = [None]
    if role:
        outer += [Locator("role", role, name, frames=frames)] if name else []
        outer += [Locator("test_id", facts["test_id"], frames=frames)] if facts and facts["test_id"] else []
        outer += [Locator("role", role, frames=frames)]
        outer += [Locator("css", facts["css"], frames=frames)] if facts and facts["css"] else []
    found = [Locator("role", item_role, within=one, frames=frames, has_role=cell) for one in outer for cell in cells]
    if facts and facts["css"]:
        path = {"row": "> tbody > tr", "listitem": "> li"}.get(item_role, f'> [role="{item_role}"]')
        found.append(Locator("css", f"{facts['css']} {path}", frames=frames))
    return found


def guessed(role: str, name: str, box: Box, target: Target, *, may_use_points: bool) -> tuple[Locator, ...]:
    """For a draft: locators made of the role and the name that the picture shows."""
    if name:
        has_a_name = role != "text" and role not in ALERTS  # these do not get a name from their text
        first = Locator("role", role, name) if has_a_name else Locator("text", name)
        labelled = role in TYPED_INTO and target == "selenium"
        return (Locator("label", name), first) if labelled else (first,)
    if may_use_points:
        return (Locator("point", f"{(box[0] + box[2]) / 2:.0f},{(box[1] + box[3]) / 2:.0f}"),)
    return (Locator("role", role),)
