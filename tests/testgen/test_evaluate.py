"""The evaluation's arithmetic, by crafted results of a stand-in pipeline, good ones and bad ones."""

import copy
import json
import pathlib
from typing import Any

import pytest

from vlserve.testgen import evaluate
from vlserve.testgen.evaluate import Pipeline, Row, Table
from vlserve.testgen.fixture_pages import FixturePage, Scenario
from vlserve.testgen.result import Answer, Ask, Job, Mode, Outcome, Result, Tell, TestgenError
from vlserve.testgen.runner import Run

PAGE = FixturePage("login", 640, 480)
PASSES = Scenario(PAGE, "see the error", "passes")
MISSING = Scenario(PAGE, "click Forgot password?", "missing", "Forgot password?")
BUTTON = {"id": "e1", "role": "button", "name": "Sign in", "box": [10, 10, 50, 30], "verified": True}
ALERT = {"id": "e2", "role": "alert", "name": "Wrong.", "box": [10, 40, 90, 60], "verified": True}
GOOD: dict[str, Any] = {
    "elements": [BUTTON, ALERT],
    "steps": [{"do": "click", "element": "e1"}],
    "assertions": [{"expect": "visible", "element": "e2"}],
    "missing": [],
    "unlisted": [],
    "checks": {"parses": True, "lints": True, "collects": True},
    "runs": [{"outcome": "passed", "seconds": 1, "message": ""}],
    "mutation": {"tried": 1, "caught": 1, "survived": []},
    "inventory": [{"role": "button", "name": "Sign in", "box": [12, 11, 48, 31], "matched": "e1"}],
}
FAILED_RUN = {"outcome": "failed", "seconds": 1, "message": "no such\nelement"}
NO_TEST = GOOD | {"steps": [], "assertions": [], "runs": [], "mutation": {}, "missing": ["Forgot password?"]}
DRAFT = GOOD | {
    "elements": [BUTTON | {"verified": False}, ALERT | {"verified": False}],
    "runs": [],
    "mutation": {},
}
CODE = "pass\n"
DRAFT_CODE = "URL = 1  # UNVERIFIED\na  # UNVERIFIED\nb  # UNVERIFIED\n"
HALF_MARKED = "URL = 1  # UNVERIFIED\na  # UNVERIFIED\nb\n"


def result(report: dict[str, Any], outcome: Outcome = "passed", code: str | None = CODE) -> Result:
    return Result("verified", outcome, "test_a.py", code, copy.deepcopy(report), b"")


async def asked(_: dict[str, Any]) -> Answer:
    raise AssertionError("the stand-in asks nothing")


async def measured(
    made: Result | str,
    scenario: Scenario = PASSES,
    mode: Mode = "verified",
    *,
    again: str = "passed",
    rendered: str | None = None,
) -> Table:
    """``made`` is what the pipeline gives, or why it gives nothing."""

    async def generate(job: Job, ask: Ask, tell: Tell) -> Result:
        assert job.url == ("http://pages/login.html" if mode == "verified" else None)
        if isinstance(made, str):
            raise TestgenError(made)
        return made

    async def rerun(job: Job, one: Result, times: int) -> Run:
        assert times == 5
        return Run("passed" if again == "passed" else "failed", 1.0)

    def render(job: Job, one: Result) -> str:
        return (one.code or "") if rendered is None else rendered

    return await evaluate.evaluate(
        *(Pipeline(generate, rerun, render), asked, [scenario], {"login": b"png"}, "http://pages"),
        targets=["playwright"],
        modes=[mode],
        say=lambda _: None,
    )


def row(table: Table, what: str) -> Row:
    return next(one for one in table.blocks[0].rows if one.what == what)


@pytest.mark.parametrize(
    ("made", "scenario", "mode"),
    [
        (result(GOOD), PASSES, "verified"),
        (result(NO_TEST, "no_test", None), MISSING, "verified"),
        (result(DRAFT, "not_run", DRAFT_CODE), PASSES, "draft"),
        (result(NO_TEST, "no_test", None), MISSING, "draft"),
    ],
)
async def test_good_result_is_below_no_mark(made: Result, scenario: Scenario, mode: Mode) -> None:
    table = await measured(made, scenario, mode)
    assert table.is_good
    assert table.blocks[0].wrong == ()
    assert "below" not in str(table)


SAME_BOX = [{"role": "button", "name": "Sign in", "box": [200, 10, 240, 30], "matched": "e1"}]
TAUTOLOGY = [{"expect": "enabled", "element": "e1"}]


@pytest.mark.parametrize(
    ("made", "more", "what"),
    [
        (result(GOOD | {"checks": GOOD["checks"] | {"parses": False}}), {}, "parses"),
        (result(GOOD | {"checks": GOOD["checks"] | {"lints": False}}), {}, "lints"),
        (result(GOOD | {"checks": GOOD["checks"] | {"collects": False}}), {}, "collects"),
        (result(GOOD | {"assertions": []}), {}, "expects something that can fail"),
        (result(GOOD | {"assertions": TAUTOLOGY}), {}, "expects something that can fail"),
        (result(GOOD | {"elements": [BUTTON | {"verified": False}, ALERT]}), {}, "locator leads to one element"),
        (result(GOOD | {"runs": [FAILED_RUN, *GOOD["runs"]]}), {}, "passes at first run"),
        (result(GOOD | {"runs": [FAILED_RUN]}, "failed"), {}, "passes after repair"),
        (result(GOOD | {"mutation": {"tried": 4, "caught": 3, "survived": ["e2"]}}), {}, "mutation is caught"),
        (result(GOOD | {"inventory": SAME_BOX}), {}, "centre of box inside"),
        (result(GOOD), {"again": "failed"}, "passes five times more"),
        (result(GOOD), {"rendered": "other\n"}, "same plan, same code"),
        ("the service is down", {}, "there is an answer"),
        (result(DRAFT, "not_run", HALF_MARKED), {"mode": "draft"}, "every locator is marked as not verified"),
        (result(DRAFT, "passed", DRAFT_CODE), {"mode": "draft"}, "does not say passed"),
    ],
)
async def test_failure_is_counted_and_told(made: Result | str, more: dict[str, Any], what: str) -> None:
    table = await measured(made, **more)
    found = row(table, what)
    assert found.is_below
    assert found.right is not None
    assert found.right < found.of
    assert not table.is_good
    assert any("login: see the error" in line for line in table.blocks[0].wrong)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (result(NO_TEST | {"missing": []}, "no_test", None), "not reported"),
        (result(GOOD | {"missing": ["Forgot password?"]}), "passes without it"),
        (
            result(GOOD | {"missing": ["Forgot password?"], "elements": [BUTTON | {"name": "Forgot password?"}]}),
            "made up",
        ),
    ],
)
async def test_missing_element_must_be_reported_and_not_made_up(made: Result, why: str) -> None:
    table = await measured(made, MISSING)
    assert row(table, "what is not there is reported, not made up").right == 0
    assert [line for line in table.blocks[0].wrong if line.endswith(f"Forgot password?: {why}")]


async def test_reason_of_a_failed_test_is_one_line() -> None:
    table = await measured(result(GOOD | {"runs": [FAILED_RUN]}, "failed"))
    assert "playwright verified login: see the error: failed: no such element" in table.blocks[0].wrong


async def test_what_passed_is_run_again_and_what_failed_is_not() -> None:
    assert row(await measured(result(GOOD)), "passes five times more").of == 1
    failed = await measured(result(GOOD | {"runs": [FAILED_RUN]}, "failed"))
    assert "passes five times more" not in str(failed)


async def test_table_is_aligned_and_written_as_json(tmp_path: pathlib.Path) -> None:
    table = await measured(result(GOOD))
    lines = str(table).splitlines()
    assert lines[0].split() == ["playwright,", "verified", "of", "right", "share", "asked", "for"]
    assert next(line for line in lines if line.startswith("passes at first run")).split()[4:] == [
        *("1", "1", "100.0%", "≥", "80%"),
    ]
    table.write(tmp_path / "eval.json")
    tree = json.loads((tmp_path / "eval.json").read_text())
    assert tree["cases"][0]["report"]["runs"] == GOOD["runs"]
    assert {"what": "parses", "of": 1, "right": 1, "figure": 1.0, "mark": 1.0, "is_below": False} in tree["blocks"][0][
        "rows"
    ]


async def test_each_target_and_mode_has_its_block() -> None:
    one = await measured(result(GOOD))
    other = await measured(result(DRAFT, "not_run", DRAFT_CODE), mode="draft")
    table = evaluate.table([*one.cases, *other.cases])
    assert [(block.target, block.mode) for block in table.blocks] == [
        ("playwright", "verified"),
        ("playwright", "draft"),
    ]
