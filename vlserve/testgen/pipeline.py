"""Makes a test of a screenshot and a scenario, and runs it where the page's address is given."""

import asyncio
import hashlib
import re
import time
from contextlib import AsyncExitStack

from playwright.async_api import Browser, Error

from vlserve.testgen import outcome, report
from vlserve.testgen.code import render
from vlserve.testgen.code.secrets import environment
from vlserve.testgen.code.suite_folder import read_targets
from vlserve.testgen.elements import Look, quoted
from vlserve.testgen.generation import Generation
from vlserve.testgen.judge import judge
from vlserve.testgen.page import inventory, matching
from vlserve.testgen.page.live_page import LivePage, find_browser, open_browser, open_page
from vlserve.testgen.page.proxy import open_proxy, origin
from vlserve.testgen.plan import PlanError
from vlserve.testgen.plan import check as check_plan
from vlserve.testgen.planning import planner
from vlserve.testgen.planning.planner import Planned
from vlserve.testgen.result import (
    LARGEST_SIDE,
    LONGEST_SCENARIO,
    SMALLEST_SIDE,
    Ask,
    Event,
    Job,
    ReportProgress,
    Result,
    Source,
    TestgenError,
)
from vlserve.testgen.run import runner, trial
from vlserve.testgen.run.runner import Run
from vlserve.testgen.scenario import clauses

_RIGHT_SIZE = 0.5
"""Share of the picture's elements in their places from which on another viewport is not tried."""
_SAME_PAGE = 0.4
"""Smallest share of the names on the picture that must be on the page; below, the picture shows another page."""
_FEWEST_TO_COMPARE = 3
_LONGEST_LIST = 200
_LONGEST_NAME = 60


async def generate(job: Job, ask: Ask, report_progress: ReportProgress = lambda _: None) -> Result:
    """Raises TestgenError where there can be no result; a test that fails or cannot be written is a result."""
    began = time.monotonic()
    _check(job)
    report_progress(Event("inventory"))
    work = Generation(job, await inventory.take(job.picture, ask), Planned(job.scenario, {}))
    report_progress(Event("inventory", count(len(work.inventory.seen), "element") + " on the picture"))
    try:
        if job.url is None:
            await _draft(work, ask, report_progress)
        else:
            await _verify(work, job.url, ask, report_progress)
    except PlanError as error:
        work.problem = str(error)
        work.sources = {}
    report_progress(Event("report"))
    result = await asyncio.to_thread(_result, work, round(time.monotonic() - began, 1))
    report_progress(Event("report", result.report["note"]))
    return result


def _check(job: Job) -> None:
    """Raises TestgenError, before anything is done."""
    scenario = " ".join(job.scenario.split())
    if not scenario or len(scenario) > LONGEST_SCENARIO:
        raise TestgenError(f"The scenario must have 1 to {LONGEST_SCENARIO:,} characters.")
    if job.with_trace and job.target != "playwright":
        raise TestgenError("--trace (HTTP: trace) needs the target playwright: Selenium records no trace.")
    _check_folder(job)
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
    if job.may_run and not job.is_plan_only:
        runner.find_driver(job.target)


def _check_folder(job: Job) -> None:
    """Raises TestgenError: a page object cannot be for two targets."""
    found = read_targets(job.existing)
    if found <= {job.target}:
        return
    names = " and ".join(sorted(one.capitalize() for one in found))
    hint = f", or --target {names.lower()}" if len(found) == 1 else ""
    raise TestgenError(
        f"The tests in this folder are for {names}, and a folder has one target: choose another folder (-o){hint}."
    )


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _file_name(scenario: str) -> str:
    """ASCII and not too long. Where that loses something, a hash keeps scenarios apart."""
    words = re.findall(r"[a-z0-9]+", scenario.lower())
    slug = ""
    for word in words:
        if len(slug) + len(word) > _LONGEST_NAME:
            break
        slug = f"{slug}_{word}" if slug else word
    is_whole = slug == "_".join(words) and scenario.isascii()
    if not slug or not is_whole:
        slug = f"{slug or 'scenario'}_{hashlib.sha256(scenario.encode()).hexdigest()[:6]}"
    return f"test_{slug}.py"


async def _draft(work: Generation, ask: Ask, report_progress: ReportProgress) -> None:
    job = work.job
    work.viewport = job.viewport or work.inventory.size
    elements, ids = planner.of_picture(work.inventory.seen, job.target, may_use_points=job.may_use_points)
    work.before = Look(tuple(elements))
    work.seen_as = {id_: number for number, id_ in ids.items()}
    work.planned.elements = {one.id: one for one in elements}
    report_progress(Event("plan"))
    await planner.plan_draft(work.planned, work.before, job.target, ask)
    _judge(work)
    _end_plan(work, report_progress)
    if not job.is_plan_only:
        await _write(work, report_progress)


async def _verify(work: Generation, url: str, ask: Ask, report_progress: ReportProgress) -> None:
    job = work.job
    async with AsyncExitStack() as stack:
        origins = {origin(url), *map(origin, job.allowed_origins)}
        proxy = await stack.enter_async_context(open_proxy(origins, job.may_connect))
        report_progress(Event("open"))
        browser = await stack.enter_async_context(open_browser(proxy))
        try:
            live = await _open(work, url, browser, stack)
            elements = sum(not one.is_group for one in work.before.elements)
            report_progress(Event("open", count(elements, "element") + " on the page"))
            report_progress(Event("match"))
            report_progress(Event("match", f"{len(work.seen_as)} of {len(work.inventory.seen)} are on the page"))
            _check_picture(work)
            report_progress(Event("plan"))
            work.dialogs = live.dialogs
            if job.is_plan_only:
                await planner.plan_draft(work.planned, work.before, job.target, ask)
                _judge(work)
                _end_plan(work, report_progress)
                return
            await planner.plan_live(work.planned, live, work.before, ask)
            _judge(work)
            _end_plan(work, report_progress)
            await _write(work, report_progress)
            if job.may_run and work.checks and work.checks.is_good:
                await trial.try_test(work, proxy, report_progress)
        except TestgenError as error:
            if reason := proxy.failures.get(origin(url)):
                raise TestgenError(f"{url} cannot be opened: {reason}.") from error
            raise
        except Error as error:
            raise TestgenError(f"The page cannot be read: {str(error).splitlines()[0]}") from error
        finally:
            work.blocked = sorted(proxy.blocked)


async def _open(work: Generation, url: str, browser: Browser, stack: AsyncExitStack) -> LivePage:
    """The page at the size at which it looks most like the picture."""
    opened: LivePage | None = None
    best = -1.0
    for viewport in _viewports(work.job, work.inventory.size):
        page = await stack.enter_async_context(open_page(browser, url, viewport, work.job.target))
        look, ratio = await page.look(), matching.ratio_of(work.inventory.size, viewport)
        elements = [one for one in look.elements if not one.is_group]
        found = await asyncio.to_thread(matching.match, work.inventory.seen, elements, ratio)
        likeness = matching.in_place(found, work.inventory.seen, elements, ratio)
        if likeness > best:
            opened, best = page, likeness
            work.before, work.viewport, work.page_title = look, viewport, look.title
            work.seen_as = found.seen_as
            work.not_on_page = [work.inventory.seen[number] for number in found.unmatched]
        if likeness >= _RIGHT_SIZE:
            break
    work.planned.elements = {one.id: one for one in work.before.elements}
    if opened is None:
        raise TestgenError("The viewport does not work.")
    return opened


def _viewports(job: Job, picture: tuple[int, int]) -> list[tuple[int, int]]:
    """The requested one; else the picture's size, and half of it for a screen with two pixels per CSS pixel."""
    width, height = picture
    wanted = [job.viewport] if job.viewport else [(width, height), (width // 2, height // 2)]
    return [one for one in wanted if min(one) >= SMALLEST_SIDE and max(one) <= LARGEST_SIDE]


def _check_picture(work: Generation) -> None:
    """Raises TestgenError where the names that were read on the picture show another page."""
    seen = work.inventory.seen
    read = [one.name for one in seen if matching.is_read(one.name)]
    names = {one.casefold(): one for one in reversed(read)}
    found = names.keys() & {seen[number].name.casefold() for number in work.seen_as.values()}
    is_unread = len(names) < _FEWEST_TO_COMPARE or (not found and 2 * len(read) < len(seen))
    if work.job.is_forced or is_unread or len(found) >= _SAME_PAGE * len(names):
        return
    absent = ", ".join(quoted(names[one]) for one in [*names][::-1] if one not in found)
    raise TestgenError(
        f"The screenshot seems to show another page: of the {len(names)} names that were read on it {len(found)} are "
        f"on {work.job.url}, and these are not: {absent[:_LONGEST_LIST]}. Take a new screenshot of this page, or use "
        "--force (HTTP: force) to go on all the same."
    )


def _judge(work: Generation) -> None:
    """A draft has no look after its steps: the judge gets the same object twice."""
    planned = work.planned
    after = planned.looks[-1] if planned.looks else work.before
    work.verdict = judge.judge(clauses.split(work.job.scenario), planned.plan, planned.elements, work.before, after)


def _end_plan(work: Generation, report_progress: ReportProgress) -> None:
    """Raises PlanError where no test can be written, with the clauses of the scenario and how to write them."""
    planned = work.planned
    summary = f"{count(len(planned.steps), 'step')}, {count(len(planned.assertions), 'expectation')}"
    gaps = len(work.plan.uncovered)
    report_progress(Event("plan", summary + (f", {count(gaps, 'gap')}" if gaps else "")))
    names = {one.name.casefold() for one in work.elements}
    if absent := [one for one in planned.missing if one.casefold() not in names]:
        raise PlanError(f"Not on the page: {', '.join(absent)}. {_explain(work)}")
    if work.verdict is not None and work.verdict.has_no_steps:
        raise PlanError(outcome.explain_no_steps(clauses.split(work.job.scenario)))
    if not planned.assertions:
        raise PlanError(_explain(work))
    check_plan(planned.plan, work.elements)


def _explain(work: Generation) -> str:
    return outcome.explain_nothing_expected(clauses.split(work.job.scenario), work.verdict)


async def _write(work: Generation, report_progress: ReportProgress) -> None:
    """Raises PlanError."""
    work.file_name = _file_name(work.secrets.masked(work.job.scenario))
    report_progress(Event("render"))
    await trial.write_code(work)
    report_progress(Event("render", work.file_name))
    report_progress(Event("check"))
    await trial.check_code(work)
    report_progress(Event("check", work.problem or "it parses, ruff reports nothing, pytest collects one test"))


async def rerun(job: Job, result: Result, times: int) -> Run:
    """Run a result's test again, ``times`` times in one process; ``passed`` only if it passed each time."""
    source = result.source
    if job.url is None or source is None or result.code is None:
        raise TestgenError("There is no test to run again.")
    async with open_proxy({origin(job.url), *map(origin, job.allowed_origins)}, job.may_connect) as proxy:
        sandbox = runner.open_sandbox(job.target, proxy, environment(source.plan, source.elements))
        return await sandbox.run(result.sources, result.file_name, times=times)


def render_again(job: Job, result: Result) -> str:
    """The code of a result's plan: the same bytes as the first time."""
    if result.source is None:
        raise TestgenError("There is no test to write again.")
    source = result.source
    suite = render.render(
        source.plan,
        source.elements,
        source.subject,
        job.target,
        page_title=source.page_title,
        existing=job.existing,
        test_file=result.file_name,
    )
    return suite.code


def _result(work: Generation, seconds: float) -> Result:
    last = work.runs[-1] if work.runs else None
    ids = {number: id_ for id_, number in work.seen_as.items()}
    secrets = work.secrets
    return Result(
        mode="verified" if work.runs else "draft",
        outcome=work.outcome,
        file_name=work.file_name or _file_name(secrets.masked(work.job.scenario)),
        sources=work.sources,
        report=report.masked(report.build(work, seconds), secrets.masked),
        annotated=report.annotate(work.job.picture, work.inventory.seen, ids, is_live=work.job.url is not None),
        junit=report.masked_junit(last.junit, secrets.masked) if last and last.junit else None,
        trace=last.trace if last else None,
        source=Source(work.plan, tuple(work.elements), work.subject, work.page_title)
        if work.code is not None
        else None,
    )
