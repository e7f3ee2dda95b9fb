"""Connections: timeouts for idle clients, and none for slow ones."""

import asyncio
import importlib.metadata
import inspect
import json
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

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
KEEP_ALIVE_S = 1
SIZES = {"/small": 40_000, "/large": 12_000_000}
OVERRIDDEN = {
    *("connection_made", "connection_lost", "data_received", "pause_writing", "resume_writing", "send_400_response"),
    *("on_message_begin", "on_headers_complete", "on_body", "on_message_complete", "on_response_complete"),
}


@pytest.fixture(autouse=True)
def _short_keep_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "_KEEP_ALIVE_S", KEEP_ALIVE_S)


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
async def connected(
    sent: bytes, *, read_ahead: int = 1024, timeout_s: float = TIMEOUT_S
) -> AsyncIterator[tuple[asyncio.StreamReader, Server]]:
    """A connection that has sent ``sent``, and the server that it is to."""
    settings = ServerSettings(port=0, head_timeout_s=timeout_s, body_timeout_s=timeout_s)
    server = Server(http_server.configure(app, settings, Metrics()))
    async with server.running() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=read_ahead)
        writer.write(sent)
        yield reader, server
        writer.transport.abort()


async def until_cut(reader: asyncio.StreamReader) -> None:
    """Read to the end: only the server closes the connection."""
    async with asyncio.timeout(60):
        try:
            while await reader.read(65536):
                pass
        except ConnectionError:
            pass


def get(path: str = "/", *more: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/{version}", "host: x", *more, "", ""]).encode()


async def test_bytes_that_begin_no_request_do_not_keep_a_connection_open() -> None:
    for sent in (b"", b"\r\n", get() + b"\r\n", get() + b"GET / HT"):
        async with connected(sent) as (reader, _):
            await until_cut(reader)


async def test_rest_of_a_body_is_read_for_a_limited_time_after_the_answer() -> None:
    """From a client that never stops sending, and from one that sends the rest and then nothing."""
    for more in (b"x" * 10, b"x" * 1000):
        async with connected(get("/", "content-length: 1000") + more) as (reader, _):
            await until_cut(reader)


async def test_pipelined_request_closes_the_connection() -> None:
    async with connected(get("/drip") + get("/drip")) as (reader, _):
        await until_cut(reader)


async def test_answer_that_is_not_read_is_dropped() -> None:
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


async def test_slow_client_gets_everything() -> None:
    timeout_s = 2.0  # a busy machine may stop the client for longer than TIMEOUT_S
    sent = get("/large", "connection: close")
    async with connected(sent, read_ahead=65536, timeout_s=timeout_s) as (reader, _):
        taken, started = 0, asyncio.get_running_loop().time()
        while piece := await reader.read(131072):
            taken += len(piece)
            await asyncio.sleep(0.05)
        assert asyncio.get_running_loop().time() - started > 2 * timeout_s
    assert taken > SIZES["/large"]


async def test_stream_may_last_longer_than_every_timeout() -> None:
    async with connected(get("/drip")) as (reader, _):
        async with asyncio.timeout(60):
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(100):
                await reader.readexactly(64)


async def test_invalid_http_is_an_error_in_openais_format() -> None:
    async with connected(b"HELO\r\n\r\n") as (reader, _):
        head, _, body = (await reader.read(4096)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"x-content-type-options: nosniff" in head
        assert json.loads(body)["error"]["code"] == "invalid_http"


def test_undocumented_members_are_checked_for_this_version_of_uvicorn() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    (uvicorn_needed,) = [one for one in map(Requirement, project["dependencies"]) if one.name == "uvicorn"]
    assert any(bound.operator == "<" for bound in uvicorn_needed.specifier), "a new minor version may change them"
    assert importlib.metadata.version("uvicorn") in uvicorn_needed.specifier


def test_overridden_methods_of_uvicorn_exist_and_are_called() -> None:
    ours = {name for name, member in vars(http_server.ClientConnection).items() if inspect.isfunction(member)}
    assert vars(HttpToolsProtocol).keys() >= OVERRIDDEN
    assert {name for name in ours if hasattr(HttpToolsProtocol, name)} == OVERRIDDEN
    for name in OVERRIDDEN:
        own, overridden = (
            inspect.signature(vars(one)[name]) for one in (http_server.ClientConnection, HttpToolsProtocol)
        )
        assert list(own.parameters) == list(overridden.parameters), name


async def test_used_attributes_of_uvicorn_exist() -> None:
    protocol = HttpToolsProtocol(http_server.configure(app, ServerSettings(), Metrics()), ServerState(), {})
    assert {"transport", "cycle", "loop", "timeout_keep_alive_task", "parser"} <= vars(protocol).keys()
    protocol.on_message_begin()
    assert (protocol.url, protocol.headers) == (b"", [])
    assert {"response_complete", "more_body"} <= set(RequestResponseCycle.__init__.__code__.co_names)
    assert isinstance(ServerState().tasks, set)
    assert "capture_signals" in vars(uvicorn.Server)
    assert "self.capture_signals()" in inspect.getsource(uvicorn.Server.serve)


def test_small_chunks_of_one_read_are_appended_in_place() -> None:
    """A read of 256 KB holds 23,000 chunks of six bytes; copying what is there for each would block all requests."""
    connection: Any = http_server.ClientConnection.__new__(http_server.ClientConnection)
    connection.parser = SimpleNamespace(should_upgrade=lambda: False)
    cycle = SimpleNamespace(body=bytearray(), response_complete=False, message_event=asyncio.Event())
    connection.cycle = cycle
    for piece in (b"first", b"second"):
        connection.on_body(piece)
    body = cycle.body
    connection.on_body(b"third")
    assert cycle.body is body
    assert bytes(body) == b"firstsecondthird"
