"""Generated suites as readable files in golden/. `python -m tests.testgen.code.test_render_golden` writes them."""

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from tests.testgen.code.test_render import TARGETS, element, expected, planned, step
from vlserve.testgen.code.render import Suite, render
from vlserve.testgen.code.secrets import environment
from vlserve.testgen.code.static_checks import check
from vlserve.testgen.elements import Element, Locator, Target
from vlserve.testgen.plan import PAGE, Plan
from vlserve.testgen.result import Subject

GOLDEN = pathlib.Path(__file__).parent / "golden"
SHARED = ("conftest.py", "pages/__init__.py", "pages/environment.py", "pages/selenium_helpers.py")
SITE = "http://127.0.0.1:8765"


@dataclass(frozen=True)
class Case:
    plan: Plan
    elements: Mapping[Target, tuple[Element, ...]]
    subject: Subject
    title: str = ""


def live(
    id_: str, role: str, name: str, selenium: Locator | None = None, *more: Locator, **fields: object
) -> tuple[Element, Element]:
    """The element for Playwright and for Selenium, as the live page gives them."""
    plain = Locator("role", role, name) if name else Locator("role", role)
    first = element(id_, role, name, plain, is_verified=True, **fields)
    second = element(id_, role, name, selenium or plain, is_verified=True, **fields)
    return first, second


def by_target(*pairs: tuple[Element, Element]) -> Mapping[Target, tuple[Element, ...]]:
    return {"playwright": tuple(one for one, _ in pairs), "selenium": tuple(one for _, one in pairs)}


def alert(id_: str, text: str) -> tuple[Element, Element]:
    locators = (Locator("text", text), Locator("role", "alert"))
    first = Element(id_, "alert", text, (0, 0, 1, 1), locators, is_verified=True)
    return first, first


SIGN_IN = (
    live("e1", "heading", "Sign in"),
    live("e2", "textbox", "Email", Locator("id", "email")),
    live("e3", "textbox", "Password", Locator("id", "password"), is_secret=True),
    live("e4", "button", "Sign in", Locator("xpath", "//button[normalize-space()='Sign in']")),
    alert("a1", "The email or password is wrong."),
)
WRONG_PASSWORD = planned(
    [step("fill", "e2", "dana@example.com"), step("fill", "e3", "not-her-password"), step("click", "e4")],
    expected("visible", "a1"),
    scenario="log in with a wrong password and see the error",
)
MILK = Locator("role", "listitem", "Buy milk")
TASKS = (
    live("e1", "heading", "Tasks"),
    live("e2", "textbox", "What needs to be done?", Locator("placeholder", "What needs to be done?")),
    live("e3", "button", "Add", Locator("xpath", "//button[normalize-space()='Add']")),
    tuple(
        element(
            "e4", "button", "Delete", Locator("role", "button", "Delete", within=MILK), is_verified=True,
            context='listitem "Buy milk"',
        )
        for _ in TARGETS
    ),
    live("g1", "listitem", "", Locator("css", "ul.list > li"), items=("Buy milk", "Pay rent")),
    live("e5", "button", "Done", Locator("xpath", "//button[normalize-space()='Done']")),
)  # fmt: skip
CASES = {
    "log_in": Case(WRONG_PASSWORD, by_target(*SIGN_IN), Subject((640, 480), f"{SITE}/login.html", "passed")),
    "draft": Case(
        WRONG_PASSWORD,
        {
            "playwright": tuple(
                element(one.id, one.role, one.name, one.locators[0], is_secret=one.is_secret) for one, _ in SIGN_IN
            ),
            "selenium": tuple(
                element(one.id, one.role, one.name, one.locators[0], is_secret=one.is_secret) for one, _ in SIGN_IN
            ),
        },
        Subject((640, 480)),
    ),
    "add_and_count": Case(
        planned(
            [step("fill", "e2", "Water the plants"), step("press", "e2", "Enter")],
            expected("count", "g1", "5"),
            expected("order", "g1", values=("Buy milk", "Water the plants")),
            expected("empty", "e2"),
            scenario="add Water the plants and see five tasks, the new one last",
        ),
        by_target(*TASKS),  # type: ignore[arg-type]
        Subject((1280, 720), f"{SITE}/todo.html", "passed"),
    ),
    "delete_in_a_row": Case(
        planned(
            [step("click", "e4")],
            expected("count", "g1", "3"),
            expected("no_text", PAGE, "Buy milk"),
            scenario="delete Buy milk; it is gone and three tasks are left",
        ),
        by_target(*TASKS),  # type: ignore[arg-type]
        Subject((1280, 720), f"{SITE}/todo.html", "passed"),
    ),
    "pressed_filter": Case(
        planned(
            [step("click", "e5")],
            expected("pressed", "e5"),
            expected("url", PAGE, "filter=done"),
            scenario="show the done tasks, share the link and see that Done is on",
        ).model_copy(update={"uncovered": ('No step does "share the link".',)}),
        by_target(*TASKS),  # type: ignore[arg-type]
        Subject((1280, 720), f"{SITE}/todo.html", "partial"),
    ),
    "preferences": Case(
        planned(
            [step("check", "e2"), step("select", "e3", "Deutsch"), step("click", "e4")],
            *(expected("disabled", "e4"), expected("value", "e3", "Deutsch"), expected("checked", "e2")),
            expected("visible", "a1"),
            scenario="turn on Sound, choose Deutsch, save, and see that it is saved",
        ),
        by_target(
            live("e1", "heading", "Preferences"),
            live("e2", "checkbox", "Sound", Locator("id", "sound")),
            live("e3", "combobox", "Language", Locator("id", "language"), options=("English", "Deutsch")),
            live("e4", "button", "Save", Locator("test_id", "save")),
            live("a1", "status", "Saved.", Locator("role", "status")),
        ),
        Subject((1280, 720), f"{SITE}/preferences.html", "passed", timeout_s=20),
    ),
    "tabs_and_menus": Case(
        planned(
            [step("hover", "e2"), step("click", "e3"), step("double_click", "e4"), step("drag", "e4", to="e5")],
            *(expected("selected", "e3"), expected("expanded", "e2"), expected("focused", "e4")),
            *(expected("title", PAGE, "Reports"), expected("contains", "e5", "Draft 2")),
            scenario="open Reports and move the draft to the archive",
        ),
        by_target(
            live("e1", "heading", "Reports"),
            live("e2", "button", "More", Locator("aria_label", "More")),
            live("e3", "tab", "All reports", Locator("id", "tab-all")),
            live("e4", "listitem", "Draft 2", Locator("xpath", "//li[normalize-space()='Draft 2']")),
            live("e5", "list", "Archive", Locator("aria_label", "Archive")),
        ),
        Subject((1280, 720), f"{SITE}/reports?sort=new#all", "passed"),
    ),
    "chinese": Case(
        planned(
            [step("fill", "e2", "张伟"), step("click", "e3")],
            expected("hidden", "e3"),
            expected("text", PAGE, "欢迎,张伟"),
            scenario="输入姓名张伟,点击提交,看到欢迎",
        ),
        by_target(
            live("e1", "heading", "登记"),
            live("e2", "textbox", "姓名", Locator("id", "name")),
            live("e3", "button", "提交", Locator("xpath", "//button[normalize-space()='提交']")),
        ),
        Subject((1280, 720), f"{SITE}/chinese.html", "failed"),
    ),
}


def suite_of(name: str, target: Target) -> Suite:
    case = CASES[name]
    return render(case.plan, case.elements[target], case.subject, target, page_title=case.title)


def text_of(suite: Suite) -> str:
    """The files of one scenario; those that all have are in golden/shared.*.txt."""
    shown = [(name, source) for name, source in suite.files.items() if name not in SHARED]
    return "\n".join(f"==> {name} <==\n{source}" for name, source in shown)


def shared_text(target: Target) -> str:
    files = suite_of("log_in", target).files
    return "\n".join(f"==> {name} <==\n{files[name]}" for name in SHARED if name in files)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
async def test_suite_is_as_the_golden_file_and_has_no_problem(
    name: str, target: Target, tmp_path: pathlib.Path
) -> None:
    suite = suite_of(name, target)
    assert text_of(suite) == (GOLDEN / f"{name}.{target}.txt").read_text()
    variables = tuple(environment(CASES[name].plan, CASES[name].elements[target]))
    checks = await check(suite.files, suite.test_file, tmp_path / "suite", variables=variables)
    assert checks.problems == ()


@pytest.mark.parametrize("target", TARGETS)
def test_shared_files_are_as_the_golden_file(target: Target) -> None:
    assert shared_text(target) == (GOLDEN / f"shared.{target}.txt").read_text()


if __name__ == "__main__":
    for target in TARGETS:
        (GOLDEN / f"shared.{target}.txt").write_text(shared_text(target))
        for name in CASES:
            (GOLDEN / f"{name}.{target}.txt").write_text(text_of(suite_of(name, target)))
