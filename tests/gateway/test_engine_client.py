"""The HTTP client for engines, over a raw asyncio server whose bytes each test decides."""

import asyncio
import contextlib
import pathlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvloop

from tests.conftest import until
from vlserve.engines.view import Address
from vlserve.gateway import engine_client, engine_connection
from vlserve.gateway.engine_client import EngineClient
from vlserve.gateway.engine_connection import EngineConnection, EngineConnectionError

LIMIT_S = 60.0  # only a hang exceeds it
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nRetry-After: 7\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nx-trailer: 1\r\n\r\n"
)
UNTIL_CLOSED = b"HTTP/1.1 200 OK\r\n\r\nhello"
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
MIB = 2**20

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Engine:
    """A server that passes each connection to ``handle``; the client that is tested is connected to it."""

    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        self.connections: list[asyncio.StreamWriter] = []
        self.heads: list[bytes] = []
        self.faults: list[BaseException] = []
        self.client: EngineClient

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await self.handle(reader, writer)
        except Exception as fault:  # noqa: BLE001  (the fixture checks that there is none)
            self.faults.append(fault)
        finally:
            writer.close()

    async def request(self, reader: asyncio.StreamReader) -> bytes:
        """Read one request. Returns its body."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        sizes = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return await reader.readexactly(int(sizes[0].partition(b":")[2])) if sizes else b""


@pytest.fixture
async def engine(short_folder: pathlib.Path) -> AsyncIterator[Engine]:
    """An engine on a Unix socket that answers WHOLE; tests replace ``handle``."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await running.request(reader)
            writer.write(WHOLE)

    running = Engine(answer)
    path = str(short_folder / "engine.sock")
    running.client = EngineClient(Address("http://engine/base", path, {"authorization": "Bearer k"}))
    async with asyncio.timeout(LIMIT_S), await asyncio.start_unix_server(running.serve, path, limit=MIB):
        yield running
        running.client.close()
        for writer in running.connections:
            writer.close()
    assert running.faults == []


def sends(engine: Engine, *pieces: bytes, closes: bool = False) -> None:
    """Let the engine answer every request with these pieces, each in a write of its own."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await engine.request(reader)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if closes:
                return

    engine.handle = handle


async def ask(engine: Engine, *body: bytes) -> tuple[int, bytes]:
    async with engine.client.post("/v1/x", body) as answer:
        return answer.status, await answer.read()


async def test_request_has_the_engines_headers_and_its_own(engine: Engine) -> None:
    async with engine.client.post("/v1/x", (b"ab", memoryview(b"cd")), {"x-request-id": "7"}) as answer:
        assert (answer.status, answer.header("retry-after"), answer.header("x")) == (200, "7", "")
        assert await answer.read() == b"hello"
    async with engine.client.get("/metrics") as answer:
        assert await answer.read() == b"hello"
    posted, got = (head.decode().split("\r\n") for head in engine.heads)
    both = {"host: engine", "accept-encoding: identity", "authorization: Bearer k"}
    assert (posted[0], got[0]) == ("POST /base/v1/x HTTP/1.1", "GET /base/metrics HTTP/1.1")
    assert set(posted[1:-2]) == both | {"content-type: application/json", "content-length: 4", "x-request-id: 7"}
    assert set(got[1:-2]) == both


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb"])
async def test_header_with_a_line_break_is_not_sent(engine: Engine, value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        engine.client.post("/", (), {"x": value})


@pytest.mark.parametrize("raw", [WHOLE, CHUNKED, UNTIL_CLOSED], ids=["length", "chunked", "closed"])
async def test_answer_may_be_split_at_every_byte(raw: bytes) -> None:
    for cut in range(1, len(raw)):
        connection = engine_connection.EngineConnection()
        connection.connection_made(Closed())
        await connection.send(b"GET / HTTP/1.1\r\n\r\n", ())
        for piece in (raw[:cut], raw[cut:]):
            connection.data_received(piece)
        if raw is UNTIL_CLOSED:
            connection.connection_lost(None)
        answer = await connection.until_head()
        assert (answer.status, await answer.read()) == (200, b"hello"), cut
        assert connection.is_reusable is (raw is not UNTIL_CLOSED)


class Closed(asyncio.Transport):
    """A transport to nowhere."""

    aborted = False

    def writelines(self, pieces: Any) -> None:
        pass

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize("raw", [WHOLE, CHUNKED])
async def test_connection_is_reused(engine: Engine, raw: bytes) -> None:
    sends(engine, raw)
    assert [await ask(engine, b"x") for _ in range(3)] == [(200, b"hello")] * 3
    assert len(engine.connections) == 1


@pytest.mark.parametrize("raw", [WHOLE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), UNTIL_CLOSED])
async def test_connection_that_the_engine_closes_is_not_reused(engine: Engine, raw: bytes) -> None:
    sends(engine, raw, closes=True)
    assert [await ask(engine, b"x") for _ in range(2)] == [(200, b"hello")] * 2
    assert len(engine.connections) == 2


async def test_idle_connection_that_the_engine_has_closed_is_replaced(engine: Engine) -> None:
    assert await ask(engine) == (200, b"hello")
    [connection] = engine.client._idle
    engine.connections[0].close()
    await until(lambda: connection.is_closed)
    assert await ask(engine) == (200, b"hello")
    assert len(engine.connections) == 2


async def test_idle_connections_are_closed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_client, "KEEP_ALIVE_S", 0.05)
    assert await ask(engine) == (200, b"hello")
    await until(lambda: engine.client._idle == [] and engine.connections[0].is_closing())


async def test_request_is_sent_once_even_if_the_engine_closes_a_reused_connection(engine: Engine) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await engine.request(reader)
        writer.write(WHOLE)
        await engine.request(reader)  # and no answer

    engine.handle = handle
    assert await ask(engine) == (200, b"hello")
    with pytest.raises(EngineConnectionError):
        await ask(engine)
    assert (len(engine.connections), len(engine.heads)) == (1, 2)


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 OK\r\n", WHOLE[:-1], HEAD + b"2\r\nhe\r\n", HEAD + b"2\r\nhe"])
async def test_connection_lost_before_the_end_is_an_error(engine: Engine, raw: bytes) -> None:
    sends(engine, raw, closes=True)
    with pytest.raises(EngineConnectionError):
        await ask(engine)


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        HEAD + b"zz\r\nhello\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello",
    ],
)
async def test_answer_that_is_not_http_is_an_error(engine: Engine, raw: bytes) -> None:
    sends(engine, raw)
    with pytest.raises(EngineConnectionError, match="not valid HTTP"):
        await ask(engine)
    await until(lambda: engine.connections[0].is_closing())


@pytest.mark.parametrize(
    "start",
    [b"HTTP/1.1 200 OK\r\nx: ", HEAD + b"2\r\nhe\r\n0\r\nx: ", HEAD + b"2;x="],
    ids=["headers", "trailers", "chunk extension"],
)
async def test_endless_headers_are_an_error(engine: Engine, start: bytes) -> None:
    sends(engine, start, *[b"x" * 16384] * 64)
    with pytest.raises(EngineConnectionError, match="too long"):
        await ask(engine)


async def test_second_answer_to_one_request_closes_the_connection(engine: Engine) -> None:
    sends(engine, WHOLE + WHOLE)
    assert [await ask(engine) for _ in range(2)] == [(200, b"hello")] * 2
    assert len(engine.connections) == 2


async def test_engine_that_cannot_be_reached_is_an_error_with_its_number(short_folder: pathlib.Path) -> None:
    with pytest.raises(EngineConnectionError) as fault:
        async with EngineClient(Address("http://engine", str(short_folder / "none"))).get("/"):
            pass
    assert fault.value.errno == 2


async def test_https_engine_is_spoken_to_in_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    first = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readexactly(1))[0] == 0x16  # a TLS handshake
        first.set()
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = EngineClient(Address(f"https://me:secret@127.0.0.1:{port}"))
        with pytest.raises(EngineConnectionError):
            async with client.get("/"):
                pass
        await first.wait()
        assert isinstance(client._tls, ssl.SSLContext)
        assert b"authorization: Basic bWU6c2VjcmV0\r\n" in client.write_head("GET", "/", {})


async def test_cancelled_request_closes_its_connection(engine: Engine) -> None:
    is_received, is_closed = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await engine.request(reader)
        is_received.set()
        assert await reader.read() == b""
        is_closed.set()

    engine.handle = handle
    task = asyncio.create_task(ask(engine, b"x"))
    await is_received.wait()
    task.cancel()
    await is_closed.wait()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_leaving_a_stream_early_closes_its_connection(engine: Engine) -> None:
    is_closed = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await engine.request(reader)
        writer.write(HEAD + b"2\r\nhe\r\n")
        assert await reader.read() == b""
        is_closed.set()

    engine.handle = handle
    async with engine.client.post("/", (b"x",)) as answer:
        assert await answer.receive() == b"he"
    assert engine.client._idle == []
    await is_closed.wait()


async def test_slow_reader_holds_the_engine_back(engine: Engine) -> None:
    """The engine cannot send more than the buffers hold while the client reads nothing; then all of it arrives."""
    sent, size = 0, 64 * MIB
    stalled = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await engine.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(bytes(MIB))
            sent += MIB
            drained = asyncio.ensure_future(writer.drain())
            await asyncio.wait((drained,), timeout=0.5)
            if not drained.done():
                stalled.set()
            await drained

    engine.handle = handle
    async with engine.client.post("/", (b"x",)) as answer:
        await stalled.wait()
        assert sent < 8 * MIB
        assert answer.buffered < MIB
        assert len(await answer.read()) == size


async def test_large_body_waits_for_the_engine(engine: Engine) -> None:
    """The connection's buffer holds one piece of a body that the engine does not read; then all of it is sent."""
    body = bytes(20 * MIB)
    may_read, received = asyncio.Event(), 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await may_read.wait()
        received = len(await engine.request(reader))
        writer.write(WHOLE)

    engine.handle = handle
    exchange = engine.client.post("/", (b"[", body, b"]"))

    async def answer() -> bytes:
        async with exchange as received:
            return await received.read()

    task = asyncio.create_task(answer())
    await until(lambda: hasattr(exchange, "_connection") and exchange._connection._is_writing_paused)
    assert exchange._connection._transport.get_write_buffer_size() < MIB
    may_read.set()
    assert (await task, received) == (b"hello", len(body) + 2)


async def test_answer_before_the_end_of_the_body_is_returned(engine: Engine) -> None:
    """An engine may refuse a body that is too large without reading it."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(WHOLE.replace(b"200 OK", b"413 Too Large"))
        assert len(await reader.read(-1)) < 20 * MIB  # the client closes the connection

    engine.handle = handle
    assert await ask(engine, bytes(20 * MIB)) == (413, b"hello")
    assert engine.client._idle == []


async def test_other_requests_run_while_a_body_goes_to_an_engine_that_reads_as_fast_as_it_is_written() -> None:
    class Fast(asyncio.Transport):
        """Takes everything at once, so that the writer never has to wait."""

        def write(self, data: bytes | bytearray | memoryview) -> None:
            turns[-1] += len(data)

    def turn() -> None:
        turns.append(0)
        loop.call_soon(turn)

    loop, turns = asyncio.get_running_loop(), [0]
    connection = EngineConnection()
    connection.connection_made(Fast())
    loop.call_soon(turn)
    await connection.send(b"head", (b"x" * (2 * MIB), b"y" * (2 * MIB)))
    assert sum(turns) == 4 * MIB + len(b"head")
    assert max(turns) < MIB


@pytest.mark.parametrize("count", [0, 1, 100_000, MIB, 3 * MIB + 1])
def test_engine_that_dies_while_it_reads_a_large_body_is_an_error(short_folder: pathlib.Path, count: int) -> None:
    """On uvloop, as in production: it raises RuntimeError for a write to a closed connection."""

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(count)
        writer.transport.abort()

    async def post() -> None:
        path = str(short_folder / "engine.sock")
        client = EngineClient(Address("http://engine", path, {}))
        async with asyncio.timeout(LIMIT_S), await asyncio.start_unix_server(die, path, limit=64 * 1024):
            for _ in range(5):
                with pytest.raises(EngineConnectionError):
                    async with client.post("/v1/chat/completions", (b"x" * (20 * MIB),)):
                        pass
        client.close()

    uvloop.run(post())
