"""A forward proxy for one browser that connects to the given origins only.

It resolves each host name itself, checks every address with ``may_connect``, and connects to one of the checked
addresses. Requests to other origins (trackers, fonts, other ports of this machine) get a 403.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from yarl import URL

from vlserve.errors import VlserveError
from vlserve.media.resolver import ResolverThreads, look_up

MayConnect = Callable[[str], bool]
"""Whether an IP address, as text, may be connected to."""

# Hosts that Chromium itself requests on any page (the search engine is Debian's); refused, and not reported.
_BROWSERS_OWN = frozenset(
    {
        *("accounts.google.com", "clients2.google.com", "content-autofill.googleapis.com"),
        *("optimizationguide-pa.googleapis.com", "start.duckduckgo.com", "update.googleapis.com"),
    }
)
_LARGEST_HEAD = 64 * 1024
_HEAD_TIMEOUT_S, _CONNECT_TIMEOUT_S = 10.0, 10.0
_PIECE = 64 * 1024
_MOST_BLOCKED = 100
_MOST_LOOK_UPS, _BROWSER = 64, "browser"
_HOP_BY_HOP = re.compile(rb"(?im)^(?:connection|proxy-[a-z-]+|keep-alive):[^\r\n]*\r\n")


def origin(url: str) -> str:
    """``scheme://host[:port]``, as a browser compares origins. Raises ValueError."""
    try:
        read = URL(url)
    except (ValueError, IndexError) as error:  # IndexError: yarl 1.25 for "http://[@"
        raise ValueError(f"{url[:200]!r} is no http(s) address of a page") from error
    if read.user or read.password:
        raise ValueError("an address with a user name or a password is not accepted")
    if read.scheme not in ("http", "https") or not read.host:
        raise ValueError(f"{url[:200]!r} is no http(s) address of a page")
    return str(read.origin())


@dataclass
class OriginProxy:
    """Listens on 127.0.0.1 while it is open; ``blocked`` collects the origins of refused requests."""

    origins: Collection[str]
    may_connect: MayConnect
    port: int = 0
    blocked: set[str] = field(default_factory=set)
    failures: dict[str, str] = field(default_factory=dict)
    """Origin → why the connection failed."""
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    _resolver: ResolverThreads = field(
        default_factory=lambda: ResolverThreads("browser's resolver", look_up, _MOST_LOOK_UPS)
    )

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of the browser: one request, or one tunnel."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (asyncio starts one for each connection)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            try:
                await self._serve(reader, writer)
            finally:
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_HEAD_TIMEOUT_S):
            head = await reader.readuntil(b"\r\n\r\n")
        line, _, rest = head.partition(b"\r\n")
        try:
            method, target, _ = line.decode("ascii").split(" ")
            url = URL(f"https://{target}" if method == "CONNECT" else target)
            wanted = self._allowed(url, is_tunnel=method == "CONNECT")
        except (ValueError, IndexError):
            await _refuse(writer, "400 Bad Request")
            return
        if not wanted:
            if url.host not in _BROWSERS_OWN:
                self._note_blocked(url)
            await _refuse(writer, "403 Forbidden")
            return
        try:
            far_reader, far_writer = await self._connect(url)
        except (OSError, TimeoutError) as error:
            self.failures[str(url.origin())] = str(error) or "it takes too long"
            await _refuse(writer, "502 Bad Gateway")
            return
        try:
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                start = f"{method} {url.raw_path_qs or '/'} HTTP/1.1\r\nConnection: close\r\n".encode("ascii")
                far_writer.write(start + _HOP_BY_HOP.sub(b"", rest))
            await _splice(reader, writer, far_reader, far_writer)
        finally:
            far_writer.close()

    def _note_blocked(self, url: URL) -> None:
        """Up to a limit, since a page may request any number of origins."""
        if len(self.blocked) < _MOST_BLOCKED:
            self.blocked.add(str(url.origin()))

    def _allowed(self, url: URL, *, is_tunnel: bool) -> bool:
        """A tunnel is compared by host and port, since it may carry TLS or a WebSocket without TLS."""
        if not url.host or not url.port:
            raise ValueError("no host")
        if not is_tunnel:
            return str(url.origin()) in self.origins
        places = {(one.host, one.port) for one in map(URL, self.origins)}
        return (url.host, url.port) in places

    async def _connect(self, url: URL) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            try:
                addresses = await self._resolver.addresses(url.host or "", _BROWSER)
            except VlserveError as error:
                raise OSError(error.message) from None
            if not addresses:
                raise OSError("its host name is unknown")
            if not all(self.may_connect(address) for address in addresses):
                self._note_blocked(url)
                raise OSError("its address may not be connected to")
            last = OSError("no address")
            for address in dict.fromkeys(addresses):
                try:
                    return await asyncio.open_connection(address, url.port)
                except OSError as error:
                    last = error
            raise last

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def open_proxy(origins: Collection[str], may_connect: MayConnect) -> AsyncIterator[OriginProxy]:
    """A proxy for these origins (each as `origin` writes it), open while the context is."""
    proxy = OriginProxy(frozenset(origins), may_connect)
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0, limit=_LARGEST_HEAD)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()


async def _refuse(writer: asyncio.StreamWriter, status: str) -> None:
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
    await writer.drain()


async def _splice(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
) -> None:
    """Copy both ways until the far side closes."""
    sending = asyncio.create_task(_pump(reader, far_writer))
    try:
        await _pump(far_reader, writer)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE):
        writer.write(piece)
        await writer.drain()
