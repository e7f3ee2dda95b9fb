"""Generated files are checked by Python, ruff and pytest, which see nothing from around their folder."""

import pathlib

import pytest

from vlserve.testgen.code.render import render
from vlserve.testgen.code.static_checks import check
from vlserve.testgen.elements import Element, Locator
from vlserve.testgen.plan import Assertion, Plan, Step
from vlserve.testgen.result import Subject

GOOD = '"""One test."""\n\n\ndef test_it() -> None:\n    assert len("a") == 1\n'


async def test_rendered_code_has_no_problem(tmp_path: pathlib.Path) -> None:
    button = Element("e1", "button", "登录", (0, 0, 1, 1), (Locator("role", "button", "登录"),))
    plan = Plan(
        scenario="Sign in.",
        steps=(Step(do="click", element="e1"),),
        assertions=(Assertion(expect="hidden", element="e1"),),
    )
    for target in ("playwright", "selenium"):
        suite = render(plan, [button], Subject((800, 600)), target)
        checks = await check(suite.files, suite.test_file, tmp_path / "new" / target)
        assert checks.problems == ()
        assert checks.is_good
        assert "1 test collected" in checks.output["pytest"]


@pytest.mark.parametrize(
    ("source", "field", "said"),
    [
        ("def test_it(:\n", "syntax", "line 1"),
        ("x = 1\0\n", "syntax", "Not Python"),
        ("x = '\ud800'\n", "syntax", "Not Python"),
        ("(" * 5000, "syntax", "Not Python"),
        (GOOD.replace("\n\n\n", "\n\nimport os\n\n\n", 1), "lint", "F401"),
        (f"{GOOD}    print('seen')\n", "lint", "T201"),
        (f'{GOOD}\n\nPASSWORD = "hunter2"\n', "lint", "S105"),
        (f'{GOOD}    assert "{"a " * 80}"\n', "lint", "E501"),
        (GOOD.replace("test_it", "it"), "collection", "pytest ended with 5"),
        (f"{GOOD}\n\ndef test_two() -> None:\n    assert len('b')\n", "collection", "2 tests"),
        (f"import nowhere_at_all\n\n{GOOD}\n\nnowhere_at_all.go()\n", "collection", "nowhere_at_all"),
    ],
)
async def test_each_fault_is_told(source: str, field: str, said: str, tmp_path: pathlib.Path) -> None:
    checks = await check({"test_it.py": source}, "test_it.py", tmp_path)
    assert said in getattr(checks, field)
    assert not checks.is_good


async def test_a_fault_in_another_file_is_reported(tmp_path: pathlib.Path) -> None:
    test = GOOD.replace('"""\n', '"""\n\nfrom pages.home_page import HomePage\n', 1).replace('len("a")', "HomePage")
    for number, (page, problem) in enumerate(
        [("class HomePage(:\n", "Not Python"), ("import os\n\nHomePage = 1\n", "F401"), ("NAME = 1\n", "ImportError")]
    ):
        files = {"test_it.py": test, "pages/home_page.py": page, "pages/__init__.py": ""}
        checks = await check(files, "test_it.py", tmp_path / str(number))
        assert problem in " ".join(checks.problems)
    conftest = {"test_it.py": GOOD, "conftest.py": "raise RuntimeError('of the suite')\n"}
    assert (await check(conftest, "test_it.py", tmp_path / "conftest")).collection


async def test_surroundings_are_not_asked(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conftest.py").write_text("raise RuntimeError('conftest of the project')\n")
    (tmp_path / "pyproject.toml").write_text(
        "[tool.pytest.ini_options]\naddopts = '--no-such-option'\n[tool.ruff]\nx = 1\n"
    )
    (tmp_path / "ruff.py").write_text("raise RuntimeError\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    monkeypatch.setenv("VLSERVE_API_KEY", "secret")
    source = GOOD.replace('"""\n', '"""\n\nimport os\n', 1) + '\n\nassert "VLSERVE_API_KEY" not in os.environ\n'
    assert (await check({"test_it.py": source}, "test_it.py", tmp_path)).problems == ()
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        *("conftest.py", "pyproject.toml", "ruff.py", "test_it.py"),
    ]


async def test_code_that_never_ends_is_told(tmp_path: pathlib.Path) -> None:
    source = f"import time\n\n{GOOD}\n\ntime.sleep(600)\n"
    checks = await check({"test_it.py": source}, "test_it.py", tmp_path, timeout_s=5)
    assert checks.collection == "pytest took longer than 5 s."
