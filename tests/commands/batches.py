"""Batch files, the command, and a service that answers as scripted."""

import asyncio
import json
import pathlib
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.conftest import user
from vlserve.commands.batch.batch import Retries

CHAT = "/v1/chat/completions"
QUICK = Retries(attempts=3, first_s=0.01)


def line(custom_id: str, *content: Any, **body: Any) -> dict[str, Any]:
    """A request whose text is its custom_id, unless given."""
    messages = user(*(content or (custom_id,)))
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {"messages": messages, **body}}


def write(folder: pathlib.Path, *lines: Any) -> tuple[pathlib.Path, pathlib.Path]:
    """An input with these lines (bytes as they are), and where its answers go."""
    source = folder / "in.jsonl"
    source.write_bytes(b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in lines))
    return source, folder / "out.jsonl"


def read(path: pathlib.Path) -> list[Any]:
    return [json.loads(one) for one in path.read_bytes().splitlines(keepends=True)]


def whole(path: pathlib.Path) -> list[str]:
    """The custom_ids of all whole lines; none where there is no file yet."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.loads(one)["custom_id"] for one in lines if one.endswith(b"\n")]


def text(body: dict[str, Any]) -> str:
    return str(body["messages"][0]["content"])


@dataclass
class Scripted:
    """A service that answers each text with its list of statuses, then 200."""

    url: str = ""
    script: dict[str, list[int]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    arrivals: list[tuple[str, float]] = field(default_factory=list)
    open: int = 0
    peak: int = 0
    site: web.TCPSite | None = None

    @property
    def asked(self) -> Counter[str]:
        return Counter(name for name, _ in self.arrivals)

    async def chat(self, request: web.Request) -> web.Response:
        name = text(await request.json())
        self.arrivals.append((name, time.monotonic()))
        self.open += 1
        self.peak = max(self.peak, self.open)
        await asyncio.sleep(0.005)
        self.open -= 1
        status = self.script[name].pop(0) if self.script.get(name) else 200
        if name == "end" and self.site:
            await self.site.stop()
        if status == 0:
            assert request.transport
            request.transport.abort()
        if name == "html":
            return web.Response(text="<html>", content_type="text/html")
        body = {"error": {"code": "x"}} if status != 200 else {"usage": {"prompt_tokens": 7, "completion_tokens": 3}}
        return web.json_response(body, status=status, headers={"x-request-id": f"r-{name}", **self.headers})


@asynccontextmanager
async def serve(**script: list[int]) -> AsyncIterator[Scripted]:
    service = Scripted(script=script)
    app = web.Application()
    app.router.add_post(CHAT, service.chat)
    app.router.add_get("/v1/models", _models)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    service.site = web.TCPSite(runner, "127.0.0.1", 0)
    await service.site.start()
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield service
    await runner.cleanup()


async def _models(_: web.Request) -> web.Response:
    return web.json_response({"data": []})


async def start(source: pathlib.Path, output: pathlib.Path, url: str, **options: Any) -> asyncio.subprocess.Process:
    """`vlserve batch`, four lines at once."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vlserve.cli", "batch", str(source), "-o", str(output)),
        *("--base-url", url, "--concurrency", "4"),
        **{"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE, **options},
    )


async def finish(process: asyncio.subprocess.Process) -> tuple[str, str]:
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert b"Traceback" not in errors, errors.decode()
    return output.decode(), errors.decode()


GOOD = line("good")
