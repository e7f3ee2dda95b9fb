"""Code from a plan: its form and names, and texts that stay texts."""

import ast
import itertools
import pathlib
import re
import subprocess
from collections.abc import Sequence
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruff import find_ruff_bin  # type: ignore[import-untyped]  # it has no types

from vlserve.testgen.code import playwright_code
from vlserve.testgen.code.naming import attribute_names
from vlserve.testgen.code.render import Suite, render
from vlserve.testgen.code.source_format import SETTINGS
from vlserve.testgen.code.static_checks import RULES
from vlserve.testgen.elements import Element, Locator, Target
from vlserve.testgen.plan import PAGE, Action, Assertion, Expectation, Plan, PlanError, Step
from vlserve.testgen.result import Subject

TARGETS: tuple[Target, ...] = get_args(Target)
LIVE = Subject((1280, 720), "http://127.0.0.1:8000/login", "passed")
DRAFT = Subject((1280, 720))


def element(id_: str, role: str, name: str, locator: Locator | None = None, **more: Any) -> Element:
    return Element(id_, role, name, (0, 0, 10, 10), (locator or Locator("role", role, name),), **more)


def step(do: Action, id_: str, value: str = "", to: str = "") -> Step:
    return Step(do=do, element=id_, value=value, to=to)


def expected(expect: Expectation, id_: str, value: str = "", values: tuple[str, ...] = ()) -> Assertion:
    return Assertion(expect=expect, element=id_, value=value, values=values)


def write(suite: Suite, folder: pathlib.Path) -> None:
    for name, source in suite.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, newline="")


def first_ways(elements: Sequence[Element]) -> dict[str, Locator]:
    return {one.id: one.locators[0] for one in elements}


def page_source(suite: Suite) -> str:
    return next(source for name, source in suite.files.items() if name.endswith("_page.py"))


def planned(
    steps: Sequence[Step], *assertions: Assertion, scenario: str = "Log in.", uncovered: tuple[str, ...] = ()
) -> Plan:
    return Plan(scenario=scenario, steps=tuple(steps), assertions=assertions, uncovered=uncovered)


EMAIL = element("e1", "textbox", "Email", is_verified=True)
PASSWORD = element("e2", "textbox", "Password", is_secret=True, is_verified=True)
BUTTON = element("e3", "button", "Log in", is_verified=True)
ERROR = element("e4", "alert", "Wrong password", Locator("role", "alert"), is_verified=True)
REMEMBER = element("e5", "checkbox", "Remember me", is_verified=True)
COUNTRY = element("e6", "combobox", "Country", options=("France", "Japan"), is_verified=True)
POINT = element("e7", "button", "Menu", Locator("point", "120,40.4"))
ROWS = element("g1", "row", "", Locator("role", "row", has_role="cell"), items=("Ana", "Bo"), is_verified=True)
TAB = element("e9", "tab", "Details", is_verified=True)
OPTION = element("e10", "option", "Japan", is_verified=True)
ELEMENTS = (EMAIL, PASSWORD, BUTTON, ERROR, REMEMBER, COUNTRY, POINT, ROWS, TAB, OPTION)
LOGIN = planned(
    [step("fill", "e1", "dana"), step("fill", "e2", "hunter2"), step("click", "e3")],
    expected("visible", "e4"),
    scenario="Log in with hunter2, see an error.",
)
STEPS = {
    "click": step("click", "e3"),
    "fill": step("fill", "e1", "dana"),
    "check": step("check", "e5"),
    "uncheck": step("uncheck", "e5"),
    "select": step("select", "e6", "Japan"),
    "press": step("press", "e1", "Enter"),
    "click at a point": step("click", "e7"),
    "fill at a point": step("fill", "e7", "dana"),
    "press at a point": step("press", "e7", "Enter"),
    "fill a secret": step("fill", "e2", "hunter2"),
    "double_click": step("double_click", "e3"),
    "hover": step("hover", "e3"),
    "drag": step("drag", "e3", to="e5"),
}
EXPECTED = {
    "visible": expected("visible", "e4"),
    "hidden": expected("hidden", "e3"),
    "value": expected("value", "e1", "dana"),
    "chosen": expected("value", "e6", "Japan"),
    "empty": expected("empty", "e1"),
    "checked": expected("checked", "e5"),
    "unchecked": expected("unchecked", "e5"),
    "enabled": expected("enabled", "e3"),
    "disabled": expected("disabled", "e3"),
    "focused": expected("focused", "e1"),
    "text": expected("text", PAGE, "Wrong password"),
    "no_text": expected("no_text", PAGE, "Wrong password"),
    "contains": expected("contains", "e4", "Wrong"),
    "contains in a field": expected("contains", "e1", "dana"),
    "contains in a choice": expected("contains", "e6", "Jap"),
    "count": expected("count", "g1", "2"),
    "order": expected("order", "g1", values=("Ana", "Bo")),
    "url": expected("url", PAGE, "/orders?page=2"),
    "title": expected("title", PAGE, "Orders (2)"),
    "pressed": expected("pressed", "e3"),
    "not_pressed": expected("not_pressed", "e3"),
    "selected": expected("selected", "e9"),
    "selected option": expected("selected", "e10"),
    "not_selected": expected("not_selected", "e9"),
    "expanded": expected("expanded", "e3"),
    "collapsed": expected("collapsed", "e3"),
}
LONG = "A name that is much longer than a line of code may be, " * 3


def test_tables_hold_every_action_and_expectation() -> None:
    assert {one.do for one in STEPS.values()} == set(get_args(Action))
    assert {one.expect for one in EXPECTED.values()} == set(get_args(Expectation))


# ---- Form


@pytest.mark.parametrize("target", TARGETS)
def test_every_step_with_every_expectation_is_as_ruff_wants_it(target: Target, tmp_path: pathlib.Path) -> None:
    turns = itertools.cycle(EXPECTED.values())
    plans = [planned([doing], next(turns)) for doing in STEPS.values()]
    plans += [planned([], one) for one in EXPECTED.values()]
    plans += [planned(list(STEPS.values())[:12], *list(EXPECTED.values())[:6], scenario=LONG * 3)]
    existing: dict[str, str] = {}
    for number, plan in enumerate(plans):
        suite = render(plan, ELEMENTS, LIVE, target, existing=existing, test_file=f"test_{number}.py")
        existing |= suite.files
        write(suite, tmp_path / "live")
        write(render(plan, ELEMENTS, DRAFT, target), tmp_path / f"draft{number}")
    for folder in tmp_path.iterdir():
        assert_ruff_is_content(folder)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "text",
    [
        *(
            "'); import os #",
            '"); import os #',
            '"""',
            "'''",
            '""""""; import os; """',
            "\\",
            '\\"',
            "\\'",
            "\\N{DASH}",
        ),
        *("{}", "{0}", "{url}", "%s", "$TEST", "a\nb", "a\r\nb", "a\x0cb", "a\u2028b", "\x00", "\u202eevil\u202c"),
        *("# noqa", "# UNVERIFIED", "  # fmt: off", "  ", "", LONG, "长" * 130, "🦊" * 70, "\\" * 200, '"' * 200),
        *("both ' and \"", "class", "None", "]", "']", "//*", "\u2007", "\ufeff", "\x85x"),
    ],
)
def test_hostile_text_stays_text(text: str, target: Target, tmp_path: pathlib.Path) -> None:
    suite = render(*with_text(text), target)
    assert shape(suite) == shape(render(*with_text("harmless"), target))
    for source in suite.files.values():
        assert all(ord(one) >= 32 or one == "\n" for one in source)
        assert not re.search("[\u200e\u200f\u202a-\u202e\u2066-\u2069]", source)
    write(suite, tmp_path)
    assert_ruff_is_content(tmp_path)


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=25, deadline=None)
@given(text=st.text(st.characters(exclude_categories=()), max_size=150))
def test_any_text_stays_text(text: str, target: Target) -> None:
    elements, subject = with_text("harmless")[1:]
    harmless = render(with_text("harmless")[0], elements, subject, target)
    assert shape(render(*with_text(text), target)) == shape(harmless)


def test_lone_surrogates_of_a_page_are_escaped() -> None:
    for target in TARGETS:
        suite = render(LOGIN, [EMAIL, PASSWORD, BUTTON, element("e4", "alert", "a\ud800b")], LIVE, target)
        assert "a\\ud800b" in suite.code
        assert ast.parse(suite.code.encode())


@pytest.mark.parametrize("target", TARGETS)
def test_same_plan_gives_same_bytes(target: Target) -> None:
    again = Plan.model_validate_json(LOGIN.model_dump_json())
    assert render(LOGIN, ELEMENTS, LIVE, target) == render(again, ELEMENTS[::-1], LIVE, target)


def with_text(text: str) -> tuple[Plan, list[Element], Subject]:
    """A plan and its elements that say it wherever a text of others can stand."""
    sayable = text.encode("utf-8", "ignore").decode()[:200]  # of pydantic's strings
    elements = [
        element("e1", "textbox", text, context=f"row {text}"),
        element("e2", "textbox", text, Locator("placeholder", text, frames=(text,)), context="row b"),
        element("e3", "button", text, Locator("text", text, within=Locator("role", "row", text))),
        element("e4", "alert", text, Locator("label", text), is_verified=True),
        element("e5", text, text, Locator("id", text, within=Locator("css", text))),
    ]
    steps = [step("fill", "e1", sayable), step("fill", "e2", sayable), step("click", "e3"), step("press", "e5", "Tab")]
    expectations = [expected("visible", "e4"), expected("text", PAGE, sayable), expected("value", "e5", sayable)]
    plan = planned(steps, *expectations, scenario=sayable, uncovered=(sayable[:150] + "!",))
    return plan, elements, Subject((800, 600), f"http://127.0.0.1/{text}")


def shape(suite: Suite) -> list[str]:
    """The trees of the files without their texts and without the names that come from texts."""
    names = {name: f"attribute{number}" for number, name in enumerate(suite.names.values())}
    page = ast.parse(page_source(suite))
    class_ = next(one for one in page.body if isinstance(one, ast.ClassDef))
    methods = [one for one in class_.body if isinstance(one, ast.FunctionDef) and not one.name.startswith("__")]
    names |= {one.name: f"method{number}" for number, one in enumerate(methods)}
    names |= {class_.name: "PageObject", pathlib.PurePath(page_name(suite)).stem: "page_object"}
    parameters = {
        one.arg: f"parameter{number}" for method in methods for number, one in enumerate(method.args.args[1:])
    }
    inner = {id(node) for method in methods for node in ast.walk(method) if node is not method}
    trees = [page, ast.parse(suite.code)]
    next(one for one in trees[1].body if isinstance(one, ast.FunctionDef)).name = "test_it"
    for node in (one for tree in trees for one in ast.walk(tree)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
        is_parameter = isinstance(node, ast.keyword) or (id(node) in inner and not isinstance(node, ast.Attribute))
        known = names | parameters if is_parameter else names
        for attribute in ("attr", "id", "name", "arg"):
            if isinstance(name := getattr(node, attribute, None), str):
                setattr(node, attribute, known.get(name, name))
        if isinstance(node, ast.ImportFrom):
            node.module = "pages" if node.module and node.module.startswith("pages.") else node.module
    # By.ID, where the text allows it, and by CSS are the same shape.
    return [re.sub(r"attr='(ID|CSS_SELECTOR)'", "attr='CSS'", ast.dump(tree)) for tree in trees]


def page_name(suite: Suite) -> str:
    return next(name for name in suite.files if name.endswith("_page.py"))


def assert_ruff_is_content(folder: pathlib.Path) -> None:
    for command in (
        ["check", *SETTINGS, "--select", RULES, "--output-format", "concise"],
        ["format", *SETTINGS, "--diff"],
    ):
        done = subprocess.run([find_ruff_bin(), *command, str(folder)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


# ---- Content


@pytest.mark.parametrize("target", TARGETS)
def test_draft_marks_every_locator_but_those_found(target: Target) -> None:
    found = [element("e1", "textbox", "Email", is_verified=True)]
    guessed = [element(one.id, one.role, one.name, one.locators[0]) for one in (PASSWORD, BUTTON, ERROR)]
    plan = planned([*LOGIN.steps, step("click", "e7")], *LOGIN.assertions, expected("text", PAGE, "Bye"))
    suite = render(plan, [*found, *guessed, POINT], DRAFT, target)
    marked = [text for source in suite.files.values() for text in marked_statements(source)]
    names = [re.split("[ =(]+", text.removeprefix("self."))[0] for text in marked]
    click = "page.mouse.click" if target == "playwright" else "click_at"
    go = "page.goto" if target == "playwright" else "go_to"
    text = "expect" if target == "playwright" else "home_page.expect_page_text"
    assert names == ["BASE_URL", "password_input", "log_in_button", "alert", go, click, text]
    assert sum(source.count("# UNVERIFIED") for source in suite.files.values()) == len(names)
    assert "passed" not in suite.code
    assert suite.code.startswith('"""DRAFT')


def marked_statements(source: str) -> list[str]:
    lines = source.split("\n")
    statements = [one for one in ast.walk(ast.parse(source)) if isinstance(one, ast.Assign | ast.Expr)]
    marked = [one for one in statements if lines[(one.end_lineno or 0) - 1].endswith("  # UNVERIFIED")]
    return [ast.unparse(one) for one in sorted(marked, key=lambda one: one.lineno)]


@pytest.mark.parametrize(
    ("subject", "uncovered", "first"),
    [
        (LIVE, (), "VERIFIED: the test passed on the live page and does all of the scenario."),
        (DRAFT, (), "DRAFT: made from a picture alone, nothing in it was tried."),
        (Subject((1, 1), LIVE.url), (), "DRAFT: the page was looked at, but the test was not run."),
        (Subject((1, 1), LIVE.url, "failed"), (), "FAILED: every locator was found on the live page"),
        (Subject((1, 1), LIVE.url, "partial"), ('No step has "Bo".',), 'PARTIAL: No step has "Bo".'),
    ],
)
def test_first_line_is_the_outcome(subject: Subject, uncovered: tuple[str, ...], first: str) -> None:
    plan = LOGIN.model_copy(update={"uncovered": uncovered})
    for target in TARGETS:
        assert render(plan, ELEMENTS, subject, target).code.startswith(f'"""{first}')


def test_docstring_has_the_scenario_and_what_is_not_covered() -> None:
    plan = planned(
        [], expected("visible", "e4"), scenario='Say """\\d""" and\nleave\u202e.', uncovered=("No cat.", "No dog.")
    )
    for subject in (LIVE, DRAFT):
        text = ast.get_docstring(ast.parse(render(plan, ELEMENTS, subject, "playwright").code)) or ""
        assert 'Scenario: Say """\\d""" and\nleave.' in text
        assert "It does not do all of the scenario: No cat. No dog." in text


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_waits_for_time_or_for_silence(target: Target) -> None:
    suite = render(planned(list(STEPS.values())[:12], *list(EXPECTED.values())[:6]), ELEMENTS, LIVE, target)
    for source in suite.files.values():
        assert not re.search("sleep|networkidle|wait_for_timeout|implicitly_wait", source)


@pytest.mark.parametrize("target", TARGETS)
def test_only_long_texts_make_long_lines(target: Target) -> None:
    for subject in (LIVE, DRAFT):
        suite = render(planned(list(STEPS.values())[:12], *list(EXPECTED.values())[:6]), ELEMENTS, subject, target)
        assert not [line for source in suite.files.values() for line in source.split("\n") if len(line) > 120]


@pytest.mark.parametrize(
    ("used", "names"),
    [
        ([("textbox", "Email", ""), ("button", "Email", "")], ["email_input", "email_button"]),
        ([("button", "登录", ""), ("button", "取消", ""), ("link", "登录", "")], ["button_1", "button_2", "link_1"]),
        ([("button", "登录 Login", "")], ["login_button"]),
        (
            [("button", "Edit", 'row "Dana"'), ("button", "Edit", 'row "Li"')],
            ["edit_button_row_dana", "edit_button_row_li"],
        ),
        ([("button", "Edit", ""), ("button", "Edit", "")], ["edit_button", "edit_button_2"]),
        ([("heading", "3 items", "")], ["element_3_items_heading"]),
        ([("text", "", ""), ("", "", ""), ("", "class", "")], ["text_1", "element_1", "class_element"]),
        ([("button", "Crème brûlée’s recipe for two", "")], ["creme_brulees_recipe_for_button"]),
    ],
)
def test_attribute_names(used: list[tuple[str, str, str]], names: list[str]) -> None:
    elements = [element(f"e{number}", role, name, context=context) for number, (role, name, context) in enumerate(used)]
    assert list(attribute_names(elements, first_ways(elements)).values()) == names


def test_attribute_is_named_after_the_words_of_the_item_around_the_element() -> None:
    card = Locator("css", "div.card", has_text="Wash the car")
    button = element("e1", "button", "Delete", Locator("role", "button", "Delete", within=card))
    assert attribute_names([button], first_ways([button])) == {"e1": "wash_the_car_delete_button"}


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=30), st.sampled_from(["", "row a", "行"])), max_size=6))
@settings(max_examples=200)
def test_attribute_names_are_names_and_unlike(used: list[tuple[str, str, str]]) -> None:
    elements = [element(f"e{number}", role, name, context=context) for number, (role, name, context) in enumerate(used)]
    names = list(attribute_names(elements, first_ways(elements)).values())
    assert len(set(names)) == len(elements)
    for name in names:
        compile(f"def f(page): page.{name} = {name} = 1", "", "exec")
        assert name.isascii()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "refused",
    [
        planned([step("check", "e7")], expected("visible", "e4")),
        planned([step("select", "e7", "x")], expected("visible", "e4")),
        planned([step("click", "e3")], expected("visible", "e7")),
    ],
)
def test_coordinates_take_only_clicks_and_keys(refused: Plan, target: Target) -> None:
    with pytest.raises(PlanError, match="coordinates alone"):
        render(refused, ELEMENTS, LIVE, target)


@pytest.mark.parametrize("value", ["", "1", "1,2,3", "a,b", "nan,1", "-1,2", "inf,3"])
def test_points_are_numbers(value: str) -> None:
    with pytest.raises(PlanError):
        playwright_code.expression(Locator("point", value))


# ---- Secrets
