"""Figures of an evaluation: rows for each target and mode, as text, Markdown and JSON."""

import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vlserve.testgen.elements import Target
from vlserve.testgen.evaluation.scores import Case, Score, score
from vlserve.testgen.page.matching import is_inside
from vlserve.testgen.plan import PAGE, Assertion, Step, tautology
from vlserve.testgen.result import Mode

_UNVERIFIED = "# UNVERIFIED"
_NO_LOCATORS = ("URL = ", "expect", ".goto(", ".go_to(")
_RIGHT = 0.7
"""Least share of the possible scenarios of unseen pages."""
_POSSIBLE: Mapping[Score, str] = {
    "right": "right",
    "partial": "partial, and says so",
    "no_test": "no test, and says why",
    "failed": "failed",
    "wrong": "WRONG BUT CALLED RIGHT",
}
_IMPOSSIBLE: Mapping[Score, str] = {
    "rejected": "impossible: rejected",
    "failed": "impossible: not rejected, not called right",
    "wrong": "impossible: WRONG BUT CALLED RIGHT",
}


@dataclass(frozen=True)
class Row:
    """A line of the table: a share (``right`` of ``of``) or, without ``right``, seconds.

    ``mark`` is the least share that is required, ``limit`` the largest number.
    """

    what: str
    of: int
    right: int | None
    figure: float
    mark: float | None = None
    limit: int | None = None

    @property
    def is_below(self) -> bool:
        """It does not reach its mark, or is over its limit."""
        is_over = self.limit is not None and (self.right or 0) > self.limit
        return is_over or (self.mark is not None and self.figure < self.mark)

    @property
    def required(self) -> str:
        if self.limit is not None:
            return f"≤ {self.limit}"
        return "" if self.mark is None else f"≥ {self.mark:.0%}"

    def cells(self) -> tuple[str, ...]:
        if self.right is None:
            return self.what, str(self.of), "", f"{self.figure:.1f} s", "", ""
        missed = "missed" if self.is_below else ""
        return self.what, str(self.of), str(self.right), f"{self.figure:.1%}", self.required, missed


@dataclass(frozen=True)
class Block:
    """The rows of one target in one mode, and a line for each case that is not as required."""

    target: Target
    mode: Mode
    rows: tuple[Row, ...]
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    blocks: tuple[Block, ...]
    cases: tuple[Case, ...]
    service: str = ""
    """Address of the service that answered."""

    @property
    def is_good(self) -> bool:
        return not any(row.is_below for block in self.blocks for row in block.rows)

    def __str__(self) -> str:
        parts = []
        for block in self.blocks:
            head = (f"{block.target}, {block.mode}", "of", "count", "share", "required", "")
            parts += [_align([head, *(row.cells() for row in block.rows)]), *block.wrong, ""]
        return "\n".join(parts)

    def markdown(self) -> str:
        """One table: a line for each row, a column for each target and mode."""
        found = [{row.what: row for row in block.rows} for block in self.blocks]
        names = dict.fromkeys(what for rows in found for what in rows)
        head = ["", *(f"{block.target}, {block.mode}" for block in self.blocks), "required"]
        lines = [head, ["---"] * len(head)]
        for name in names:
            rows = [rows.get(name) for rows in found]
            required = next((row.required for row in rows if row and row.required), "")
            lines.append([name, *(_markdown_cell(row) for row in rows), required])
        return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)

    def write(self, path: pathlib.Path) -> None:
        """Figures, failures and every report as JSON, and the table as Markdown beside it (``.md``). Raises OSError."""
        blocks = [
            asdict(block) | {"rows": [asdict(row) | {"is_below": row.is_below} for row in block.rows]}
            for block in self.blocks
        ]
        tree = {"service": self.service, "blocks": blocks, "cases": [_as_tree(case) for case in self.cases]}
        path.write_text(json.dumps(tree, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        path.with_suffix(".md").write_text(self.markdown(), encoding="utf-8")


@dataclass
class _Count:
    """How many of how many, and a line for each case that is not right."""

    what: str
    mark: float | None = 1.0
    limit: int | None = None
    right: int = 0
    of: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, case: Case, right: int, of: int = 1, why: str = "") -> None:
        self.right += right
        self.of += of
        if right < of and self.mark is not None:
            self.wrong.append(f"{case.title}: {why or self.what}{f' ({right} of {of})' if of > 1 else ''}")

    @property
    def row(self) -> Row:
        return Row(self.what, self.of, self.right, self.right / self.of, self.mark, self.limit)


def table(cases: Sequence[Case], service: str = "") -> Table:
    """The figures of all cases, by target and mode."""
    blocks = []
    for target, mode in dict.fromkeys((case.target, case.mode) for case in cases):
        own = [case for case in cases if (case.target, case.mode) == (target, mode)]
        scored = [(case, *score(case)) for case in own]
        counts = [*_scores(scored, mode), *_code_counts(own)]
        counts += _verified_counts(own) if mode == "verified" else _draft_counts(own)
        rows = [one.row for one in counts if one.of]
        rows.append(Row("seconds, median", len(own), None, statistics.median(case.seconds for case in own)))
        lines = [f"{case.title}: {kind}: {why}" for case, kind, why in scored if kind not in ("right", "rejected")]
        wrong = [*lines, *(line for one in counts for line in one.wrong)]
        blocks.append(Block(target, mode, tuple(rows), tuple(wrong)))
    return Table(tuple(blocks), tuple(cases), service)


def _scores(scored: Sequence[tuple[Case, Score, str]], mode: Mode) -> list[_Count]:
    """How many scenarios have each score, of unseen and of seen pages."""
    counts = []
    for is_unseen in (True, False):
        for is_impossible, kinds in ((False, _POSSIBLE), (True, _IMPOSSIBLE)):
            own = [
                kind
                for case, kind, _ in scored
                if (case.scenario.page.unseen, bool(case.scenario.impossible)) == (is_unseen, is_impossible)
            ]
            for kind, words in kinds.items():
                is_marked = kind == "right" and is_unseen and mode == "verified"
                count = _Count(
                    f"{'unseen' if is_unseen else 'seen'} pages: {words}",
                    mark=_RIGHT if is_marked else None,
                    limit=0 if kind == "wrong" else None,
                    right=own.count(kind),
                    of=len(own),
                )
                counts.append(count)
    return counts


def _code_counts(cases: Sequence[Case]) -> list[_Count]:
    answered = _Count("there is an answer")
    checks = {name: _Count(name) for name in ("parses", "lints", "collects")}
    expects, same = _Count("expects something that can fail"), _Count("same plan, same code")
    for case in cases:
        answered.add(case, case.result is not None, why=case.error)
        if case.result is None or case.result.code is None:
            continue
        for name, count in checks.items():
            count.add(case, bool(case.result.report["checks"][name]))
        expects.add(case, _expects(case.result.report))
        same.add(case, case.is_same_code)
    return [answered, *checks.values(), expects, same]


def _expects(report: Mapping[str, Any]) -> bool:
    steps = [Step.model_validate(_fields(one, Step)) for one in report["steps"]]
    found = [Assertion.model_validate(_fields(one, Assertion)) for one in report["assertions"]]
    return bool(found) and not any(tautology(steps, one) for one in found)


def _fields(tree: Mapping[str, Any], model: type[Step] | type[Assertion]) -> dict[str, Any]:
    return {name: tree[name] for name in model.model_fields if name in tree}


def _verified_counts(cases: Sequence[Case]) -> list[_Count]:
    located, first = _Count("locator leads to one element"), _Count("a test that is run passes at first", 0.8)
    repaired = _Count("a test that is run passes after repair", 0.9)
    caught, needed = _Count("mutation is caught", 0.95), _Count("step is needed", None)
    steady = _Count("passes five times more")
    seen, inside = _Count("element of the picture is on the page", None), _Count("centre of box inside", 0.85)
    for case in cases:
        report = case.result.report if case.result else {}
        runs = report.get("runs", [])
        if runs and not case.scenario.impossible:
            message = " ".join(runs[-1]["message"].split())[:160]
            first.add(case, runs[0]["outcome"] == "passed", why=f"first run: {message or 'failed'}")
            repaired.add(case, runs[-1]["outcome"] == "passed", why=f"last run: {message or 'failed'}")
        used = _used(report)
        if used:
            located.add(case, sum(bool(one["verified"]) for one in used), len(used))
        mutation = report.get("mutation") or {}
        if mutation.get("tried"):
            caught.add(case, mutation["caught"], mutation["tried"], f"survived: {mutation.get('survived')}")
        if steps := mutation.get("steps"):
            needed.add(case, steps["needed"], steps["tried"])
        if case.rerun:
            steady.add(case, case.rerun == "passed")
        boxes = {one["id"]: one["box"] for one in report.get("elements", [])}
        pictured = report.get("inventory", [])
        matched = [one for one in pictured if one["matched"] in boxes]
        seen.add(case, len(matched), len(pictured))
        inside.add(case, sum(is_inside(one["box"], boxes[one["matched"]]) for one in matched), len(matched))
    return [located, first, repaired, caught, needed, steady, seen, inside]


def _draft_counts(cases: Sequence[Case]) -> list[_Count]:
    marked, silent = _Count("every locator is marked as not verified"), _Count("does not say passed")
    for case in cases:
        if case.result is None:
            continue
        report = case.result.report
        used = _used(report)
        if case.result.code is not None:
            code = "\n".join(case.result.sources.values())
            lines = [line for line in code.splitlines() if _UNVERIFIED in line]
            locators = [line for line in lines if not any(part in line for part in _NO_LOCATORS)]
            marked.add(case, len(locators) >= len(used) and not any(one["verified"] for one in used))
        outcomes = {case.result.outcome, *(run["outcome"] for run in report.get("runs", []))}
        silent.add(case, "passed" not in outcomes)
    return [marked, silent]


def _used(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The elements that the test acts on or expects something of."""
    parts = (*report.get("steps", []), *report.get("assertions", []))
    ids = {part.get(name) for part in parts for name in ("element", "to")} - {PAGE}
    return [one for one in report.get("elements", []) if one["id"] in ids]


def _as_tree(case: Case) -> dict[str, Any]:
    scenario, (kind, reason) = case.scenario, score(case)
    named = {"page": scenario.page.name, "scenario": scenario.text, "impossible": scenario.impossible}
    scored = {"score": kind, "reason": reason}
    measured = {"target": case.target, "mode": case.mode, "seconds": case.seconds, "rerun": case.rerun}
    result = {"error": case.error} if case.result is None else {"report": case.result.report, "code": case.result.code}
    return named | scored | measured | result


def _align(lines: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    aligned = []
    for what, *others in lines:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        aligned.append("  ".join((what.ljust(widths[0]), *cells)).rstrip())
    return "\n".join(aligned)


def _markdown_cell(row: Row | None) -> str:
    if row is None:
        return ""
    if row.right is None:
        return f"{row.figure:.1f} s"
    text = f"{row.right} of {row.of}" if row.limit == 0 else f"{row.right} of {row.of} ({row.figure:.0%})"
    return f"**{text}**" if row.is_below else text
