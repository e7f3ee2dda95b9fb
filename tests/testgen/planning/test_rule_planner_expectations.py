"""Which expectations rules plan without a model, and which they leave alone."""

from collections.abc import Sequence

import pytest

from tests.testgen.planning.looks import LOGIN, ROWS, TABLE, clause, el, look
from vlserve.testgen.elements import Element, Look
from vlserve.testgen.plan import Assertion, Step
from vlserve.testgen.planning.rule_planner import plan_expectation, plan_guess

AFTER = look(
    el("e1", "searchbox", "Search customers", value="Dana"),
    el("e2", "button", "Name"),
    el("e3", "button", "City"),
    *ROWS[:4],
    *ROWS[8:],
    el("a1", "status", "Ben Hall was deleted."),
    el("a2", "text", "2 customers"),
    el("a3", "button", "Undo", "disabled"),
    el("a4", "checkbox", "Notify", "checked"),
    el("a5", "textbox", "City", "focused", value="Tokyo"),
    el("a6", "text", "$62.50", around='term "Total"'),
    el("a7", "button", "Filters", "expanded"),
    el("a8", "tab", "List", "selected"),
    el("a9", "tab", "Map", "not_selected"),
    el("a10", "textbox", "Note"),
    el("g1", "row", "Customers", items=("Dana Reyes Edit Delete", "Mei Tanaka Edit Delete")),
    url="http://127.0.0.1/orders?deleted=1",
    title="Orders - 2 customers",
)
EXPECTED = [
    ('see "Ben Hall was deleted."', "visible a1"),
    ("see Ben Hall was deleted", "visible a1"),
    ('check that "Ben Hall was deleted." is shown', "visible a1"),
    ('see the message "Ben Hall was deleted."', "visible a1"),
    ("check that Ben Hall is gone", "hidden e11"),
    ("Ben Hall is no longer in the table", "hidden e11"),
    ("see 2 customers", "visible a2"),
    ("there are 2 rows", "count g1 2"),
    ("check that 2 rows are left", "count g1 2"),
    ("check that Undo is disabled", "disabled a3"),
    ("Notify is checked", "checked a4"),
    ("check that the City field says Tokyo", "value a5 Tokyo"),
    ('the City field has the value "Tokyo"', "value a5 Tokyo"),
    ("check that the total is $62.50", "visible a6"),
    ("Filters is expanded", "expanded a7"),
    ("the List tab is selected", "selected a8"),
    ("the Map tab is not selected", "not_selected a9"),
    ("the City field has focus", "focused a5"),
    ("Note is empty", "empty a10"),
    ('the URL contains "deleted=1"', "url page deleted=1"),
    ('the page title contains "2 customers"', "title page 2 customers"),
    ("Dana Reyes comes before Mei Tanaka", "order g1 Dana Reyes Edit Delete, Mei Tanaka Edit Delete"),
    ("Dana Reyes is first", "order g1 Dana Reyes Edit Delete, Mei Tanaka Edit Delete"),
    ('see the row "Mei Tanaka"', "visible e12"),
]
NOT_SO = [
    'see "Ben Hall was restored."',
    "see the error",
    "check that Ben Hall is still in the table",
    "check that Dana Reyes is gone",
    "there are 3 rows",
    "check that 3 customers are left",
    "check that Undo is enabled",
    "Notify is unchecked",
    "check that the City field says Oslo",
    "check that the total is $30.00",
    "check that the subtotal is $62.50",
    "Filters is collapsed",
    "the Map tab is selected",
    "City is empty",
    'the URL contains "/login"',
    "Mei Tanaka comes before Dana Reyes",
    "Mei Tanaka is first",
    "Export is visible",
]
STEPS = (Step(do="click", element="e31"),)


def expected(text: str, after: Look = AFTER, steps: Sequence[Step] = STEPS) -> str:
    known = {one.id: one for one in (*TABLE.elements, *after.elements)}
    found = plan_expectation(clause(text), [TABLE], after, steps, known)
    return "; ".join(
        " ".join(filter(None, (one.expect, one.element, one.value, ", ".join(one.values)))) for one in found
    )


@pytest.mark.parametrize(("text", "wanted"), EXPECTED, ids=[one[0] for one in EXPECTED])
def test_expectation_is_planned(text: str, wanted: str) -> None:
    assert expected(text) == wanted


@pytest.mark.parametrize("text", NOT_SO)
def test_what_is_not_so_on_the_page_is_not_expected(text: str) -> None:
    assert expected(text) == ""


def test_what_the_steps_changed_is_preferred_to_what_was_there() -> None:
    before = look(el("e1", "text", "Total: 2 items"), el("e2", "button", "Add"))
    after = look(*before.elements, el("a1", "status", "2 items added"))
    known = {one.id: one for one in after.elements}
    found = plan_expectation(clause("see 2 items"), [before], after, [Step(do="click", element="e2")], known)
    assert [(one.expect, one.element) for one in found] == [("visible", "a1")]


def test_what_the_steps_wrote_is_not_expected() -> None:
    steps = [Step(do="fill", element="a5", value="Tokyo")]
    assert expected("check that the City field says Tokyo", steps=steps) == ""


def test_dialog_that_came_and_went_is_gone() -> None:
    dialog = look(*TABLE.elements, el("a1", "dialog", "Delete this project?"))
    known = {one.id: one for one in dialog.elements}
    found = plan_expectation(clause("the dialog is closed"), [TABLE, dialog], TABLE, STEPS, known)
    assert [(one.expect, one.element) for one in found] == [("hidden", "a1")]


def test_only_what_is_left_needs_two_expectations() -> None:
    after = look(*ROWS[:4], el("g1", "row", "Customers", items=("Dana Reyes Edit Delete",)))
    assert expected("only Dana Reyes is left", after) == "visible e10; count g1 1"


def test_a_row_of_cells_does_not_show_one_of_them() -> None:
    """The header of the row is on the page with another time, too."""
    row = look(
        el("a1", "rowheader", "Time", around='row "Time 19:30"'), el("a2", "cell", "19:30", around='row "Time 19:30"')
    )
    assert expected("see the time 19:30", row) in ("", "visible a2")


def test_columns_have_an_order() -> None:
    def row(number: int, name: str, city: str) -> list[Element]:
        around = f'row "{name} {city}"'
        cells = [(f"a{number}1", name, 0), (f"a{number}2", city, 50)]
        return [Element(id_, "cell", text, (x, 0, x + 9, 9), (), around=(around,)) for id_, text, x in cells]

    items = ("Ann Rome", "Ben Oslo", "Cleo Bonn")
    table = look(
        *row(1, "Ann", "Rome"), *row(2, "Ben", "Oslo"), *row(3, "Cleo", "Bonn"), el("g1", "row", "", items=items)
    )
    assert expected("the rows are sorted by name", table).startswith("order g1 Ann")


def test_draft_expects_quoted_texts_and_what_the_picture_shows() -> None:
    known = {one.id: one for one in LOGIN.elements}
    hidden = [Assertion(expect="hidden", element="e1"), Assertion(expect="disabled", element="e5")]

    def guess(text: str) -> list[tuple[str, str, str]]:
        found = plan_guess(clause(text), LOGIN, hidden, known)
        return [(one.expect, one.element, one.value) for one in found]

    assert guess('see "Welcome back"') == [("text", "page", "Welcome back")]
    assert guess('"Welcome" is gone') == [("no_text", "page", "Welcome")]
    assert guess("check that Sign in is disabled") == [("disabled", "e5", "")]
    assert guess("check that Sign in is enabled") == []
