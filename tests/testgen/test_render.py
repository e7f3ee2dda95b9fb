"""Code from a plan: its form and names, texts that stay texts, secrets, and locators."""

import ast
import dataclasses
import itertools
import json
import pathlib
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from typing import Any, get_args

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.async_api import Page, async_playwright
from ruff import find_ruff_bin  # type: ignore[import-untyped]  # it has no types

from tests.gateway.web_page import FLAGS
from vlserve.testgen import playwright_code, selenium_code
from vlserve.testgen.elements import Element, Locator, Target
from vlserve.testgen.naming import attribute_names
from vlserve.testgen.plan import PAGE, Action, Assertion, Expectation, Plan, PlanError, Step
from vlserve.testgen.render import Suite, render
from vlserve.testgen.result import Subject
from vlserve.testgen.secrets import Secrets, environment
from vlserve.testgen.source_format import SETTINGS
from vlserve.testgen.static_checks import RULES, check

TARGETS: tuple[Target, ...] = get_args(Target)
LIVE = Subject((1280, 720), "http://127.0.0.1:8000/login", "passed")
DRAFT = Subject((1280, 720))
CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")


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
    assert list(attribute_names(elements).values()) == names


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=30), st.sampled_from(["", "row a", "行"])), max_size=6))
@settings(max_examples=200)
def test_attribute_names_are_names_and_unlike(used: list[tuple[str, str, str]]) -> None:
    elements = [element(f"e{number}", role, name, context=context) for number, (role, name, context) in enumerate(used)]
    names = list(attribute_names(elements).values())
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


NEW = element("e8", "textbox", "New password", is_secret=True)
AGAIN = element("e9", "textbox", "确认密码", is_secret=True)


def test_environment_is_what_the_plan_typed() -> None:
    several = planned(
        [
            step("fill", "e2", "old one"),
            step("fill", "e8", "n3w"),
            step("fill", "e9", "n3w"),
            step("press", "e9", "Enter"),
        ],
        expected("visible", "e4"),
    )
    elements = [*ELEMENTS, NEW, AGAIN]
    assert environment(LOGIN, elements) == {"TEST_PASSWORD": "hunter2"}
    assert environment(several, elements) == {
        "TEST_PASSWORD": "old one",
        "TEST_NEW_PASSWORD": "n3w",
        "TEST_PASSWORD_2": "n3w",
    }
    twice = planned([step("fill", "e8", "first"), step("fill", "e8", "second")], expected("visible", "e4"))
    assert environment(twice, elements) == {"TEST_PASSWORD": "first", "TEST_PASSWORD_2": "second"}
    assert environment(planned([step("click", "e3")], expected("visible", "e4")), elements) == {}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("secret", ["hunter2", 'it\'s "q" \\n', "密码很长", "two words", "x1", "${HOME}{0}"])
def test_a_secret_is_nowhere(secret: str, target: Target) -> None:
    elements = [
        *ELEMENTS[:3],
        element("a4", "alert", f"{secret} is wrong", Locator("text", f"{secret} is wrong"))
        if len(secret) > 3
        else dataclasses.replace(ERROR, id="a4"),
    ]
    plan = planned(
        [step("fill", "e1", secret), step("fill", "e2", secret), step("click", "e3")],
        expected("visible", "a4"),
        expected("text", PAGE, f"Bye {secret}" if len(secret) > 3 else "Bye"),
        scenario=f"Log in with {secret}, see an error.",
        uncovered=(secret,),
    )
    suite = render(plan, elements, LIVE, target)
    trees = [ast.parse(source) for source in (suite.code, page_source(suite))]
    nodes = [one for tree in trees for one in ast.walk(tree)]
    said = [one.value for one in nodes if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    said += [" ".join(one.split()) for one in said]
    assert not [one for one in said if secret in one or " ".join(secret.split()) in one]
    assert "Log in with $TEST_PASSWORD, see an error." in (ast.get_docstring(trees[0]) or "")
    assert environment(plan, elements) == {"TEST_PASSWORD": secret}


@pytest.mark.parametrize("target", TARGETS)
async def test_what_the_page_shows_anyway_stays_in_the_code(target: Target, tmp_path: pathlib.Path) -> None:
    """Its address, a name from before the steps, and a plain word: the test must hold with another password, too."""
    welcome = element("e5", "button", "demo4 of demo", Locator("role", "button", "demo4 of demo"))
    said = element("a1", "alert", "The password is wrong.", Locator("text", "The password is wrong."))
    for secret in ("demo4", "wrong"):
        plan = planned([step("fill", "e2", secret), step("click", "e5")], expected("visible", "a1"))
        subject = dataclasses.replace(LIVE, url="https://demo4.example/login")
        suite = render(plan, [*ELEMENTS[:3], welcome, said], subject, target)
        assert sum(source.count('required("TEST_PASSWORD")') for source in suite.files.values()) == 1
        word = Secrets(plan, ELEMENTS).shown("wrong")
        assert word == "'wrong'"
        folder = tmp_path / secret
        checks = await check(suite.files, suite.test_file, folder, variables=environment(plan, ELEMENTS))
        assert checks.problems == ()


def test_a_secret_is_masked_also_as_pytest_and_json_spell_it() -> None:
    value = 'it\'s "q" \\n'
    masked = Secrets(planned([step("fill", "e2", value)], expected("visible", "e4")), ELEMENTS).masked
    assert masked(f"{value} {value!r} {json.dumps(value)}") == (
        "$TEST_PASSWORD " + repr(value)[0] + "$TEST_PASSWORD" + repr(value)[0] + ' "$TEST_PASSWORD"'
    )


def test_word_of_the_field_itself_is_no_secret_elsewhere() -> None:
    plan = planned([step("fill", "e2", "password")], expected("text", PAGE, "Wrong password"))
    source = render(plan, ELEMENTS, LIVE, "playwright").code
    assert 'to_contain_text("Wrong password"' in source
    assert "enter_password(test_password)" in source
    assert 'test_password = required("TEST_PASSWORD")' in source


# ---- Locators


@pytest.mark.parametrize(
    ("locator", "source"),
    [
        (Locator("role", "button", "Log in"), "get_by_role('button', name='Log in', exact=True)"),
        (Locator("role", "alert"), "get_by_role('alert')"),
        (Locator("label", "Email"), "get_by_label('Email', exact=True)"),
        (Locator("placeholder", "Search"), "get_by_placeholder('Search', exact=True)"),
        (Locator("text", "it's"), 'get_by_text("it\'s", exact=True)'),
        (Locator("alt", "Logo"), "get_by_alt_text('Logo', exact=True)"),
        (Locator("title", "Close"), "get_by_title('Close', exact=True)"),
        (Locator("test_id", "go"), "get_by_test_id('go')"),
        (Locator("id", "a:b"), "locator('[id=\"a:b\"]')"),
        (Locator("aria_label", 'a "b"'), """locator('[aria-label="a \\\\22 b\\\\22 "]')"""),
        (Locator("css", "#a > b"), "locator('#a > b')"),
        (Locator("point", "120,40.5"), "mouse.click(120, 40.5)"),
        (Locator("role", "row", has_role="cell"), "get_by_role('row').filter(has=page.get_by_role('cell'))"),
        (
            Locator("role", "button", "Edit", within=Locator("role", "row", "Dana"), frames=("#a", "#b")),
            "frame_locator('#a').frame_locator('#b').get_by_role('row', name='Dana')"
            ".get_by_role('button', name='Edit', exact=True)",
        ),
    ],
)
def test_playwright_expression(locator: Locator, source: str) -> None:
    assert playwright_code.expression(locator) == source


@pytest.mark.parametrize(
    ("locator", "found"),
    [
        (Locator("id", "email"), ("id", "email")),
        (Locator("id", 'a"b'), ("css selector", r'[id="a\22 b"]')),
        (Locator("test_id", "go"), ("css selector", '[data-testid="go"]')),
        (Locator("aria_label", "a\nb"), ("css selector", r'[aria-label="a\a b"]')),
        (Locator("css", "b, i", within=Locator("id", "x")), ("css selector", ':is([id="x"]) :is(b, i)')),
        (Locator("role", "alert"), ("xpath", "//*[@role='alert']")),
        (Locator("id", "x", within=Locator("role", "alert")), ("xpath", "//*[@role='alert']//*[@id='x']")),
    ],
)
def test_selenium_selector(locator: Locator, found: tuple[str, str]) -> None:
    assert selenium_code.selector(locator) == found


def test_css_within_a_role_is_refused() -> None:
    with pytest.raises(PlanError):
        selenium_code.selector(Locator("css", "b", within=Locator("role", "row")))


MARKUP = """
<h1>Log <b>in</b></h1> <label for=a>Email <b>*</b></label><input id=a>
<label>Password <input id=b type=password></label> <input id=c placeholder="Find it" type=search>
<label><input id=d type=checkbox> Remember me</label> <label>Country <select id=e><option>France</select></label>
<button id=f>Log in</button> <input id=g type=submit value="Send off"> <a id=h href=/x>Help</a> <a>No link</a>
<img id=i alt="Our logo"> <button id=j title=Close>×</button> <button id=k aria-label="Say “hi”, 'you'">!</button>
<div id=l role=switch aria-checked=false>Dark</div> <span id=m>How's the "weather"?</span> <p id=q data-testid=w>x</p>
<table><tr id=n><td>Dana</td><td>Reyes</td><td><button id=o>Edit</button></td></tr>
<tr><td>Li</td><td>Wei</td><td><button>Edit</button></td></tr></table>
<span id=r>Name of it</span><textarea id=s aria-labelledby=r></textarea> <button id=t><img alt=Basket></button>
<fieldset id=u><legend>Size</legend><label><input type=radio id=v name=z>Small</label></fieldset>
<label>Number <input id=x type=number></label> <button id=y role=tab>All</button>
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shown() -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page()
        await page.set_content(MARKUP)
        yield page
        await browser.close()


@pytest.mark.full
@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("locator", "id_"),
    [
        (Locator("role", "textbox", "Email *"), "a"),
        (Locator("role", "textbox", "Password"), "b"),
        (Locator("label", "Password"), "b"),
        (Locator("role", "searchbox", "Find it"), "c"),
        (Locator("placeholder", "Find it"), "c"),
        (Locator("role", "checkbox", "Remember me"), "d"),
        (Locator("role", "combobox", "Country"), "e"),
        (Locator("role", "button", "Log in"), "f"),
        (Locator("role", "button", "Send off"), "g"),
        (Locator("role", "link", "Help"), "h"),
        (Locator("role", "img", "Our logo"), "i"),
        (Locator("alt", "Our logo"), "i"),
        (Locator("title", "Close"), "j"),
        (Locator("role", "button", "Say “hi”, 'you'"), "k"),
        (Locator("aria_label", "Say “hi”, 'you'"), "k"),
        (Locator("role", "switch", "Dark"), "l"),
        (Locator("text", 'How\'s the "weather"?'), "m"),
        (Locator("test_id", "w"), "q"),
        (Locator("role", "row", "Dana Reyes Edit"), "n"),
        (Locator("role", "button", "Edit", within=Locator("role", "row", "Dana Reyes Edit")), "o"),
        (Locator("role", "textbox", "Name of it"), "s"),
        (Locator("role", "button", "Basket"), "t"),
        (Locator("role", "group", "Size"), "u"),
        (Locator("role", "radio", "Small"), "v"),
        (Locator("role", "spinbutton", "Number"), "x"),
        (Locator("role", "tab", "All"), "y"),
        (Locator("id", "y"), "y"),
        (Locator("css", "button[role=tab], #nothing"), "y"),
        (Locator("text", 'How\'s  the "weather"?'), "m"),
    ],
)
async def test_both_targets_find_the_same_one(locator: Locator, id_: str, shown: Page) -> None:
    strategy, value = selenium_code.selector(locator)
    prefix = {"id": "id=", "css selector": "css=", "xpath": "xpath="}[strategy]
    ids = "all => all.map(one => one.id)"
    assert await shown.locator(prefix + value).evaluate_all(ids) == [id_]
    assert await eval(f"shown.{playwright_code.expression(locator)}", {"shown": shown}).evaluate_all(ids) == [id_]
