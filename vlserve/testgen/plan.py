"""What a test does and expects. A model fills it in, within what is there; templates turn it into code."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from vlserve.testgen.elements import Element

Action = Literal["click", "fill", "check", "uncheck", "select", "press"]
Expectation = Literal["visible", "hidden", "value", "empty", "checked", "unchecked", "enabled", "disabled", "text"]
Key = Literal["Enter", "Escape", "Tab", "Space", "ArrowDown", "ArrowUp"]
KEYS: tuple[str, ...] = get_args(Key)
PAGE = "page"
"""The element of a ``text`` expectation: the text stands somewhere on the page."""
MOST_STEPS, MOST_ASSERTIONS, LONGEST_VALUE = 12, 6, 200
_NEED_A_VALUE: frozenset[str] = frozenset({"fill", "select", "press", "value", "text"})

Value = Annotated[str, StringConstraints(max_length=LONGEST_VALUE)]


class PlanError(ValueError):
    """A plan that cannot become a test; says why, in words for its reader."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Step(_Model):
    """One thing that a user does."""

    do: Action
    element: str
    value: Value = ""


class Assertion(_Model):
    """One thing that is so when the steps are done, and was not so before."""

    expect: Expectation
    element: str
    value: Value = ""


class Plan(_Model):
    """A test. ``missing`` names what the scenario speaks of and the page does not have."""

    scenario: str
    steps: tuple[Step, ...] = Field(max_length=MOST_STEPS)
    assertions: tuple[Assertion, ...] = Field(max_length=MOST_ASSERTIONS)
    missing: tuple[Value, ...] = ()

    def fingerprint(self, elements: Mapping[str, Element]) -> str:
        """SHA-256 of what is expected and how it is found, in hex: a repair may change the way there, not this."""
        ways = {one.element: elements[one.element].locators for one in self.assertions if one.element != PAGE}
        tree = [[one.model_dump() for one in self.assertions], repr(sorted(ways.items()))]
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def check(plan: Plan, elements: Collection[Element]) -> None:
    """Hold a plan against what is there before its steps and after them. Raises PlanError."""
    ids = {one.id for one in elements}
    for step in plan.steps:
        if step.element not in ids:
            raise PlanError(f"Step {step.do!r} names an element {step.element!r} that is not there.")
        _check_value(step.do, step.value)
        if step.do == "press" and step.value not in KEYS:
            raise PlanError(f"The key {step.value!r} cannot be pressed; these can: {', '.join(KEYS)}.")
    if not plan.assertions:
        raise PlanError("The plan expects nothing.")
    for one in plan.assertions:
        if (one.element == PAGE) != (one.expect == "text"):
            raise PlanError(f"{PAGE!r} goes with 'text' and with nothing else, not with {one.expect!r}.")
        if one.element != PAGE and one.element not in ids:
            raise PlanError(f"Assertion {one.expect!r} names an element {one.element!r} that is not there.")
        _check_value(one.expect, one.value)
        if reason := tautology(plan.steps, one):
            raise PlanError(f"Assertion {one.expect!r} of {one.element!r} says nothing: {reason}.")


def tautology(steps: Sequence[Step], one: Assertion) -> str | None:
    """Why an assertion holds whatever the page does, as far as the steps alone tell; None: it does not."""
    touched = [step for step in steps if step.element == one.element]
    if not touched:
        return None
    last = touched[-1]
    if one.expect in ("visible", "enabled"):
        return "the steps could not have used it otherwise"
    if one.expect == "value" and last.do in ("fill", "select"):
        return "the steps wrote it there"
    if (one.expect, last.do) in (("checked", "check"), ("unchecked", "uncheck")):
        return "the steps did that"
    return None


def _check_value(verb: str, value: str) -> None:
    if (verb in _NEED_A_VALUE) != bool(value):
        raise PlanError(f"{verb!r} {'needs a' if verb in _NEED_A_VALUE else 'takes no'} value.")
