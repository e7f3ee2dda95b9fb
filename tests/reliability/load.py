"""Rows 5 and 8: overload, and deliberately slow clients."""

import asyncio
import json
import pathlib
import statistics
import sys
import time
from collections import Counter

from tests.conftest import user
from tests.reliability.service import MIB, Figure, Service, fakes, percentile, serve

_WORK_S, _AT_ONCE = 0.4, 8  # the fake engine's capacity: eight requests at a time, 0.4 s each


async def overload(folder: pathlib.Path, seconds: float) -> list[Figure]:
    """Row 5. Requests arrive at four times the engine's capacity, independent of answers.

    It is measured in several periods, because the machine may be shared.
    """
    engines = fakes(max_in_flight=_AT_ONCE, max_queued=32)
    async with serve(folder, engines) as service:
        memory, peaks, floods = 0, list[_Load](), list[_Load]()
        for _ in range(_PERIODS):
            peaks.append(await _goodput(service, 1.2, seconds / _PERIODS))
            memory = memory or service.rss()
            floods.append(await _goodput(service, 4.0, seconds / _PERIODS))
        grown = service.rss() - memory
    peak_per_s, flood_per_s = (statistics.median(one.good_per_s for one in loads) for loads in (peaks, floods))
    refused_s = [seconds for one in floods for seconds in one.refused_s]
    return [
        Figure(5, "goodput lost at 4× the load", 100 * (1 - flood_per_s / peak_per_s), 5, "%", 10),
        Figure(5, "429 with Retry-After at 4×, p99", 1000 * percentile(refused_s, 0.99), 100, "ms"),
        Figure(5, "answers other than 200 and 429", sum(sum(one.others.values()) for one in floods), 0),
        Figure(5, "memory grown under 4×", grown / MIB, 50, "MiB"),
    ]


_STRETCHES, _PERIODS = 5, 3


class _Load:
    def __init__(self) -> None:
        self.good = 0
        self.seconds = 0.0
        self.refused_s: list[float] = []
        self.others: Counter[str] = Counter()

    @property
    def good_per_s(self) -> float:
        return self.good / self.seconds


async def _goodput(service: Service, share: float, seconds: float) -> _Load:
    """Send requests at ``share`` of the engine's capacity, at regular intervals independent of answers."""
    load = _Load()
    per_s = share * _AT_ONCE / _WORK_S
    tasks: list[asyncio.Task[None]] = []
    started = time.monotonic()
    while (elapsed := time.monotonic() - started) < seconds:
        while len(tasks) < elapsed * per_s:
            tasks.append(asyncio.create_task(_one(service, load, started + seconds)))
        await asyncio.sleep(0.005)
    load.seconds = seconds
    await asyncio.gather(*tasks)
    return load


async def _one(service: Service, load: _Load, until: float) -> None:
    asked = time.monotonic()
    async with service.ask(f"work:{_WORK_S}") as answer:
        await answer.read()
    if answer.status == 200:
        load.good += time.monotonic() <= until
    elif answer.status in (429, 503) and int(answer.headers["retry-after"]) >= 1:
        load.refused_s.append(time.monotonic() - asked)
    else:
        load.others[str(answer.status)] += 1


async def slow_clients(
    folder: pathlib.Path, count: int, head_timeout_s: float, body_timeout_s: float, others_s: float
) -> list[Figure]:
    """Row 8. Connections that send their headers or body byte by byte, while other clients work."""
    limits = {"head_timeout_s": head_timeout_s, "body_timeout_s": body_timeout_s}
    async with serve(folder, fakes(), server=limits) as service:
        await _others(service, 1.0)
        before = await _p99s(service, others_s)
        command = (sys.executable, "-m", "tests.reliability.drippers", service.url, str(count))
        dripping = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert dripping.stdout
        assert await dripping.stdout.readline() == b"all dripping\n"
        during = await _p99s(service, others_s)
        output, _ = await dripping.communicate()
        heads, bodies = json.loads(output)
        after = await _p99s(service, others_s)
    calm = statistics.median(before + after)
    return [
        Figure(8, f"dripping heads cut ({len(heads)}), slowest", max(heads), head_timeout_s + 2, "s"),
        Figure(8, f"dripping bodies cut ({len(bodies)}), slowest", max(bodies), body_timeout_s + 2, "s"),
        Figure(
            8, "p99 of others meanwhile, more than without", 100 * (statistics.median(during) / calm - 1), 20, "%", 100
        ),
    ]


async def _p99s(service: Service, seconds: float) -> list[float]:
    """Measured in several periods, because the machine may be shared."""
    return [percentile(await _others(service, seconds / _STRETCHES), 0.99) for _ in range(_STRETCHES)]


async def _others(service: Service, seconds: float) -> list[float]:
    """Return the seconds of small sequential requests."""
    found = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        asked = time.monotonic()
        async with service.ask() as answer:
            assert answer.status == 200
            await answer.read()
        found.append(time.monotonic() - asked)
        await asyncio.sleep(0.005)
    return found


async def stalled_readers(folder: pathlib.Path, count: int, body_timeout_s: float) -> list[Figure]:
    """Row 8. Streams of 100 MB each, whose clients stop reading."""
    async with serve(folder, fakes(), server={"body_timeout_s": body_timeout_s}) as service:
        async with service.ask("drip:1", stream=True) as answer:
            await answer.read()
        memory = service.rss()
        host, port = service.url.removeprefix("http://").split(":")
        body = json.dumps({"messages": user("x"), "user": "flood", "stream": True}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        writers = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
            writer.write(head.encode() + body)
            await reader.readexactly(1)
            writers.append(writer)
        stopped = time.monotonic()
        await asyncio.sleep(min(3.0, body_timeout_s / 2))
        grown = (service.rss() - memory) / count
        while await service.running("text"):
            await asyncio.sleep(0.1)
        cut_s = time.monotonic() - stopped
        async with service.ask() as answer:
            assert answer.status == 200
        for writer in writers:
            writer.transport.abort()
    return [
        Figure(8, f"memory of a stream whose client does not read ({count})", grown / MIB, 1, "MiB"),
        Figure(8, "such streams cut, last", cut_s, body_timeout_s + 3, "s"),
    ]
