"""Which plans can become a test, and which expectations hold whatever the page does."""

import pytest

from vlserve.testgen.elements import Element, Locator
from vlserve.testgen.plan import Assertion, Plan, PlanError, Step, check, tautology

ELEMENTS = [
    Element("e1", "button", "Save", (0, 0, 9, 9), (Locator("role", "button", "Save"),)),
    Element("e2", "listitem", "Buy milk", (0, 0, 9, 9), (Locator("text", "Buy milk"),)),
    Element("e3", "listitem", "Call Ben", (0, 0, 9, 9), (Locator("text", "Call Ben"),)),
    Element("g1", "listitem", "", (0, 0, 9, 9), (Locator("role", "listitem"),), items=("Buy milk", "Call Ben")),
]
TYPED = Step(do="fill", element="e1", value="milk")
CHECKED = Step(do="check", element="e1")
MILK = Assertion(expect="value", element="e1", value="milk")
SAVED = Assertion(expect="text", element="page", value="Saved")


def plan(*parts: Step | Assertion) -> Plan:
    steps = tuple(one for one in parts if isinstance(one, Step))
    expected = tuple(one for one in parts if isinstance(one, Assertion))
    return Plan(scenario="Save it.", steps=steps, assertions=expected or (SAVED,))


@pytest.mark.parametrize(
    "part",
    [
        Step(do="drag", element="e2", to="e3"),
        Step(do="hover", element="e1"),
        Step(do="double_click", element="e2"),
        Assertion(expect="no_text", element="page", value="Saved"),
        Assertion(expect="url", element="page", value="/done"),
        Assertion(expect="title", element="page", value="Done"),
        Assertion(expect="contains", element="e2", value="milk"),
        Assertion(expect="count", element="g1", value="0"),
        Assertion(expect="count", element="g1", value="12"),
        Assertion(expect="order", element="g1", values=("Buy milk", "Call Ben")),
        Assertion(expect="pressed", element="e1"),
        Assertion(expect="not_selected", element="e2"),
        Assertion(expect="collapsed", element="e1"),
        Assertion(expect="focused", element="e1"),
    ],
)
def test_plan_is_accepted(part: Step | Assertion) -> None:
    check(plan(part), ELEMENTS)


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (Step(do="drag", element="e2"), "element to drop on"),
        (Step(do="click", element="e2", to="e3"), "takes no target"),
        (Step(do="drag", element="e2", to="e9"), "'e9' that is not there"),
        (Step(do="drag", element="e2", to="e2"), "to itself"),
        (Step(do="drag", element="e2", to="g1"), "group 'g1'"),
        (Step(do="click", element="g1"), "group 'g1'"),
        (Step(do="click", element=""), "names no element"),
        (Step(do="hover", element="e1", value="x"), "takes no value"),
        (Assertion(expect="no_text", element="page"), "needs a value"),
        (Assertion(expect="no_text", element="e1", value="x"), "goes with 'text'"),
        (Assertion(expect="url", element="e1", value="x"), "goes with 'text'"),
        (Assertion(expect="title", element="page"), "needs a value"),
        (Assertion(expect="contains", element="page", value="x"), "goes with 'text'"),
        (Assertion(expect="contains", element="e1"), "needs a value"),
        (Assertion(expect="count", element="e1", value="1"), "go with groups"),
        (Assertion(expect="visible", element="g1"), "go with groups"),
        (Assertion(expect="count", element="g1", value="-1"), "whole number"),
        (Assertion(expect="count", element="g1", value="2.5"), "whole number"),
        (Assertion(expect="count", element="g1", value="²"), "whole number"),
        (Assertion(expect="count", element="g1"), "needs a value"),
        (Assertion(expect="order", element="g1", values=("Buy milk",)), "at least two"),
        (Assertion(expect="order", element="g1", values=("Buy milk", " ")), "at least two"),
        (Assertion(expect="visible", element="e2", values=("a", "b")), "no list of values"),
    ],
)
def test_plan_is_refused_with_a_reason(part: Step | Assertion, why: str) -> None:
    with pytest.raises(PlanError, match=why):
        check(plan(part), ELEMENTS)


@pytest.mark.parametrize(
    ("steps", "expected", "is_tautology"),
    [
        (
            [Step(do="fill", element="e1", value="milk today")],
            Assertion(expect="contains", element="e1", value="milk"),
            True,
        ),
        ([Step(do="fill", element="e1", value="milk")], Assertion(expect="contains", element="e1", value="tea"), False),
        ([Step(do="fill", element="e1", value="milk")], Assertion(expect="focused", element="e1"), True),
        ([Step(do="press", element="e1", value="Tab")], Assertion(expect="focused", element="e1"), False),
        ([Step(do="drag", element="e2", to="e3")], Assertion(expect="visible", element="e3"), True),
        ([Step(do="hover", element="e1")], Assertion(expect="enabled", element="e1"), False),
        ([Step(do="click", element="e1")], Assertion(expect="pressed", element="e1"), False),
        ([Step(do="click", element="e1")], Assertion(expect="count", element="g1", value="2"), False),
        ([TYPED, Step(do="fill", element="e1", value="tea")], MILK, True),
        ([TYPED, Step(do="fill", element="e3", value="x")], MILK, True),
        ([TYPED, Step(do="hover", element="e2")], MILK, True),
        ([TYPED, Step(do="click", element="e2"), Step(do="click", element="e3")], MILK, False),
        ([TYPED, Step(do="press", element="e3", value="Enter")], MILK, False),
        ([TYPED, Step(do="click", element="e2"), TYPED], MILK, True),
        ([TYPED, Step(do="click", element="e2")], Assertion(expect="contains", element="e1", value="ilk"), False),
        ([CHECKED, Step(do="click", element="e2")], Assertion(expect="checked", element="e1"), False),
        ([CHECKED], Assertion(expect="checked", element="e1"), True),
    ],
)
def test_tautologies(steps: list[Step], expected: Assertion, is_tautology: bool) -> None:
    assert bool(tautology(steps, expected)) is is_tautology
