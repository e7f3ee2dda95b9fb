"""Code is held against Python, ruff and pytest in children that see nothing of ours and leave nothing behind."""

import pathlib

import pytest

from vlserve.testgen.elements import Element, Locator
from vlserve.testgen.plan import Assertion, Plan, Step
from vlserve.testgen.render import render
from vlserve.testgen.result import Subject
from vlserve.testgen.static_checks import check

GOOD = '"""One test."""\n\n\ndef test_it() -> None:\n    assert len("a") == 1\n'


async def test_rendered_code_has_no_problem(tmp_path: pathlib.Path) -> None:
    button = Element("e1", "button", "登录", (0, 0, 1, 1), (Locator("role", "button", "登录"),))
    plan = Plan(
        scenario="Sign in.",
        steps=(Step(do="click", element="e1"),),
        assertions=(Assertion(expect="hidden", element="e1"),),
    )
    for target in ("playwright", "selenium"):
        checks = await check(render(plan, [button], Subject((800, 600)), target), tmp_path / "new" / target)
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
    checks = await check(source, tmp_path)
    assert said in getattr(checks, field)
    assert not checks.is_good


async def test_surroundings_are_not_asked(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conftest.py").write_text("raise RuntimeError('conftest of the project')\n")
    (tmp_path / "pyproject.toml").write_text(
        "[tool.pytest.ini_options]\naddopts = '--no-such-option'\n[tool.ruff]\nx = 1\n"
    )
    (tmp_path / "ruff.py").write_text("raise RuntimeError\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    monkeypatch.setenv("VLSERVE_API_KEY", "secret")
    source = GOOD.replace('"""\n', '"""\n\nimport os\n', 1) + '\n\nassert "VLSERVE_API_KEY" not in os.environ\n'
    assert (await check(source, tmp_path)).problems == ()
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        *("conftest.py", "pyproject.toml", "ruff.py", "test_generated.py"),
    ]


async def test_code_that_never_ends_is_told(tmp_path: pathlib.Path) -> None:
    checks = await check(f"import time\n\n{GOOD}\n\ntime.sleep(600)\n", tmp_path, timeout_s=5)
    assert checks.collection == "pytest took longer than 5 s."
