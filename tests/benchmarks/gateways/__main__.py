"""The price of a gateway: CPU, throughput, added latency and memory, each in one run beside other gateways.

python -m tests.benchmarks.gateways [--gateways vlserve,vllm-router] [--cases small,stream] [--clients 1,16,64]
    [--turns 3] [--seconds 4] [--folder FOLDER] [--docs docs/benchmarks.md]

Needs wrk, nginx and a C compiler; installs the other gateways from PyPI into FOLDER. Turns alternate between gateways,
and the medians are written to FOLDER/gateways.json; with --docs the table and the plot go into that document.
"""

import argparse
import asyncio
import contextlib
import json
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.benchmarks.gateways import load, report
from tests.benchmarks.gateways.cases import Case, make_cases
from tests.benchmarks.gateways.gateways import GATEWAYS
from tests.benchmarks.gateways.processes import Gateway, compile_mock, free_port

_SMALL_RATE = 200.0
_WARM_UP_S = 2
_HELD_BODIES = 8


@contextlib.contextmanager
def _mock(program: pathlib.Path) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([str(program), "tcp", str(port)])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def measure(
    names: list[str], cases: list[Case], clients: list[int], turns: int, seconds: int, folder: pathlib.Path
) -> dict[str, Any]:
    """Gateway → case → figures. All gateways run at the same time; only one has load at any time."""
    folder.mkdir(parents=True, exist_ok=True)
    program = compile_mock(folder)
    scripts = {case.name: case.write_script(folder, load.HEADERS) for case in cases}
    results: dict[str, Any] = {name: {case.name: {} for case in cases} for name in names}
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(_mock(program))
        running: dict[str, Gateway] = {}
        for name in names:
            home = folder / name.replace(", ", "-")
            home.mkdir(exist_ok=True)
            running[name] = stack.enter_context(GATEWAYS[name](engine, program, home))
            results[name]["rss_mib"] = running[name].rss_bytes() / 2**20
        direct = Gateway("direct", engine, 0, lambda _: False)
        for case in cases:
            _measure_closed(running, case, scripts[case.name], clients, turns, seconds, results)
            asyncio.run(_measure_open(running, direct, case, turns, seconds, results))
        large = cases[-1]
        for name, gateway in running.items():
            results[name]["bytes_per_byte"] = asyncio.run(load.hold_bodies(gateway, large, _HELD_BODIES))
    return results


def _measure_closed(
    running: dict[str, Gateway],
    case: Case,
    script: pathlib.Path,
    clients: list[int],
    turns: int,
    seconds: int,
    results: dict[str, Any],
) -> None:
    for count in clients:
        figures: dict[str, list[load.Closed]] = {name: [] for name in running}
        for turn in range(turns):
            order = list(running) if turn % 2 == 0 else list(running)[::-1]
            for name in order:
                if turn == 0:
                    load.closed_loop(running[name], script, count, _WARM_UP_S)
                figures[name].append(load.closed_loop(running[name], script, count, seconds))
        for name, some in figures.items():
            found = results[name][case.name][f"c{count}"] = {
                "cpu_ms": statistics.median(one.cpu_ms for one in some),
                "req_s": statistics.median(one.req_s for one in some),
                "errors": sum(one.errors for one in some),
            }
            print(f"{case.name:8} c{count:<3} {name:16} {found}", file=sys.stderr, flush=True)


async def _measure_open(
    running: dict[str, Gateway], direct: Gateway, case: Case, turns: int, seconds: float, results: dict[str, Any]
) -> None:
    """Small requests at 200 a second; others at half of what each gateway can do, directly at that same rate."""
    for name, gateway in running.items():
        most = max(one["req_s"] for one in results[name][case.name].values())
        rate = min(_SMALL_RATE, most / 2) if case.name == "small" else most / 2
        pairs = [
            (await load.open_loop(direct, case, rate, seconds), await load.open_loop(gateway, case, rate, seconds))
            for _ in range(turns)
        ]
        found = results[name][case.name]["open"] = {
            "rate": rate,
            "added_p50_ms": statistics.median(through.p50_ms - straight.p50_ms for straight, through in pairs),
            "added_p99_ms": statistics.median(through.p99_ms - straight.p99_ms for straight, through in pairs),
            "errors": sum(through.errors for _, through in pairs),
        }
        print(f"{case.name:8} open {name:16} {found}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gateways")
    parser.add_argument("--gateways", default=";".join(GATEWAYS), help="names, separated by semicolons")
    parser.add_argument("--cases", default="", help="names, separated by commas")
    parser.add_argument("--clients", default="1,16,64")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("bench"))
    parser.add_argument("--docs", type=pathlib.Path)
    arguments = parser.parse_args()
    cases = make_cases(tuple(filter(None, arguments.cases.split(","))))
    clients = [int(one) for one in arguments.clients.split(",")]
    folder = arguments.folder.resolve()
    results = measure(arguments.gateways.split(";"), cases, clients, arguments.turns, arguments.seconds, folder)
    (folder / "gateways.json").write_text(json.dumps(results, indent=1))
    print(report.table(results, [case.name for case in cases]))
    if arguments.docs:
        report.write(arguments.docs, results, [case.name for case in cases])
    return 0


if __name__ == "__main__":
    sys.exit(main())
