"""The steps and expectations of a right test, and whether a plan has them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from vlserve.testgen.elements import ALERTS, TURNED_ON, Element, Locator
from vlserve.testgen.plan import Action, Assertion, Expectation, Plan, Step

_TURNED: Mapping[str, str] = {"check": "click", "uncheck": "click"}
_ON, _OFF = frozenset({"checked", "selected", "pressed"}), frozenset({"unchecked", "not_selected", "not_pressed"})
_USED = frozenset({"button", "link", "tab", "combobox", "textbox", "searchbox", "spinbutton", *TURNED_ON})
"""Roles of what has a label rather than a text."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GoldStep(_Model):
    """One step on the element with this role and name.

    ``context`` is a text of the row, group or other part that the element is in. ``matches`` is a regular expression
    for the typed value, of which ``value`` is an example. An optional step may be left out; a ``needless`` one is asked
    for, but the expectations hold without it, too.
    """

    do: Action
    role: str
    name: str
    value: str = ""
    matches: str = ""
    context: str = ""
    optional: bool = False
    needless: bool = False

    @model_validator(mode="after")
    def _check(self) -> "GoldStep":
        if (self.do in ("fill", "select", "press")) != bool(self.value):
            raise ValueError(f"{self.do!r} of {self.name!r} has no value, or one that it does not take")
        if self.matches and not re.fullmatch(self.matches, self.value):
            raise ValueError(f"{self.value!r} is no example of {self.matches!r}")
        return self


class GoldExpectation(_Model):
    """One expectation, of the element with this role and name (of a group: the role of its items), or of the page.

    ``before``: it holds before the steps, too.
    """

    expect: Expectation
    role: str = ""
    name: str = ""
    value: str = ""
    values: tuple[str, ...] = ()
    context: str = ""
    before: bool = False


class Gold(_Model):
    """A right test. Each entry is a tuple of alternatives, any one of which does."""

    steps: tuple[tuple[GoldStep, ...], ...] = ()
    expectations: tuple[tuple[GoldExpectation, ...], ...] = ()

    @field_validator("steps", "expectations", mode="before")
    @classmethod
    def _alternatives(cls, entries: Any) -> Any:
        """A table stands for the only alternative."""
        return [[one] if isinstance(one, dict) else one for one in entries]


def matches(gold: Gold, plan: Plan, elements: Mapping[str, Element]) -> str | None:
    """Why a plan is not the right test, in one sentence; None if it is.

    The steps must be those of ``gold``, in order and no others. Each expectation must be there, or one from which it
    follows; others may be there, too. ``elements`` are the plan's by id.
    """
    if reason := _compare_steps(gold.steps, plan.steps, elements):
        return reason
    for alternatives in gold.expectations:
        if not any(_implies(one, wanted, elements) for wanted in alternatives for one in plan.assertions):
            return f"The plan does not expect {_describe(alternatives[0])}."
    return None


def _compare_steps(
    gold: Sequence[Sequence[GoldStep]], steps: Sequence[Step], elements: Mapping[str, Element]
) -> str | None:
    if not gold:
        return f"The step {_describe_step(steps[0], elements)} is not asked for." if steps else None
    first, *others = gold
    is_optional = any(one.optional for one in first)
    if steps and any(_does(steps[0], one, elements) for one in first):
        reason = _compare_steps(others, steps[1:], elements)
        if reason is None or not is_optional:
            return reason
    if is_optional:
        return _compare_steps(others, steps, elements)
    instead = f" comes {_describe_step(steps[0], elements)}" if steps else " there is no step"
    return f"Instead of {_describe(first[0])}{instead}."


def _does(step: Step, gold: GoldStep, elements: Mapping[str, Element]) -> bool:
    element = elements.get(step.element)
    if element is None or element.role != gold.role or _plain(element.name) != _plain(gold.name):
        return False
    is_turned = element.role in TURNED_ON and step.do == _TURNED.get(gold.do)
    if (step.do != gold.do and not is_turned) or not _has(_around(element), gold.context):
        return False
    if gold.matches:
        return bool(re.fullmatch(gold.matches, step.value.strip()))
    return " ".join(step.value.split()) == " ".join(gold.value.split())


def _implies(one: Assertion, gold: GoldExpectation, elements: Mapping[str, Element]) -> bool:
    """Whether ``gold`` holds wherever ``one`` holds."""
    element = elements.get(one.element)
    match gold.expect:
        case "text":
            return any(_has(text, gold.value) for text in _shown(one, element))
        case "no_text":
            return _is_absent(one, gold.value, element)
        case "visible":
            is_text = one.expect == "text" and gold.role not in _USED and not gold.context
            return (is_text and _has(one.value, gold.name)) or (one.expect == "visible" and _is(element, gold))
        case "hidden":
            return (one.expect == "hidden" and _is(element, gold)) or _is_absent(one, gold.name, None)
        case "contains":
            if one.expect == "visible" and element and element.role == gold.role:
                return _has(element.name, gold.name) and _has(element.name, gold.value)
            return one.expect == "contains" and _is(element, gold) and _has(one.value, gold.value)
        case "value":
            return one.expect in ("value", "contains") and _is(element, gold) and _has(one.value, gold.value)
        case "count":
            return one.expect == "count" and _is(element, gold) and one.value.strip() == gold.value
        case "order":
            return one.expect == "order" and _is(element, gold) and _is_in_order(gold.values, one.values)
        case "url" | "title":
            return one.expect == gold.expect and _plain(gold.value) in _plain(one.value)
    same = next((kind for kind in (_ON, _OFF) if gold.expect in kind), frozenset({gold.expect}))
    return one.expect in same and _is(element, gold)


def _shown(one: Assertion, element: Element | None) -> Iterator[str]:
    """Texts that are on the page where an assertion holds."""
    is_field = element is not None and element.role in _USED
    if one.expect == "text" or (one.expect == "contains" and not is_field):
        yield one.value
    if one.expect == "visible" and element:
        yield element.name
    if one.expect == "order":
        yield from one.values


def _is_absent(one: Assertion, text: str, element: Element | None) -> bool:
    if one.expect == "no_text":
        return _has(text, one.value)
    if one.expect != "hidden" or element is None:
        return False
    is_content = element.role not in ALERTS and element.role not in ("button", "link")
    return _plain(element.name) == _plain(text) or (is_content and _has(element.name, text))


def _is(element: Element | None, gold: GoldExpectation) -> bool:
    if element is None or (gold.role and element.role != gold.role):
        return False
    if element.is_group and not gold.name:
        return True
    is_named = _plain(element.name) == _plain(gold.name)
    if element.role not in _USED:
        is_named = is_named or _has(element.name, gold.name) or _has(_around(element), gold.name)
    return is_named and _has(_around(element), gold.context)


def _is_in_order(wanted: Sequence[str], given: Sequence[str]) -> bool:
    rest = iter(given)
    return all(any(_has(text, one) for text in rest) for one in wanted)


def _around(element: Element) -> str:
    """The texts of what the element is in."""
    texts, ways = [element.context], [way.within for way in element.locators]
    while ways:
        way: Locator | None = ways.pop()
        if way:
            texts += [way.name or "", way.value]
            ways.append(way.within)
    return "\n".join(texts)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold().strip(" .!。！")


def _has(text: str, part: str) -> bool:
    """Whether words stand in a text; "3 items" does not stand in "13 items"."""
    wanted = _plain(part)
    if not wanted:
        return not part or bool(text)
    before = r"(?<![0-9a-z])" if wanted[0].isascii() and wanted[0].isalnum() else ""
    after = r"(?![0-9a-z])" if wanted[-1].isascii() and wanted[-1].isalnum() else ""
    return re.search(before + re.escape(wanted) + after, _plain(text)) is not None


def _describe(one: GoldStep | GoldExpectation) -> str:
    verb = one.do if isinstance(one, GoldStep) else one.expect
    words = [verb, one.role, f'"{one.name}"' if one.name else "", f'in "{one.context}"' if one.context else ""]
    value = f'"{one.value}"' if one.value else ""
    return " ".join(filter(None, [*words, value]))


def _describe_step(step: Step, elements: Mapping[str, Element]) -> str:
    element = elements.get(step.element)
    words = f'{element.role} "{element.name}"' if element else step.element
    return f"{step.do} {words}"
