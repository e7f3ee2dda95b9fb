"""Plans compared with the gold of a scenario: what is right, and why another plan is not."""

from typing import Any

import pytest

from vlserve.testgen.elements import Element, Locator
from vlserve.testgen.evaluation.gold import Gold, matches
from vlserve.testgen.plan import Assertion, Plan, Step

BOX = (0.0, 0.0, 1.0, 1.0)
WAY = (Locator("css", "x"),)
IN_ROW = (Locator("role", "button", "Delete", within=Locator("role", "row", "Dana Reyes Delete")),)
ELEMENTS = {
    one.id: one
    for one in (
        Element("e1", "textbox", "New task", BOX, WAY),
        Element("e2", "button", "Add", BOX, WAY),
        Element("e3", "button", "Delete", BOX, WAY, context='listitem "Buy milk"'),
        Element("e4", "button", "Delete", BOX, WAY, context='listitem "Walk the dog"'),
        Element("e5", "button", "Delete", BOX, IN_ROW),
        Element("e6", "checkbox", "Buy milk", BOX, WAY),
        Element("e7", "text", "13 items left", BOX, WAY),
        Element("e8", "text", "3 items left", BOX, WAY),
        Element("e9", "alert", "Buy milk was deleted.", BOX, WAY),
        Element("e10", "button", "Delete Buy milk", BOX, WAY),
        Element("e11", "row", "1002 Tom Becker Shipped", BOX, WAY),
        Element("e12", "switch", "Sound", BOX, WAY),
        Element("e13", "cell", "Shipped", BOX, WAY, context='row "1003"'),
        Element("g1", "listitem", "", BOX, WAY, items=("Buy milk", "Walk the dog")),
        Element("g2", "row", "", BOX, WAY),
    )
}
ADD = [
    {"do": "fill", "role": "textbox", "name": "New task", "value": "Bread"},
    [
        {"do": "click", "role": "button", "name": "Add"},
        {"do": "press", "role": "textbox", "name": "New task", "value": "Enter"},
    ],
]
FILL, CLICK = ("fill", "e1", "Bread"), ("click", "e2", "")
ENTER = ("press", "e1", "Enter")


def compared(gold: dict[str, Any], steps: list[tuple[str, str, str]], *assertions: dict[str, Any]) -> str | None:
    plan = Plan(
        scenario="x",
        steps=tuple(Step.model_validate(dict(zip(("do", "element", "value"), one, strict=True))) for one in steps),
        assertions=tuple(Assertion.model_validate(one) for one in assertions),
    )
    return matches(Gold.model_validate(gold), plan, ELEMENTS)


@pytest.mark.parametrize("steps", [[FILL, CLICK], [FILL, ENTER]])
def test_steps_of_the_gold_or_their_alternatives_are_right(steps: list[tuple[str, str, str]]) -> None:
    assert compared({"steps": ADD}, steps) is None


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([], 'Instead of fill textbox "New task" "Bread" there is no step.'),
        ([FILL], 'Instead of click button "Add" there is no step.'),
        ([CLICK, FILL], 'Instead of fill textbox "New task" "Bread" comes click button "Add".'),
        (
            [("click", "e1", ""), FILL, CLICK],
            'Instead of fill textbox "New task" "Bread" comes click textbox "New task".',
        ),
        ([FILL, CLICK, CLICK], 'The step click button "Add" is not asked for.'),
        (
            [("fill", "e1", "Breadcrumbs"), CLICK],
            'Instead of fill textbox "New task" "Bread" comes fill textbox "New task".',
        ),
        ([FILL, ("double_click", "e2", "")], 'Instead of click button "Add" comes double_click button "Add".'),
        ([FILL, ("click", "e99", "")], 'Instead of click button "Add" comes click e99.'),
    ],
)
def test_missing_other_and_more_steps_are_not_right(steps: list[tuple[str, str, str]], reason: str) -> None:
    assert compared({"steps": ADD}, steps) == reason


@pytest.mark.parametrize(("element", "is_right"), [("e3", True), ("e4", False), ("e5", False)])
def test_context_tells_equal_buttons_apart(element: str, is_right: bool) -> None:
    gold = {"steps": [{"do": "click", "role": "button", "name": "Delete", "context": "Buy milk"}]}
    assert (compared(gold, [("click", element, "")]) is None) == is_right


def test_context_may_be_in_the_locator_only() -> None:
    gold = {"steps": [{"do": "click", "role": "button", "name": "Delete", "context": "Dana Reyes"}]}
    assert compared(gold, [("click", "e5", "")]) is None


def test_optional_steps_may_be_left_out_and_come_nowhere_else() -> None:
    enter = {"do": "press", "role": "textbox", "name": "New task", "value": "Enter", "optional": True}
    gold = {"steps": [ADD[0], enter, {"do": "click", "role": "button", "name": "Add"}]}
    assert compared(gold, [FILL, CLICK]) is None
    assert compared(gold, [FILL, ENTER, CLICK]) is None
    assert compared(gold, [FILL, CLICK, ENTER]) is not None
    assert compared(gold, [FILL, ENTER, ENTER, CLICK]) is not None


def test_a_value_is_compared_with_the_regular_expression_or_exactly() -> None:
    free = {"do": "fill", "role": "textbox", "name": "New task", "value": "Milk", "matches": "(?!Bread$).+"}
    assert compared({"steps": [free]}, [("fill", "e1", "Eggs")]) is None
    assert compared({"steps": [free]}, [FILL]) is not None


def test_a_box_may_be_clicked_instead_of_ticked_and_nothing_else() -> None:
    gold = {"steps": [{"do": "check", "role": "checkbox", "name": "Buy milk"}]}
    assert compared(gold, [("click", "e6", "")]) is None
    assert compared(gold, [("uncheck", "e6", "")]) is not None
    assert compared({"steps": [{"do": "click", "role": "button", "name": "Add"}]}, [("check", "e2", "")]) is not None


def text(value: str) -> dict[str, Any]:
    return {"expect": "text", "element": "page", "value": value}


def no_text(value: str) -> dict[str, Any]:
    return {"expect": "no_text", "element": "page", "value": value}


def of(expect: str, element: str, value: str = "", values: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"expect": expect, "element": element, "value": value, "values": values}


LEFT = {"expect": "text", "value": "3 items left"}
GONE = {"expect": "no_text", "value": "Buy milk"}
COUNT = {"expect": "count", "role": "listitem", "value": "2"}
ORDER = {"expect": "order", "role": "listitem", "values": ["Buy milk", "Pay rent"]}
SHIPPED = {"expect": "contains", "role": "row", "name": "1002", "value": "Shipped"}
CELL = {"expect": "visible", "role": "cell", "name": "Shipped", "context": "1002"}
ALERT = {"expect": "visible", "role": "alert", "name": "Buy milk was deleted."}
OFF = {"expect": "unchecked", "role": "switch", "name": "Sound"}
VALUE = {"expect": "value", "role": "textbox", "name": "New task", "value": "Tokyo"}
HEADING = {"expect": "hidden", "role": "checkbox", "name": "Buy milk"}


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            LEFT,
            [text("3 items left"), text("3 items left."), of("visible", "e8"), of("contains", "e7", "3 items left")],
            [
                *(text("items left"), text("13 items left"), of("visible", "e7"), no_text("3 items left")),
                *(of("hidden", "e8"), of("contains", "e1", "3 items left")),
            ],
        ),
        (
            GONE,
            [no_text("Buy milk"), no_text("milk"), of("hidden", "e6")],
            [
                *(text("Buy milk"), of("visible", "e6"), of("hidden", "e9"), of("hidden", "e10"), of("hidden", "e4")),
                *(no_text("Buy milk and bread"), of("unchecked", "e6")),
            ],
        ),
        (
            {"expect": "no_text", "value": "Buy milk was deleted."},
            [of("hidden", "e9"), no_text("Buy milk was deleted")],
            [of("visible", "e9"), of("hidden", "e6")],
        ),
        (COUNT, [of("count", "g1", "2")], [of("count", "g1", "3"), of("count", "g2", "2"), text("2")]),
        (
            ORDER,
            [
                of("order", "g1", values=("Buy milk", "Pay rent")),
                of("order", "g1", values=("Buy milk", "x", "Pay rent")),
            ],
            [of("order", "g1", values=("Pay rent", "Buy milk")), of("order", "g2", values=("Buy milk", "Pay rent"))],
        ),
        (
            SHIPPED,
            [of("visible", "e11"), of("contains", "e11", "Shipped")],
            [text("Shipped"), of("contains", "e11", "Tom")],
        ),
        (CELL, [], [text("Shipped"), of("visible", "e13")]),
        (ALERT, [of("visible", "e9"), text("Buy milk was deleted.")], [of("visible", "e6"), text("Buy milk")]),
        (OFF, [of("unchecked", "e12"), of("not_pressed", "e12")], [of("checked", "e12"), of("unchecked", "e6")]),
        (VALUE, [of("value", "e1", "Tokyo")], [of("value", "e1", "Rome"), of("empty", "e1"), text("Tokyo")]),
        (HEADING, [of("hidden", "e6"), no_text("Buy milk")], [of("visible", "e6"), of("hidden", "e10")]),
    ],
)
def test_an_expectation_is_right_only_if_the_gold_follows_from_it(
    gold: dict[str, Any], right: list[dict[str, Any]], wrong: list[dict[str, Any]]
) -> None:
    for one in right:
        assert compared({"expectations": [gold]}, [], one) is None, one
    for one in wrong:
        assert (compared({"expectations": [gold]}, [], one) or "").startswith("The plan does not expect "), one


def test_every_expectation_must_be_there_in_any_order_and_others_may_be() -> None:
    gold = {"expectations": [LEFT, [GONE, COUNT]]}
    assert compared(gold, [], of("count", "g1", "2"), of("checked", "e12"), text("3 items left")) is None
    assert compared(gold, [], no_text("Buy milk"), text("3 items left")) is None
    assert compared(gold, [], text("3 items left")) == 'The plan does not expect no_text "Buy milk".'
    assert compared(gold, []) is not None
