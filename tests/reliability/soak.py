"""Row 16: soak test with mixed traffic, while engines are killed and hang."""

import asyncio
import os
import pathlib
import random
import signal
import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.reliability.service import MIB, Figure, Service, drain_events, fakes, serve

_USERS = 12
_FAULT_EVERY_S = 45.0
# Of an hour. After some 28,000 requests memory grows once by 940 KiB, most likely CPython's table of interned strings.
_WARM_UP_SHARE = 0.6
_SAMPLE_S = 5.0


@dataclass
class _Tally:
    good: int = 0
    bad: list[str] = field(default_factory=list)
    in_fault: int = 0
    left: int = 0
    faults: list[tuple[str, float, float]] = field(default_factory=list)
    """(engine, start of the fault, time when the engine was ready again; inf: not yet)."""
    memory: list[tuple[float, int]] = field(default_factory=list)

    def was_in_fault(self, engine: str, started: float, ended: float) -> bool:
        return any(name == engine and begun <= ended and started <= over for name, begun, over in self.faults)


async def soak(folder: pathlib.Path, seconds: float, seed: int = 16) -> list[Figure]:
    """Twelve users send streams, pictures and invalid requests, and disconnect; every 45 s an engine gets a fault."""
    chance = random.Random(seed)
    tally = _Tally()
    async with serve(folder, fakes(text=("core",), vision=("core",), hang_after_s=10)) as service:
        end = time.monotonic() + seconds
        await asyncio.gather(
            *(_use(service, tally, random.Random(seed + number), end) for number in range(_USERS)),
            _break(service, tally, chance, end),
            _watch_memory(service, tally, end),
        )
        fds = service.fds()
    total = tally.good + len(tally.bad)
    for line in tally.bad[:20]:
        print(f"  outside a fault: {line}")
    print(
        f"  {total} requests outside a fault, {tally.in_fault} inside one, {tally.left} clients left, "
        f"{len(tally.faults)} faults, {fds} files open at the end"
    )
    return [
        Figure(
            16, f"requests that failed outside a fault (of {total})", 100 * len(tally.bad) / max(1, total), 0.1, "%"
        ),
        Figure(16, f"growth of memory after warm-up ({seconds / 60:.0f} min)", _slope(tally.memory), 1, "MiB/h"),
    ]


async def _use(service: Service, tally: _Tally, chance: random.Random, end: float) -> None:
    while time.monotonic() < end:
        vision = chance.random() < 0.4
        engine = "vision" if vision else "text"
        kind = chance.choice(("whole", "whole", "stream", "stream", "refuse", "leave"))
        started = time.monotonic()
        try:
            problem = await _one(service, kind, chance, vision=vision)
        except (aiohttp.ClientError, AssertionError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
        tally.left += kind == "leave"
        if tally.was_in_fault(engine, started, time.monotonic()):
            tally.in_fault += 1
        elif problem:
            tally.bad.append(f"{engine} {kind}: {problem}")
        else:
            tally.good += 1
        await asyncio.sleep(chance.expovariate(4))


async def _one(service: Service, kind: str, chance: random.Random, *, vision: bool) -> str | None:
    """Send a request of one kind; return what was wrong with the response."""
    if kind == "leave":
        answer = await service.ask("drip:5", stream=True, vision=vision)
        await asyncio.sleep(chance.random())
        answer.close()
        return None if answer.status == 200 else f"status {answer.status}"
    wish = {"whole": "", "stream": f"drip:{2 * chance.random():.2f}", "refuse": "refuse"}[kind]
    async with service.ask(wish, stream=kind == "stream", vision=vision) as answer:
        if kind == "stream" and answer.status == 200:
            events: list[Any] = await drain_events(answer)
            return None if events and events[-1] == "[DONE]" else f"the stream ended with {events[-1:]}"
        await answer.read()
        expected = 400 if kind == "refuse" else 200
        return None if answer.status == expected else f"status {answer.status}"


async def _break(service: Service, tally: _Tally, chance: random.Random, end: float) -> None:
    while time.monotonic() < end - 2 * _FAULT_EVERY_S:
        await asyncio.sleep(_FAULT_EVERY_S * (0.5 + chance.random()))
        engine = chance.choice(("text", "vision"))
        part, number = chance.choice((("", signal.SIGKILL), ("EngineCore", signal.SIGKILL), ("", signal.SIGSTOP)))
        leader = service.reaper(engine)
        begun = time.monotonic()
        tally.faults.append((engine, begun, float("inf")))
        os.kill(service.pid(engine, part), number)
        while await _is_old(service, engine, leader):
            await asyncio.sleep(0.1)
        await service.until_state(engine, "ready", timeout_s=120)
        tally.faults[-1] = (engine, begun, time.monotonic())


async def _is_old(service: Service, engine: str, leader: int) -> bool:
    try:
        return service.reaper(engine) == leader
    except StopIteration:
        return True


async def _watch_memory(service: Service, tally: _Tally, end: float) -> None:
    while time.monotonic() < end:
        tally.memory.append((time.monotonic(), service.rss()))
        await asyncio.sleep(_SAMPLE_S)


def _slope(samples: list[tuple[float, int]]) -> float:
    """Return MiB per hour by least squares, without the warm-up."""
    kept = samples[int(_WARM_UP_SHARE * len(samples)) :]
    if len(kept) < 3:
        return 0.0
    middle_t = sum(at for at, _ in kept) / len(kept)
    middle_m = sum(size for _, size in kept) / len(kept)
    covariance = sum((at - middle_t) * (size - middle_m) for at, size in kept)
    return covariance / sum((at - middle_t) ** 2 for at, _ in kept) * 3600 / MIB
