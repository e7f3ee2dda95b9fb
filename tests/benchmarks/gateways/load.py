"""Load on a gateway: closed-loop with wrk (CPU per request, throughput), open-loop at a fixed rate (added latency)."""

import asyncio
import pathlib
import re
import subprocess
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.benchmarks.gateways.cases import Case
from tests.benchmarks.gateways.processes import KEY, Gateway

HEADERS = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
PATH = "/v1/chat/completions"


@dataclass(frozen=True)
class Closed:
    """What wrk measured over some seconds; ``cpu_ms`` is the gateway's CPU time per request."""

    requests: int
    errors: int
    req_s: float
    cpu_ms: float


@dataclass(frozen=True)
class Open:
    """Latency in milliseconds from the moment a request was due to the last byte of its answer."""

    requests: int
    errors: int
    p50_ms: float
    p99_ms: float


def closed_loop(gateway: Gateway, script: pathlib.Path, clients: int, seconds: int) -> Closed:
    """``clients`` connections, each of which sends its next request when the answer to the last one is whole."""
    began = gateway.cpu_ms()
    done = subprocess.run(
        ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "20s", "-s", str(script), f"{gateway.url}{PATH}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 60,
    ).stdout
    used = gateway.cpu_ms() - began
    requests = int(_found(r"(\d+) requests in", done))
    errors = int(_found(r"Non-2xx or 3xx responses: (\d+)", done))
    errors += sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", done)))
    return Closed(requests, errors, float(_found(r"Requests/sec:\s+([\d.]+)", done)), used / max(requests, 1))


async def open_loop(gateway: Gateway, case: Case, rate: float, seconds: float) -> Open:
    """Requests at fixed times, ``rate`` a second, whatever the gateway does; connections are kept and reused."""
    target = urlsplit(gateway.url)
    head = [f"POST {PATH} HTTP/1.1", f"Host: {target.netloc}", f"Content-Length: {len(case.body)}"]
    head += [f"{name}: {value}" for name, value in HEADERS.items()]
    request = "\r\n".join([*head, "", ""]).encode() + case.body
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    times: list[float] = []
    errors = 0

    async def ask(due: float) -> None:
        nonlocal errors
        try:
            connection = idle.pop() if idle else await asyncio.open_connection(target.hostname, target.port)
            connection[1].write(request)
            is_good = await _read_answer(connection[0])
        except (OSError, asyncio.IncompleteReadError):
            is_good = False
        if is_good:
            times.append((time.perf_counter() - due) * 1000)
            idle.append(connection)
        else:
            errors += 1

    began = time.perf_counter()
    async with asyncio.timeout(seconds + 60), asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(ask(due))
    for _, writer in idle:
        writer.close()
    times.sort()
    if not times:
        return Open(0, errors, float("nan"), float("nan"))
    return Open(len(times), errors, times[len(times) // 2], times[min(len(times) - 1, int(len(times) * 0.99))])


async def hold_bodies(gateway: Gateway, case: Case, count: int) -> float:
    """Bytes of memory that the gateway holds for each byte of bodies that have come in but for their last byte."""
    target = urlsplit(gateway.url)
    head = [f"POST {PATH} HTTP/1.1", f"Host: {target.netloc}", f"Content-Length: {len(case.body)}"]
    head += [f"{name}: {value}" for name, value in HEADERS.items()]
    before = gateway.rss_bytes()
    connections = []
    for _ in range(count):
        connection = await asyncio.open_connection(target.hostname, target.port)
        connection[1].write("\r\n".join([*head, "", ""]).encode() + case.body[:-1])
        await connection[1].drain()
        connections.append(connection)
    await asyncio.sleep(1)
    held = gateway.rss_bytes() - before
    for _, writer in connections:
        writer.write(case.body[-1:])
    for reader, writer in connections:
        await _read_answer(reader)
        writer.close()
    return held / (count * len(case.body))


async def _read_answer(reader: asyncio.StreamReader) -> bool:
    """Read one answer to its end; whether its status is 200. Raises IncompleteReadError."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if length:
        await reader.readexactly(int(length[1]))
    else:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
        await reader.readuntil(b"\r\n")
    return head.startswith(b"HTTP/1.1 200")


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else "0"
