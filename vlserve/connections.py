"""Clients' connections: uvicorn's HTTP/1.1, with deadlines for the head of a request and for a client that does not
read, a cap on what is not body, and refusals in OpenAI's envelope.

A request's body has its own deadline, where it is read (app.py).
"""

import asyncio
import resource
from typing import ClassVar

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vlserve.config import Server
from vlserve.errors import InvalidRequest, VlserveError

# Line, headers, chunk sizes and trailers of one request: this, and as much again as its body has.
_MOST_OVERHEAD_BYTES = 64 * 1024
_HEADERS = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
]


def configure(app: ASGIApp, server: Server) -> uvicorn.Config:
    """What uvicorn is to do for this service."""

    class Limited(Connection):
        head_timeout_s = server.head_timeout_s
        stall_timeout_s = server.body_timeout_s

    return uvicorn.Config(
        app,
        http=Limited,
        ws="none",
        port=server.port,
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        headers=_HEADERS,
        timeout_graceful_shutdown=1,
    )


def raise_file_limit() -> None:
    """A connection is a file, and many systems allow a process 1,024 of them unless it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1_048_576 if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Connection(HttpToolsProtocol):
    """One client's connection."""

    head_timeout_s: ClassVar[float]
    stall_timeout_s: ClassVar[float]

    _head: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _overhead = _body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._head_is_here()
        self._reads_again()

    def data_received(self, data: bytes) -> None:
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead > _MOST_OVERHEAD_BYTES + self._body and not self.transport.is_closing():
            if self._head:
                self._refuse(InvalidRequest("The head of the request is too large.", code="head_too_large"), 431)
            else:
                self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._head_is_here()

    def on_body(self, body: bytes) -> None:
        self._overhead -= len(body)
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._overhead = self._body = 0
        self._reads_again()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.more_body:  # refused before its body had come: read for a while what no one wants, then end it
            self._does_not_read()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._does_not_read()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reads_again()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        if self.transport.get_write_buffer_size():  # it closes once this is gone, which may never be
            self._does_not_read()

    def send_400_response(self, msg: str) -> None:
        self._refuse(InvalidRequest(msg, code="invalid_http"), 400)

    def _refuse(self, error: VlserveError, status: int) -> None:
        body = error.body()
        head = [f"HTTP/1.1 {status} Bad Request", "content-type: application/json", f"content-length: {len(body)}"]
        head += [f"{name}: {value}" for name, value in (*_HEADERS, ("connection", "close"))]
        self.transport.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        self.transport.close()

    def _expect_head(self) -> None:
        if not self._head:
            self._head = self.loop.call_later(self.head_timeout_s, self.transport.abort)

    def _head_is_here(self) -> None:
        if self._head:
            self._head.cancel()
            self._head = None

    def _does_not_read(self) -> None:
        if not self._stall:
            self._stall = self.loop.call_later(self.stall_timeout_s, self.transport.abort)

    def _reads_again(self) -> None:
        if self._stall:
            self._stall.cancel()
            self._stall = None
