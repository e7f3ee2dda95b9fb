"""The outcome of a generated test: what was verified, and what the test does not do."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from vlserve.testgen.elements import Element, quoted
from vlserve.testgen.judge.judge import Verdict
from vlserve.testgen.plan import LONGEST_VALUE, PAGE, Assertion, Plan, Step
from vlserve.testgen.result import Outcome
from vlserve.testgen.scenario.clauses import Clause

_HOW = {
    "action": 'Write an action as a verb and a name on the page, for example: click "Save".',
    "expectation": 'Write an expectation with the text on the page, for example: see "Saved".',
}


@dataclass
class Mutation:
    """Results of the changed pages: which expectations and steps the test depends on."""

    caught: list[Assertion] = field(default_factory=list)
    survived: list[Assertion] = field(default_factory=list)
    """Expectations that hold on a changed page, too."""
    untried: list[Assertion] = field(default_factory=list)
    """Expectations that no run on a changed page got to."""
    needed: list[Step] = field(default_factory=list)
    not_needed: list[Step] = field(default_factory=list)
    """Steps without whose effect the test passes, too."""
    unknown: list[Step] = field(default_factory=list)
    """Steps whose run on the changed page did not come to its end."""


def decide(
    *, has_code: bool, last_run: Literal["passed", "failed"] | None, is_complete: bool, is_plan_only: bool = False
) -> Outcome:
    """``is_complete``: the test does all that the scenario asks, as far as it is known."""
    if not has_code:
        return "not_run" if is_plan_only else "no_test"
    if last_run is None:
        return "not_run"
    return "partial" if last_run == "passed" and not is_complete else last_run


def exit_code(outcome: Outcome, *, is_run_wanted: bool) -> int:
    """0: passed, or not run as asked; 1: failed, not written, or not run; 3: partial."""
    if outcome == "partial":
        return 3
    return 0 if outcome == "passed" or (outcome == "not_run" and not is_run_wanted) else 1


def shortfalls(
    plan: Plan, elements: Mapping[str, Element], verdict: Verdict | None, mutation: Mutation | None
) -> list[str]:
    """What the test does not do, in sentences."""
    found = list(plan.uncovered)
    if verdict is not None:
        known = " ".join(found)
        found += [one.sentence for one in verdict.uncovered if one.reason not in known]
        if verdict.is_unchanged and not (mutation and mutation.caught):
            found.append("The page is the same after the steps as before.")
    if mutation is not None:
        found += _weak(plan, elements, verdict, mutation)
    elif verdict is not None:
        found += [_held_before(one, elements) for one in verdict.ineffective]
    return [one[:LONGEST_VALUE] for one in dict.fromkeys(found)]


def _weak(plan: Plan, elements: Mapping[str, Element], verdict: Verdict | None, mutation: Mutation) -> Iterable[str]:
    """An expectation that held before the steps counts where a changed page makes it fail: the steps passed by it."""
    ineffective = verdict.ineffective if verdict else ()
    for one in plan.assertions:
        if one in ineffective and one not in mutation.caught:
            yield _held_before(one, elements)
        elif one in mutation.survived:
            yield f"It does not depend on the steps: {describe_assertion(one, elements)}."
    for step in mutation.not_needed:
        yield f"The test passes although this step has no effect: {describe_step(step, elements)}."
    for step in mutation.unknown:
        yield f"It is not known whether this step is needed: {describe_step(step, elements)}."


def _held_before(one: Assertion, elements: Mapping[str, Element]) -> str:
    return f"It held before the steps: {describe_assertion(one, elements)}."


def describe_step(step: Step, elements: Mapping[str, Element]) -> str:
    """In words, without its value where that is a secret."""
    element = elements[step.element]
    value = f" {quoted(step.value)}" if step.value and not element.is_secret else ""
    target = f" to {elements[step.to].description}" if step.to else ""
    return f"{step.do.replace('_', ' ')} {element.description}{value}{target}"


def describe_assertion(one: Assertion, elements: Mapping[str, Element]) -> str:
    name = "page" if one.element == PAGE else elements[one.element].description
    texts = [quoted(one.value)] if one.value else [quoted(text) for text in one.values]
    return " ".join([one.expect.replace("_", " "), name, *([", ".join(texts)] if texts else [])])


def explain_no_steps(clauses: Sequence[Clause]) -> str:
    """For a scenario with actions and a plan without steps."""
    actions = [one for one in clauses if one.kind == "action"]
    return f"No step was found for {_list(actions)}. {_HOW['action']}"


def explain_nothing_expected(clauses: Sequence[Clause], verdict: Verdict | None) -> str:
    """For a plan without expectations: which clauses were not understood, and how to write them."""
    lost = [one.clause for one in verdict.uncovered] if verdict else []
    if not any(one.kind == "expectation" for one in clauses):
        return f"The scenario does not say what is to be seen at the end. {_HOW['expectation']}"
    lost = lost or [one for one in clauses if one.kind == "expectation"]
    hints = " ".join(_HOW[kind] for kind in _HOW if any(one.kind == kind for one in lost))
    return f"Not understood, or not on the page: {_list(lost)}. {hints}"


def _list(clauses: Collection[Clause]) -> str:
    return ", ".join(quoted(one.text) for one in clauses)


def describe_note(
    outcome: Outcome, *, plan: Plan, is_live: bool, problem: str, message: str, is_plan_only: bool
) -> str:
    """The last line of the output: what was verified, and what the test does not do."""
    gaps = " ".join(plan.uncovered)
    lacks = f" The test does not do all of the scenario. {gaps}" if gaps else ""
    if outcome == "no_test":
        return f"No test was written. {problem}".strip()
    if outcome == "passed":
        steps = "its step" if len(plan.steps) == 1 else f"any of its {len(plan.steps)} steps"
        needed = f", and it fails when {steps} has no effect" if plan.steps else ""
        return f"VERIFIED: the test passed on the live page and covers every clause of the scenario{needed}."
    if outcome == "partial":
        return f"PARTIAL: the test passed on the live page.{lacks}"
    if outcome == "failed":
        first = message.strip().partition("\n")[0][:LONGEST_VALUE]
        return f"FAILED: the test failed on the live page{f': {first}' if first else '.'}{lacks}"
    if is_plan_only:
        return f"PLAN: nothing was done on the page, and no test was written. {problem}".strip() + lacks
    if is_live:
        return f"DRAFT: every locator was found on the live page, but the test was not run. {problem}".strip() + lacks
    return f"DRAFT: made from the picture alone; no locator was tried, and the test was not run.{lacks}"


def format_plan(report: Mapping[str, Any]) -> str:
    """The plan of a report, for a reader: clauses, steps, expectations and what they will do to the page."""
    names = {one["id"]: f"{one['role']} {quoted(one['name'])}" for one in report["elements"]}
    lines = [f"{one['kind']}: {one['text']}" for one in report["clauses"]]
    lines += [f"step {number}: {text}" for number, text in enumerate(report["effects"], 1)]
    for one in report["assertions"]:
        value = f" {quoted(one['value'])}" if one["value"] else ""
        lines.append(f"expect: {one['expect']} {names.get(one['element'], 'page')}{value}")
    lines += [f"not covered: {text}" for text in report["uncovered"]]
    if report["url"] and report["effects"]:
        number = len(report["effects"])
        steps = "this step" if number == 1 else f"these {number} steps"
        lines.append(f"effects: {steps} will be done at {report['url']} several times.")
    return "\n".join(lines)
