"""Which steps and expectations rules plan without a model, and which they leave alone."""

from collections.abc import Sequence

import pytest

from vlserve.testgen.elements import Element, Locator, Look
from vlserve.testgen.plan import Assertion, Step
from vlserve.testgen.planning.rule_planner import plan_expectation, plan_guess, plan_step
from vlserve.testgen.scenario.clauses import Clause, split


def el(id_: str, role: str, name: str, *states: str, around: str = "", **more: object) -> Element:
    return Element(
        id_,
        role,
        name,
        (0, 0, 9, 9),
        (Locator("text", name or role),),
        is_verified=True,
        states=frozenset(states),
        around=(around,) if around else (),
        context=around,
        **more,  # type: ignore[arg-type]
    )


def look(*elements: Element, url: str = "http://127.0.0.1/orders", title: str = "Orders") -> Look:
    return Look(tuple(elements), url, title)


PEOPLE = ("Dana Reyes", "Ben Hall", "Mei Tanaka")
ROWS = [
    one
    for number, name in enumerate(PEOPLE)
    for one in (
        el(f"e1{number}", "cell", name, around=f'row "{name} Edit Delete"'),
        el(f"e2{number}", "button", "Edit", around=f'row "{name} Edit Delete"'),
        el(f"e3{number}", "button", "Delete", around=f'row "{name} Edit Delete"'),
        el(f"e4{number}", "checkbox", "Select", around=f'row "{name} Edit Delete"'),
    )
]
TABLE = look(
    el("e1", "searchbox", "Search customers"),
    el("e2", "button", "Name"),
    el("e3", "button", "City"),
    el("e4", "combobox", "Sort by", options=("Newest", "Oldest")),
    *ROWS,
    el("g1", "row", "Customers", items=tuple(f"{name} Edit Delete" for name in PEOPLE)),
)
LOGIN = look(
    el("e1", "heading", "Welcome"),
    el("e2", "textbox", "Email"),
    el("e3", "textbox", "Password", is_secret=True),
    el("e4", "checkbox", "Remember me"),
    el("e5", "button", "Sign in"),
    el("e6", "link", "Help"),
    el("e7", "button", "Continue", "disabled"),
    el("e8", "link", "Create an account"),
)
TODO = look(
    el("e1", "textbox", "What needs to be done?"),
    el("e2", "button", "Add"),
    el("e3", "checkbox", "Buy milk"),
    el("e4", "checkbox", "Call Ben", "checked"),
    el("e5", "button", "All", "pressed"),
    el("e6", "button", "Done", "not_pressed"),
    el("e7", "button", "Clear completed"),
    el("e8", "listitem", "Write report"),
    el("e9", "listitem", "Ask Ann"),
    el("g1", "listitem", "", items=("Buy milk", "Call Ben", "Write report", "Ask Ann")),
)
SETTINGS = look(
    el("e1", "tab", "Profile", "selected"),
    el("e2", "tab", "Billing", "not_selected"),
    el("e3", "combobox", "Plan", options=("Free", "Basic", "Pro")),
    el("e4", "radio", "Dark"),
    el("e5", "radio", "Light", "checked"),
    el("e6", "switch", "Sound"),
    el("e7", "button", "Save"),
    el("e8", "button", "Advanced", "collapsed"),
    el("e9", "spinbutton", "Guests"),
    el("e10", "button", "Delete account"),
    el("e11", "dialog", "Cookies"),
    el("e12", "button", "Close", around='dialog "Cookies"'),
    el("e13", "textbox", "Full name"),
    el("e14", "textbox", "Promo code"),
    el("e15", "button", "Apply"),
)
TWINS = look(
    el("e1", "textbox", "Street", around='group "Shipping"'),
    el("e2", "textbox", "City", around='group "Shipping"'),
    el("e3", "button", "Save", around='group "Shipping"'),
    el("e4", "textbox", "Street", around='group "Billing"'),
    el("e5", "textbox", "City", around='group "Billing"'),
    el("e6", "button", "Save", around='group "Billing"'),
)
CONTACT = look(
    el("e1", "textbox", "Full name"),
    el("e2", "textbox", "Email"),
    el("e3", "textbox", "Message"),
    el("e4", "button", "Send message"),
)
CHORES = look(el("e1", "textbox", "New chore"), el("e2", "button", "Add chore"))
TWO_LISTS = look(
    el("e1", "textbox", "New chore"),
    el("e2", "button", "Add chore"),
    el("e3", "textbox", "New person"),
    el("e4", "button", "Add person"),
)
CHINESE = look(
    el("e1", "textbox", "用户名"),
    el("e2", "textbox", "密码", is_secret=True),
    el("e3", "checkbox", "记住我"),
    el("e4", "button", "登录"),
    el("e5", "link", "创建账户"),
    el("e6", "combobox", "城市", options=("北京", "上海")),
)
SHOP = look(
    el("e1", "button", "Cart (2)"),
    el("e2", "link", "Go to the checkout…"),
    el("e3", "button", "Account menu", "collapsed"),
    el("e4", "button", "Cancel subscription"),
    el("e5", "button", "Close account"),
    el("e6", "button", "Save changes"),
    el("e7", "link", "删除账户"),
)


def clause(text: str) -> Clause:
    found = split(text)
    assert len(found) == 1, found
    return found[0]


def written(steps: Sequence[Step]) -> str:
    return "; ".join(" ".join(filter(None, (one.do, one.element, one.value, one.to))) for one in steps)


PLANNED = [
    (TABLE, "delete Ben Hall", "click e31"),
    (TABLE, "remove Mei Tanaka", "click e32"),
    (TABLE, "edit Dana Reyes", "click e20"),
    (TABLE, "click Delete in the row of Ben Hall", "click e31"),
    (TABLE, "click Edit for Mei Tanaka", "click e22"),
    (TABLE, "tick the checkbox in the row of Ben Hall", "check e41"),
    (TABLE, "search for Dana", "fill e1 Dana"),
    (TABLE, 'search for "Mei Tanaka"', "fill e1 Mei Tanaka"),
    (TABLE, "sort by City", "click e3"),
    (TABLE, "choose Oldest in Sort by", "select e4 Oldest"),
    (LOGIN, "click Sign in", "click e5"),
    (LOGIN, 'click "Sign in"', "click e5"),
    (LOGIN, "press the Sign in button", "click e5"),
    (LOGIN, "click the help link", "click e6"),
    (LOGIN, "open Create an account", "click e8"),
    (LOGIN, "tick Remember me", "check e4"),
    (LOGIN, "check the Remember me checkbox", "check e4"),
    (LOGIN, 'type "ann@example.com" into Email', "fill e2 ann@example.com"),
    (LOGIN, "type ann@example.com into Email", "fill e2 ann@example.com"),
    (LOGIN, 'fill in Email with "ann@example.com"', "fill e2 ann@example.com"),
    (LOGIN, 'enter "secret-1" in the Password field', "fill e3 secret-1"),
    (LOGIN, "fill in the email", "fill e2 user@example.com"),
    (LOGIN, "log in with a wrong password", "fill e2 user@example.com; fill e3 wrong-password; click e5"),
    (LOGIN, "press Enter in Password", "press e3 Enter"),
    (LOGIN, "hover over Help", "hover e6"),
    (LOGIN, "double-click Welcome", "double_click e1"),
    (CONTACT, "send the form with an email that is not valid", "fill e2 not-an-email; click e4"),
    (CONTACT, "send the form with an invalid email", "fill e2 not-an-email; click e4"),
    (TODO, 'add "Water plants"', "fill e1 Water plants; click e2"),
    (CHORES, 'add "Iron the shirts"', "fill e1 Iron the shirts; click e2"),
    (TODO, "tick Buy milk", "check e3"),
    (TODO, "untick Call Ben", "uncheck e4"),
    (TODO, "click Done", "click e6"),
    (TODO, "click Clear completed", "click e7"),
    (TODO, "drag Write report to Ask Ann", "drag e8 e9"),
    (SETTINGS, "open the Billing tab", "click e2"),
    (SETTINGS, "go to the Billing tab", "click e2"),
    (SETTINGS, "choose the plan Pro", "select e3 Pro"),
    (SETTINGS, 'select "Basic" from Plan', "select e3 Basic"),
    (SETTINGS, "choose Dark", "check e4"),
    (SETTINGS, "turn on Sound", "check e6"),
    (SETTINGS, "save", "click e7"),
    (SETTINGS, "expand Advanced", "click e8"),
    (SETTINGS, "set Guests to 4", "fill e9 4"),
    (SETTINGS, "close the dialog", "click e12"),
    (SETTINGS, "enter the promo code SPRING10", "fill e14 SPRING10"),
    (SETTINGS, "apply the promo code WINTER99", "fill e14 WINTER99; click e15"),
    (SETTINGS, "fill in Full name Ana Lopez", "fill e13 Ana Lopez"),
    (TWINS, 'type "Oslo" into City in Billing', "fill e5 Oslo"),
    (TWINS, "click Save in the Billing group", "click e6"),
    (
        TWINS,
        "save the Shipping group with street 1 Hall Street and city Oslo",
        "fill e1 1 Hall Street; fill e2 Oslo; click e3",
    ),
    (SETTINGS, "click Delete account", "click e10"),
    (SETTINGS, 'click "delete account"', "click e10"),
    (SETTINGS, "delete the account", "click e10"),
    (SHOP, "click Cart", "click e1"),
    (SHOP, "click Go to checkout", "click e2"),
    (SHOP, "open the account menu", "click e3"),
    (SHOP, "cancel the subscription", "click e4"),
    (SHOP, "save", "click e6"),
    (SHOP, "点击删除账户", "click e7"),
    (CHINESE, "点击登录", "click e4"),
    (CHINESE, '点击"登录"按钮', "click e4"),
    (CHINESE, "勾选记住我", "check e3"),
    (CHINESE, '在用户名中输入"mei"', "fill e1 mei"),
    (CHINESE, "不输入用户名直接登录", "click e4"),
    (CHINESE, "用错误的密码登录", "fill e1 测试; fill e2 wrong-password; click e4"),
    (CHINESE, "在城市中选择上海", "select e6 上海"),
]
LEFT_ALONE = [
    (TABLE, "click Delete"),
    (TABLE, "delete it"),
    (TABLE, "click Edit"),
    (TABLE, "delete Ann Lee"),
    (TABLE, "tick Select"),
    (TABLE, "click Export CSV"),
    (TABLE, "choose Cheapest in Sort by"),
    (LOGIN, "click Continue"),
    (LOGIN, "click Register"),
    (LOGIN, "click the button"),
    (LOGIN, "open the Security tab"),
    (LOGIN, "upload a picture"),
    (LOGIN, "scroll to the end"),
    (LOGIN, "do not click Sign in"),
    (LOGIN, "log in"),
    (LOGIN, 'type "x"'),
    (TWO_LISTS, 'add "Iron the shirts"'),
    (TODO, "delete Buy milk"),
    (TODO, "drag Write report"),
    (TODO, "tick Walk the dog"),
    (SETTINGS, "click Delete"),
    (SETTINGS, 'click "Delete"'),
    (SETTINGS, "press the delete button"),
    (SETTINGS, "delete"),
    (LOGIN, "click Create"),
    (SHOP, "click Cancel"),
    (SHOP, "cancel"),
    (SHOP, "close"),
    (SHOP, "点击删除"),
    (SETTINGS, "choose the plan Gold"),
    (SETTINGS, 'type "x" into Nickname'),
    (TWINS, 'type "Oslo" into City'),
    (TWINS, "click Save"),
    (CHINESE, "点击忘记密码？"),
    (CHINESE, "在城市中选择广州"),
]


@pytest.mark.parametrize(("shown", "text", "wanted"), PLANNED, ids=[one[1] for one in PLANNED])
def test_step_is_planned(shown: Look, text: str, wanted: str) -> None:
    assert written(plan_step(clause(text), shown)) == wanted


@pytest.mark.parametrize(("shown", "text"), LEFT_ALONE, ids=[one[1] for one in LEFT_ALONE])
def test_step_is_not_guessed(shown: Look, text: str) -> None:
    assert plan_step(clause(text), shown) == ()


def test_key_goes_to_the_field_that_was_typed_into() -> None:
    done = (Step(do="fill", element="e2", value="ann@example.com"),)
    assert written(plan_step(clause("press Enter"), LOGIN, done)) == "press e2 Enter"
    assert plan_step(clause("press Enter"), look(*LOGIN.elements[:3])) == (), "two fields, and none is named"


def test_elements_that_cannot_be_used_are_not_used() -> None:
    inert = look(el("e1", "button", "Save", is_inert=True), el("e2", "dialog", "Sure?"))
    assert plan_step(clause("click Save"), inert) == ()


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
