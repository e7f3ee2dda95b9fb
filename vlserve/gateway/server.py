"""HTTP server: uvicorn's HTTP/1.1 with timeouts for request heads and for clients that do not read, a limit on the
size of heads, and errors in OpenAI's format.

The timeout for request bodies is in request_body.py.
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
from vlserve.gateway.access_log import refuse
from vlserve.gateway.http_parser import RequestParser
from vlserve.metrics import Metrics

# Limit for the request line, headers, chunk sizes and trailers, in addition to the size of the body.
_MOST_OVERHEAD_BYTES = 64 * 1024
_MIN_READ_BYTES = 16 * 1024  # that a client must read of an answer within stall_timeout_s
_KEEP_ALIVE_S = 65  # longer than the 60 s of most proxies, so that they close idle connections and lose no request
_HEADERS = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
]


def configure(app: ASGIApp, server: Server, metrics: Metrics) -> uvicorn.Config:
    """Return uvicorn's configuration for this service."""

    class Limited(ClientConnection):
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
        # uvicorn's default trusts X-Forwarded-For from every process on this machine.
        proxy_headers=bool(server.trusted_proxies),
        forwarded_allow_ips=[str(network) for network in server.trusted_proxies],
        timeout_graceful_shutdown=1,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )


def raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard limit: many systems default to 1,024, and connections count."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1_048_576 if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class ClientConnection(HttpToolsProtocol):
    """One client's connection, with three timers against clients that keep it open without use."""

    head_timeout_s: ClassVar[float]
    stall_timeout_s: ClassVar[float]
    own_metrics: ClassVar[Metrics]
    parser: RequestParser

    _head_timer: asyncio.TimerHandle | None = None
    """Runs until a request's head is complete."""
    _write_timer: asyncio.TimerHandle | None = None
    """Runs while the client has not read all buffered bytes."""
    _body_timer: asyncio.TimerHandle | None = None
    """Runs while a body is still being received after its request was answered."""
    _overhead = _body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.parser = RequestParser(self)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._head_timer, self._write_timer, self._body_timer):
            if timer:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._overhead += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._overhead > _MOST_OVERHEAD_BYTES + self._body:
            if self._head_timer:
                self._refuse(HeadTooLarge("The head of the request is too large."))
            else:
                self.transport.abort()
        elif (not self.cycle or self.cycle.response_complete) and not self.timeout_keep_alive_task:
            self._start_head_timer()  # uvicorn's timer is stopped by any bytes, even if they begin no request

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._start_head_timer()

    def on_headers_complete(self) -> None:
        if self.parser.will_parse_again():
            return
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None
        if self.cycle and not self.cycle.response_complete:
            # HTTP pipelining, which clients no longer use: uvicorn would not report the disconnect to the first
            # request.
            self.transport.abort()
            return
        if not self.url.startswith(b"/"):
            self._replace_host()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._overhead -= len(body)
        self._body += len(body)
        if not self.cycle.body:  # adding to empty bytes copies nothing, nor does receive() then
            self.cycle.body = b""  # type: ignore[assignment]
        elif isinstance(self.cycle.body, bytes):  # thousands of small chunks in one read would be copied each time
            self.cycle.body = bytearray(self.cycle.body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.will_parse_again():
            return
        super().on_message_complete()
        self._overhead = self._body = 0
        if self._body_timer:
            self._body_timer.cancel()
            self._body_timer = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._start_write_timer()
        if self.cycle.more_body and not self._body_timer:
            self._body_timer = self.loop.call_later(self.stall_timeout_s, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_write_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer:
            self._write_timer.cancel()
            self._write_timer = None

    def send_400_response(self, msg: str) -> None:
        self._refuse(InvalidRequest(msg, code="invalid_http"))

    def _refuse(self, error: VlserveError) -> None:
        refuse(self.own_metrics, error, client=self.client and self.client[0])
        body = error.body()
        head = [f"HTTP/1.1 {error.status} {http.HTTPStatus(error.status).phrase}", "content-type: application/json"]
        head += [f"{name}: {value}" for name, value in (*_HEADERS, ("connection", "close"))]
        self.transport.write("\r\n".join([*head, f"content-length: {len(body)}", "", ""]).encode() + body)
        self.transport.close()
        self._start_write_timer()

    def _replace_host(self) -> None:
        """A target like http://host/path replaces the Host header (RFC 9112, 3.2.2)."""
        target = httptools.parse_url(self.url)
        if target.host:
            host = target.host if b":" not in target.host else b"[" + target.host + b"]"
            port = b":%d" % target.port if target.port else b""
            self.headers[:] = [header for header in self.headers if header[0] != b"host"]
            self.headers.append((b"host", host + port))

    def _start_head_timer(self) -> None:
        if not self._head_timer:
            self._head_timer = self.loop.call_later(self.head_timeout_s, self.transport.abort)

    def _start_write_timer(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        if waiting and not self._write_timer:
            self._write_timer = self.loop.call_later(self.stall_timeout_s, self._check_progress, waiting)

    def _check_progress(self, before: int) -> None:
        """Disconnect a client that has read next to nothing; slow clients are kept."""
        self._write_timer = None
        if self.transport.get_write_buffer_size() > max(0, before - _MIN_READ_BYTES):
            self.transport.abort()
        else:
            self._start_write_timer()
