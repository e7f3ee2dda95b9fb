"""Several scenarios in one folder: one page object, and files of the user that are kept."""

import dataclasses
import pathlib
from typing import get_args

import pytest

from tests.fakes.testgen_models import Scripted
from tests.testgen.code.test_render import (
    BUTTON,
    DRAFT,
    ELEMENTS,
    EMAIL,
    LIVE,
    LOGIN,
    PASSWORD,
    element,
    expected,
    page_source,
    step,
    write,
)
from tests.testgen.code.test_render import planned as plan_of
from vlserve.testgen.code.render import Suite, assertion_lines, render
from vlserve.testgen.code.source_format import is_unchanged
from vlserve.testgen.code.static_checks import check
from vlserve.testgen.code.suite_folder import read_suite, read_targets
from vlserve.testgen.elements import Locator, Target
from vlserve.testgen.pipeline import generate
from vlserve.testgen.result import Job, Result, TestgenError
from vlserve.testgen.run import repair
from vlserve.testgen.run.runner import Run

TARGETS: tuple[Target, ...] = get_args(Target)
SECOND = plan_of([step("fill", "e1", "li"), step("click", "e3")], expected("visible", "e4"), scenario="No password.")
THIRD = plan_of([step("check", "e5"), *LOGIN.steps], expected("visible", "e4"), scenario="Remember me.")


def add(existing: Suite | dict[str, str], target: Target, *plans: object, **more: object) -> dict[str, str]:
    files = dict(existing.files if isinstance(existing, Suite) else existing)
    for plan in plans:
        files |= render(plan, ELEMENTS, LIVE, target, existing=files, **more).files  # type: ignore[arg-type]
    return files


@pytest.mark.parametrize("target", TARGETS)
async def test_a_second_scenario_adds_to_the_page_object(target: Target, tmp_path: pathlib.Path) -> None:
    first = render(LOGIN, ELEMENTS, LIVE, target)
    second = render(SECOND, ELEMENTS, LIVE, target, existing=first.files)
    page = page_source(second)
    assert page.startswith(page_source(first).rstrip())  # nothing of it changes
    assert "def log_in(self, email: str, password: str)" in page
    assert "def log_in_with_email(self, email: str)" in page
    assert page.count("email_input = ") == 1
    third = add(second, target, THIRD)
    assert "def log_in_with_remember_me(self, email: str, password: str)" in third["pages/login_page.py"]
    assert sorted(name for name in {**first.files, **third} if name.startswith("test_")) == [
        "test_log_in_with_test_password_see_an_error.py",
        "test_no_password.py",
        "test_remember_me.py",
    ]
    files = {**first.files, **second.files, **third}
    for name in (one for one in files if one.startswith("test_")):
        assert (await check(files, name, tmp_path / name, variables=("TEST_PASSWORD",))).problems == ()


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_plans_give_the_same_bytes(target: Target) -> None:
    once = add({}, target, LOGIN, SECOND, THIRD)
    assert add({}, target, LOGIN, SECOND, THIRD) == once
    assert add(once, target, LOGIN, SECOND, THIRD) == once


@pytest.mark.parametrize("target", TARGETS)
def test_another_element_with_a_used_name_gets_a_name_of_its_own(target: Target) -> None:
    first = render(LOGIN, ELEMENTS, LIVE, target)
    changed = [EMAIL, PASSWORD, dataclasses.replace(BUTTON, locators=(Locator("test_id", "go"),)), *ELEMENTS[3:]]
    second = render(LOGIN, changed, LIVE, target, existing=first.files)
    assert second.names["e3"] == "log_in_button_2"
    assert "log_in_button_2" in page_source(second)
    assert ".log_in_2(" in second.code


def test_another_page_with_the_same_name_gets_a_module_of_its_own() -> None:
    first = render(LOGIN, ELEMENTS, LIVE, "playwright")
    other = dataclasses.replace(LIVE, url="http://127.0.0.1:8000/admin/login")
    second = render(LOGIN, ELEMENTS, other, "playwright", existing=first.files)
    assert 'goto("/admin/login")' in second.files["pages/login_2_page.py"]
    assert "Login2Page(page)" in second.code


def test_a_changed_test_keeps_its_name_and_an_unchanged_one_is_replaced() -> None:
    first = render(LOGIN, ELEMENTS, LIVE, "playwright")
    assert is_unchanged(first.code)
    again = render(LOGIN, ELEMENTS, LIVE, "playwright", existing=first.files)
    assert again.test_file == first.test_file
    edited = {**first.files, first.test_file: first.code.replace('"dana"', '"ana"')}
    second = render(LOGIN, ELEMENTS, LIVE, "playwright", existing=edited)
    assert second.test_file == first.test_file.replace(".py", "_2.py")
    assert first.test_file not in second.files
    foreign = {first.test_file: "def test_it(): ...\n"}
    assert render(LOGIN, ELEMENTS, LIVE, "playwright", existing=foreign).test_file == second.test_file


@pytest.mark.parametrize("target", TARGETS)
def test_changes_of_shared_files_are_kept(target: Target) -> None:
    first = render(LOGIN, ELEMENTS, LIVE, target).files
    edited = {name: f"{source}# Mine.\n" for name, source in first.items() if source}
    second = render(LOGIN, ELEMENTS, LIVE, target, existing={**first, **edited}).files
    for name in edited:
        assert name.startswith("test_") or "# Mine." in second[name]


def test_a_conftest_of_the_user_is_not_touched_and_the_test_opens_the_whole_address() -> None:
    suite = render(LOGIN, ELEMENTS, LIVE, "playwright", existing={"conftest.py": "import pytest\n"})
    assert "conftest.py" not in suite.files
    assert 'goto("http://127.0.0.1:8000/login")' in page_source(suite)


def test_another_origin_than_that_of_the_folder_is_written_whole() -> None:
    first = render(LOGIN, ELEMENTS, LIVE, "playwright")
    other = dataclasses.replace(LIVE, url="http://shop.example/login")
    second = render(LOGIN, ELEMENTS, other, "playwright", existing=first.files)
    assert 'goto("http://shop.example/login")' in second.files["pages/login_2_page.py"]
    assert second.files["conftest.py"] == first.files["conftest.py"]


@pytest.mark.parametrize("page", ["class LoginPage(:\n", "NAME = 1\n", "class LoginPage:\n    pass\n", "\0"])
def test_a_module_that_is_no_page_object_is_left_alone(page: str) -> None:
    suite = render(LOGIN, ELEMENTS, LIVE, "playwright", existing={"pages/login_page.py": page})
    assert "pages/login_page.py" not in suite.files
    assert "pages/login_2_page.py" in suite.files


def test_writing_keeps_a_conftest_that_exists(tmp_path: pathlib.Path) -> None:
    suite = render(LOGIN, ELEMENTS, LIVE, "playwright")
    result = Result("verified", "passed", suite.test_file, suite.files, {}, b"png")
    (tmp_path / "conftest.py").write_text("# Mine.\n")
    result.write(tmp_path)
    assert (tmp_path / "conftest.py").read_text() == "# Mine.\n"
    assert (tmp_path / suite.test_file).read_text() == suite.code


@pytest.mark.parametrize("is_read", [True, False])
@pytest.mark.parametrize("target", TARGETS)
def test_writing_a_verified_test_sets_the_address_in_a_drafts_conftest(
    target: Target, is_read: bool, tmp_path: pathlib.Path
) -> None:
    write(render(LOGIN, ELEMENTS, DRAFT, target), tmp_path)
    conftest = tmp_path / "conftest.py"
    conftest.write_text(conftest.read_text() + "# Mine.\n")
    live = render(LOGIN, ELEMENTS, LIVE, target, existing=read_suite(tmp_path) if is_read else {})
    Result("verified", "passed", live.test_file, live.files, {}, b"png").write(tmp_path)
    assert 'BASE_URL = "http://127.0.0.1:8000"\n' in conftest.read_text()
    assert conftest.read_text().endswith("# Mine.\n")
    assert "127.0.0.1" not in page_source(live)  # it opens a path below BASE_URL


def test_a_folder_is_read_as_it_was_written(tmp_path: pathlib.Path) -> None:
    suite = render(LOGIN, ELEMENTS, LIVE, "selenium")
    write(suite, tmp_path)
    (tmp_path / "notes.txt").write_text("no part of it")
    assert read_suite(tmp_path) == dict(suite.files)
    assert read_suite(tmp_path / "nowhere") == {}


@pytest.mark.parametrize("target", TARGETS)
def test_target_of_a_folder_is_read_from_each_of_its_generated_files(target: Target) -> None:
    for plan, subject in ((LOGIN, LIVE), (LOGIN, DRAFT)):
        files = render(plan, ELEMENTS, subject, target).files
        assert read_targets(files) == {target}
        for name in (one for one in files if one == "conftest.py" or one.endswith("_page.py")):
            assert read_targets({name: files[name]}) == {target}


def test_files_of_the_user_say_nothing_about_the_target_of_a_folder() -> None:
    assert read_targets({"conftest.py": "from selenium import webdriver\n", "pages/a_page.py": ""}) == set()


@pytest.mark.parametrize("target", TARGETS)
async def test_job_for_a_folder_with_both_targets_is_refused(target: Target) -> None:
    models = Scripted([])
    files = {
        "conftest.py": render(LOGIN, ELEMENTS, LIVE, "playwright").files["conftest.py"],
        "pages/login_page.py": render(LOGIN, ELEMENTS, LIVE, "selenium").files["pages/login_page.py"],
    }
    with pytest.raises(TestgenError, match=r"for Playwright and Selenium, .* choose another folder \(-o\)\.$"):
        await generate(Job(b"", "log in", target, existing=files), models)
    assert models.asked == []


@pytest.mark.parametrize("target", TARGETS)
def test_page_names_pytest_would_collect_are_changed(target: Target) -> None:
    suite = render(LOGIN, [*ELEMENTS, element("e20", "heading", "Test results")], LIVE, target)
    assert "AppTestResultsPage" in suite.code


@pytest.mark.parametrize("target", TARGETS)
def test_each_expectation_is_one_statement_at_the_end(target: Target) -> None:
    plan = plan_of(LOGIN.steps, expected("visible", "e4"), expected("order", "g1", values=("Ana", "Bo")))
    code = render(plan, ELEMENTS, LIVE, target).code
    lines = [code.split("\n")[number - 1] for number in sorted(assertion_lines(code, plan))]
    assert len(lines) == 2
    assert all("expect" in line for line in lines)


@pytest.mark.parametrize("target", TARGETS)
def test_a_failure_in_a_method_is_repaired_at_its_step(target: Target) -> None:
    """The second step of one call: only the page object's line tells it from the others."""
    password = dataclasses.replace(PASSWORD, locators=(*PASSWORD.locators, Locator("css", "#password")))
    email = dataclasses.replace(EMAIL, locators=(*EMAIL.locators, Locator("css", "#email")))
    elements = {one.id: one for one in (email, password, *ELEMENTS[2:])}
    suite = render(LOGIN, list(elements.values()), LIVE, target)
    call = next(n for n, line in enumerate(suite.code.split("\n"), 1) if ".log_in(" in line)
    lines = page_source(suite).split("\n")
    name = next(one for one in suite.files if one.endswith("_page.py"))
    for id_ in ("e1", "e2"):
        inner = max(n for n, line in enumerate(lines, 1) if f"self.{suite.names[id_]}" in line)
        failed = Run("failed", 1.0, line=call, places=((suite.test_file, call), (name, inner)))
        repaired = repair.repair(suite.files, failed, LOGIN, elements, suite.names, {99}, None)
        assert repaired is not None
        assert len(repaired.elements[id_].locators) == 1
        assert (
            sum(len(one.locators) for one in repaired.elements.values())
            == sum(len(one.locators) for one in elements.values()) - 1
        )


@pytest.mark.parametrize("target", TARGETS)
def test_draft_asks_for_the_address_until_a_run_on_the_page_knows_it(target: Target) -> None:
    draft = render(LOGIN, ELEMENTS, DRAFT, target).files
    assert 'BASE_URL = ""  # UNVERIFIED' in draft["conftest.py"]
    assert "Set BASE_URL in conftest.py" in draft["conftest.py"]
    live = render(LOGIN, ELEMENTS, LIVE, target, existing=draft).files["conftest.py"]
    assert 'BASE_URL = "http://127.0.0.1:8000"\n' in live
    named = draft["conftest.py"].replace('BASE_URL = ""  # UNVERIFIED', 'BASE_URL = "http://staging"')
    assert render(LOGIN, ELEMENTS, LIVE, target, existing={**draft, "conftest.py": named}).files["conftest.py"] == named
