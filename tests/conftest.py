"""Fixtures: a gateway on a real port over fake engines on real sockets, all in this process."""

import asyncio
import base64
import io
import json
import logging
import os
import pathlib
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import uvicorn
from aiohttp import web
from PIL import Image

from tests.fakes import fake_engine
from vlserve import logs
from vlserve.config.engine_settings import EngineName, EngineSettings
from vlserve.config.keys import ApiKey
from vlserve.config.settings import Config
from vlserve.engines.diagnosis import Diagnosis
from vlserve.engines.model_files import QWEN_SPECIAL_TOKENS
from vlserve.engines.view import Activity, Address
from vlserve.gateway import server as http_server
from vlserve.gateway.app import create_app
from vlserve.media.file_store import FileStore
from vlserve.media.pixels import Grid
from vlserve.metrics import Metrics
from vlserve.testgen import http as testgen_http

if TYPE_CHECKING:
    from tests.vllm import service as vllm_service

REPOSITORY = pathlib.Path(__file__).parents[1]
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs with SIGINT ignored, and processes started by a test would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def is_alive(pid: int) -> bool:
    """Whether a process runs; zombies do not count."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def session_of(leader: int) -> list[int]:
    """Return the running processes of a session."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(entry.name)) == leader and is_alive(int(entry.name)):
                found.append(int(entry.name))
        except ProcessLookupError:
            continue
    return found


async def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait for a condition. The timeout is long, so that only a hang exceeds it."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


def picture(width: int = 56, height: int = 56, color: str = "red", kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), color).save(file, kind)
    return file.getvalue()


def data_url(raw: bytes | None = None, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(picture() if raw is None else raw).decode()}"


def image_part(url: str | None = None) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url or data_url()}}


def user(*content: Any) -> list[dict[str, Any]]:
    """Return messages with one user turn."""
    return [
        {"role": "user", "content": content[0] if len(content) == 1 and isinstance(content[0], str) else list(content)}
    ]


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Restore the log's handler and level, and stderr, after a test that calls the CLI in this process."""
    root, stderr = logging.getLogger(), sys.stderr
    level = root.level
    yield
    for handler in [one for one in root.handlers if isinstance(one, logs._Handler)]:
        root.removeHandler(handler)
        handler.replace()
    root.setLevel(level)
    sys.stderr = stderr


@contextmanager
def make_short_folder() -> Iterator[pathlib.Path]:
    """Create a folder with a path short enough for a Unix socket; pytest's folders are too long for it with xdist."""
    with tempfile.TemporaryDirectory(prefix="vls-") as folder:
        yield pathlib.Path(folder)


@pytest.fixture
def short_folder() -> Iterator[pathlib.Path]:
    with make_short_folder() as folder:
        yield folder


@dataclass
class FakeView:
    """An engine's view with values set by a test."""

    settings: EngineSettings
    address: Address
    state: str = "ready"
    is_ready: bool = True
    activity: Activity = field(default_factory=Activity)
    diagnosis: Diagnosis | None = None
    max_model_len: int | None = fake_engine.MAX_MODEL_LEN
    grid: Grid = field(default_factory=Grid)
    special_tokens: frozenset[str] = QWEN_SPECIAL_TOKENS

    def retry_after_s(self) -> float:
        return 42.0


@dataclass
class Gateway:
    """A running gateway: ``post`` and ``get`` send requests; the engines record what they receive."""

    url: str
    session: aiohttp.ClientSession
    views: dict[EngineName, FakeView]
    engines: dict[EngineName, web.Application] = field(default_factory=dict)

    def post(self, body: Any, path: str = "/v1/chat/completions", **options: Any) -> Any:
        """Send a chat request, or one to another path; ``body`` is encoded as JSON unless it is bytes."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        content = {
            "data": io.BytesIO(raw),
            "headers": {"content-type": "application/json"} | options.pop("headers", {}),
        }
        return self.session.post(self.url + path, **content, **options)

    def get(self, path: str, **options: Any) -> Any:
        return self.session.get(self.url + path, **options)

    def seen(self, engine: EngineName) -> list[dict[str, Any]]:
        return self.engines[engine][fake_engine.SEEN]

    def running(self, engine: EngineName) -> int:
        return self.engines[engine][fake_engine.RUNNING][0]


class Server(uvicorn.Server):
    @asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        """Serve on a free loopback port, and yield its number."""
        task = asyncio.create_task(self._serve())
        while not self.started:
            await asyncio.sleep(0.01)
        try:
            yield self.servers[0].sockets[0].getsockname()[1]
        finally:
            self.should_exit = True
            await task


@pytest.fixture(scope="session")
def service() -> Iterator["vllm_service.Service"]:
    """The service with real vLLM, started once."""
    from tests.vllm import service as vllm_service

    with make_short_folder() as folder, vllm_service.serve(folder) as running:
        yield running


OpenGateway = Callable[..., Any]


async def find_healthy(activity: Activity) -> None:
    """Stands in for the probe: each check finds a healthy engine."""
    while True:
        await activity.until_lost(3600)
        activity.found_healthy()


@pytest.fixture
async def open_gateway(short_folder: pathlib.Path) -> OpenGateway:
    """``async with open_gateway(engines=…, keys=…, **settings) as gateway``: settings are Config's."""

    @asynccontextmanager
    async def opened(
        engines: dict[str, dict[str, Any]] | None = None, keys: tuple[ApiKey, ...] = (), **settings: Any
    ) -> AsyncIterator[Gateway]:
        both = {"text": {"model": "org/text-7b"}, "vision": {"model": "org/vision-7b"}}
        config = Config.model_validate({"engines": both if engines is None else engines, **settings})
        runners, apps, views = [], {}, {}
        for name, engine in config.engines.items():
            apps[name] = fake_engine.make_app()
            runners.append(runner := web.AppRunner(apps[name], handler_cancellation=True, shutdown_timeout=0.1))
            await runner.setup()
            socket = str(short_folder / f"{name}.sock")
            await web.UnixSite(runner, socket).start()
            views[name] = FakeView(engine, Address("http://engine", socket))
        metrics = Metrics()
        store = FileStore(short_folder / "files", config.files)
        store.open()
        app = create_app(config, views, keys, metrics, store=store, testgen=testgen_http.routes(config.testgen))
        server = Server(http_server.configure(app, config.server.model_copy(update={"port": 0}), metrics))
        probes = [asyncio.create_task(find_healthy(view.activity)) for view in views.values()]
        async with server.running() as port, aiohttp.ClientSession() as session:
            yield Gateway(f"http://127.0.0.1:{port}", session, views, apps)
        for one in probes:
            one.cancel()
        store.close()
        for runner in runners:
            await runner.cleanup()

    return opened


@pytest.fixture
async def gateway(open_gateway: OpenGateway) -> AsyncIterator[Gateway]:
    async with open_gateway() as opened:
        yield opened
