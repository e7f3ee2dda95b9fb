"""How a result compares with the gold of its scenario."""

from dataclasses import dataclass
from typing import Literal

from vlserve.testgen.elements import Target
from vlserve.testgen.evaluation import gold
from vlserve.testgen.evaluation.fixture_pages import Scenario
from vlserve.testgen.result import Mode, Result

Score = Literal["right", "partial", "no_test", "rejected", "failed", "wrong"]
"""``right``: the test does and expects what the gold does. ``partial``, ``no_test``: the result says that it does not
do all, or why there is no test. ``rejected``: so it is for an impossible scenario. ``wrong``: another test than the
gold's is called right, or a test of an impossible scenario. ``failed``: everything else."""


@dataclass(frozen=True)
class Case:
    """One scenario for one target in one mode, with its result, or the error that there was instead."""

    scenario: Scenario
    target: Target
    mode: Mode
    seconds: float
    result: Result | None = None
    error: str = ""
    rerun: str = ""
    """Outcome of all reruns together; empty where there were none."""
    is_same_code: bool = True

    @property
    def title(self) -> str:
        return f"{self.target} {self.mode} {self.scenario.page.name}: {self.scenario.text}"


def score(case: Case) -> tuple[Score, str]:
    """The score, and in words why it is not ``right`` or ``rejected``."""
    if case.result is None:
        return "failed", case.error or "no result"
    return (_score_impossible if case.scenario.impossible else _score_possible)(case, case.result)


def _score_possible(case: Case, result: Result) -> tuple[Score, str]:
    difference = _difference(case, result)
    note = str(result.report.get("note", ""))
    match result.outcome:
        case "passed" if case.mode == "draft" or result.mode == "draft":
            return "wrong", "a draft is called passed"
        case "passed":
            return ("wrong", difference) if difference else ("right", "")
        case "partial":
            return (
                ("partial", _uncovered(result))
                if _uncovered(result)
                else ("failed", "partial, without saying what is left out")
            )
        case "no_test":
            return ("no_test", note) if note else ("failed", "no test, without saying why")
        case "not_run" if case.mode == "draft":
            return ("failed", difference) if difference else ("right", "")
    return "failed", f"{result.outcome}{_message(result)}"


def _score_impossible(case: Case, result: Result) -> tuple[Score, str]:
    impossible = case.scenario.impossible
    match result.outcome:
        case "passed":
            return "wrong", impossible
        case "no_test" if result.report.get("note"):
            return "rejected", ""
        case "partial" if case.scenario.named.casefold() in _uncovered(result).casefold():
            return "rejected", ""
        case "partial":
            return "failed", f"{impossible} The partial test does not name {case.scenario.named!r}."
    return "failed", f"{impossible} Outcome: {result.outcome}{_message(result)}"


def _difference(case: Case, result: Result) -> str | None:
    if result.source is None:
        return "there is no plan"
    elements = {one.id: one for one in result.source.elements}
    return gold.matches(case.scenario.gold, result.source.plan, elements)


def _uncovered(result: Result) -> str:
    """What a result says that its test does not do, a line each."""
    said = list(result.source.plan.uncovered) if result.source else []
    for name in ("uncovered", "missing", "unlisted"):
        said += map(str, result.report.get(name) or [])
    return "\n".join(said).strip() or str(result.report.get("note") or "")


def _message(result: Result) -> str:
    runs = result.report.get("runs") or []
    message = " ".join(runs[-1].get("message", "").split())[:160] if runs else ""
    return f": {message}" if message else ""
