"""Rows 6 and 7: the service gets SIGTERM or SIGKILL."""

import asyncio
import pathlib
import signal
import time

from tests.conftest import session_of, until
from tests.reliability.service import Figure, drain_events, fakes, serve


async def sigterm_under_load(folder: pathlib.Path, grace_s: float, streams: int) -> list[Figure]:
    """Row 6. SIGTERM with streams that end within the grace period, and with longer ones."""
    figures = []
    for name, wish in (("end inside", f"drip:{grace_s / 4}"), ("do not end inside", "drip:600")):
        async with serve(folder, fakes(text=("ignore-sigterm",)), server={"shutdown_grace_s": grace_s}) as service:
            leaders = [service.reaper("text"), service.reaper("vision")]
            answers = [await service.ask(wish, stream=True) for _ in range(streams)]
            service.process.send_signal(signal.SIGTERM)
            asked = time.monotonic()
            await until(lambda: "shutting down: up to" in service.log)
            statuses = []
            for _ in range(10):
                async with service.ask() as refused:
                    statuses.append(refused.status)
                    assert int(refused.headers["retry-after"]) >= 1
            endings = await asyncio.gather(*(drain_events(answer) for answer in answers))
            await service.process.wait()
            seconds = time.monotonic() - asked
            orphans = sum(len(session_of(leader)) for leader in leaders)
        truncated = sum(events[-1] != "[DONE]" for events in endings)
        without_error = sum(events[-1] != "[DONE]" and "error" not in events[-1] for events in endings)
        if name == "end inside":
            figures.append(Figure(6, f"streams truncated that {name} the grace period ({streams})", truncated, 0))
        else:
            assert truncated == streams
        figures += [
            Figure(6, f"streams that ended without an error, {name}", without_error, 0),
            Figure(6, f"new requests that got anything but 503, {name}", sum(one != 503 for one in statuses), 0),
            Figure(6, f"exit after SIGTERM with {grace_s:g} s of grace, {name}", seconds, grace_s + 5, "s"),
            Figure(6, f"orphans, {name}", orphans, 0),
        ]
    return figures


async def killed_gateway(folder: pathlib.Path, count: int) -> list[Figure]:
    """Row 7. SIGKILL to the gateway."""
    slowest = 0.0
    for number in range(count):
        faults = (("core",), ("ignore-sigterm",))[number % 2]
        async with serve(folder, fakes(text=faults)) as service:
            answer = await service.ask("drip", stream=True)
            leaders = [service.reaper("text"), service.reaper("vision")]
            service.process.kill()
            killed = time.monotonic()
            while any(session_of(leader) for leader in leaders) or list(folder.glob("vlserve-*")):
                assert time.monotonic() - killed < 120
                await asyncio.sleep(0.02)
            slowest = max(slowest, time.monotonic() - killed)
            answer.close()
    return [
        Figure(7, f"engines and sockets gone after kill -9 of the gateway ({count} times), slowest", slowest, 10, "s")
    ]
