"""One HTTP/1.1 connection to an engine, with flow control in both directions."""

import asyncio
from collections.abc import Iterator

import httptools

Body = tuple[bytes | bytearray | memoryview, ...]
_WRITE_PIECE_BYTES = 256 * 1024
_READ_AHEAD_BYTES = 64 * 1024  # buffered from an engine for a client that reads slowly
_MOST_OVERHEAD_BYTES = 64 * 1024  # received without a byte of the body: of headers, or of chunk sizes and trailers


class EngineConnectionError(ConnectionError):
    """The engine cannot be reached, closed the connection before its answer was complete, or did not send HTTP/1.1.

    ``errno`` is set if connecting failed.
    """


class EngineAnswer:
    """An engine's answer."""

    def __init__(self, connection: "EngineConnection") -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_complete = False
        """Whether all of the answer was received."""
        self._connection = connection
        self._received: list[bytes] = []
        self.buffered = 0
        """Bytes received and not yet returned by ``receive``."""

    def header(self, name: str) -> str:
        """Return a header's value, or an empty string."""
        wanted = name.encode()
        return next((value.decode("latin-1") for each, value in self.headers if each.lower() == wanted), "")

    async def receive(self) -> bytes:
        """Return what has arrived of the body, of more than 64 KiB a part; waits for it. Empty at the end.

        Raises EngineConnectionError if the connection was lost before the end.
        """
        while not self._received:
            if self.is_complete:
                return b""
            await self._connection.wait()
        data = self._take()
        if self.buffered <= _READ_AHEAD_BYTES:
            self._connection.resume_reading()
        return data

    def _take(self) -> bytes:
        """A part at a time: while a client reads slowly, the rest is not held a second and third time as events."""
        if self.buffered <= _READ_AHEAD_BYTES:
            pieces, self._received = self._received, []
        else:
            size = count = 0
            for piece in self._received:
                if count and size + len(piece) > _READ_AHEAD_BYTES:
                    break
                size, count = size + len(piece), count + 1
            pieces, self._received = self._received[:count], self._received[count:]
        self.buffered -= sum(map(len, pieces))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read(self) -> bytes:
        """Return the rest of the body. Raises EngineConnectionError."""
        pieces = []
        while piece := await self.receive():
            pieces.append(piece)
        return b"".join(pieces)

    def add(self, data: bytes) -> None:
        self._received.append(data)
        self.buffered += len(data)


class EngineConnection(asyncio.Protocol):
    """One connection, and the answer that is received on it."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._answer = EngineAnswer(self)
        self._answer.is_complete = True  # nothing was requested
        self._fault: EngineConnectionError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_reading_paused = self._is_writing_paused = False
        self._has_head = self._is_sent = self._keeps_alive = False
        self._overhead = 0

    # For the client.

    @property
    def is_closed(self) -> bool:
        return self._fault is not None or self._transport.is_closing()

    @property
    def is_reusable(self) -> bool:
        """Whether another request may be sent: this one was sent and answered completely, and all of it was read."""
        is_complete = self._is_sent and self._answer.is_complete
        return is_complete and self._keeps_alive and not self._is_reading_paused and not self.is_closed

    def abort(self) -> None:
        self._transport.abort()

    async def send(self, head: bytes, body: Body) -> None:
        """Send a request, as fast as the engine reads it. Returns early if it is answered before. Raises
        EngineConnectionError."""
        self._answer = EngineAnswer(self)
        self._has_head = self._is_sent = False
        self._overhead = 0
        if sum(map(len, body)) <= _WRITE_PIECE_BYTES:
            self._transport.writelines((head, *body))
        else:
            self._transport.write(head)
            for number, piece in enumerate(_pieces(body)):
                if number:
                    await asyncio.sleep(0)  # an engine that reads as fast must not keep other requests waiting
                    if not await self._may_write():
                        return
                self._transport.write(piece)
                if not await self._may_write():
                    return
        self._is_sent = True

    async def _may_write(self) -> bool:
        """Wait until the engine reads; False if it has answered. Raises EngineConnectionError."""
        while (self._is_writing_paused or self._fault) and not self._has_head:
            await self.wait()
        return not self._has_head

    async def until_head(self) -> EngineAnswer:
        """Wait for status and headers. Raises EngineConnectionError."""
        while not self._has_head:
            await self.wait()
        return self._answer

    async def wait(self) -> None:
        """Wait for bytes, the end of the answer, or room to write. Raises EngineConnectionError."""
        if self._fault:  # a copy: an exception that is raised again keeps the frames, and with them the body
            raise EngineConnectionError(*self._fault.args)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def resume_reading(self) -> None:
        if self._is_reading_paused:
            self._is_reading_paused = False
            if not self.is_closed:
                self._transport.resume_reading()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, problem: str) -> None:
        self._fault = self._fault or EngineConnectionError(problem)
        self._transport.abort()
        self._wake()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def eof_received(self) -> None:
        """The transport closes once all is written, which an engine that does not read any more would prevent."""
        if self._transport.get_write_buffer_size():
            self._fail("the engine closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._has_head and exc is None and not _has_length(self._answer):
            self._answer.is_complete = True
        self._fail("the engine closed the connection")

    def data_received(self, data: bytes) -> None:
        self._overhead += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"the engine's answer is not valid HTTP/1.1: {error}")
        if self._overhead > _MOST_OVERHEAD_BYTES:
            self._fail("the engine's headers are too long")
        self._wake()

    def pause_writing(self) -> None:
        self._is_writing_paused = True

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        self._wake()

    # httptools

    def on_message_begin(self) -> None:
        if self._answer.is_complete:
            raise httptools.HttpParserError("the engine sent more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:
            self._answer.headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self._answer.status = status
            self._has_head = True
            self._keeps_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        self._answer.add(body)
        if self._answer.buffered > _READ_AHEAD_BYTES and not self._is_reading_paused:
            self._is_reading_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._has_head:
            self._answer.is_complete = True
        else:  # a 1xx: the answer follows
            self._answer.headers.clear()


def _has_length(answer: EngineAnswer) -> bool:
    """Whether the end of an answer is marked; if not, the end of the connection is its end."""
    return bool(answer.header("content-length") or answer.header("transfer-encoding"))


def _pieces(body: Body) -> Iterator[memoryview]:
    for part in body:
        view = memoryview(part)
        for start in range(0, len(view), _WRITE_PIECE_BYTES):
            yield view[start : start + _WRITE_PIECE_BYTES]
