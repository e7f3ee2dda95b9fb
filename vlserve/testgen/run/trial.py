"""Runs a finished test, repairs it, and runs it on changed pages, where it must fail."""

import ast
import asyncio
import pathlib
import tempfile
from collections.abc import Collection, Sequence

from vlserve.testgen.code import render, secrets, static_checks
from vlserve.testgen.generation import Generation
from vlserve.testgen.outcome import Mutation
from vlserve.testgen.page.proxy import OriginProxy
from vlserve.testgen.plan import PAGE, Assertion
from vlserve.testgen.result import Event, ReportProgress
from vlserve.testgen.run import mutation, repair, runner
from vlserve.testgen.run.runner import Mutant, Run, Sandbox

_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 1.5, 5.0
_WAIT_FACTOR = 3.0
"""A changed page may be this many times slower than the page was, before a wait on it counts as a failure."""


async def try_test(work: Generation, proxy: OriginProxy, report_progress: ReportProgress) -> None:
    """Run the test, change locators and waits where it fails, and run it on changed pages where it passed."""
    sandbox = runner.open_sandbox(work.job.target, proxy, secrets.environment(work.planned.plan, work.elements))
    await _run_and_repair(work, sandbox, report_progress)
    if work.runs[-1].outcome == "passed":
        report_progress(Event("mutate"))
        work.mutation = await _mutate(work, sandbox)
        report_progress(Event("mutate", _describe(work.mutation)))
    await write_code(work)  # with the outcome
    await check_code(work)


async def write_code(work: Generation) -> None:
    """Raises PlanError."""
    suite = await asyncio.to_thread(_render, work)
    work.sources, work.file_name = suite.files, suite.test_file
    work.names, work.locators = suite.names, suite.locators


def _render(work: Generation) -> render.Suite:
    return render.render(
        work.plan,
        work.elements,
        work.subject,
        work.job.target,
        page_title=work.page_title,
        existing=work.job.existing,
        test_file=work.file_name,
    )


async def check_code(work: Generation) -> None:
    variables = secrets.environment(work.planned.plan, work.elements)
    with tempfile.TemporaryDirectory(prefix="vlserve-testgen-") as folder:
        work.checks = await static_checks.check(
            work.sources, work.file_name, pathlib.Path(folder), variables=tuple(variables)
        )
    work.problem = "; ".join(work.checks.problems)


async def _run_and_repair(work: Generation, sandbox: Sandbox, report_progress: ReportProgress) -> None:
    planned = work.planned
    fingerprint = planned.plan.fingerprint(planned.elements)
    report_progress(Event("run"))
    work.runs.append(await sandbox.run(work.sources, work.file_name, with_trace=work.job.with_trace))
    report_progress(Event("run", _describe_run(work.runs[-1])))
    while work.runs[-1].outcome == "failed" and len(work.repairs) < repair.MOST:
        asserted = render.assertion_lines(str(work.code), planned.plan)
        repaired = repair.repair(
            work.sources, work.runs[-1], planned.plan, planned.elements, work.names, asserted, work.timeout_s
        )
        if repaired is None:
            break
        report_progress(Event("repair"))
        planned.elements, work.timeout_s = repaired.elements, repaired.timeout_s
        work.repairs.append(repaired.description)
        await write_code(work)
        if planned.plan.fingerprint(planned.elements) != fingerprint:
            raise AssertionError("a repair changed what is expected")
        work.runs.append(await sandbox.run(work.sources, work.file_name, with_trace=work.job.with_trace))
        report_progress(Event("repair", f"{repaired.description}: {_describe_run(work.runs[-1])}"))


async def _mutate(work: Generation, sandbox: Sandbox) -> Mutation:
    """Every expectation alone, and every step; a run on the unchanged page shows that the waits are long enough.

    An expectation is caught where it fails itself; a step, where anything fails.
    """
    plan = work.planned.plan
    source = str(work.code)
    scripts = [_script(work, one) for one in plan.assertions]
    tried = [place for place, script in enumerate(scripts) if script]
    kept = [_keep(source, work, place) for place in tried]
    mutants = [Mutant(source, "")]
    mutants += [Mutant(code, scripts[place]) for code, place in zip(kept, tried, strict=True)]
    mutants += [Mutant(source, _swallow(work, number)) for number in range(len(plan.steps))]
    wait_s: float | None = min(_LONGEST_WAIT_S, max(_SHORTEST_WAIT_S, _WAIT_FACTOR * work.runs[-1].test_s))
    runs = await sandbox.run_mutants(work.sources, mutants, wait_s)
    if runs[0] is None or runs[0].outcome == "failed":  # too short, or the page is slower now
        wait_s = None
        runs = await sandbox.run_mutants(work.sources, mutants, wait_s)
    found = Mutation(untried=[one for one, script in zip(plan.assertions, scripts, strict=True) if not script])
    if runs[0] is None or runs[0].outcome == "failed":  # nothing that fails now says anything
        return Mutation(untried=list(plan.assertions), unknown=list(plan.steps))
    for place, ran in zip(tried, runs[1:], strict=False):
        asserted = _lines(source, work)[place]
        _add(found, plan.assertions[place], ran, asserted)
    await _sort_steps(work, sandbox, found, runs[1 + len(tried) :], wait_s)
    return found


async def _sort_steps(
    work: Generation, sandbox: Sandbox, found: Mutation, runs: Sequence[Run | None], wait_s: float | None
) -> None:
    """A step is needed where the test fails without its effect.

    It is also needed where the test notices only with it that another step has no effect: what is typed before a
    reset.
    """
    steps = work.planned.steps
    failed = [number for number, ran in enumerate(runs) if ran and ran.outcome == "failed"]
    passed = [number for number, ran in enumerate(runs) if ran and ran.outcome == "passed"]
    pairs = [(number, other) for number in passed for other in failed if other > number]
    both = [Mutant(str(work.code), _swallow(work, number) + _swallow(work, other)) for number, other in pairs]
    done = await sandbox.run_mutants(work.sources, both, wait_s) if both else []
    needed = {number for (number, _), ran in zip(pairs, done, strict=True) if ran and ran.outcome == "passed"}
    for number, step in enumerate(steps):
        if runs[number] is None:
            found.unknown.append(step)
        elif number in failed or number in needed:
            found.needed.append(step)
        else:
            found.not_needed.append(step)


def _swallow(work: Generation, number: int) -> str:
    steps = work.planned.steps
    return mutation.swallow(steps[number], work.planned.elements[steps[number].element], steps[:number])


def _script(work: Generation, one: Assertion) -> str:
    """An expectation that held before the steps must fail on a page that ignores the user."""
    has_steps = bool(work.planned.steps)
    element = None if one.element == PAGE else work.planned.elements[one.element]
    if has_steps and work.verdict and one in work.verdict.ineffective:
        return mutation.ignore_user()
    return mutation.script(one, element, has_steps=has_steps)


def _add(found: Mutation, one: Assertion, ran: Run | None, asserted: Collection[int]) -> None:
    if ran is None or (ran.outcome == "failed" and ran.line not in asserted):
        found.untried.append(one)
    elif ran.outcome == "passed":
        found.survived.append(one)
    else:
        found.caught.append(one)


def _lines(source: str, work: Generation) -> list[set[int]]:
    """The lines of each expectation, in the order of the plan."""
    wanted = render.assertion_lines(source, work.planned.plan)
    statements = [one for one in ast.walk(ast.parse(source)) if isinstance(one, ast.stmt) and one.lineno in wanted]
    outer = [one for one in statements if not any(_is_in(one, other) for other in statements)]
    outer.sort(key=lambda one: one.lineno)
    return [set(range(one.lineno, (one.end_lineno or one.lineno) + 1)) for one in outer]


def _is_in(one: ast.stmt, other: ast.stmt) -> bool:
    return one is not other and other.lineno <= one.lineno and (one.end_lineno or 0) <= (other.end_lineno or 0)


def _keep(source: str, work: Generation, place: int) -> str:
    """The test with one expectation alone: of several, the first that fails would stand for all."""
    lines = source.split("\n")
    for number, other in enumerate(_lines(source, work)):
        if number != place:
            for line in other:
                lines[line - 1] = ""
    return "\n".join(lines)


def _describe_run(ran: Run) -> str:
    return f"{ran.outcome} in {ran.seconds:g} s"


def _describe(found: Mutation) -> str:
    tried = len(found.caught) + len(found.survived)
    steps = len(found.needed) + len(found.not_needed)
    untried = len(found.untried) + len(found.unknown)
    parts = [f"{len(found.caught)} of {tried} expectations failed on a changed page"]
    parts += [f"{len(found.needed)} of {steps} steps are needed"] if steps else []
    parts += [f"{untried} could not be tried"] if untried else []
    return ", ".join(parts)
