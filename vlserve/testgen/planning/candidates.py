"""The expectations that a page allows: for a model to choose from, and for rules."""

import re
from collections.abc import Iterator, Sequence

from vlserve.testgen.elements import ALERTS, CHOSEN_FROM, TURNED_ON, TYPED_INTO, Element, Look
from vlserve.testgen.plan import LONGEST_VALUE, PAGE, Assertion, Expectation, Step, is_done_by, tautology
from vlserve.testgen.scenario.clauses import Clause
from vlserve.testgen.scenario.wording import has_phrase, normal

MOST_CANDIDATES = 60
_MOST_IN_ORDER = 20
_STATES: tuple[tuple[str, Expectation, Expectation], ...] = (
    ("checked", "checked", "unchecked"),
    ("disabled", "disabled", "enabled"),
    ("pressed", "pressed", "not_pressed"),
    ("selected", "selected", "not_selected"),
    ("expanded", "expanded", "collapsed"),
)
_GOES_AWAY = ALERTS | {"dialog", "alertdialog", "heading", "text", "cell", "row", "listitem", "button"}


def changes(before: Look, after: Look, steps: Sequence[Step]) -> list[Assertion]:
    """What is so after the steps and was not before, messages first; without steps, what can be seen.

    Elements that are there at both times have the same id.
    """
    earlier = {one.id: one for one in before.elements}
    now = [one for one in after.elements if not one.is_group]
    later = {one.id: one for one in now}
    found = [Assertion(expect="visible", element=one.id) for one in now if not steps or one.id not in earlier]
    found.sort(key=lambda one: later[one.element].role not in ALERTS)
    new = [one for one in now if one.id not in earlier] if steps else now
    found += [_value(one) for one in new if one.value and _is_readable(one)]
    if steps:
        found += [one for each in now if each.id in earlier for one in _changed(earlier[each.id], each)]
    found += [Assertion(expect="checked", element=one.id) for one in new if "checked" in one.states]
    found += [Assertion(expect="disabled", element=one.id) for one in new if "disabled" in one.states]
    gone = [one for one in before.elements if one.id not in later and not one.is_group]
    found += [Assertion(expect="hidden", element=one.id) for one in gone]
    found += _recounted(before, after) if steps else []
    done = {step.element: step for step in steps}
    news = [one for one in found if not (one.element in done and is_done_by(done[one.element], one))]
    return [one for one in dict.fromkeys(news) if not tautology(steps, one)][:MOST_CANDIDATES]


def _changed(before: Element, after: Element) -> list[Assertion]:
    found = [
        Assertion(expect=on if state in after.states else off, element=after.id)
        for state, on, off in _STATES
        if (state in before.states) != (state in after.states)
    ]
    if after.value != before.value and after.value and _is_readable(after):
        found.append(_value(after))
    if before.value and not after.value and _is_typed_into(after) and not after.is_secret:
        found.append(Assertion(expect="empty", element=after.id))
    return found


def _recounted(before: Look, after: Look) -> list[Assertion]:
    earlier = {one.id: len(one.items) for one in before.elements if one.is_group}
    return [
        _count(one) for one in after.elements if one.is_group and earlier.get(one.id, len(one.items)) != len(one.items)
    ]


def facts(clause: Clause, before: Sequence[Look], after: Look) -> list[Assertion]:
    """Everything that is so on the page and that a clause may mean, the most telling kinds first."""
    plain = [one for one in after.elements if not one.is_group]
    groups = [one for one in after.elements if one.is_group]
    there = {one.id for one in plain}
    gone = {one.id: one for look in before for one in look.elements if one.id not in there and not one.is_group}
    figures = [word for word in clause.words if any(one.isdigit() for one in word)]
    plain.sort(key=lambda one: (-sum(has_phrase(each, one.name) for each in figures), *_telling(one)))
    found = [Assertion(expect="visible", element=one.id) for one in plain]
    found += [_value(one) for one in plain if one.value and _is_readable(one)]
    found += [one for each in plain for one in _contained(clause, each)]
    found += [one for each in plain for one in _in_state(each)]
    found += [Assertion(expect="hidden", element=id_) for id_ in gone]
    found += _absent_texts(clause, before, after)
    found += [_count(one) for one in groups]
    found += [one for each in groups for one in _orders(clause, each, after)]
    return [*found, *_of_address(clause, after), *_texts(clause, after)]


def guesses(elements: Sequence[Element], steps: Sequence[Step]) -> list[Assertion]:
    """Possible results of the steps of a draft."""
    found = [Assertion(expect="hidden", element=one.id) for one in elements if one.role in _GOES_AWAY]
    for one in elements:
        if one.role in TURNED_ON:
            found += [Assertion(expect="checked", element=one.id), Assertion(expect="unchecked", element=one.id)]
        if one.role == "button":
            found += [Assertion(expect="enabled", element=one.id), Assertion(expect="disabled", element=one.id)]
    return [one for one in found if not tautology(steps, one)][:MOST_CANDIDATES]


def _telling(one: Element) -> tuple[bool, int]:
    """A message before other texts, a short text before a long one."""
    return one.role not in ALERTS, len(one.name)


def _in_state(one: Element) -> Iterator[Assertion]:
    for state, on, off in _STATES:
        has_off = off in one.states or (state == "checked" and one.role in TURNED_ON)
        is_used = one.role in TYPED_INTO | TURNED_ON | CHOSEN_FROM | {"button", "link", "tab", "menuitem", "option"}
        if state in one.states:
            yield Assertion(expect=on, element=one.id)
        elif has_off or (state == "disabled" and is_used):
            yield Assertion(expect=off, element=one.id)
    if "focused" in one.states:
        yield Assertion(expect="focused", element=one.id)
    if _is_typed_into(one) and not one.value and not one.is_secret:
        yield Assertion(expect="empty", element=one.id)


def _contained(clause: Clause, one: Element) -> Iterator[Assertion]:
    """Texts of the clause that are a part of an element's text or value."""
    for text in clause.quoted:
        if text and not one.is_secret and any(normal(text) in normal(each) for each in (one.name, one.value)):
            yield Assertion(expect="contains", element=one.id, value=text[:LONGEST_VALUE])


def _absent_texts(clause: Clause, before: Sequence[Look], after: Look) -> list[Assertion]:
    """Texts of the clause that were on the page and are not there any more."""
    shown = [normal(text) for one in after.elements for text in _all_texts(one)]
    earlier = [one for look in before for one in look.elements]
    said = " | ".join((clause.text, " ".join(clause.words)))
    named = [one.name for one in earlier if one.name and has_phrase(one.name, said)]
    texts = [
        text
        for text in dict.fromkeys([*clause.quoted, *sorted(named, key=len, reverse=True)])
        if any(normal(text) in normal(each) for one in earlier for each in _all_texts(one))
        and not any(normal(text) in each for each in shown)
    ]
    return [Assertion(expect="no_text", element=PAGE, value=text) for text in texts if 0 < len(text) <= LONGEST_VALUE]


def _orders(clause: Clause, group: Element, after: Look) -> Iterator[Assertion]:
    """The whole group in its order, the texts of the clause in theirs, and each column of a table."""
    if 2 <= len(group.items) <= _MOST_IN_ORDER:
        named = [text for item in group.items for text in clause.quoted if normal(text) in normal(item)]
        if len(named) == len(set(named)) >= 2:
            yield Assertion(expect="order", element=group.id, values=tuple(named))
        yield Assertion(expect="order", element=group.id, values=tuple(group.items))
        for column in _columns(group, after):
            yield Assertion(expect="order", element=group.id, values=column)


def _columns(group: Element, after: Look) -> Iterator[tuple[str, ...]]:
    """The texts of the cells of each column, where all rows have as many cells."""
    rows: dict[str, list[Element]] = {}
    for one in after.elements:
        if one.role in ("cell", "gridcell", "rowheader") and one.around and one.around[0].startswith("row "):
            rows.setdefault(one.around[0], []).append(one)
    cells = [[one.name for one in sorted(row, key=lambda one: one.box[0])] for row in rows.values()]
    if group.role == "row" and len(cells) == len(group.items) and len({len(row) for row in cells}) == 1:
        yield from zip(*cells, strict=True)


def _of_address(clause: Clause, after: Look) -> Iterator[Assertion]:
    if clause.verb not in ("url", "title"):
        return
    kind: Expectation = "url" if clause.verb == "url" else "title"
    where = after.url if kind == "url" else after.title
    tokens = re.findall(r"[\w/.#?=&%:-]*[\w/#]", clause.text)
    texts = [*clause.quoted, *(one for one in tokens if not one.isalpha()), *clause.words, where]
    for text in texts:
        if 1 < len(text) <= LONGEST_VALUE and normal(text) in normal(where):
            yield Assertion(expect=kind, element=PAGE, value=text)


def _texts(clause: Clause, after: Look) -> Iterator[Assertion]:
    shown = [normal(text) for one in after.elements for text in (one.name, *one.items)]
    for text in clause.quoted:
        if 0 < len(text) <= LONGEST_VALUE and any(normal(text) in each for each in shown):
            yield Assertion(expect="text", element=PAGE, value=text)


def _all_texts(one: Element) -> tuple[str, ...]:
    return (one.name, *(() if one.is_secret else (one.value,)), *one.items)


def _count(group: Element) -> Assertion:
    return Assertion(expect="count", element=group.id, value=str(len(group.items)))


def _value(one: Element) -> Assertion:
    return Assertion(expect="value", element=one.id, value=one.value)


def _is_readable(one: Element) -> bool:
    """A value that is not secret and not cut off."""
    return not one.is_secret and len(one.value) <= LONGEST_VALUE


def _is_typed_into(one: Element) -> bool:
    return one.role in TYPED_INTO or one.takes_text
