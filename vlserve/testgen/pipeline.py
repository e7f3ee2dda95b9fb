"""Screenshot and scenario → a test, tried where there is a page to try it on. Composes the modules beside it."""

import asyncio
import hashlib
import pathlib
import re
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Browser, Error

from vlserve.testgen import inventory, matching, mutation, planner, render, repair, report, runner, static_checks
from vlserve.testgen.elements import Element
from vlserve.testgen.inventory import Inventory, Seen
from vlserve.testgen.live_page import LivePage, find_browser, open_browser, open_page
from vlserve.testgen.plan import Plan, PlanError
from vlserve.testgen.plan import check as check_plan
from vlserve.testgen.planner import Planned
from vlserve.testgen.proxy import OriginProxy, open_proxy, origin
from vlserve.testgen.result import (
    LARGEST_SIDE,
    LONGEST_SCENARIO,
    SMALLEST_SIDE,
    Ask,
    Event,
    Job,
    Mode,
    Outcome,
    Result,
    Source,
    Subject,
    Tell,
    TestgenError,
)
from vlserve.testgen.runner import Run, Sandbox

_LOOKS_LIKE_IT = 0.5
_LONGEST_NAME = 60


@dataclass
class _Work:
    """What is known so far."""

    job: Job
    inventory: Inventory
    planned: Planned
    seen_as: dict[str, int] = field(default_factory=dict)
    """Element id → number of what was seen on the picture."""
    before: list[Element] = field(default_factory=list)
    problem: str = ""
    """Why there is no test, or none that was tried."""
    not_on_page: list[Seen] = field(default_factory=list)
    code: str | None = None
    file_name: str = ""
    checks: static_checks.Checks | None = None
    runs: list[Run] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)
    mutation: dict[str, Any] = field(default_factory=dict)
    blocked: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    """Of the browser itself, which the page opened and which were dismissed."""
    viewport: tuple[int, int] = (0, 0)
    timeout_s: float | None = None

    @property
    def elements(self) -> list[Element]:
        return list(self.planned.elements.values())

    @property
    def secrets(self) -> render.Secrets:
        """Of all that was ever planned, taken or not."""
        steps = (*self.planned.steps, *self.planned.wanted)
        return render.Secrets(self.planned.plan.model_copy(update={"steps": steps}), self.elements)

    @property
    def outcome(self) -> Outcome:
        if self.code is None:
            return "no_test"
        return self.runs[-1].outcome if self.runs else "not_run"

    @property
    def subject(self) -> Subject:
        outcome = self.runs[-1].outcome if self.runs else "not_run"
        return Subject(self.viewport, self.job.url, outcome, self.timeout_s)


async def generate(job: Job, ask: Ask, tell: Tell = lambda _: None) -> Result:
    """Raises TestgenError where nothing can be told; what merely fails is in the result and its report."""
    began = time.monotonic()
    _check(job)
    tell(Event("inventory"))
    work = _Work(job, await inventory.take(job.picture, ask), Planned(job.scenario, {}))
    tell(Event("inventory", counted(len(work.inventory.seen), "element") + " on the picture"))
    try:
        await (_draft(work, ask, tell) if job.url is None else _verify(work, job.url, ask, tell))
    except PlanError as error:
        work.problem = str(error)
    tell(Event("report"))
    result = await asyncio.to_thread(_result, work, round(time.monotonic() - began, 1))
    tell(Event("report", result.report["note"]))
    return result


def _check(job: Job) -> None:
    """Raises TestgenError: better before anything is done than after."""
    scenario = " ".join(job.scenario.split())
    if not scenario or len(scenario) > LONGEST_SCENARIO:
        raise TestgenError(f"The scenario must have 1 to {LONGEST_SCENARIO:,} characters.")
    for url in ([job.url] if job.url is not None else []) + list(job.allowed_origins):
        try:
            origin(url)
        except ValueError as error:
            where = "The page's address" if url == job.url else "The allowed origin"
            raise TestgenError(f"{where} does not work: {error}.") from error
    if job.url is None:
        return
    if not _viewports(job, inventory.picture_size(job.picture)):
        hint = "" if job.viewport else ", and this picture is smaller or larger: give a viewport"
        raise TestgenError(f"Each side of the viewport must have {SMALLEST_SIDE} to {LARGEST_SIDE} CSS pixels{hint}.")
    find_browser()
    if job.may_run:
        runner.find_driver(job.target)


def counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _slug(scenario: str) -> str:
    """For a file's name: ASCII, at most so long. Where that loses something, a hash tells scenarios apart."""
    words = re.findall(r"[a-z0-9]+", scenario.lower())
    slug = ""
    for word in words:
        if len(slug) + len(word) > _LONGEST_NAME:
            break
        slug = f"{slug}_{word}" if slug else word
    is_whole = slug == "_".join(words) and scenario.isascii()
    return slug if is_whole and slug else f"{slug or 'scenario'}_{hashlib.sha256(scenario.encode()).hexdigest()[:6]}"


async def _draft(work: _Work, ask: Ask, tell: Tell) -> None:
    job = work.job
    work.viewport = job.viewport or work.inventory.size
    work.before, ids = planner.of_picture(work.inventory.seen, job.target, may_use_points=job.may_use_points)
    work.seen_as = {id_: number for number, id_ in ids.items()}
    work.planned.elements = {one.id: one for one in work.before}
    tell(Event("plan"))
    await planner.plan_draft(work.planned, work.before, job.target, ask)
    _end_plan(work, tell)
    await _write(work, tell)


async def _verify(work: _Work, url: str, ask: Ask, tell: Tell) -> None:
    job = work.job
    async with AsyncExitStack() as stack:
        origins = {origin(url), *map(origin, job.allowed_origins)}
        proxy = await stack.enter_async_context(open_proxy(origins, job.may_connect))
        tell(Event("open"))
        browser = await stack.enter_async_context(open_browser(proxy))
        try:
            live = await _open(work, url, browser, stack)
            tell(Event("open", counted(len(work.before), "element") + " on the page"))
            tell(Event("match"))
            tell(Event("match", f"{len(work.seen_as)} of {len(work.inventory.seen)} are on the page"))
            tell(Event("plan"))
            work.dialogs = live.dialogs
            await planner.plan_live(work.planned, live, work.before, ask)
            _end_plan(work, tell)
            await _write(work, tell)
            if job.may_run and work.checks and work.checks.is_good:
                await _try(work, proxy, tell)
        except TestgenError as error:
            if reason := proxy.failures.get(origin(url)):
                raise TestgenError(f"{url} cannot be opened: {reason}.") from error
            raise
        except Error as error:
            raise TestgenError(f"The page does not let itself be looked at: {str(error).splitlines()[0]}") from error
        finally:
            work.blocked = sorted(proxy.blocked)


async def _open(work: _Work, url: str, browser: Browser, stack: AsyncExitStack) -> LivePage:
    """The page at the size at which it looks most like the picture."""
    opened: LivePage | None = None
    best = -1.0
    for viewport in _viewports(work.job, work.inventory.size):
        page = await stack.enter_async_context(open_page(browser, url, viewport, work.job.target))
        elements, ratio = await page.look(), matching.ratio_of(work.inventory.size, viewport)
        found = await asyncio.to_thread(matching.match, work.inventory.seen, elements, ratio)
        likeness = matching.in_place(found, work.inventory.seen, elements, ratio)
        if likeness > best:
            opened, best = page, likeness
            work.before, work.viewport = elements, viewport
            work.seen_as = found.seen_as
            work.not_on_page = [work.inventory.seen[number] for number in found.unmatched]
        if likeness >= _LOOKS_LIKE_IT:
            break
    work.planned.elements = {one.id: one for one in work.before}
    if opened is None:
        raise TestgenError("The viewport does not work.")
    return opened


def _viewports(job: Job, picture: tuple[int, int]) -> list[tuple[int, int]]:
    """That which was asked for; else the picture's size, and half of it for a screen with two pixels for one."""
    width, height = picture
    wanted = [job.viewport] if job.viewport else [(width, height), (width // 2, height // 2)]
    return [one for one in wanted if min(one) >= SMALLEST_SIDE and max(one) <= LARGEST_SIDE]


def _end_plan(work: _Work, tell: Tell) -> None:
    """Raises PlanError where no test can come of it, and says what is missing."""
    planned = work.planned
    lost = [*planned.missing, *planned.unlisted]
    away = work.secrets.masked(f"; not there: {', '.join(lost)}") if lost else ""
    tell(Event("plan", f"{counted(len(planned.steps), 'step')}, {counted(len(planned.assertions), 'assertion')}{away}"))
    if planned.missing:
        names = {one.name.casefold() for one in work.elements}
        if all(one.casefold() in names for one in planned.missing):
            raise PlanError(_sentence("The model found no way to go on, though this is on the page", planned.missing))
        raise PlanError(_sentence("The scenario needs what is not there", planned.missing))
    if planned.unlisted and not planned.assertions:
        raise PlanError(_sentence("What the scenario expects did not come", planned.unlisted))
    check_plan(planned.plan, work.elements)


def _sentence(said: str, names: Sequence[str]) -> str:
    text = f"{said}: {', '.join(names)}"
    return text if text.endswith((".", "!", "?", "。")) else f"{text}."


async def _write(work: _Work, tell: Tell) -> None:
    """Raises PlanError."""
    work.file_name = f"test_{_slug(work.secrets.masked(work.job.scenario))}.py"
    tell(Event("render"))
    work.code = await _render(work)
    tell(Event("render", work.file_name))
    tell(Event("check"))
    await _check_code(work)
    tell(Event("check", work.problem or "it parses, ruff has nothing to say, pytest finds one test"))


async def _render(work: _Work, plan: Plan | None = None) -> str:
    """Raises PlanError."""
    plan = plan or work.planned.plan
    return await asyncio.to_thread(render.render, plan, work.elements, work.subject, work.job.target)


async def _check_code(work: _Work) -> None:
    variables = render.environment(work.planned.plan, work.elements)
    with tempfile.TemporaryDirectory(prefix="vlserve-testgen-") as folder:
        work.checks = await static_checks.check(str(work.code), pathlib.Path(folder), variables=tuple(variables))
    work.problem = "; ".join(work.checks.problems)


async def _try(work: _Work, proxy: OriginProxy, tell: Tell) -> None:
    """Run it, mend locators and waits where it fails, and see that it fails where it should."""
    planned = work.planned
    secrets = render.environment(planned.plan, work.elements)
    sandbox = runner.open_sandbox(work.job.target, proxy, secrets)
    fingerprint = planned.plan.fingerprint(planned.elements)
    tell(Event("run"))
    work.runs.append(await sandbox.run(str(work.code), work.file_name, with_trace=work.job.with_trace))
    tell(Event("run", _told_run(work.runs[-1])))
    while work.runs[-1].outcome == "failed" and len(work.repairs) < repair.MOST:
        names = render.names(planned.plan, work.elements)
        asserted = render.assertion_lines(str(work.code), planned.plan)
        mended = repair.mend(
            str(work.code), work.runs[-1], planned.plan, planned.elements, names, asserted, work.timeout_s
        )
        if mended is None:
            break
        tell(Event("repair"))
        planned.elements, work.timeout_s = mended.elements, mended.timeout_s
        work.repairs.append(mended.told)
        work.code = await _render(work)
        if planned.plan.fingerprint(planned.elements) != fingerprint:
            raise AssertionError("a repair changed what is expected")
        work.runs.append(await sandbox.run(work.code, work.file_name, with_trace=work.job.with_trace))
        tell(Event("repair", f"{mended.told}: {_told_run(work.runs[-1])}"))
    work.code = await _render(work)  # now that it is known what came of it
    await _check_code(work)
    if work.runs[-1].outcome == "passed":
        tell(Event("mutate"))
        work.mutation = await _mutate(work, sandbox)
        untried = f", {len(work.mutation['untried'])} could not be tried" if work.mutation["untried"] else ""
        caught = f"{work.mutation['caught']} of {work.mutation['tried']} changes of the page were noticed"
        tell(Event("mutate", caught + untried))


async def _mutate(work: _Work, sandbox: Sandbox) -> dict[str, Any]:
    """A change is noticed where an expectation fails; where a step does, none was tried."""
    planned = work.planned
    survived, untried = [], []
    for one in planned.assertions:
        # Alone: where several are expected, the first one that fails would stand for all.
        plan = planned.plan.model_copy(update={"assertions": (one,)})
        code = await _render(work, plan)
        asserted = render.assertion_lines(code, plan)
        changed = mutation.script(one, planned.elements[one.element], has_steps=bool(planned.steps))
        ran = await sandbox.run(code, work.file_name, script=changed)
        told = f"{one.expect} {planned.elements[one.element].told}"
        if ran.outcome == "passed":
            survived.append(told)
        elif ran.line not in asserted:
            untried.append(told)
    tried = len(planned.assertions) - len(untried)
    return {"tried": tried, "caught": tried - len(survived), "survived": survived, "untried": untried}


async def rerun(job: Job, result: Result, times: int) -> Run:
    """Run a result's test again, so many times in one process; ``passed`` only if it passed each time."""
    source = result.source
    if job.url is None or source is None or result.code is None:
        raise TestgenError("There is no test to run again.")
    async with open_proxy({origin(job.url), *map(origin, job.allowed_origins)}, job.may_connect) as proxy:
        sandbox = runner.open_sandbox(job.target, proxy, render.environment(source.plan, source.elements))
        return await sandbox.run(result.code, result.file_name, times=times)


def render_again(job: Job, result: Result) -> str:
    """The code of a result's plan: the same bytes as the first time."""
    if result.source is None:
        raise TestgenError("There is no test to write again.")
    return render.render(result.source.plan, result.source.elements, result.source.subject, job.target)


def _told_run(ran: Run) -> str:
    return f"{ran.outcome} in {ran.seconds:g} s"


def _result(work: _Work, seconds: float) -> Result:
    mode: Mode = "verified" if work.runs else "draft"
    last = work.runs[-1] if work.runs else None
    ids = {number: id_ for id_, number in work.seen_as.items()}
    secrets = work.secrets
    return Result(
        mode=mode,
        outcome=work.outcome,
        file_name=work.file_name or f"test_{_slug(secrets.masked(work.job.scenario))}.py",
        code=work.code,
        report=report.masked(_report(work, mode, seconds), secrets.masked),
        annotated=report.annotate(work.job.picture, work.inventory.seen, ids, is_live=work.job.url is not None),
        junit=report.masked_junit(last.junit, secrets.masked) if last and last.junit else None,
        trace=last.trace if last else None,
        source=Source(work.planned.plan, tuple(work.elements), work.subject) if work.code is not None else None,
    )


def _report(work: _Work, mode: Mode, seconds: float) -> dict[str, Any]:
    planned, job = work.planned, work.job
    secrets = render.environment(planned.plan, work.elements)
    is_live = job.url is not None
    return {
        "mode": mode,
        "outcome": work.outcome,
        "note": report.note(mode, work.outcome, is_live=is_live, problem=work.problem, mutation=work.mutation),
        "target": job.target,
        "scenario": job.scenario,
        "url": job.url,
        "viewport": list(work.viewport),
        "elements": [report.told(one, is_seen=one.id in work.seen_as) for one in work.elements],
        "inventory": report.of_picture(work.inventory, work.seen_as, work.viewport),
        "not_on_page": [f'{one.role} "{one.name}"' for one in work.not_on_page],
        "steps": [
            one.model_dump() | ({"value": f"${name}"} if (name := report.variable(one, planned, secrets)) else {})
            for one in planned.steps
        ],
        "assertions": [one.model_dump() for one in planned.assertions],
        "missing": planned.missing,
        "unlisted": planned.unlisted,
        "environment": sorted(secrets),
        "checks": report.of_checks(work.checks),
        "runs": [
            {"outcome": one.outcome, "seconds": one.seconds, "message": one.message.partition("\nStacktrace")[0]}
            for one in work.runs
        ],
        "repairs": work.repairs,
        "mutation": work.mutation or None,
        "blocked_origins": work.blocked,
        "dismissed_dialogs": work.dialogs,
        "models": {"vision": work.inventory.model, "text": planned.model},
        "seconds": seconds,
    }
