"""Counting of an evaluation: made-up results, right and wrong, and the figures that come of them."""

import argparse
import copy
import json
import pathlib
from typing import Any

import pytest

from vlserve.errors import ConfigError
from vlserve.testgen import command
from vlserve.testgen.elements import Element, Locator
from vlserve.testgen.evaluation import evaluate
from vlserve.testgen.evaluation.evaluate import Pipeline
from vlserve.testgen.evaluation.fixture_pages import FixturePage, Scenario
from vlserve.testgen.evaluation.gold import Gold
from vlserve.testgen.evaluation.scores import Case, Score, score
from vlserve.testgen.evaluation.table import Row, Table
from vlserve.testgen.evaluation.table import table as table_of
from vlserve.testgen.plan import Assertion, Plan, Step
from vlserve.testgen.result import (
    Ask,
    Job,
    Mode,
    ModelAnswer,
    Outcome,
    ReportProgress,
    Result,
    Source,
    Subject,
    TestgenError,
)
from vlserve.testgen.run.runner import Run

PAGE, UNSEEN = FixturePage("login", 640, 480), FixturePage("todo", 640, 480, unseen=True)
GOLD = Gold.model_validate(
    {
        "steps": [{"do": "click", "role": "button", "name": "Sign in"}],
        "expectations": [{"expect": "text", "value": "Wrong."}],
    }
)
POSSIBLE = Scenario(PAGE, "see the error", GOLD)
IMPOSSIBLE = Scenario(PAGE, "click Forgot password?", Gold(), "There is none.", "Forgot password?", "Forgot password?")
BUTTON = {"id": "e1", "role": "button", "name": "Sign in", "box": [10, 10, 50, 30], "verified": True}
ALERT = {"id": "a1", "role": "alert", "name": "Wrong.", "box": [10, 40, 90, 60], "verified": True}
GOOD: dict[str, Any] = {
    "note": "The test passed.",
    "elements": [BUTTON, ALERT],
    "steps": [{"do": "click", "element": "e1", "value": "", "to": ""}],
    "assertions": [{"expect": "visible", "element": "a1", "value": "", "values": []}],
    "missing": [],
    "unlisted": [],
    "checks": {"parses": True, "lints": True, "collects": True},
    "runs": [{"outcome": "passed", "seconds": 1, "message": ""}],
    "mutation": {"tried": 1, "caught": 1, "survived": [], "steps": {"tried": 1, "needed": 1}},
    "inventory": [{"role": "button", "name": "Sign in", "box": [12, 11, 48, 31], "matched": "e1"}],
}
FAILED_RUN = {"outcome": "failed", "seconds": 1, "message": "no such\nelement"}
NO_TEST = GOOD | {
    "steps": [],
    "assertions": [],
    "runs": [],
    "mutation": {},
    "missing": ["Forgot password?"],
    "note": "No test.",
}
DRAFT = GOOD | {
    "elements": [BUTTON | {"verified": False}, ALERT | {"verified": False}],
    "runs": [],
    "mutation": {},
}
CODE = "pass\n"
DRAFT_CODE = "URL = 1  # UNVERIFIED\na  # UNVERIFIED\nb  # UNVERIFIED\n"
HALF_MARKED = "URL = 1  # UNVERIFIED\na  # UNVERIFIED\nb\n"


CLICK, SEE = Step(do="click", element="e1"), Assertion(expect="visible", element="a1")
BOX, WAY = (0.0, 0.0, 1.0, 1.0), (Locator("css", "x"),)
ELEMENTS = (Element("e1", "button", "Sign in", BOX, WAY), Element("a1", "alert", "Wrong.", BOX, WAY))


def result(
    report: dict[str, Any],
    outcome: Outcome = "passed",
    code: str | None = CODE,
    *,
    mode: Mode = "verified",
    steps: tuple[Step, ...] = (CLICK,),
    assertions: tuple[Assertion, ...] = (SEE,),
    uncovered: tuple[str, ...] = (),
) -> Result:
    plan = Plan(scenario="x", steps=steps, assertions=assertions, uncovered=uncovered)
    source = Source(plan, ELEMENTS, Subject((640, 480))) if code is not None else None
    sources = {} if code is None else {"test_a.py": code}
    return Result(mode, outcome, "test_a.py", sources, copy.deepcopy(report), b"", source=source)


async def asked(_: dict[str, Any]) -> ModelAnswer:
    raise AssertionError("nothing is asked of a model here")


async def measured(
    made: Result | str,
    scenario: Scenario = POSSIBLE,
    mode: Mode = "verified",
    *,
    again: str = "passed",
    rendered: str | None = None,
) -> Table:
    """The table of one case; ``made`` is the pipeline's result or error."""

    async def generate(job: Job, ask: Ask, report_progress: ReportProgress) -> Result:
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
        service="http://service",
    )


def row(table: Table, what: str) -> Row:
    return next(one for one in table.blocks[0].rows if one.what == what)


@pytest.mark.parametrize(
    ("made", "scenario", "mode"),
    [
        (result(GOOD), POSSIBLE, "verified"),
        (result(NO_TEST, "no_test", None), IMPOSSIBLE, "verified"),
        (result(DRAFT, "not_run", DRAFT_CODE, mode="draft"), POSSIBLE, "draft"),
        (result(NO_TEST, "no_test", None), IMPOSSIBLE, "draft"),
    ],
)
async def test_good_result_misses_no_mark(made: Result, scenario: Scenario, mode: Mode) -> None:
    table = await measured(made, scenario, mode)
    assert table.is_good
    assert table.blocks[0].wrong == ()
    assert "missed" not in str(table)


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
        (result(GOOD | {"runs": [FAILED_RUN, *GOOD["runs"]]}), {}, "a test that is run passes at first"),
        (result(GOOD | {"runs": [FAILED_RUN]}, "failed"), {}, "a test that is run passes after repair"),
        (result(GOOD | {"mutation": {"tried": 4, "caught": 3, "survived": ["a1"]}}), {}, "mutation is caught"),
        (result(GOOD | {"inventory": SAME_BOX}), {}, "centre of box inside"),
        (result(GOOD), {"again": "failed"}, "passes five times more"),
        (result(GOOD), {"rendered": "other\n"}, "same plan, same code"),
        ("the service is down", {}, "there is an answer"),
        (result(DRAFT, "not_run", HALF_MARKED), {"mode": "draft"}, "every locator is marked as not verified"),
        (result(DRAFT, "passed", DRAFT_CODE), {"mode": "draft"}, "does not say passed"),
    ],
)
async def test_failure_is_counted_and_reported(made: Result | str, more: dict[str, Any], what: str) -> None:
    table = await measured(made, **more)
    found = row(table, what)
    assert found.is_below
    assert found.right is not None
    assert found.right < found.of
    assert not table.is_good
    assert any("login: see the error" in line for line in table.blocks[0].wrong)


OPPOSITE = Assertion(expect="hidden", element="a1")
NAMED, OTHER = ('No step has the text "Forgot password?".',), ("The last clause.",)


def case(made: Result, scenario: Scenario, mode: Mode = "verified", seconds: float = 1.0) -> Case:
    return Case(scenario, "playwright", mode, seconds, made)


def partial(uncovered: tuple[str, ...]) -> Result:
    return result(GOOD | {"note": ""}, "partial", uncovered=uncovered)


@pytest.mark.parametrize(
    ("made", "mode", "expected", "reason"),
    [
        (result(GOOD), "verified", "right", ""),
        (result(GOOD, assertions=(OPPOSITE,)), "verified", "wrong", 'The plan does not expect text "Wrong."'),
        (result(GOOD, steps=()), "verified", "wrong", 'Instead of click button "Sign in" there is no step.'),
        (result(GOOD, steps=(CLICK, CLICK)), "verified", "wrong", "is not asked for"),
        (result(GOOD, mode="draft"), "verified", "wrong", "a draft is called passed"),
        (result(GOOD), "draft", "wrong", "a draft is called passed"),
        (partial(OTHER), "verified", "partial", "The last clause."),
        (partial(()), "verified", "failed", "without saying what is left out"),
        (result(NO_TEST, "no_test", None), "verified", "no_test", "No test."),
        (result(NO_TEST | {"note": ""}, "no_test", None), "verified", "failed", "without saying why"),
        (result(GOOD | {"runs": [FAILED_RUN]}, "failed"), "verified", "failed", "failed: no such element"),
        (result(GOOD | {"runs": []}, "not_run"), "verified", "failed", "not_run"),
        (result(DRAFT, "not_run", DRAFT_CODE, mode="draft"), "draft", "right", ""),
        (result(DRAFT, "not_run", DRAFT_CODE, mode="draft", steps=()), "draft", "failed", "there is no step"),
    ],
)
def test_score_of_a_possible_scenario(made: Result, mode: Mode, expected: Score, reason: str) -> None:
    kind, why = score(case(made, POSSIBLE, mode))
    assert kind == expected
    assert reason in why
    assert bool(reason) == bool(why)


@pytest.mark.parametrize(
    ("made", "expected", "reason"),
    [
        (result(GOOD), "wrong", "There is none."),
        (result(NO_TEST, "no_test", None), "rejected", ""),
        (partial(NAMED), "rejected", ""),
        (partial(OTHER), "failed", "does not name 'Forgot password?'"),
        (result(GOOD | {"missing": ["Forgot password?"]}), "wrong", "There is none."),
        (result(GOOD | {"runs": [FAILED_RUN]}, "failed"), "failed", "Outcome: failed: no such element"),
        (result(DRAFT, "not_run", DRAFT_CODE, mode="draft"), "failed", "Outcome: not_run"),
    ],
)
def test_score_of_an_impossible_scenario(made: Result, expected: Score, reason: str) -> None:
    kind, why = score(case(made, IMPOSSIBLE))
    assert kind == expected
    assert reason in why


def test_one_result_that_is_wrong_but_called_right_misses_the_mark_of_zero() -> None:
    opposite = result(GOOD, assertions=(OPPOSITE,))
    found = table_of([case(result(GOOD), POSSIBLE)] * 99 + [case(opposite, POSSIBLE)])
    wrong = row(found, "seen pages: WRONG BUT CALLED RIGHT")
    assert (wrong.right, wrong.of, wrong.limit, wrong.is_below) == (1, 100, 0, True)
    assert not found.is_good
    assert 'playwright verified login: see the error: wrong: The plan does not expect text "Wrong.".' in str(found)
    impossible = table_of([case(result(GOOD), IMPOSSIBLE)])
    assert row(impossible, "seen pages: impossible: WRONG BUT CALLED RIGHT").is_below


def test_seven_of_ten_scenarios_of_unseen_pages_must_be_right() -> None:
    unseen = Scenario(UNSEEN, "see the error", GOLD)
    right, lacking = case(result(GOOD), unseen), case(result(NO_TEST, "no_test", None), unseen)
    seen = case(result(NO_TEST, "no_test", None), POSSIBLE)
    enough, few = table_of([right] * 7 + [lacking] * 3 + [seen] * 10), table_of([right] * 6 + [lacking] * 4)
    assert enough.is_good
    assert (row(enough, "unseen pages: right").right, row(enough, "unseen pages: right").of) == (7, 10)
    assert row(enough, "unseen pages: no test, and says why").right == 3
    assert row(enough, "seen pages: right").right == 0
    assert row(few, "unseen pages: right").is_below


async def test_reason_of_a_failed_test_is_one_line() -> None:
    table = await measured(result(GOOD | {"runs": [FAILED_RUN]}, "failed"))
    assert "playwright verified login: see the error: failed: failed: no such element" in table.blocks[0].wrong


async def test_what_passed_is_run_again_and_what_failed_is_not() -> None:
    assert row(await measured(result(GOOD)), "passes five times more").of == 1
    failed = await measured(result(GOOD | {"runs": [FAILED_RUN]}, "failed"))
    assert "passes five times more" not in str(failed)


async def test_table_is_aligned_and_written_as_json(tmp_path: pathlib.Path) -> None:
    table = await measured(result(GOOD))
    lines = str(table).splitlines()
    assert lines[0].split() == ["playwright,", "verified", "of", "count", "share", "required"]
    assert next(line for line in lines if line.startswith("mutation is caught")).split()[3:] == [
        *("1", "1", "100.0%", "≥", "95%"),
    ]
    table.write(tmp_path / "eval.json")
    tree = json.loads((tmp_path / "eval.json").read_text())
    assert tree["cases"][0]["report"]["runs"] == GOOD["runs"]
    assert (tree["service"], tree["cases"][0]["score"]) == ("http://service", "right")
    parses = next(one for one in tree["blocks"][0]["rows"] if one["what"] == "parses")
    assert parses == {
        "what": "parses",
        "of": 1,
        "right": 1,
        "figure": 1.0,
        "mark": 1.0,
        "limit": None,
        "is_below": False,
    }
    assert (tmp_path / "eval.md").read_text() == table.markdown()


async def test_markdown_has_a_column_for_each_target_and_mode() -> None:
    wrong = table_of([case(result(GOOD, assertions=(OPPOSITE,)), POSSIBLE)])
    draft = await measured(result(DRAFT, "not_run", DRAFT_CODE, mode="draft"), mode="draft")
    lines = table_of([*wrong.cases, *draft.cases]).markdown().splitlines()
    assert lines[:2] == ["|  | playwright, verified | playwright, draft | required |", "| --- | --- | --- | --- |"]
    assert "| seen pages: right | 0 of 1 (0%) | 1 of 1 (100%) |  |" in lines
    assert "| seen pages: WRONG BUT CALLED RIGHT | **1 of 1** | 0 of 1 | ≤ 0 |" in lines
    assert "| mutation is caught | 1 of 1 (100%) |  | ≥ 95% |" in lines
    assert "| step is needed | 1 of 1 (100%) |  |  |" in lines


async def test_each_target_and_mode_has_its_block() -> None:
    one = await measured(result(GOOD))
    other = await measured(result(DRAFT, "not_run", DRAFT_CODE), mode="draft")
    table = table_of([*one.cases, *other.cases])
    assert [(block.target, block.mode) for block in table.blocks] == [
        ("playwright", "verified"),
        ("playwright", "draft"),
    ]


async def test_evaluation_of_an_unknown_page_is_refused() -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    arguments = parser.parse_args(["--eval", "--eval-pages", "todo, bazaar"])
    with pytest.raises(ConfigError, match="--eval-pages: There is no page bazaar; the pages are: login, "):
        await command.run(arguments, "http://127.0.0.1:9", None)
