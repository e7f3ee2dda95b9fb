"""Clients' connections: uvicorn's HTTP/1.1, with deadlines for the head of a request and for a client that does not
read, a cap on what is not body, and refusals in OpenAI's envelope.

A request's body has its own deadline, where it is read (app.py).
"""

import asyncio
import http
import resource
from typing import ClassVar

import httptools
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vlserve.config.settings import Server
from vlserve.errors import HeadTooLarge, InvalidRequest, VlserveError
from vlserve.gateway.accounting import refuse
from vlserve.metrics import Metrics

# Line, headers, chunk sizes and trailers of one request: this, and as much again as its body has.
_MOST_OVERHEAD_BYTES = 64 * 1024
_LEAST_TAKEN_BYTES = 16 * 1024  # of an answer, within the time for a body
_IDLE_S = 65  # between requests; most proxies close theirs after 60, and the one who is second loses no request
_HEADERS = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
]


def configure(app: ASGIApp, server: Server, metrics: Metrics) -> uvicorn.Config:
    """What uvicorn is to do for this service."""

    class Limited(Connection):
        head_timeout_s = server.head_timeout_s
        stall_timeout_s = server.body_timeout_s
        own_metrics = metrics

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
        # uvicorn's default believes the X-Forwarded-For of every program on this machine.
        proxy_headers=bool(server.trusted_proxies),
        forwarded_allow_ips=[str(network) for network in server.trusted_proxies],
        timeout_graceful_shutdown=1,
        timeout_keep_alive=_IDLE_S,
    )


def raise_file_limit() -> None:
    """A connection is a file, and many systems allow a process 1,024 of them unless it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1_048_576 if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Connection(HttpToolsProtocol):
    """One client's connection. Three timers, each for one way to keep it open for nothing."""

    head_timeout_s: ClassVar[float]
    stall_timeout_s: ClassVar[float]
    own_metrics: ClassVar[Metrics]

    _head: asyncio.TimerHandle | None = None
    """A request's head is expected."""
    _reader: asyncio.TimerHandle | None = None
    """Bytes wait for the client to take them."""
    _rest: asyncio.TimerHandle | None = None
    """A body is still coming whose request was answered already."""
    _overhead = _body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._head, self._reader, self._rest):
            if timer:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._overhead += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._overhead > _MOST_OVERHEAD_BYTES + self._body:
            if self._head:
                self._refuse(HeadTooLarge("The head of the request is too large."))
            else:
                self.transport.abort()
        elif (not self.cycle or self.cycle.response_complete) and not self.timeout_keep_alive_task:
            self._expect_head()  # bytes that begin no request end uvicorn's own timer, too

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        if self._head:
            self._head.cancel()
            self._head = None
        if self.cycle and not self.cycle.response_complete:
            # A second request before the first is answered: no client does that any more, and uvicorn would not tell
            # the first one when its client leaves.
            self.transport.abort()
            return
        if not self.url.startswith(b"/"):
            self._take_host_from_target()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._overhead -= len(body)
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._overhead = self._body = 0
        if self._rest:
            self._rest.cancel()
            self._rest = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_reader()
        if self.cycle.more_body and not self._rest:
            self._rest = self.loop.call_later(self.stall_timeout_s, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reader:
            self._reader.cancel()
            self._reader = None

    def send_400_response(self, msg: str) -> None:
        self._refuse(InvalidRequest(msg, code="invalid_http"))

    def _refuse(self, error: VlserveError) -> None:
        refuse(self.own_metrics, error, client=self.client and self.client[0])
        body = error.body()
        head = [f"HTTP/1.1 {error.status} {http.HTTPStatus(error.status).phrase}", "content-type: application/json"]
        head += [f"{name}: {value}" for name, value in (*_HEADERS, ("connection", "close"))]
        self.transport.write("\r\n".join([*head, f"content-length: {len(body)}", "", ""]).encode() + body)
        self.transport.close()
        self._watch_reader()

    def _take_host_from_target(self) -> None:
        """A target like http://host/path replaces the Host header (RFC 9112, 3.2.2)."""
        target = httptools.parse_url(self.url)
        if target.host:
            host = target.host if b":" not in target.host else b"[" + target.host + b"]"
            port = b":%d" % target.port if target.port else b""
            self.headers[:] = [header for header in self.headers if header[0] != b"host"]
            self.headers.append((b"host", host + port))

    def _expect_head(self) -> None:
        if not self._head:
            self._head = self.loop.call_later(self.head_timeout_s, self.transport.abort)

    def _watch_reader(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        if waiting and not self._reader:
            self._reader = self.loop.call_later(self.stall_timeout_s, self._check_reader, waiting)

    def _check_reader(self, before: int) -> None:
        """A client that takes next to nothing is cut; one that is slow is not."""
        self._reader = None
        if self.transport.get_write_buffer_size() > max(0, before - _LEAST_TAKEN_BYTES):
            self.transport.abort()
        else:
            self._watch_reader()
