"""What a test does and expects. A model fills it in, within what is there; templates turn it into code."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from vlserve.testgen.elements import Element

Action = Literal["click", "double_click", "fill", "check", "uncheck", "select", "press", "hover", "drag"]
Expectation = Literal[
    "visible",
    "hidden",
    "value",
    "empty",
    "checked",
    "unchecked",
    "enabled",
    "disabled",
    "focused",
    "text",
    "no_text",
    "contains",
    "count",
    "order",
    "url",
    "title",
    "pressed",
    "not_pressed",
    "selected",
    "not_selected",
    "expanded",
    "collapsed",
]
Key = Literal["Enter", "Escape", "Tab", "Space", "ArrowDown", "ArrowUp"]
KEYS: tuple[str, ...] = get_args(Key)
PAGE = "page"
"""The element of an expectation of the whole page: a text, the address or the title."""
MOST_STEPS, MOST_ASSERTIONS, LONGEST_VALUE = 12, 6, 200
OF_THE_PAGE: frozenset[Expectation] = frozenset({"text", "no_text", "url", "title"})
OF_A_GROUP: frozenset[Expectation] = frozenset({"count", "order"})
_NEED_A_VALUE: frozenset[str] = frozenset(
    {"fill", "select", "press", "value", "text", "no_text", "contains", "count", "url", "title"}
)
_USES: frozenset[Action] = frozenset({"click", "double_click", "fill", "check", "uncheck", "select", "press"})
_CHANGE_OTHERS: frozenset[Action] = frozenset({"click", "double_click", "press"})
"""Actions that may load, submit or reset a page, so that what was typed before need not be there any more."""
_OPPOSITES = {
    "visible": "hidden",
    "text": "no_text",
    "checked": "unchecked",
    "enabled": "disabled",
    "pressed": "not_pressed",
    "selected": "not_selected",
    "expanded": "collapsed",
}
OPPOSITES: Mapping[str, str] = _OPPOSITES | {off: on for on, off in _OPPOSITES.items()}
"""Expectations that cannot both hold, for the same element and text."""

Value = Annotated[str, StringConstraints(max_length=LONGEST_VALUE)]


class PlanError(ValueError):
    """A plan that cannot become a test; says why, in words for its reader."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Step(_Model):
    """One action of a user. ``to`` is the element that a dragged one is dropped on."""

    do: Action
    element: str
    value: Value = ""
    to: str = ""


class Assertion(_Model):
    """One thing that is so when the steps are done, and was not so before.

    The page (`PAGE`) has a text, has it not, or has ``value`` in its address or its title; an element ``contains``
    ``value`` in its text or what is typed there; a group has a ``count`` of ``value`` items, or shows ``values`` in
    this order, each within the text of one item.
    """

    expect: Expectation
    element: str
    value: Value = ""
    values: tuple[Value, ...] = ()


class Plan(_Model):
    """A test. ``uncovered`` says in sentences what the scenario asks for and the test does not do."""

    scenario: str
    steps: tuple[Step, ...] = Field(max_length=MOST_STEPS)
    assertions: tuple[Assertion, ...] = Field(max_length=MOST_ASSERTIONS)
    uncovered: tuple[str, ...] = ()

    def fingerprint(self, elements: Mapping[str, Element]) -> str:
        """SHA-256 of what is expected and how it is found, in hex: a repair may change the way there, not this."""
        ways = {one.element: elements[one.element].locators for one in self.assertions if one.element != PAGE}
        tree = [[one.model_dump() for one in self.assertions], repr(sorted(ways.items()))]
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def check(plan: Plan, elements: Collection[Element]) -> None:
    """Check a plan against the elements before and after its steps. Raises PlanError."""
    known = {one.id: one for one in elements}
    for step in plan.steps:
        _check_step(step, known)
    if not plan.assertions:
        raise PlanError("The plan expects nothing.")
    for one in plan.assertions:
        _check_assertion(one, known)
        if reason := tautology(plan.steps, one):
            raise PlanError(f"Assertion {one.expect!r} of {one.element!r} says nothing: {reason}.")


def tautology(steps: Sequence[Step], one: Assertion) -> str | None:
    """Why an assertion holds whatever the page does, as far as the steps alone tell; None: it does not."""
    touched = [at for at, step in enumerate(steps) if one.element in (step.element, step.to)]
    if not touched:
        return None
    if one.expect == "visible" or (one.expect == "enabled" and any(steps[at].do in _USES for at in touched)):
        return "the steps could not have used it otherwise"
    is_last = not any(step.do in _CHANGE_OTHERS for step in steps[touched[-1] + 1 :])
    if is_last and is_done_by(steps[touched[-1]], one):
        return "the steps did that"
    if one.expect == "focused" and touched[-1] == len(steps) - 1:
        last = steps[-1]
        return "the steps left the focus there" if last.do in ("fill", "press") and last.value != "Tab" else None
    return None


def is_done_by(step: Step, one: Assertion) -> bool:
    """Whether a step on the assertion's element makes it hold: the value that it types, the box that it ticks."""
    if step.do in ("fill", "select"):
        return one.expect == "value" or (one.expect == "contains" and one.value in step.value)
    return (one.expect, step.do) in (("checked", "check"), ("unchecked", "uncheck"))


def _check_step(step: Step, known: Mapping[str, Element]) -> None:
    for id_ in (step.element, step.to):
        if id_ and id_ not in known:
            raise PlanError(f"Step {step.do!r} names an element {id_!r} that is not there.")
        if id_ and known[id_].is_group:
            raise PlanError(f"Step {step.do!r} names a group {id_!r}; a step needs one element.")
    if not step.element:
        raise PlanError(f"Step {step.do!r} names no element.")
    if (step.do == "drag") != bool(step.to):
        raise PlanError(f"{step.do!r} {'needs an element to drop on' if step.do == 'drag' else 'takes no target'}.")
    if step.to == step.element:
        raise PlanError(f"{step.element!r} cannot be dragged to itself.")
    _check_value(step.do, step.value)
    if step.do == "press" and step.value not in KEYS:
        raise PlanError(f"The key {step.value!r} cannot be pressed; these can: {', '.join(KEYS)}.")


def _check_assertion(one: Assertion, known: Mapping[str, Element]) -> None:
    if (one.element == PAGE) != (one.expect in OF_THE_PAGE):
        raise PlanError(f"{PAGE!r} goes with 'text', 'no_text', 'url' and 'title' only, not with {one.expect!r}.")
    if one.element != PAGE and one.element not in known:
        raise PlanError(f"Assertion {one.expect!r} names an element {one.element!r} that is not there.")
    if one.element != PAGE and known[one.element].is_group != (one.expect in OF_A_GROUP):
        raise PlanError(f"'count' and 'order' go with groups and with nothing else, not {one.expect!r} of a group.")
    _check_value(one.expect, one.value)
    if one.expect == "count" and not (one.value.isascii() and one.value.isdigit()):
        raise PlanError(f"'count' needs a whole number, not {one.value!r}.")
    if one.expect == "order" and (len(one.values) < 2 or not all(text.strip() for text in one.values)):
        raise PlanError("'order' needs at least two texts.")
    if one.expect != "order" and one.values:
        raise PlanError(f"{one.expect!r} takes no list of values.")


def _check_value(verb: str, value: str) -> None:
    if (verb in _NEED_A_VALUE) != bool(value):
        raise PlanError(f"{verb!r} {'needs a' if verb in _NEED_A_VALUE else 'takes no'} value.")
