"""Row 20: the log is written to a pipe that is not read."""

import asyncio
import contextlib
import pathlib
import re
import signal
import time

import aiohttp

from tests.conftest import until
from tests.reliability.service import MIB, Figure, Service, fakes, percentile, serve

_PIPE_BYTES = 512 * 1024  # more than the buffers of the pipe and its reader
_LONG_PATH = "/" + "x" * 4000
_ENGINE_MIB = 16
_ANSWER_S = 60.0
_END_S = 120.0
_STRETCHES = 3
_NOTICE = re.compile(r"(\d+) log lines were dropped")


async def unread_log(folder: pathlib.Path, count: int) -> list[Figure]:
    """Row 20. Requests while the log is not read, an engine that prints more than the queue's size, and shutdown.

    Four times ``count`` request lines must fit into the queue.
    """
    async with serve(folder, fakes()) as service:
        await _answered(service, count // 4)
        calm = await _p99_s(service, count)
        await service.whole_log()
        begun = _request_lines(service)
        service.reads.clear()
        sent = await _fill_pipe(service)
        answered = await _answered(service, count)
        unread = await _p99_s(service, count) if answered == count else float("inf")
        dropped = await _dropped(service) if answered == count else 0
        service.reads.set()
        if answered == count:
            sent += count + _STRETCHES * count
            await until(lambda: _announced(service) >= dropped > 0 and _request_lines(service) - begun >= sent, 60)
        lost = sent - (_request_lines(service) - begun)
        announced = _announced(service)
        service.reads.clear()
        await _fill_pipe(service)
        service.process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        with contextlib.suppress(TimeoutError):
            await until(lambda: service.process.returncode is not None, _END_S)
        ended_s = time.monotonic() - asked
        code = service.process.returncode
        service.reads.set()
    return [
        Figure(20, f"requests not answered while nobody reads the log (of {count})", count - answered, 0),
        Figure(20, "p99 of requests meanwhile, more than with a reader", 100 * (unread / calm - 1), 20, "%", 100),
        Figure(20, "lines about requests lost while an engine prints more than the queue holds", lost, 0),
        Figure(20, "dropped lines that the log does not announce", dropped - announced, 0),
        Figure(20, "exit after SIGTERM while nobody reads the log", ended_s, 10, "s"),
        Figure(20, "exit codes other than 0", float(code != 0), 0),
    ]


async def _fill_pipe(service: Service) -> int:
    """Make the gateway fill the pipe and an engine the queue; return the number of requests, 0 on a timeout."""
    count = _PIPE_BYTES // len(_LONG_PATH)
    try:
        async with asyncio.timeout(_ANSWER_S):
            for _ in range(count):
                async with service.session.get(service.url + _LONG_PATH) as answer:
                    assert answer.status == 404
            async with service.ask(f"print:{_ENGINE_MIB * MIB}") as answer:
                assert answer.status == 200
    except TimeoutError:
        return 0
    return count + 1


async def _answered(service: Service, count: int) -> int:
    """Send small requests; return how many were answered before the first that was not."""
    for number in range(count):
        try:
            async with service.ask(timeout=aiohttp.ClientTimeout(total=_ANSWER_S)) as answer:
                assert answer.status == 200
                await answer.read()
        except TimeoutError:
            return number
    return count


async def _p99_s(service: Service, count: int) -> float:
    """Return the least of several p99: a log that delays requests delays them in each, other processes do not."""
    stretches = []
    for _ in range(_STRETCHES):
        seconds = []
        for _ in range(count):
            asked = time.monotonic()
            async with service.ask() as answer:
                await answer.read()
            seconds.append(time.monotonic() - asked)
        stretches.append(percentile(seconds, 0.99))
    return min(stretches)


async def _dropped(service: Service) -> float:
    async with service.session.get(f"{service.url}/metrics") as answer:
        return float(re.findall(r"^vlserve_log_lines_dropped_total (\S+)", await answer.text(), re.MULTILINE)[0])


def _announced(service: Service) -> int:
    return sum(int(number) for number in _NOTICE.findall(service.log))


def _request_lines(service: Service) -> int:
    return sum(" INFO request " in line or " INFO refused " in line for line in service.lines)
