"""How good are the tests that testgen makes of the fixture pages? Asked one after the other, told as a table.

Only what a result says is measured here: nothing is believed because a step of the pipeline was reached. A figure's
mark is what asked for; the shares of tests that pass are asked for with the 7B models on a GPU.
"""

import json
import pathlib
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from playwright.async_api import async_playwright

from vlserve.testgen.elements import Target
from vlserve.testgen.fixture_pages import FixturePage, Scenario
from vlserve.testgen.live_page import browser_arguments
from vlserve.testgen.matching import is_inside
from vlserve.testgen.plan import PAGE, Assertion, Step, tautology
from vlserve.testgen.result import Ask, Job, Mode, ReportProgress, Result, TestgenError
from vlserve.testgen.runner import Run

RERUNS = 5
_UNVERIFIED = "# UNVERIFIED"

Generate = Callable[[Job, Ask, ReportProgress], Awaitable[Result]]
Rerun = Callable[[Job, Result, int], Awaitable[Run]]
"""Runs a finished test so many times more; passed if it passed each time."""
Render = Callable[[Job, Result], str]
"""The code of a result's plan, rendered again."""


@dataclass(frozen=True)
class Pipeline:
    """What is measured."""

    generate: Generate
    rerun: Rerun
    render: Render


@dataclass(frozen=True)
class Case:
    """One scenario for one target in one mode, and what came of it: a result, or why there is none."""

    scenario: Scenario
    target: Target
    mode: Mode
    seconds: float
    result: Result | None = None
    error: str = ""
    rerun: str = ""
    """What came of all reruns together; empty where there were none."""
    is_same_code: bool = True

    @property
    def told(self) -> str:
        return f"{self.target} {self.mode} {self.scenario.page.name}: {self.scenario.text}"


@dataclass(frozen=True)
class Row:
    """A line of the table; ``mark`` is the least share that is asked for. ``figure`` is a share or seconds."""

    what: str
    of: int
    right: int | None
    figure: float
    mark: float | None = None

    @property
    def is_below(self) -> bool:
        return self.mark is not None and self.figure < self.mark

    def cells(self) -> tuple[str, ...]:
        if self.right is None:
            return self.what, str(self.of), "", f"{self.figure:.1f} s", "", ""
        mark = "" if self.mark is None else f"≥ {self.mark:.0%}"
        return self.what, str(self.of), str(self.right), f"{self.figure:.1%}", mark, "below" if self.is_below else ""


@dataclass
class _Count:
    """Of how many, how many are right; says why where one is not."""

    what: str
    mark: float | None = 1.0
    right: int = 0
    of: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, case: Case, right: int, of: int = 1, why: str = "") -> None:
        self.right += right
        self.of += of
        if right < of and self.mark is not None:
            self.wrong.append(f"{case.told}: {why or self.what}{f' ({right} of {of})' if of > 1 else ''}")


@dataclass(frozen=True)
class Block:
    """The rows of one target in one mode, and what failed, a line each."""

    target: Target
    mode: Mode
    rows: tuple[Row, ...]
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    blocks: tuple[Block, ...]
    cases: tuple[Case, ...]
    told: str = ""
    """Which service was asked."""

    @property
    def is_good(self) -> bool:
        return not any(row.is_below for block in self.blocks for row in block.rows)

    def __str__(self) -> str:
        parts = []
        for block in self.blocks:
            parts.append(
                _aligned((f"{block.target}, {block.mode}", "of", "right", "share", "asked for", ""), block.rows)
            )
            parts += [*block.wrong, ""]
        return "\n".join(parts)

    def write(self, path: pathlib.Path) -> None:
        """As JSON: figures, what failed, and every report. Raises OSError."""
        blocks = [
            asdict(block) | {"rows": [asdict(row) | {"is_below": row.is_below} for row in block.rows]}
            for block in self.blocks
        ]
        tree = {"service": self.told, "blocks": blocks, "cases": [_as_tree(case) for case in self.cases]}
        path.write_text(json.dumps(tree, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


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
    told: str = "",
    reruns: int = RERUNS,
) -> Table:
    """Every scenario for every target in every mode, one after the other.

    ``pictures`` are PNG files by the page's name, ``pages_url`` where the pages are served. No answer for one
    scenario is a failure in the table, not the end.
    """
    cases = []
    wanted = [(target, mode, one) for target in targets for mode in modes for one in scenarios]
    for number, (target, mode, scenario) in enumerate(wanted, 1):
        case = await _measured(pipeline, ask, scenario, pictures[scenario.page.name], pages_url, target, mode, reruns)
        outcome = case.error or (case.result.outcome if case.result else "")
        say(f"{number} of {len(wanted)} {case.told}: {outcome} ({case.seconds:.0f} s)")
        cases.append(case)
    return table(cases, told)


async def _measured(
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
    job = Job(picture, scenario.text, target, url, viewport)
    began = time.monotonic()
    try:
        result = await pipeline.generate(job, ask, lambda _: None)
        seconds = time.monotonic() - began
        again = (await pipeline.rerun(job, result, reruns)).outcome if result.outcome == "passed" else ""
    except TestgenError as error:
        return Case(scenario, target, mode, time.monotonic() - began, error=str(error))
    is_same = result.code is None or pipeline.render(job, result) == result.code
    return Case(scenario, target, mode, seconds, result, rerun=again, is_same_code=is_same)


async def photographs(pages: Iterable[FixturePage], pages_url: str, chromium: str | None = None) -> dict[str, bytes]:
    """PNG files of the pages as they are first seen, by name. Raises playwright.async_api.Error."""
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


def table(cases: Sequence[Case], told: str = "") -> Table:
    """The figures of what was measured."""
    kinds = dict.fromkeys((case.target, case.mode) for case in cases)
    blocks = []
    for target, mode in kinds:
        own = [case for case in cases if (case.target, case.mode) == (target, mode)]
        counts = [*_code_counts(own), *(_verified_counts(own) if mode == "verified" else _draft_counts(own))]
        counts.append(_missing_count(own))
        rows = [Row(one.what, one.of, one.right, one.right / one.of, one.mark) for one in counts if one.of]
        rows.append(Row("seconds, median", len(own), None, statistics.median(case.seconds for case in own)))
        blocks.append(Block(target, mode, tuple(rows), tuple(line for one in counts for line in one.wrong)))
    return Table(tuple(blocks), tuple(cases), told)


def _code_counts(cases: Sequence[Case]) -> list[_Count]:
    answered, tested = _Count("there is an answer"), _Count("a test where one is possible", None)
    checks = {name: _Count(name) for name in ("parses", "lints", "collects")}
    expects, same = _Count("expects something that can fail"), _Count("same plan, same code")
    for case in cases:
        answered.add(case, case.result is not None, why=case.error)
        if case.scenario.expect == "passes":
            tested.add(case, bool(case.result and case.result.code))
        if case.result is None or case.result.code is None:
            continue
        for name, count in checks.items():
            count.add(case, bool(case.result.report["checks"][name]))
        expects.add(case, _expects(case.result.report))
        same.add(case, case.is_same_code)
    return [answered, tested, *checks.values(), expects, same]


def _expects(report: Mapping[str, Any]) -> bool:
    steps = [Step.model_validate(_named(one, "do")) for one in report["steps"]]
    found = [Assertion.model_validate(_named(one, "expect")) for one in report["assertions"]]
    return bool(found) and not any(tautology(steps, one) for one in found)


def _named(tree: Mapping[str, Any], verb: str) -> dict[str, Any]:
    return {name: tree[name] for name in (verb, "element", "value") if name in tree}


def _verified_counts(cases: Sequence[Case]) -> list[_Count]:
    located, first = _Count("locator leads to one element"), _Count("passes at first run", 0.8)
    repaired = _Count("passes after repair", 0.9)
    caught, steady = _Count("mutation is caught", 0.95), _Count("passes five times more")
    seen, inside = _Count("element of the picture is on the page", None), _Count("centre of box inside", 0.85)
    for case in cases:
        report = case.result.report if case.result else {}
        if case.scenario.expect == "passes":
            runs = report.get("runs", [])
            first.add(case, bool(runs) and runs[0]["outcome"] == "passed", why=_reason(case))
            repaired.add(case, case.result is not None and case.result.outcome == "passed", why=_reason(case))
        used = _used(report)
        if used:
            located.add(case, sum(bool(one["verified"]) for one in used), len(used))
        mutation = report.get("mutation") or {}
        if mutation.get("tried"):
            caught.add(case, mutation["caught"], mutation["tried"], f"survived: {mutation.get('survived')}")
        if case.rerun:
            steady.add(case, case.rerun == "passed")
        boxes = {one["id"]: one["box"] for one in report.get("elements", [])}
        pictured = report.get("inventory", [])
        matched = [one for one in pictured if one["matched"] in boxes]
        seen.add(case, len(matched), len(pictured))
        inside.add(case, sum(is_inside(one["box"], boxes[one["matched"]]) for one in matched), len(matched))
    return [located, first, repaired, caught, steady, seen, inside]


def _draft_counts(cases: Sequence[Case]) -> list[_Count]:
    marked, silent = _Count("every locator is marked as not verified"), _Count("does not say passed")
    for case in cases:
        if case.result is None:
            continue
        report = case.result.report
        used = _used(report)
        if case.result.code is not None:
            lines = [line for line in case.result.code.splitlines() if _UNVERIFIED in line]
            locators = [line for line in lines if not line.startswith("URL =") and "expect" not in line]
            marked.add(case, len(locators) >= len(used) and not any(one["verified"] for one in used))
        outcomes = {case.result.outcome, *(run["outcome"] for run in report.get("runs", []))}
        silent.add(case, "passed" not in outcomes)
    return [marked, silent]


def _missing_count(cases: Sequence[Case]) -> _Count:
    """What is not there is named as missing, no test passes without it, and nothing in a test has its name."""
    count = _Count("what is not there is reported, not made up")
    for case in cases:
        if case.scenario.expect != "missing":
            continue
        report = case.result.report if case.result else {}
        wanted = case.scenario.missing.casefold()
        is_told = any(wanted in name.casefold() for name in (*report.get("missing", []), *report.get("unlisted", [])))
        is_made_up = any(wanted == one["name"].casefold() for one in _used(report))
        has_passed = case.result is not None and case.result.outcome == "passed"
        why = "made up" if is_made_up else "passes without it" if has_passed else "not reported"
        count.add(case, is_told and not is_made_up and not has_passed, why=f"{case.scenario.missing}: {why}")
    return count


def _used(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The elements that the test acts on or expects something of."""
    ids = {one["element"] for one in (*report.get("steps", []), *report.get("assertions", []))} - {PAGE}
    return [one for one in report.get("elements", []) if one["id"] in ids]


def _reason(case: Case) -> str:
    if case.result is None:
        return case.error
    runs, missing = case.result.report.get("runs", []), case.result.report.get("missing", [])
    message = " ".join(runs[-1].get("message", "").split())[:160] if runs else ""
    return f"{case.result.outcome}{f', missing {missing}' if missing else ''}{f': {message}' if message else ''}"


def _as_tree(case: Case) -> dict[str, Any]:
    scenario = case.scenario
    named = {"page": scenario.page.name, "scenario": scenario.text, "expect": scenario.expect}
    measured = {"target": case.target, "mode": case.mode, "seconds": case.seconds, "rerun": case.rerun}
    result = {"error": case.error} if case.result is None else {"report": case.result.report, "code": case.result.code}
    return named | measured | result


def _aligned(head: tuple[str, ...], rows: Sequence[Row]) -> str:
    cells = [head, *(row.cells() for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    lines = []
    for what, *others in cells:
        aligned = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        lines.append("  ".join((what.ljust(widths[0]), *aligned)).rstrip())
    return "\n".join(lines)
