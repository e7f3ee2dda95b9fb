"""Fetches a picture or video that a request names by its http(s) address, and can be led to no address that is not
public.

What is checked is what is connected to: a URL is parsed once, by the parser that aiohttp uses; its name is resolved
once, every address of it is checked, and those are connected to; the same check stands before each socket.
Nothing is kept between fetches: no DNS answer, no connection, no cookie. Each redirect starts again from the beginning.

A refused address, a name that does not exist and a closed port read the same, so that nobody maps a network with this.
"""

import asyncio
import logging
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import aiohttp
from yarl import URL

from vlserve.config.keys import ANONYMOUS
from vlserve.config.settings import Fetch
from vlserve.errors import ConfigError, InvalidRequest, VlserveError
from vlserve.exhaustion import exhausted
from vlserve.fair_queue import FairQueue
from vlserve.media.addresses import NOT_PUBLIC, Network, is_allowed, may_connect, parse_ip
from vlserve.media.resolver import LookUp, RefusedError, Resolver, Threads, look_up
from vlserve.protocols.media_reference import MediaKind

log = logging.getLogger("vlserve.fetch")

_LONGEST_URL = 8000  # what RFC 9110 (4.1) asks everybody to take
# One spelling of an address, so that no two parsers can see two hosts in it: no userinfo, escapes, backslashes, zones.
_SHAPE = re.compile(
    r"https?://(?:\[[0-9a-f:.]+\]|[^\s/?#@:%\[\]\\]+)(?::[0-9]{1,5})?(?:[/?#][^\s\\]*)?", re.ASCII | re.IGNORECASE
)
# A name whose last label is a number is an IPv4 address to some resolvers: 127.1, 0x7f.1, 2130706433.
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\.?\Z)(?:{_LABEL}\.)*(?!(?:[0-9]+|0x[0-9a-f]*)\.?\Z){_LABEL}\.?", re.ASCII)
_REDIRECTS = (301, 302, 303, 307, 308)
_ACCEPT: Mapping[MediaKind, str] = {
    "image": "image/png, image/jpeg, image/webp, image/gif",
    "video": "video/mp4, video/webm",
}
_HEADERS = {
    "accept-encoding": "identity",  # nothing is inflated here
    "user-agent": "vlserve",
}
_MOST_WAITING = 4096  # a request that waits costs next to nothing
# A look-up that was given up on keeps its thread, while its place fetches something else.
_THREADS_PER_PLACE = 4


def open_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    return socket.socket(*info[:3])


def parse_url(text: str) -> URL:
    """A plain http or https address, in which no two parsers can see two hosts. Raises ValueError."""
    if len(text) > _LONGEST_URL or not text.isprintable() or not _SHAPE.fullmatch(text):
        raise ValueError("not a plain http:// or https:// address")
    url = URL(text)
    if not _is_host(url.raw_host or ""):
        raise ValueError("its host is neither a name nor an address")
    return url


def check(settings: Fetch) -> None:
    """Raise ConfigError for a domain in the settings that is none."""
    for setting in ("allowed_domains", "denied_domains"):
        for name in getattr(settings, setting):
            _domain(name, f"fetch.{setting}")


@dataclass
class _Progress:
    """How far one fetch of an API key is."""

    key: str
    is_connecting: bool = False
    socket_errors: list[OSError] = field(default_factory=list)
    """Why sockets could not be opened; aiohttp raises one error for all addresses of a name."""


_PROGRESS: ContextVar[_Progress] = ContextVar("progress")


class Fetcher:
    """Fetches pictures and videos, at most ``max_in_flight`` at once; made inside a running event loop, one per app.

    ``max_bytes`` is the largest picture, ``max_video_bytes`` the largest video. ``look_up`` (in a thread)
    resolves a name, ``open_socket`` opens the socket to an address that was checked; tests give their own.
    ``queue_timeout_s`` limits the wait for a place; ``is_shared``: several API keys fetch.
    Raises ConfigError for a domain in the settings that is none.
    """

    def __init__(
        self,
        settings: Fetch,
        max_bytes: int,
        look_up: LookUp = look_up,
        open_socket: Callable[[aiohttp.AddrInfoType], socket.socket] = open_socket,
        *,
        max_video_bytes: int = 0,
        queue_timeout_s: float = 30.0,
        is_shared: bool = False,
    ) -> None:
        self._settings = settings
        self._most: Mapping[MediaKind, int] = {"image": max_bytes, "video": max_video_bytes}
        self._networks: tuple[Network, ...] = tuple(settings.allowed_networks)
        self._allowed = [_domain(name, "fetch.allowed_domains") for name in settings.allowed_domains]
        self._denied = [_domain(name, "fetch.denied_domains") for name in settings.denied_domains]
        most = settings.max_in_flight
        self._places = FairQueue(
            "fetcher (fetch.max_in_flight)", most, _MOST_WAITING, queue_timeout_s, is_shared=is_shared, is_slow=True
        )
        threads = Threads("resolver (4 × fetch.max_in_flight)", look_up, _THREADS_PER_PLACE * most, is_shared=is_shared)
        self._open_socket = open_socket
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_create_start.append(_connecting)
        tracing.on_connection_create_end.append(_connected)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=Resolver(threads, self._networks, lambda: _PROGRESS.get().key),
                use_dns_cache=False,
                socket_factory=self._open_checked,
                force_close=True,
                limit=0,
            ),
            timeout=aiohttp.ClientTimeout(
                total=None, connect=settings.connect_timeout_s, sock_read=settings.read_timeout_s
            ),
            headers=_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            trace_configs=[tracing],
        )

    async def close(self) -> None:
        await self._session.close()

    async def fetch(self, url: str, param: str, kind: MediaKind = "image", key: str = ANONYMOUS) -> bytes:
        """The bytes at an address, whatever type they claim to be, for an API key.

        Raises InvalidRequest that names ``param``, the part of the request at fault, and neither host nor address;
        TooManyRequests where this key has no place; ServiceExhausted.
        """
        try:
            return await self._fetch(url, kind, key)
        except InvalidRequest as problem:
            log.info("%s was not fetched: %s", param, problem.message)
            raise InvalidRequest(f"{param}: {problem.message}", param=param, code=problem.code) from None

    async def _fetch(self, text: str, kind: MediaKind, key: str) -> bytes:
        if not self._settings.enabled:
            raise InvalidRequest(
                "nothing is fetched here, send it as a data: URL (data:image/png;base64,…); "
                "the setting fetch.enabled decides.",
                code="image_fetch_disabled",
            )
        url = self._parse(text)
        progress = _Progress(key)
        _PROGRESS.set(progress)
        try:
            async with self._places.place(key), asyncio.timeout(self._settings.total_timeout_s):
                return await self._follow(url, kind)
        except TimeoutError as error:
            # An address that never answers must not differ from one that is refused.
            if progress.is_connecting:
                raise _fault(error, progress) from None
            raise InvalidRequest(
                "the address took too long to answer; the settings fetch.read_timeout_s and fetch.total_timeout_s "
                "decide.",
                code="image_fetch_timeout",
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            log.info("an address could not be reached: %s", _reason(error))  # the operator's to know
            raise _fault(error, progress) from None

    async def _follow(self, url: URL, kind: MediaKind) -> bytes:
        wanted = {"accept": _ACCEPT[kind]}
        for _ in range(self._settings.max_redirects + 1):
            async with self._session.get(url, headers=wanted, allow_redirects=False) as answer:
                location = answer.headers.get("location")
                if answer.status not in _REDIRECTS or location is None:
                    return await self._read(answer, kind)
            url = self._redirected(url, location)
        raise InvalidRequest(
            f"the address redirects more than {self._settings.max_redirects} times.", code="image_fetch_failed"
        )

    async def _read(self, answer: aiohttp.ClientResponse, kind: MediaKind) -> bytes:
        if answer.status != 200:
            raise InvalidRequest(f"the address answered with status {answer.status}.", code="image_fetch_failed")
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            raise InvalidRequest(
                "the address answered in a compressed form, which was not asked for.", code="image_fetch_failed"
            )
        body = bytearray()
        most = self._most[kind]
        is_too_large = (answer.content_length or 0) > most
        if not is_too_large:
            async for chunk in answer.content.iter_any():
                body += chunk
                if is_too_large := len(body) > most:
                    break
        if is_too_large:
            raise InvalidRequest(
                f"what it names is too large. At most {most:,} bytes are allowed; "
                f"the setting {kind}.max_{kind}_bytes decides.",
                code=f"{kind}_too_large",
            )
        if not body:
            raise InvalidRequest("the address answered with nothing.", code="image_fetch_failed")
        return bytes(body)

    def _parse(self, text: str) -> URL:
        """A URL that may be asked, as far as that can be seen before its name is resolved. Raises InvalidRequest."""
        try:
            url = parse_url(text)
        except ValueError:
            raise _no_url() from None
        host = (url.raw_host or "").rstrip(".")
        if _is_within(host, self._denied) or (self._allowed and not _is_within(host, self._allowed)):
            raise InvalidRequest(
                "its domain is not one that is fetched from; the settings fetch.allowed_domains and "
                "fetch.denied_domains decide.",
                code="image_domain_not_allowed",
            )
        # aiohttp asks no resolver about these.
        address = parse_ip(host)
        if address and not is_allowed(address, self._networks):
            log.info("an address could not be reached: %s", NOT_PUBLIC)
            raise _unreachable()
        return url

    def _redirected(self, base: URL, location: str) -> URL:
        """Where a redirect leads, checked like a first address. Raises InvalidRequest."""
        # The parser would drop tabs and line ends.
        if not location.isprintable() or "\\" in location:
            raise _no_url()
        try:
            joined = str(base.join(URL(location)))
        except ValueError:
            raise _no_url() from None
        url = self._parse(joined)
        # Whoever wrote https asked for a picture that nobody on the way can replace.
        if base.scheme == "https" and url.scheme != "https":
            raise InvalidRequest("the address redirects from https to http.", code="image_fetch_failed")
        return url

    def _open_checked(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """The last step before a connection: whatever led here, no socket is opened to another address."""
        if not may_connect(str(info[4][0]), self._networks):
            raise RefusedError(NOT_PUBLIC)
        try:
            return self._open_socket(info)
        except OSError as error:
            _PROGRESS.get().socket_errors.append(error)
            raise


async def _connecting(_session: aiohttp.ClientSession, _context: SimpleNamespace, _: Any) -> None:
    _PROGRESS.get().is_connecting = True


async def _connected(_session: aiohttp.ClientSession, _context: SimpleNamespace, _: Any) -> None:
    progress = _PROGRESS.get()
    progress.is_connecting = False
    progress.socket_errors.clear()


def _is_host(host: str) -> bool:
    return parse_ip(host) is not None or _NAME.fullmatch(host) is not None


def _domain(name: str, setting: str) -> str:
    """The form in which hosts are compared: A-labels in lower case, no dot at either end. Raises ConfigError."""
    try:
        host = URL.build(scheme="http", host=name.removeprefix("*").strip(".[]")).raw_host or ""
    except ValueError:
        host = ""
    if not _is_host(host):
        raise ConfigError(f"{setting}: {name!r} is not a domain. Write it like example.com.")
    return host


def _is_within(host: str, domains: Iterable[str]) -> bool:
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)


def _no_url() -> InvalidRequest:
    return InvalidRequest(
        "it must be a data: URL (data:image/png;base64,…) or a plain http:// or https:// address; "
        "so must what such an address redirects to.",
        code="invalid_image_url",
    )


def _reason(error: BaseException) -> str:
    """In words without the address."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, RefusedError):
        return str(cause)
    return getattr(cause, "strerror", None) or type(cause).__name__


def _fault(error: BaseException, progress: _Progress) -> VlserveError:
    """This server's own shortage, or an address that cannot be reached."""
    shortages = map(exhausted, (*progress.socket_errors, error))
    return next(filter(None, shortages), None) or _unreachable()


def _unreachable() -> InvalidRequest:
    return InvalidRequest("the address could not be fetched.", code="image_fetch_failed")
