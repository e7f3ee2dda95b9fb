"""Code from a plan: what it says, that no text gets out of its quotation marks, and that it runs."""

import ast
import dataclasses
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, get_args

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.async_api import Page, async_playwright
from ruff import find_ruff_bin  # type: ignore[import-untyped]  # it has no types

from tests.gateway.test_page import FLAGS
from vlserve.testgen import playwright_code, selenium_code
from vlserve.testgen.elements import Element, Locator, Target
from vlserve.testgen.plan import PAGE, Action, Assertion, Expectation, Plan, PlanError, Step
from vlserve.testgen.render import SETTINGS, Secrets, attribute_names, environment, render
from vlserve.testgen.result import Subject
from vlserve.testgen.static_checks import RULES, check

TARGETS: tuple[Target, ...] = get_args(Target)
LIVE = Subject((1280, 720), "http://127.0.0.1:8000/login", "passed")
DRAFT = Subject((1280, 720))
CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")


def element(id_: str, role: str, name: str, locator: Locator | None = None, **more: Any) -> Element:
    return Element(id_, role, name, (0, 0, 10, 10), (locator or Locator("role", role, name),), **more)


def step(do: Action, id_: str, value: str = "") -> Step:
    return Step(do=do, element=id_, value=value)


def expected(expect: Expectation, id_: str, value: str = "") -> Assertion:
    return Assertion(expect=expect, element=id_, value=value)


def planned(
    steps: Sequence[Step], *assertions: Assertion, scenario: str = "Log in.", missing: tuple[str, ...] = ()
) -> Plan:
    return Plan(scenario=scenario, steps=tuple(steps), assertions=assertions, uncovered=missing)


EMAIL = element("e1", "textbox", "Email", is_verified=True)
PASSWORD = element("e2", "textbox", "Password", is_secret=True, is_verified=True)
BUTTON = element("e3", "button", "Log in", is_verified=True)
ERROR = element("e4", "alert", "Wrong password", Locator("role", "alert"), is_verified=True)
REMEMBER = element("e5", "checkbox", "Remember me", is_verified=True)
COUNTRY = element("e6", "combobox", "Country", options=("France", "Japan"), is_verified=True)
POINT = element("e7", "button", "Menu", Locator("point", "120,40.4"))
ELEMENTS = (EMAIL, PASSWORD, BUTTON, ERROR, REMEMBER, COUNTRY, POINT)
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
    "text": expected("text", PAGE, "Wrong password"),
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
    plans += [planned(list(STEPS.values()), *list(EXPECTED.values())[:6], scenario=LONG * 3)]
    for number, plan in enumerate(plans):
        (tmp_path / f"test_{number}.py").write_text(render(plan, ELEMENTS, (LIVE, DRAFT)[number % 2], target))
    assert_ruff_is_content(tmp_path)


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
    source = render(*with_text(text), target)
    assert shape(source) == shape(render(*with_text("harmless"), target))
    assert all(ord(one) >= 32 or one == "\n" for one in source)
    assert not re.search("[\u200e\u200f\u202a-\u202e\u2066-\u2069]", source)
    (tmp_path / "test_it.py").write_text(source, newline="")
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
        source = render(LOGIN, [EMAIL, PASSWORD, BUTTON, element("e4", "alert", "a\ud800b")], LIVE, target)
        assert "a\\ud800b" in source
        assert ast.parse(source.encode())


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
        element("e4", "alert", text, Locator("label", text)),
        element("e5", text, text, Locator("id", text, within=Locator("css", text))),
    ]
    steps = [step("fill", "e1", sayable), step("fill", "e2", sayable), step("click", "e3"), step("press", "e5", "Tab")]
    expectations = [expected("visible", "e4"), expected("text", PAGE, sayable), expected("value", "e5", sayable)]
    plan = planned(steps, *expectations, scenario=sayable, missing=(sayable[:150] + "!",))
    return plan, elements, Subject((800, 600), f"http://127.0.0.1/{text}")


def shape(source: str) -> str:
    """The tree of a module without its texts, and with the attributes of its page object numbered."""
    tree = ast.parse(source)
    page_object = next(one for one in tree.body if isinstance(one, ast.ClassDef))
    assigned = [one.targets[0] for one in ast.walk(page_object) if isinstance(one, ast.Assign)]
    names = [one.attr if isinstance(one, ast.Attribute) else ast.unparse(one) for one in assigned]
    numbers = {name: f"attribute{number}" for number, name in enumerate(names)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
        if isinstance(node, ast.Attribute):
            node.attr = numbers.get(node.attr, node.attr)
        if isinstance(node, ast.Name):
            node.id = numbers.get(node.id, node.id)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            node.name = "test"
    # By.ID, where the text allows it, and by CSS are the same shape.
    return re.sub(r"attr='(ID|CSS_SELECTOR)'", "attr='CSS'", ast.dump(tree))


def assert_ruff_is_content(folder: pathlib.Path) -> None:
    for command in (
        ["check", *SETTINGS, "--select", RULES, "--output-format", "concise"],
        ["format", *SETTINGS, "--diff"],
    ):
        done = subprocess.run([find_ruff_bin(), *command, str(folder)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


# ---- Content


def test_playwright_reads_like_the_scenario() -> None:
    source = render(LOGIN, ELEMENTS, LIVE, "playwright")
    assert (
        source
        == '''\
"""Scenario: Log in with $TEST_PASSWORD, see an error.

VERIFIED: every locator was found on the live page, and the test passed there.
"""

import os

from playwright.sync_api import Page, expect

URL = "http://127.0.0.1:8000/login"


class PageObject:
    def __init__(self, page: Page) -> None:
        self.email_textbox = page.get_by_role("textbox", name="Email", exact=True)
        self.password_textbox = page.get_by_role("textbox", name="Password", exact=True)
        self.log_in_button = page.get_by_role("button", name="Log in", exact=True)
        self.wrong_password_alert = page.get_by_role("alert")


def test_log_in_with_test_password_see_an_error(page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 720})
    page.goto(URL)
    shown = PageObject(page)

    shown.email_textbox.fill("dana")
    shown.password_textbox.fill(os.environ["TEST_PASSWORD"])
    shown.log_in_button.click()

    expect(shown.wrong_password_alert).to_be_visible()
'''
    )


@pytest.mark.parametrize("target", TARGETS)
def test_draft_marks_every_locator_but_those_found(target: Target) -> None:
    found = [element("e1", "textbox", "Email", is_verified=True)]
    guessed = [element(one.id, one.role, one.name, one.locators[0]) for one in (PASSWORD, BUTTON, ERROR)]
    plan = planned([*LOGIN.steps, step("click", "e7")], *LOGIN.assertions)
    source = render(plan, [*found, *guessed, POINT], DRAFT, target)
    marked = [ast.unparse(one) for one in ast.walk(ast.parse(source)) if is_marked(one, source)]
    assert [one.partition(" = ")[0].removeprefix("self.") for one in marked if " = " in one] == [
        *("URL", "password_textbox", "log_in_button", "wrong_password_alert"),
    ]
    assert len(marked) == 5  # and the click at a point
    assert source.count("# UNVERIFIED") == 5
    assert "passed" not in source
    assert "DRAFT" in source


def is_marked(node: ast.AST, source: str) -> bool:
    is_line = isinstance(node, ast.Assign | ast.Expr) and node.end_lineno is not None
    return is_line and source.split("\n")[node.end_lineno - 1].endswith("  # UNVERIFIED")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        (LIVE, "VERIFIED: "),
        (DRAFT, "DRAFT from a picture alone"),
        (Subject((1, 1), LIVE.url), "DRAFT: the page was looked at, but the test was not run."),
        (Subject((1, 1), LIVE.url, "failed"), "the test failed there"),
    ],
)
def test_docstring_says_what_was_tried(subject: Subject, said: str) -> None:
    for target in TARGETS:
        assert said in (ast.get_docstring(ast.parse(render(LOGIN, ELEMENTS, subject, target))) or "")


def test_docstring_says_scenario_and_what_is_missing() -> None:
    plan = planned(
        [], expected("visible", "e4"), scenario='Say """\\d""" and\nleave\u202e.', missing=("a cat", "a dog")
    )
    told = ast.get_docstring(ast.parse(render(plan, ELEMENTS, LIVE, "playwright"))) or ""
    assert 'Scenario: Say """\\d""" and\nleave.\n' in told
    assert "a cat; a dog" in told


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_waits_for_time_or_for_silence(target: Target) -> None:
    source = render(planned(list(STEPS.values()), *list(EXPECTED.values())[:6]), ELEMENTS, LIVE, target)
    assert not re.search("sleep|networkidle|wait_for_timeout|implicitly_wait", source)


@pytest.mark.parametrize(
    ("used", "names"),
    [
        ([("textbox", "Email", ""), ("button", "Email", "")], ["email_textbox", "email_button"]),
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
        compile(f"def f(shown): shown.{name} = {name} = 1", "", "exec")
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
        missing=(secret,),
    )
    source = render(plan, elements, LIVE, target)
    tree = ast.parse(source)
    said = [one.value for one in ast.walk(tree) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    said += [" ".join(one.split()) for one in said]
    assert not [one for one in said if secret in one or " ".join(secret.split()) in one]
    assert "Log in with $TEST_PASSWORD, see an error." in (ast.get_docstring(tree) or "")
    assert environment(plan, elements) == {"TEST_PASSWORD": secret}


@pytest.mark.parametrize("target", TARGETS)
async def test_what_the_page_shows_anyway_stays_in_the_code(target: Target, tmp_path: pathlib.Path) -> None:
    """Its address, a name from before the steps, and a plain word: the test must hold with another password, too."""
    welcome = element("e5", "button", "demo4 of demo", Locator("role", "button", "demo4 of demo"))
    said = element("a1", "alert", "The password is wrong.", Locator("text", "The password is wrong."))
    for secret in ("demo4", "wrong"):
        plan = planned([step("fill", "e2", secret), step("click", "e5")], expected("visible", "a1"))
        subject = dataclasses.replace(LIVE, url="https://demo4.example/login")
        source = render(plan, [*ELEMENTS[:3], welcome, said], subject, target)
        assert source.count("os.environ") == 1
        word = Secrets(plan, ELEMENTS).shown("wrong")
        assert word == "'wrong'"
        checks = await check(source, tmp_path / secret, variables=environment(plan, ELEMENTS))
        assert checks.problems == ()


def test_a_secret_is_masked_also_as_pytest_and_json_spell_it() -> None:
    value = 'it\'s "q" \\n'
    masked = Secrets(planned([step("fill", "e2", value)], expected("visible", "e4")), ELEMENTS).masked
    assert masked(f"{value} {value!r} {json.dumps(value)}") == (
        "$TEST_PASSWORD " + repr(value)[0] + "$TEST_PASSWORD" + repr(value)[0] + ' "$TEST_PASSWORD"'
    )


def test_word_of_the_field_itself_is_no_secret_elsewhere() -> None:
    plan = planned([step("fill", "e2", "password")], expected("text", PAGE, "Wrong password"))
    source = render(plan, ELEMENTS, LIVE, "playwright")
    assert 'to_contain_text("Wrong password"' in source
    assert 'fill(os.environ["TEST_PASSWORD"])' in source


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


# ---- Run


SHOP = """<!doctype html><meta charset=utf-8><title>Shop</title>
<label>Name <input id=name></label> <label>Password <input type=password id=password></label>
<label>Country <select id=country><option value=fr>France<option value=jp>Japan</select></label>
<label><input type=checkbox id=gift> Gift</label> <label><input type=checkbox id=news checked> News</label>
<label><input type=checkbox id=terms> Terms</label> <button id=go disabled>登录</button>
<p role=status id=note hidden></p>
<p id=size></p> <p id=hint>Fill it in</p>
<iframe id=inner
srcdoc="<button onclick='parent.pay()'>Pay it's &quot;now&quot;</button>"></iframe>
<div style="position:fixed;left:300px;top:700px;width:40px;height:40px" onclick="hint.hidden=true"></div>
<script>
size.textContent = `${innerWidth} by ${innerHeight}`;
gift.onchange = () => setTimeout(() => { go.disabled = !gift.checked }, 300);
document.getElementById("name").onkeydown = event => { if (event.key === "Enter") terms.checked = true };
let paid = false; function pay() { paid = true }
go.onclick = () => setTimeout(() => {
  const name = document.getElementById("name").value;
  note.textContent = [name, password.value, country.value, news.checked, paid].join(" ");
  note.hidden = BROKEN; country.disabled = true; go.remove();
}, 300);
</script>"""
SHOP_ELEMENTS = [
    element("e1", "textbox", "Name"),
    element("e2", "textbox", "Password", is_secret=True),
    element("e3", "combobox", "Country", options=("France", "Japan")),
    element("e4", "checkbox", "Gift"),
    element("e5", "checkbox", "News"),
    element("e6", "checkbox", "Terms"),
    element("e7", "button", "登录"),
    element("e8", "status", "", Locator("role", "status")),
    element("e9", "button", 'Pay it\'s "now"', Locator("role", "button", 'Pay it\'s "now"', frames=("#inner",))),
    element("e10", "text", "Fill it in", Locator("text", "Fill it in")),
    element("e11", "img", "", Locator("point", "320,720")),
]
USED = [
    *(step("fill", "e1", 'Li "O\'Hara" \\n{}'), step("press", "e1", "Enter"), step("fill", "e2", "s3cret pass")),
    *(step("select", "e3", "Japan"), step("uncheck", "e5"), step("click", "e9"), step("click", "e11")),
    *(step("check", "e4"), step("click", "e7")),
]
SEEN = [
    *(expected("visible", "e8"), expected("hidden", "e7"), expected("checked", "e6"), expected("disabled", "e3")),
    *(expected("value", "e3", "Japan"), expected("text", PAGE, 'Li "O\'Hara" \\n{} s3cret pass jp false true')),
]
MORE = [expected("hidden", "e10"), expected("unchecked", "e5"), expected("text", PAGE, "390 by 844")]
CONFTEST = f"""
import pytest
from selenium import webdriver

FLAGS = {FLAGS!r}

class Options(webdriver.ChromeOptions):
    def __init__(self):
        super().__init__()
        self.binary_location = {CHROMIUM!r}
        for flag in FLAGS:
            self.add_argument(flag)

class Chrome(webdriver.Chrome):
    def __init__(self, options):
        super().__init__(options, webdriver.ChromeService({CHROMEDRIVER!r}))

webdriver.ChromeOptions, webdriver.Chrome = Options, Chrome

@pytest.fixture(scope="session")
def browser_type_launch_args():
    return {{"executable_path": {CHROMIUM!r}, "args": FLAGS}}
"""


@pytest.fixture
def shop() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = SHOP.replace("BROKEN", "true" if "broken" in self.path else "false").encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.full
@pytest.mark.browser
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("path", "assertions", "said"),
    [
        ("", SEEN, "1 passed"),
        ("", MORE, "1 passed"),
        ("broken", SEEN[:1], "1 failed"),
        ("", [expected("hidden", "e4")], "1 failed"),
        ("", [expected("text", PAGE, "paid for")], "1 failed"),
        ("", [expected("value", "e3", "France")], "1 failed"),
    ],
)
def test_it_runs_and_notices_what_is_wrong(
    path: str, assertions: list[Assertion], said: str, target: Target, shop: str, tmp_path: pathlib.Path
) -> None:
    plan = planned(USED, *assertions)
    source = render(plan, SHOP_ELEMENTS, Subject((390, 844), shop + path), target)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_shop.py").write_text(source)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
            "--rootdir",
            ".",
            "test_shop.py",
        ],
        cwd=tmp_path,
        env={**os.environ, **environment(plan, SHOP_ELEMENTS), "SE_OFFLINE": "true", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert said in done.stdout, done.stdout + done.stderr
    assert done.returncode == (0 if said == "1 passed" else 1)
