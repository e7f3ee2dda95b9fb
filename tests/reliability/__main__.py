"""Run the fault tests in full, one after the other, and write their figures to docs/reliability.md.

usage: python -m tests.reliability [--rows 1,2,…] [--soak-minutes 60] [--cases 50000] [--fuzz-minutes 60] [--write]
"""

import argparse
import asyncio
import datetime
import os
import pathlib
import platform
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.conftest import REPOSITORY
from tests.reliability import deaths, ending, fuzz, inputs, load, outside, tenants, unread_log, web_pages
from tests.reliability.addresses import hostile_addresses
from tests.reliability.busy_readers import busy_readers
from tests.reliability.pictures import hostile_pictures
from tests.reliability.service import Figure, fakes, serve
from tests.reliability.soak import soak

DOCUMENT = REPOSITORY / "docs" / "reliability.md"
_KILL_COUNT = 50
_BETWEEN_KILLS_S = 14.0  # with more, the circuit breaker would open


async def run(options: argparse.Namespace) -> AsyncIterator[list[Figure]]:
    """Yield the figures of each row when they are measured."""
    rows: list[tuple[int, Callable[[pathlib.Path], Awaitable[list[Figure]]]]] = [
        (1, _leaving),
        (2, lambda folder: _killed(folder, "")),
        (2, lambda folder: _killed(folder, "EngineCore")),
        (2, lambda folder: _killed(folder, "Worker")),
        (3, lambda folder: deaths.hanging_engine(folder, hang_after_s=30)),
        (4, deaths.crash_loop),
        (5, lambda folder: load.overload(folder, seconds=60)),
        (6, lambda folder: ending.sigterm_under_load(folder, grace_s=20, streams=50)),
        (7, lambda folder: ending.killed_gateway(folder, 20)),
        (8, lambda folder: load.slow_clients(folder, 1000, head_timeout_s=10, body_timeout_s=30, others_s=8)),
        (8, lambda folder: load.stalled_readers(folder, 100, body_timeout_s=30)),
        (9, inputs.bad_input),
        (10, hostile_pictures),
        (11, hostile_addresses),
        (12, lambda folder: fuzz.document(folder, options.cases)),
        (12, lambda folder: fuzz.parsers(folder, options.fuzz_minutes)),
        (13, inputs.without_key),
        (14, lambda folder: tenants.shared_names(folder, 10_000)),
        (15, inputs.planted_secrets),
        (16, lambda folder: soak(folder, options.soak_minutes * 60)),
        (17, web_pages.hostile_pages),
        (18, tenants.secrets_of_others),
        (20, lambda folder: outside.silent_name_server(folder, in_resolver=128, count=500)),
        (20, lambda folder: busy_readers(folder, 20)),
        (20, lambda folder: unread_log.unread_log(folder, 500)),
    ]
    for number, row in rows:
        if number in options.rows:
            with tempfile.TemporaryDirectory(prefix="vls-") as folder:
                yield await row(pathlib.Path(folder))


async def _leaving(folder: pathlib.Path) -> list[Figure]:
    async with serve(folder, fakes()) as service:
        return await deaths.leaving_clients(service, 200)


async def _killed(folder: pathlib.Path, part: str) -> list[Figure]:
    started = time.monotonic()
    async with serve(folder, fakes(text=("core", "worker"))) as service:
        cold_start_s = time.monotonic() - started
        return await deaths.killed_engines(service, part, _KILL_COUNT, cold_start_s, pause_s=_BETWEEN_KILLS_S)


def line(figure: Figure) -> str:
    """Return a row of the table."""
    verdict = "yes" if figure.is_met else "**no**"
    measured, most = (f"{number:.3g} {figure.unit}".strip() for number in (figure.measured, figure.most))
    return f"| {figure.row} | {figure.what} | {measured} | {most} | {verdict} |"


async def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=lambda text: {int(one) for one in text.split(",")}, default={*range(1, 19), 20})
    parser.add_argument("--soak-minutes", type=float, default=60.0)
    parser.add_argument("--fuzz-minutes", type=float, default=60.0)
    parser.add_argument("--cases", type=int, default=50_000)
    parser.add_argument("--write", action="store_true", help="put the figures into docs/reliability.md")
    options = parser.parse_args()
    lines, are_met = [], True
    async for figures in run(options):
        for figure in figures:
            lines.append(line(figure))
            are_met &= figure.is_met
            print(lines[-1], flush=True)
    if options.write:
        _write(options.rows, lines)
    return 0 if are_met else 1


def _write(rows: set[int], lines: list[str]) -> None:
    """Replace the lines of the rows that were run."""
    begin, end = "<!-- figures -->\n", "<!-- /figures -->\n"
    before, _, rest = DOCUMENT.read_text().partition(begin)
    written, _, after = rest.partition(end)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    where = f"{today}, {os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]}"
    dated = [f"{one} {where} |" for one in lines]
    kept = [one for one in written.splitlines() if (found := re.match(r"\| (\d+) ", one)) and int(found[1]) not in rows]
    head = "| row | what | measured | at most | met | when, where |\n|---|---|---|---|---|---|\n"
    table = sorted(kept + dated, key=lambda one: int(one.split("|")[1]))
    DOCUMENT.write_text(before + begin + head + "\n".join(table) + "\n" + end + after)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
