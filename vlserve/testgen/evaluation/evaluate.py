"""Evaluates testgen on the fixture pages: every scenario for every target, with a page and from the picture alone."""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from playwright.async_api import async_playwright

from vlserve.testgen.elements import Target
from vlserve.testgen.evaluation.fixture_pages import FixturePage, Scenario
from vlserve.testgen.evaluation.scores import Case, score
from vlserve.testgen.evaluation.table import Table, table
from vlserve.testgen.page.live_page import browser_arguments
from vlserve.testgen.result import Ask, Job, Mode, ReportProgress, Result, TestgenError
from vlserve.testgen.run.runner import Run

RERUNS = 5

Generate = Callable[[Job, Ask, ReportProgress], Awaitable[Result]]
Rerun = Callable[[Job, Result, int], Awaitable[Run]]
"""Runs a finished test so many times more; passed if it passed each time."""
Render = Callable[[Job, Result], str]
"""The code of a result's plan, rendered again."""


@dataclass(frozen=True)
class Pipeline:
    """The functions that are evaluated."""

    generate: Generate
    rerun: Rerun
    render: Render


async def evaluate(
    pipeline: Pipeline,
    ask: Ask,
    scenarios: Sequence[Scenario],
    pictures: Mapping[str, bytes],
    pages_url: str,
    *,
    targets: Sequence[Target],
    modes: Sequence[Mode],
    say: Callable[[str], None],
    service: str = "",
    reruns: int = RERUNS,
) -> Table:
    """Every scenario for every target in every mode, one after the other.

    ``pictures`` are PNG files by the page's name, ``pages_url`` is where the pages are served, ``say`` gets a line for
    each finished case, ``service`` is the address that the table names. An error in one scenario is counted in the
    table and does not end the evaluation.
    """
    cases = []
    wanted = [(target, mode, one) for target in targets for mode in modes for one in scenarios]
    for number, (target, mode, scenario) in enumerate(wanted, 1):
        case = await _run(pipeline, ask, scenario, pictures[scenario.page.name], pages_url, target, mode, reruns)
        kind, reason = score(case)
        why = f": {' '.join(reason.split())}" if reason else ""
        say(f"{number} of {len(wanted)} {case.title}: {kind}{why} ({case.seconds:.0f} s)")
        cases.append(case)
    return table(cases, service)


async def _run(
    pipeline: Pipeline,
    ask: Ask,
    scenario: Scenario,
    picture: bytes,
    pages_url: str,
    target: Target,
    mode: Mode,
    reruns: int,
) -> Case:
    page = scenario.page
    url = pages_url + page.path if mode == "verified" else None
    viewport = (page.width, page.height) if mode == "verified" else None
    # The picture is of this page, even where a small vision model reads something else on it.
    job = Job(picture, scenario.text, target, url, viewport, is_forced=True)
    began = time.monotonic()
    try:
        result = await pipeline.generate(job, ask, lambda _: None)
        seconds = time.monotonic() - began
        has_passed = mode == "verified" and result.outcome in ("passed", "partial")
        again = (await pipeline.rerun(job, result, reruns)).outcome if has_passed else ""
    except TestgenError as error:
        return Case(scenario, target, mode, time.monotonic() - began, error=str(error))
    is_same = result.code is None or pipeline.render(job, result) == result.code
    return Case(scenario, target, mode, seconds, result, rerun=again, is_same_code=is_same)


async def photographs(pages: Iterable[FixturePage], pages_url: str, chromium: str | None = None) -> dict[str, bytes]:
    """Screenshots of the pages when they have loaded, as PNG files by name. Raises playwright.async_api.Error."""
    found = {}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=browser_arguments())
        for page in pages:
            size = {"width": page.width, "height": page.height}
            tab = await browser.new_page(viewport=size, device_scale_factor=page.pixel_ratio)  # type: ignore[arg-type]
            await tab.goto(pages_url + page.path)
            found[page.name] = await tab.screenshot()
            await tab.close()
        await browser.close()
    return found
