"""Fetches pictures and videos from http(s) URLs in requests, protected against SSRF (only public addresses).

Checked and connected addresses are the same: a URL is parsed once, by aiohttp's parser; its host name is resolved once,
and every address is checked, again before each socket is opened. Redirects are checked like first URLs. No DNS answer,
connection or cookie is kept between fetches.

A refused address, an unknown host name and a closed port give the same error, so that clients cannot scan a network.
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
from vlserve.fair_queue import FairQueue
from vlserve.media.addresses import NOT_PUBLIC, Network, is_allowed, may_connect, parse_ip
from vlserve.media.resolver import LookUp, RefusedError, Resolver, ResolverThreads, look_up
from vlserve.protocols.media_reference import MediaKind
from vlserve.resource_errors import resource_error

log = logging.getLogger("vlserve.fetch")

_MAX_URL_CHARACTERS = 8000  # RFC 9110 (4.1) recommends support for at least this
# A strict form in which all parsers see the same host: no userinfo, escapes, backslashes or zones.
_PLAIN_URL = re.compile(
    r"https?://(?:\[[0-9a-f:.]+\]|[^\s/?#@:%\[\]\\]+)(?::[0-9]{1,5})?(?:[/?#][^\s\\]*)?", re.ASCII | re.IGNORECASE
)
# Some resolvers parse a name whose last label is a number as an IPv4 address: 127.1, 0x7f.1, 2130706433.
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\.?\Z)(?:{_LABEL}\.)*(?!(?:[0-9]+|0x[0-9a-f]*)\.?\Z){_LABEL}\.?", re.ASCII)
_REDIRECTS = (301, 302, 303, 307, 308)
_ACCEPT: Mapping[MediaKind, str] = {
    "image": "image/png, image/jpeg, image/webp, image/gif",
    "video": "video/mp4, video/webm",
}
_HEADERS = {
    "accept-encoding": "identity",  # responses are not decompressed
    "user-agent": "vlserve",
}
_MAX_QUEUE = 4096  # a waiting request costs little
# An abandoned look-up keeps its thread, while its permit is used by another fetch.
_THREADS_PER_PERMIT = 4


def open_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    return socket.socket(*info[:3])


def parse_url(text: str) -> URL:
    """Parse an http or https URL of a strict form, in which all parsers see the same host. Raises ValueError."""
    if len(text) > _MAX_URL_CHARACTERS or not text.isprintable() or not _PLAIN_URL.fullmatch(text):
        raise ValueError("not a plain http:// or https:// URL")
    url = URL(text)
    if not _is_host(url.raw_host or ""):
        raise ValueError("its host is neither a domain name nor an IP address")
    return url


def check(settings: Fetch) -> None:
    """Raise ConfigError for an invalid domain in the settings."""
    for setting in ("allowed_domains", "denied_domains"):
        for name in getattr(settings, setting):
            _domain(name, f"fetch.{setting}")


@dataclass
class _Progress:
    """The progress of one fetch; ``key``: its API key."""

    key: str
    is_connecting: bool = False
    socket_errors: list[OSError] = field(default_factory=list)
    """Errors of opening sockets: aiohttp raises a single error for all addresses of a name."""


_PROGRESS: ContextVar[_Progress] = ContextVar("progress")


class Fetcher:
    """Fetches pictures and videos, at most ``max_in_flight`` at once. Create one per app, in a running event loop.

    ``max_bytes``, ``max_video_bytes``: the limits for a picture and a video. ``look_up`` resolves a name (in a thread),
    ``open_socket`` opens a socket to a checked address; tests replace both. ``queue_timeout_s`` limits the wait for a
    permit. ``is_shared``: there are several API keys. Raises ConfigError for an invalid domain in the settings.
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
        self._max_bytes: Mapping[MediaKind, int] = {"image": max_bytes, "video": max_video_bytes}
        self._networks: tuple[Network, ...] = tuple(settings.allowed_networks)
        self._allowed = [_domain(name, "fetch.allowed_domains") for name in settings.allowed_domains]
        self._denied = [_domain(name, "fetch.denied_domains") for name in settings.denied_domains]
        most = settings.max_in_flight
        self._permits = FairQueue(
            "fetcher (fetch.max_in_flight)", most, _MAX_QUEUE, queue_timeout_s, is_shared=is_shared, is_slow=True
        )
        threads = ResolverThreads(
            "resolver (4 × fetch.max_in_flight)", look_up, _THREADS_PER_PERMIT * most, is_shared=is_shared
        )
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
        """Fetch the bytes at a URL for an API key. The response's content type is ignored.

        Raises InvalidRequest, whose message names ``param`` (the URL's place in the request) and neither host nor
        address; TooManyRequests if no permit is free for this key; ServiceExhausted.
        """
        try:
            return await self._fetch(url, kind, key)
        except InvalidRequest as problem:
            log.info("%s was not fetched: %s", param, problem.message)
            raise InvalidRequest(f"{param}: {problem.message}", param=param, code=problem.code) from None

    async def _fetch(self, text: str, kind: MediaKind, key: str) -> bytes:
        if not self._settings.enabled:
            raise InvalidRequest(
                "fetching URLs is disabled, send a data: URL (data:image/png;base64,…); "
                "the setting fetch.enabled decides.",
                code="image_fetch_disabled",
            )
        url = self._parse(text, _not_public)
        progress = _Progress(key)
        _PROGRESS.set(progress)
        try:
            async with self._permits.permit(key), asyncio.timeout(self._settings.total_timeout_s):
                return await self._follow(url, kind)
        except TimeoutError as error:
            # A timeout while connecting must not differ from a refused address.
            if progress.is_connecting:
                log.info("A URL could not be fetched: its host was not resolved, or accepted no connection, in time")
                raise _fetch_error(error, progress) from None
            raise InvalidRequest(
                "the server took too long to respond; the settings fetch.read_timeout_s and fetch.total_timeout_s "
                "decide.",
                code="image_fetch_timeout",
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            log.info("A URL could not be fetched: %s", _reason(error))  # for the operator, not for the client
            raise _fetch_error(error, progress) from None

    async def _follow(self, url: URL, kind: MediaKind) -> bytes:
        wanted = {"accept": _ACCEPT[kind]}
        for _ in range(self._settings.max_redirects + 1):
            async with self._session.get(url, headers=wanted, allow_redirects=False) as answer:
                location = answer.headers.get("location")
                if answer.status not in _REDIRECTS or location is None:
                    return await self._read(answer, kind)
            url = self._redirected(url, location)
        raise InvalidRequest(
            f"the URL redirects more than {self._settings.max_redirects} times.", code="image_fetch_failed"
        )

    async def _read(self, answer: aiohttp.ClientResponse, kind: MediaKind) -> bytes:
        if answer.status != 200:
            raise InvalidRequest(f"the server responded with status {answer.status}.", code="image_fetch_failed")
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            raise InvalidRequest(
                "the server sent a compressed response, which was not requested.", code="image_fetch_failed"
            )
        body = bytearray()
        most = self._max_bytes[kind]
        is_too_large = (answer.content_length or 0) > most
        if not is_too_large:
            async for chunk in answer.content.iter_any():
                body += chunk
                if is_too_large := len(body) > most:
                    break
        if is_too_large:
            raise InvalidRequest(
                f"the file at this URL is too large. At most {most:,} bytes are allowed; "
                f"the setting {kind}.max_{kind}_bytes decides.",
                code=f"{kind}_too_large",
            )
        if not body:
            raise InvalidRequest("the server sent an empty response.", code="image_fetch_failed")
        return bytes(body)

    def _parse(self, text: str, refusal: Callable[[], InvalidRequest]) -> URL:
        """Parse and check a URL as far as possible before its host name is resolved. Raises InvalidRequest.

        ``refusal`` makes the error for an address that is not public.
        """
        try:
            url = parse_url(text)
        except ValueError:
            raise _invalid_url() from None
        host = (url.raw_host or "").rstrip(".")
        if _is_within(host, self._denied) or (self._allowed and not _is_within(host, self._allowed)):
            raise InvalidRequest(
                "fetching from its domain is not allowed; the settings fetch.allowed_domains and "
                "fetch.denied_domains decide.",
                code="image_domain_not_allowed",
            )
        # aiohttp does not call the resolver for IP addresses.
        address = parse_ip(host)
        if (host == "localhost" and not self._networks) or (address and not is_allowed(address, self._networks)):
            log.info("A URL could not be fetched: %s", NOT_PUBLIC)
            raise refusal()
        return url

    def _redirected(self, base: URL, location: str) -> URL:
        """The target of a redirect, checked like a first URL. Raises InvalidRequest."""
        # The parser would drop tabs and line breaks.
        if not location.isprintable() or "\\" in location:
            raise _invalid_url()
        try:
            joined = str(base.join(URL(location)))
        except (ValueError, IndexError):  # IndexError: yarl 1.25 for a host of nothing after an `@`
            raise _invalid_url() from None
        url = self._parse(joined, _unreachable)
        # With https, others on the network cannot replace the picture.
        if base.scheme == "https" and url.scheme != "https":
            raise InvalidRequest("the URL redirects from https to http.", code="image_fetch_failed")
        return url

    def _open_checked(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """Open a socket after a last check of its address."""
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
    """Normalise a domain for comparison: A-labels in lower case, no dot at either end. Raises ConfigError."""
    try:
        host = URL.build(scheme="http", host=name.removeprefix("*").strip(".[]")).raw_host or ""
    except ValueError:
        host = ""
    if not _is_host(host):
        raise ConfigError(f"{setting}: {name!r} is not a domain. Write it like example.com.")
    return host


def _is_within(host: str, domains: Iterable[str]) -> bool:
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)


def _invalid_url() -> InvalidRequest:
    return InvalidRequest(
        "it must be a data: URL (data:image/png;base64,…) or a plain http:// or https:// URL, "
        "also after redirects. Send a file of this machine as a data: URL or upload it.",
        code="invalid_image_url",
    )


def _reason(error: BaseException) -> str:
    """The reason for an error, without the address."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, RefusedError):
        return str(cause)
    return getattr(cause, "strerror", None) or type(cause).__name__


def _fetch_error(error: BaseException, progress: _Progress) -> VlserveError:
    """ServiceExhausted if this process lacks file descriptors or memory, else the error of an unreachable URL."""
    shortages = map(resource_error, (*progress.socket_errors, error))
    return next(filter(None, shortages), None) or _unreachable()


def _not_public() -> InvalidRequest:
    """For an address that stands in the URL itself, so that the client learns nothing about the network from it."""
    return InvalidRequest(
        "only public addresses are fetched. Send a file of this machine as a data: URL or upload it; the setting "
        "fetch.allowed_networks allows addresses of private networks.",
        code="image_fetch_failed",
    )


def _unreachable() -> InvalidRequest:
    return InvalidRequest("the URL could not be fetched.", code="image_fetch_failed")
