"""The outcome of a generated test, and the sentences about what it does not do."""

from typing import Any

import pytest

from vlserve.testgen import outcome
from vlserve.testgen.elements import Element, Locator
from vlserve.testgen.judge.judge import Uncovered, Verdict
from vlserve.testgen.outcome import Mutation
from vlserve.testgen.plan import Assertion, Plan, Step
from vlserve.testgen.scenario.clauses import split

BUTTON = Element("e1", "button", "Save", (0, 0, 1, 1), (Locator("role", "button", "Save"),))
STATUS = Element("a1", "status", "Saved", (0, 0, 1, 1), (Locator("text", "Saved"),))
ELEMENTS = {"e1": BUTTON, "a1": STATUS}
CLICK = Step(do="click", element="e1")
SAVED = Assertion(expect="visible", element="a1")
PLAN = Plan(scenario="click Save and see Saved", steps=(CLICK,), assertions=(SAVED,))


def verdict(**changed: Any) -> Verdict:
    values: dict[str, Any] = {"uncovered": (), "ineffective": (), "has_no_steps": False, "is_unchanged": False}
    return Verdict(**(values | changed))


@pytest.mark.parametrize(
    ("has_code", "last_run", "is_complete", "is_plan_only", "expected"),
    [
        (True, "passed", True, False, "passed"),
        (True, "passed", False, False, "partial"),
        (True, "failed", True, False, "failed"),
        (True, "failed", False, False, "failed"),
        (True, None, False, False, "not_run"),
        (False, None, True, False, "no_test"),
        (False, None, False, True, "not_run"),
    ],
)
def test_outcome(has_code: bool, last_run: Any, is_complete: bool, is_plan_only: bool, expected: str) -> None:
    found = outcome.decide(has_code=has_code, last_run=last_run, is_complete=is_complete, is_plan_only=is_plan_only)
    assert found == expected


@pytest.mark.parametrize(
    ("result", "is_run_wanted", "code"),
    [
        ("passed", True, 0),
        ("partial", True, 3),
        ("failed", True, 1),
        ("not_run", False, 0),
        ("not_run", True, 1),
        ("no_test", True, 1),
        ("no_test", False, 1),
    ],
)
def test_exit_code(result: Any, is_run_wanted: bool, code: int) -> None:
    assert outcome.exit_code(result, is_run_wanted=is_run_wanted) == code


@pytest.mark.parametrize(
    ("judged", "mutation", "sentences"),
    [
        (verdict(), Mutation(caught=[SAVED], needed=[CLICK]), []),
        (verdict(), Mutation(untried=[SAVED], needed=[CLICK]), []),
        (verdict(ineffective=(SAVED,)), Mutation(caught=[SAVED], needed=[CLICK]), []),
        (verdict(ineffective=(SAVED,)), Mutation(untried=[SAVED], needed=[CLICK]), ["It held before the steps"]),
        (verdict(), Mutation(survived=[SAVED], needed=[CLICK]), ["It does not depend on the steps"]),
        (verdict(), Mutation(caught=[SAVED], not_needed=[CLICK]), ["The test passes although this step"]),
        (verdict(), Mutation(caught=[SAVED], unknown=[CLICK]), ["It is not known whether this step"]),
        (verdict(ineffective=(SAVED,)), None, ["It held before the steps"]),
    ],
)
def test_shortfalls(judged: Verdict, mutation: Mutation | None, sentences: list[str]) -> None:
    found = outcome.shortfalls(PLAN, ELEMENTS, judged, mutation)
    assert [one[: len(start)] for one, start in zip(found, sentences, strict=True)] == sentences
    assert all(one.endswith(('"Save".', '"Saved".')) for one in found)


def test_uncovered_clause_is_named_with_its_reason_once() -> None:
    clause = split('click "Save" and see "Saved"')[1]
    judged = verdict(uncovered=(Uncovered(clause, 'No expectation has the text "Saved".'),))
    plan = PLAN.model_copy(update={"uncovered": tuple(outcome.shortfalls(PLAN, ELEMENTS, judged, None))})
    assert len(plan.uncovered) == 1
    assert plan.uncovered[0].endswith(': No expectation has the text "Saved".')
    assert outcome.shortfalls(plan, ELEMENTS, judged, None) == list(plan.uncovered)


def test_nothing_expected_names_the_clauses_and_how_to_write_them() -> None:
    clauses = split('click "Save" and see "Saved"')
    judged = verdict(uncovered=tuple(Uncovered(one, "Nothing has it.") for one in clauses))
    text = outcome.explain_nothing_expected(clauses, judged)
    assert all(part in text for part in ("Save", "Saved", "for example: click", "for example: see"))
    assert "for example: see" in outcome.explain_nothing_expected(split('click "Save"'), None)
    assert "for example: click" in outcome.explain_no_steps(clauses)


@pytest.mark.parametrize(
    ("result", "start"),
    [("passed", "VERIFIED: "), ("partial", "PARTIAL: "), ("failed", "FAILED: "), ("not_run", "DRAFT: ")],
)
def test_note_names_what_the_test_does_not_do(result: Any, start: str) -> None:
    gap = '"see Sent": No expectation has the text "Sent".'
    plan = PLAN if result == "passed" else PLAN.model_copy(update={"uncovered": (gap,)})
    for is_live in (True, False):
        note = outcome.describe_note(result, plan=plan, is_live=is_live, problem="", message="", is_plan_only=False)
        assert note.startswith(start)
        assert (gap in note) == (result != "passed")
        assert ("passed" in note) == (result in ("passed", "partial"))


@pytest.mark.parametrize(
    ("steps", "end"),
    [
        ((), "of the scenario."),
        ((CLICK,), ", and it fails when its step has no effect."),
        ((CLICK, CLICK), ", and it fails when any of its 2 steps has no effect."),
    ],
)
def test_note_of_a_verified_test_counts_its_steps(steps: tuple[Step, ...], end: str) -> None:
    plan = PLAN.model_copy(update={"steps": steps})
    note = outcome.describe_note("passed", plan=plan, is_live=True, problem="", message="", is_plan_only=False)
    assert note.endswith(end)
