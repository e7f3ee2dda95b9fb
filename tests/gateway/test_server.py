"""Clients that keep a connection open for nothing, and those that are only slow."""

import asyncio
import importlib.metadata
import inspect
import json
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from packaging.requirements import Requirement
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tests.conftest import REPOSITORY, Server, until
from vlserve.config.settings import Server as ServerSettings
from vlserve.gateway import server as http_server
from vlserve.metrics import Metrics

TIMEOUT_S = 0.6
IDLE_S = 1  # between requests
SIZES = {"/small": 40_000, "/large": 12_000_000}
OVERRIDDEN = {
    *("connection_made", "connection_lost", "data_received", "pause_writing", "resume_writing", "send_400_response"),
    *("on_message_begin", "on_headers_complete", "on_body", "on_message_complete", "on_response_complete"),
}


@pytest.fixture(autouse=True)
def _short_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "_IDLE_S", IDLE_S)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers at once, without reading a body, as a refusal does; /drip goes on until its client leaves."""
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/drip":
        while True:
            await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})
            await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": b"x" * SIZES.get(scope["path"], 2)})


@asynccontextmanager
async def connected(sent: bytes, *, read_ahead: int = 1024) -> AsyncIterator[tuple[asyncio.StreamReader, Server]]:
    """A connection that has sent ``sent``, and the server that it is to."""
    settings = ServerSettings(port=0, head_timeout_s=TIMEOUT_S, body_timeout_s=TIMEOUT_S)
    server = Server(http_server.configure(app, settings, Metrics()))
    async with server.running() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=read_ahead)
        writer.write(sent)
        yield reader, server
        writer.transport.abort()


async def until_cut(reader: asyncio.StreamReader) -> None:
    """Reads, so that only the server can be the one who ends it."""
    async with asyncio.timeout(60):
        try:
            while await reader.read(65536):
                pass
        except ConnectionError:
            pass


def get(path: str = "/", *more: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/{version}", "host: x", *more, "", ""]).encode()


async def test_bytes_that_begin_no_request_do_not_keep_a_connection() -> None:
    for sent in (b"", b"\r\n", get() + b"\r\n", get() + b"GET / HT"):
        async with connected(sent) as (reader, _):
            await until_cut(reader)


async def test_rest_of_a_body_that_nobody_wants_is_read_for_a_while_only() -> None:
    """Both a client that goes on forever and one that sends the rest and then nothing."""
    for more in (b"x" * 10, b"x" * 1000):
        async with connected(get("/", "content-length: 1000") + more) as (reader, _):
            await until_cut(reader)


async def test_second_request_before_the_first_is_answered_ends_both() -> None:
    async with connected(get("/drip") + get("/drip")) as (reader, _):
        await until_cut(reader)


async def test_answer_that_nobody_takes_is_dropped_however_it_ends() -> None:
    for path, version in (("/large", "1.1"), ("/large", "1.0")):
        async with connected(get(path, version=version)) as (reader, server):
            await reader.readexactly(1)
            await until(lambda server=server: not server.server_state.connections)  # type: ignore[misc]
            taken = 0
            try:
                while piece := await reader.read(65536):
                    taken += len(piece)
            except ConnectionError:
                pass
            assert taken < SIZES[path]


async def test_client_that_is_slow_but_reads_gets_everything() -> None:
    async with connected(get("/large", "connection: close"), read_ahead=65536) as (reader, _):
        taken, started = 0, asyncio.get_running_loop().time()
        while piece := await reader.read(131072):
            taken += len(piece)
            await asyncio.sleep(0.02)
        assert asyncio.get_running_loop().time() - started > 2 * TIMEOUT_S
    assert taken > SIZES["/large"]


async def test_stream_may_last_longer_than_every_timeout() -> None:
    async with connected(get("/drip")) as (reader, _):
        async with asyncio.timeout(60):
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(100):
                await reader.readexactly(64)


async def test_what_is_not_http_gets_the_envelope() -> None:
    async with connected(b"HELO\r\n\r\n") as (reader, _):
        head, _, body = (await reader.read(4096)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"x-content-type-options: nosniff" in head
        assert json.loads(body)["error"]["code"] == "invalid_http"


def test_uvicorn_is_a_version_whose_undocumented_members_are_known() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    (uvicorn_needed,) = [one for one in map(Requirement, project["dependencies"]) if one.name == "uvicorn"]
    assert any(bound.operator == "<" for bound in uvicorn_needed.specifier), "a new minor version may change them"
    assert importlib.metadata.version("uvicorn") in uvicorn_needed.specifier


def test_methods_of_uvicorns_that_are_overridden_are_there_and_called_as_before() -> None:
    ours = {name for name, member in vars(http_server.Connection).items() if inspect.isfunction(member)}
    assert vars(HttpToolsProtocol).keys() >= OVERRIDDEN
    assert {name for name in ours if hasattr(HttpToolsProtocol, name)} == OVERRIDDEN
    for name in OVERRIDDEN:
        own, overridden = (inspect.signature(vars(one)[name]) for one in (http_server.Connection, HttpToolsProtocol))
        assert list(own.parameters) == list(overridden.parameters), name


async def test_attributes_of_uvicorns_that_are_read_are_there() -> None:
    protocol = HttpToolsProtocol(http_server.configure(app, ServerSettings(), Metrics()), ServerState(), {})
    assert {"transport", "cycle", "loop", "timeout_keep_alive_task"} <= vars(protocol).keys()
    assert {"response_complete", "more_body"} <= set(RequestResponseCycle.__init__.__code__.co_names)
    assert isinstance(ServerState().tasks, set)
    assert "capture_signals" in vars(uvicorn.Server)
    assert "self.capture_signals()" in inspect.getsource(uvicorn.Server.serve)
