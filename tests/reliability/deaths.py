"""Rows 1 to 4: clients that disconnect, and engines that are killed, hang, or die repeatedly."""

import asyncio
import contextlib
import os
import pathlib
import re
import signal
import time
from typing import Any

from tests.conftest import until
from tests.reliability.service import Figure, Service, drain_events, fakes, percentile, serve

_FIRST_START_S = 60  # vlserve's estimate for an engine that has never been ready


async def leaving_clients(
    service: Service, count: int, stream_wish: str = "drip", whole_wish: str = "hang"
) -> list[Figure]:
    """Row 1. Clients disconnect during responses, alternately with and without streaming."""
    for _ in range(3):  # so that files opened once are open
        async with service.ask() as answer:
            await answer.read()
    await asyncio.sleep(0.5)
    fds, slowest = service.fds(), 0.0
    for number in range(count):
        if number % 2:
            answer = await service.ask(stream_wish, stream=True)
            await answer.content.readany()
            answer.close()
        else:
            waiting = asyncio.create_task(_open(service, whole_wish))
            while not await service.running("text"):
                await asyncio.sleep(0.01)
            waiting.cancel()
            await asyncio.wait((waiting,))
        left = time.monotonic()
        while await service.running("text"):
            await asyncio.sleep(0.01)
        slowest = max(slowest, time.monotonic() - left)
    with contextlib.suppress(TimeoutError):  # idle connections close after some seconds
        await until(lambda: service.fds() <= fds)
    return [
        Figure(1, f"engine free after a client left ({count} times), slowest", slowest, 1.0, "s"),
        Figure(1, "file descriptors leaked", max(0, service.fds() - fds), 0),
    ]


async def _open(service: Service, wish: str) -> None:
    async with service.ask(wish) as answer:
        await answer.read()


async def killed_engines(
    service: Service, part: str, count: int, cold_start_s: float, streams: int = 8, pause_s: float = 0.0
) -> list[Figure]:
    """Row 2. SIGKILL to a process of the text engine during streams, while the vision engine is in use."""
    slowest_end = slowest_back = 0.0
    fake_dones = other_errors = 0
    for _ in range(count):
        await asyncio.sleep(pause_s)
        answers = [await service.ask("drip", stream=True) for _ in range(streams)]
        for answer in answers:
            await answer.content.readany()
        using = asyncio.create_task(_use_vision(service))
        before = (await service.whole_log()).count("text engine: ready")
        os.kill(service.pid("text", part), signal.SIGKILL)
        killed = time.monotonic()
        endings = await asyncio.gather(*(drain_events(answer) for answer in answers))
        slowest_end = max(slowest_end, time.monotonic() - killed)
        for events in endings:
            fake_dones += "[DONE]" in events or "error" not in events[-1]
        await until(lambda: service.log.count("text engine: ready") > before, cold_start_s + 100)  # noqa: B023
        slowest_back = max(slowest_back, time.monotonic() - killed)
        using.cancel()
        other_errors += not isinstance((await asyncio.gather(using, return_exceptions=True))[0], asyncio.CancelledError)
    name = part or "API server"
    return [
        Figure(
            2, f"streams ended with an error after kill -9 of the {name} ({count} times), slowest", slowest_end, 2, "s"
        ),
        Figure(2, f"streams with a fake [DONE] or no error, {name}", fake_dones, 0),
        Figure(2, f"errors at the other engine, {name}", other_errors, 0),
        Figure(2, f"back after kill -9 of the {name}, slowest", slowest_back, cold_start_s + 10, "s"),
    ]


async def _use_vision(service: Service) -> None:
    while True:
        async with service.ask(vision=True) as answer:
            assert answer.status == 200, await answer.text()
        await asyncio.sleep(0.05)


async def hanging_engine(folder: pathlib.Path, hang_after_s: float) -> list[Figure]:
    """Row 3. SIGSTOP, idle and under load; a stopped core behind a front end that responds; slow work."""
    engines = fakes(hang_after_s=hang_after_s)
    found: dict[str, float] = {}
    async with serve(folder, engines) as service:
        for name, wish, engine in (
            ("an idle engine", "", "text"),
            ("an idle vision engine", "", "vision"),
            ("an engine with streams", "drip", "text"),
            ("the core of an idle engine", "freeze", "text"),
        ):
            await service.until_state(engine, "ready")
            first = service.reaper(engine)
            answers = [await service.ask("drip", stream=True) for _ in range(3)] if wish == "drip" else []
            stopped = time.monotonic()
            if wish == "freeze":
                leaver = asyncio.create_task(_open(service, "freeze"))
                while not await service.running(engine):
                    await asyncio.sleep(0.01)
                leaver.cancel()
            else:
                os.kill(service.pid(engine), signal.SIGSTOP)
            refusals = asyncio.create_task(_bad_requests(service))
            await service.until_state(engine, "stopping", "failed", "starting", timeout_s=3 * hang_after_s + 60)
            found[name] = time.monotonic() - stopped
            refusals.cancel()
            for answer in answers:
                events = await drain_events(answer)
                assert "error" in events[-1], events[-1]
            await service.until_state(engine, "ready")
            assert service.reaper(engine) != first
        slow = 2 * hang_after_s
        before = (await service.whole_log()).count("hangs")
        for wish in (f"prefill:{slow}", f"decode:{slow}"):
            async with service.ask(wish) as answer:
                assert answer.status == 200, await answer.text()
        false_alarms = (await service.whole_log()).count("hangs") - before
    figures = [Figure(3, f"hang found: {name}", seconds, hang_after_s + 2, "s") for name, seconds in found.items()]
    what = f"slow work ({slow:g} s of prefill, of decode) taken for a hang (after {hang_after_s:g} s)"
    return [*figures, Figure(3, what, false_alarms, 0)]


async def _bad_requests(service: Service) -> None:
    """Refusals come from an engine's front end, so they are no sign of a working core."""
    while True:
        async with service.ask("refuse") as answer:
            await answer.read()
        await asyncio.sleep(0.2)


async def crash_loop(folder: pathlib.Path) -> list[Figure]:
    """Row 4. An engine that dies at every start; one whose failure is permanent."""
    async with serve(folder, fakes(text=("crash-anew",)), ready=("vision",)) as service:
        await service.until_state("text", "broken", timeout_s=60)
        broken_at = time.monotonic()
        log = await service.whole_log()
        waits = [float(wait) for wait in re.findall(r"text engine: \w+ \(.*next try in (\S+) s\)", log)]
        seconds: list[float] = []
        for _ in range(100):
            asked = time.monotonic()
            async with service.ask() as answer:
                assert answer.status == 503
                retry_after_s = float(answer.headers["retry-after"])
            next_try_s = waits[-1] - (time.monotonic() - broken_at)
            seconds.append(time.monotonic() - asked)
    jitters = [wait / expected for wait, expected in zip(waits, (1, 2, 4, 8, 60), strict=True)]
    async with serve(folder, fakes(text=("out-of-memory",)), ready=("vision",)) as service:
        await service.until_state("text", "given_up", timeout_s=60)
        await asyncio.sleep(3)
        starts = (await service.whole_log()).count("text engine: starting")
        problem: Any = (await service.state("text"))["problem"]
        assert "Lower gpu_memory_utilization" in problem
    return [
        Figure(4, "deaths until the breaker opened", len(waits), 5),
        Figure(
            4, "backoff away from 1, 2, 4, 8, 60 s, by chance", 100 * max(abs(one - 1) for one in jitters), 26, "%", 1
        ),
        Figure(4, "all waits as computed, without chance", float(len(set(jitters)) == 1), 0),
        Figure(4, "503 with Retry-After while it is open, p99", 1000 * percentile(seconds, 0.99), 50, "ms"),
        Figure(
            4,
            "Retry-After away from the next try and a start's 60 s",
            abs(retry_after_s - next_try_s - _FIRST_START_S),
            2,
            "s",
            10,
        ),
        Figure(4, "starts that would fail the same way again", starts, 1),
    ]
