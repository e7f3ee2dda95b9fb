"""HTTP/1.1 client for engines: requests, and a pool of connections."""

import asyncio
import base64
import functools
import socket
import ssl
from collections.abc import Mapping
from types import TracebackType

from aiohappyeyeballs import start_connection
from yarl import URL

from vlserve.engines.view import KEEP_ALIVE_S, Address
from vlserve.gateway.engine_connection import Body, EngineAnswer, EngineConnection, EngineConnectionError

_CONNECT_S = 30.0
_NEXT_ADDRESS_S = 0.25  # RFC 8305, section 8


class EngineClient:
    """Sends requests to one engine. The number of connections is not limited: admission limits requests."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._idle: list[EngineConnection] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

    def get(self, path: str) -> "Exchange":
        return Exchange(self, "GET", path, {}, ())

    def post(self, path: str, body: Body, headers: Mapping[str, str] | None = None) -> "Exchange":
        """Post a JSON body, which is not copied. It is never sent twice, because the engine may have started work."""
        size = str(sum(map(len, body)))
        own = {"content-type": "application/json", "content-length": size}
        return Exchange(self, "POST", path, {**own, **headers} if headers else own, body)

    def close(self) -> None:
        """Close idle connections. Others are closed by their exchanges."""
        self._is_closed = True
        if self._sweeper:
            self._sweeper.cancel()
        while self._idle:
            self._idle.pop().abort()

    def write_head(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        """Return a request's head. Raises ValueError for a header with a line break."""
        lines = [f"{method} {self._path}{path} HTTP/1.1", *self._headers]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join(lines)
        if not head.count("\n") == head.count("\r") == len(lines) - 1:
            raise ValueError("a header contains a line break")
        return head.encode("latin-1") + b"\r\n\r\n"

    @functools.cached_property
    def _url(self) -> URL:
        return URL(self._address.base_url)

    @functools.cached_property
    def _path(self) -> str:
        return self._url.raw_path.rstrip("/")

    @functools.cached_property
    def _headers(self) -> list[str]:
        url = self._url
        # A compressed stream would arrive in blocks.
        headers = {"host": url.host_port_subcomponent or "", "accept-encoding": "identity"}
        if url.user is not None:
            credentials = base64.b64encode(f"{url.user}:{url.password or ''}".encode()).decode()
            headers["authorization"] = f"Basic {credentials}"
        return [f"{name}: {value}" for name, value in (headers | dict(self._address.headers)).items()]

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext | None:
        return ssl.create_default_context() if self._url.scheme == "https" else None

    async def acquire(self) -> EngineConnection:
        """Return an idle connection, or a new one. Raises EngineConnectionError."""
        loop = asyncio.get_running_loop()
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed and loop.time() - connection.idle_since < KEEP_ALIVE_S:
                return connection
            connection.abort()
        try:
            async with asyncio.timeout(_CONNECT_S):
                return await self._connect(loop)
        except OSError as error:  # TimeoutError is one
            raise EngineConnectionError(error.errno, f"cannot connect to the engine: {error}") from error

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> EngineConnection:
        if self._address.socket:
            return (await loop.create_unix_connection(EngineConnection, self._address.socket))[1]
        host = self._url.raw_host or ""
        # uvloop tries addresses one after the other, and waits minutes for one that does not answer.
        addresses = await loop.getaddrinfo(host, self._url.port, type=socket.SOCK_STREAM)
        found = await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_S, interleave=1, loop=loop)
        name = host if self._tls else None
        return (await loop.create_connection(EngineConnection, sock=found, ssl=self._tls, server_hostname=name))[1]

    def release(self, connection: EngineConnection) -> None:
        """Keep a connection for the next request, or close it if its exchange is not complete."""
        if self._is_closed or not connection.is_reusable:
            connection.abort()
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.append(connection)
        self._sweeper = self._sweeper or loop.call_later(KEEP_ALIVE_S, self._sweep)

    def _sweep(self) -> None:
        """Close connections that were idle for too long."""
        loop = asyncio.get_running_loop()
        kept = []
        for connection in self._idle:
            if connection.is_closed or loop.time() - connection.idle_since >= KEEP_ALIVE_S:
                connection.abort()
            else:
                kept.append(connection)
        self._idle = kept
        self._sweeper = loop.call_later(KEEP_ALIVE_S, self._sweep) if kept else None


class Exchange:
    """A request and its answer: ``async with`` sends the request and returns the answer once its head is complete.

    Leaving the block before the answer is complete closes the connection, which cancels the engine's work.
    """

    def __init__(self, client: EngineClient, method: str, path: str, headers: Mapping[str, str], body: Body) -> None:
        self._client = client
        self._head = client.write_head(method, path, headers)
        self._body = body

    async def __aenter__(self) -> EngineAnswer:
        """Raises EngineConnectionError."""
        connection = self._connection = await self._client.acquire()
        is_answered = False
        try:
            await connection.send(self._head, self._take_body())
            answer = await connection.until_head()
            is_answered = True
            return answer
        finally:
            if not is_answered:
                connection.abort()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.release(self._connection)

    def _take_body(self) -> Body:
        """Return the body without keeping it: it should be freed as soon as it is sent."""
        body, self._body = self._body, ()
        return body
