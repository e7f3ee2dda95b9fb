"""Secrets are read from the environment: they stand neither in code nor in reports."""

import ast
import dataclasses
import json
import pathlib

import pytest

from tests.testgen.code.test_render import (
    ELEMENTS,
    ERROR,
    LIVE,
    LOGIN,
    TARGETS,
    element,
    expected,
    page_source,
    planned,
    step,
)
from vlserve.testgen.code.render import render
from vlserve.testgen.code.secrets import Secrets, environment
from vlserve.testgen.code.static_checks import check
from vlserve.testgen.elements import Locator, Target
from vlserve.testgen.plan import PAGE

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
