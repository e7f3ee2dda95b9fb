"""The service as a user starts it, with fake engines as child processes, and its observable state."""

import asyncio
import contextlib
import json
import os
import pathlib
import re
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import yaml

from tests.conftest import REPOSITORY, image_part, session_of, until, user

MIB = 1024**2


@dataclass(frozen=True)
class Figure:
    """A line of the table: a measured value and the expected one. ``most`` is an upper bound."""

    row: int
    what: str
    measured: float
    most: float
    unit: str = ""
    slack: float = 30.0
    """Factor for the time limits in the short form, which runs on any machine."""

    @property
    def is_met(self) -> bool:
        return self.measured <= self.most


@dataclass
class Service:
    process: asyncio.subprocess.Process
    session: aiohttp.ClientSession
    lines: list[str] = field(default_factory=list)
    url: str = ""
    reads: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while the log is read."""

    @property
    def log(self) -> str:
        """What was read so far. A thread writes it, so a line can come after the response that shows its effect."""
        return "".join(self.lines)

    async def whole_log(self) -> str:
        """Return everything logged before this call."""
        marker = f"/marker-{uuid.uuid4()}"
        async with self.session.get(self.url + marker):
            pass
        await until(lambda: marker in self.log)
        return self.log

    def post(self, body: Any, **options: Any) -> Any:
        return self.session.post(f"{self.url}/v1/chat/completions", json=body, **options)

    def ask(self, wish: str = "", *, stream: bool = False, vision: bool = False, **options: Any) -> Any:
        """Return a chat request; ``wish`` selects the fake engine's behavior."""
        content = [image_part()] if vision else ["hello"]
        return self.post({"messages": user(*content), "user": wish, "stream": stream}, **options)

    async def state(self, engine: str) -> dict[str, Any]:
        async with self.session.get(f"{self.url}/ready") as answer:
            found: dict[str, Any] = (await answer.json())["engines"][engine]
            return found

    async def until_state(self, engine: str, *states: str, timeout_s: float = 60.0) -> float:
        """Wait for one of the states, and return the seconds."""
        started = time.monotonic()
        async with asyncio.timeout(timeout_s):
            while (await self.state(engine))["state"] not in states:
                await asyncio.sleep(0.02)
        return time.monotonic() - started

    async def running(self, engine: str) -> float:
        """Return the engine's own number of running requests."""
        async with self.session.get(f"{self.url}/metrics") as answer:
            found = re.findall(
                rf'vllm:num_requests_running{{.*vlserve_engine="{engine}".*}} (\S+)', await answer.text()
            )
        return float(found[0])

    def reaper(self, engine: str) -> int:
        """The reaper, which is the engine's session leader."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return next(int(pid) for pid in children if f"/{engine}.sock" in _command(int(pid)))

    def pid(self, engine: str, part: str = "") -> int:
        """Return the engine's main process, or the one in its session with ``part`` in its command line."""
        leader = self.reaper(engine)
        others = [pid for pid in session_of(leader) if pid != leader]
        return next(pid for pid in sorted(others) if part in _command(pid))

    def fds(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208

    def rss(self) -> int:
        """Return the gateway's resident memory in bytes."""
        return _status(self.process.pid, "VmRSS")

    def reset_peak(self) -> None:
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def peak(self) -> int:
        """Return the gateway's peak memory in bytes since ``reset_peak``."""
        return _status(self.process.pid, "VmHWM")


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


def _status(pid: int, name: str) -> int:
    found = re.findall(rf"{name}:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text())
    return int(found[0]) * 1024


def fake_command(*faults: str) -> list[str]:
    return [sys.executable, "-m", "tests.fakes.fake_engine", "--uds", "{uds}", f"--faults={','.join(faults)}"]


def fakes(text: tuple[str, ...] = (), vision: tuple[str, ...] = (), **settings: Any) -> dict[str, Any]:
    """Return both engines' settings."""
    environment = {"PYTHONPATH": str(REPOSITORY)}
    return {
        name: {"model": f"org/{name}", "command": fake_command(*faults), "env": environment, **settings}
        for name, faults in (("text", text), ("vision", vision))
    }


@asynccontextmanager
async def serve(
    folder: pathlib.Path,
    engines: dict[str, Any],
    environ: dict[str, str] | None = None,
    ready: tuple[str, ...] = ("text", "vision"),
    timeout_s: float = 60.0,
    **settings: Any,
) -> AsyncIterator[Service]:
    """Run `vlserve serve` on a free port; afterwards check that no process or file is left."""
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"engines": engines, **settings}))
    command = (sys.executable, "-m", "vlserve.cli", "serve", "--config", str(folder / "config.yaml"), "--port", "0")
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, "TMPDIR": str(folder), "XDG_DATA_HOME": str(folder), **(environ or {})},
        stderr=asyncio.subprocess.PIPE,
    )
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        service = Service(process, session)
        service.reads.set()
        reading = asyncio.create_task(_read(process, service))
        leaders: list[int] = []
        try:
            await until(lambda: "listens on" in service.log or process.returncode is not None, timeout_s)
            assert process.returncode is None, service.log
            service.url = re.findall(r"listens on (http://[^\s\"]+)", service.log)[0]
            for name in ready:
                await service.until_state(name, "ready", timeout_s=timeout_s)
                leaders.append(service.reaper(name))
            yield service
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), 60)
            await asyncio.wait_for(reading, 60)
            await until(lambda: not any(session_of(leader) for leader in leaders))
            await until(lambda: not list(folder.glob("vlserve-*")))


async def _read(process: asyncio.subprocess.Process, service: Service) -> None:
    assert process.stderr
    while line := await process.stderr.readline():
        service.lines.append(line.decode("utf-8", "replace"))
        await service.reads.wait()


async def drain_events(answer: aiohttp.ClientResponse) -> list[Any]:
    """Return the data of a stream's events. An unfinished stream raises aiohttp's error."""
    text = (await answer.read()).decode()
    data = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in data]


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
