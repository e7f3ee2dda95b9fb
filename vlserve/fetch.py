"""Fetches a picture or video that a request names by its http(s) address, and can be led to no address that is not
public.

What is checked is what is connected to: a URL is parsed once, by the parser that aiohttp uses; its name is resolved
once, every address of it is checked, and those are connected to; the same check stands before each socket.
Nothing is kept between fetches: no DNS answer, no connection, no cookie. Each redirect starts again from the beginning.

A refused address, a name that does not exist and a closed port read the same, so that nobody maps a network with this.
"""

import asyncio
import contextlib
import ipaddress
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from vlserve.errors import ConfigError, InvalidRequest
from vlserve.exhaustion import exhausted
from vlserve.parts import MediaKind
from vlserve.settings import Fetch

log = logging.getLogger("vlserve.fetch")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# IANA's registries of special-purpose addresses (https://www.iana.org/assignments/iana-ipv4-special-registry and
# .../iana-ipv6-special-registry, read in 2026). ipaddress.is_global is no substitute: it takes multicast, site-local,
# NAT64 and 6to4 for global, and changes with Python's version.
_NOT_PUBLIC_4 = [
    ipaddress.IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # Azure's platform endpoint: a public address that answers inside a machine only
    )
]
_UNICAST_6 = ipaddress.IPv6Network("2000::/3")  # all that IANA gives out; loopback, fc00::/7, NAT64, … are outside
_NOT_PUBLIC_6 = [
    ipaddress.IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3ffe::/16", "3fff::/20")
]
# Forms whose last 32 bits are an IPv4 address: IPv4-compatible, -mapped, -translated (RFC 4291, 2765), NAT64 (RFC 6052,
# 8215). 6to4 and Teredo carry theirs elsewhere; ISATAP (RFC 5214) has a mark in the middle.
_IPV4_LAST = [
    ipaddress.IPv6Network(network)
    for network in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
]

_NOT_PUBLIC = "it is not public, nor in fetch.allowed_networks"
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


def look_up(host: str) -> list[str]:
    """A name's addresses, from the system's resolver. Raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [str(address[0]) for *_, address in found]


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


def may_connect(address: str, allowed_networks: Iterable[Network] = ()) -> bool:
    """Whether an address, as text, is public or in one of these networks; an IPv4 address inside it must be so, too."""
    found = _literal(address)
    return found is not None and _may_connect(found, tuple(allowed_networks))


def _may_connect(address: Address, allowed: tuple[Network, ...]) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        is_public = not any(address in network for network in _NOT_PUBLIC_4)
        inner: list[ipaddress.IPv4Address] = []
    else:
        is_public = address in _UNICAST_6 and not any(address in network for network in _NOT_PUBLIC_6)
        inner = _embedded(address)
    is_listed = any(address in network for network in allowed)
    return (is_public or is_listed) and all(_may_connect(one, allowed) for one in inner)


def _embedded(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that a kernel or a router on the way would take out of it."""
    if address.is_loopback or address.is_unspecified:
        return []
    is_isatap = int(address) >> 32 & 0xFDFF_FFFF == 0x5EFE
    if is_isatap or any(address in network for network in _IPV4_LAST):
        return [ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)]
    if address.sixtofour:
        return [address.sixtofour]
    return list(address.teredo or ())


def _literal(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    # A zone (fe80::1%eth0) is an address of this machine's links.
    return None if isinstance(address, ipaddress.IPv6Address) and address.scope_id else address


def check(settings: Fetch) -> None:
    """Raise ConfigError for a domain in the settings that is none."""
    for setting in ("allowed_domains", "denied_domains"):
        for name in getattr(settings, setting):
            _domain(name, f"fetch.{setting}")


class _RefusedError(OSError):
    """Not connected to; why."""


@dataclass
class _Progress:
    """How far one fetch is."""

    is_connecting: bool = False


class Fetcher:
    """Fetches pictures and videos, at most ``max_in_flight`` at once; made inside a running event loop, one per app.

    ``max_bytes`` is the largest picture, ``max_video_bytes`` the largest video. ``look_up`` (in a thread)
    resolves a name, ``open_socket`` opens the socket to an address that was checked; tests give their own.
    Raises ConfigError for a domain in the settings that is none.
    """

    def __init__(
        self,
        settings: Fetch,
        max_bytes: int,
        look_up: Callable[[str], Sequence[str]] = look_up,
        open_socket: Callable[[aiohttp.AddrInfoType], socket.socket] = open_socket,
        *,
        max_video_bytes: int = 0,
    ) -> None:
        self._settings = settings
        self._most: Mapping[MediaKind, int] = {"image": max_bytes, "video": max_video_bytes}
        self._networks: tuple[Network, ...] = tuple(settings.allowed_networks)
        self._allowed = [_domain(name, "fetch.allowed_domains") for name in settings.allowed_domains]
        self._denied = [_domain(name, "fetch.denied_domains") for name in settings.denied_domains]
        self._free = asyncio.Semaphore(settings.max_in_flight)
        self._open_socket = open_socket
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_create_start.append(_connecting)
        tracing.on_connection_create_end.append(_connected)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_Resolver(look_up, self._networks, settings.max_in_flight),
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

    async def fetch(self, url: str, param: str, kind: MediaKind = "image") -> bytes:
        """The bytes at an address, whatever type they claim to be.

        Raises InvalidRequest that names ``param``, the part of the request at fault, and neither host nor address.
        """
        try:
            return await self._fetch(url, kind)
        except InvalidRequest as problem:
            log.info("%s was not fetched: %s", param, problem.message)
            raise InvalidRequest(f"{param}: {problem.message}", param=param, code=problem.code) from None

    async def _fetch(self, text: str, kind: MediaKind) -> bytes:
        if not self._settings.enabled:
            raise InvalidRequest(
                "nothing is fetched here, send it as a data: URL (data:image/png;base64,…); "
                "the setting fetch.enabled decides.",
                code="image_fetch_disabled",
            )
        url = self._parse(text)
        progress = _Progress()
        try:
            async with asyncio.timeout(self._settings.total_timeout_s), self._free:
                return await self._follow(url, kind, progress)
        except TimeoutError:
            # An address that never answers must not differ from one that is refused.
            if progress.is_connecting:
                raise _unreachable() from None
            raise InvalidRequest(
                "the address took too long to answer; the settings fetch.read_timeout_s and fetch.total_timeout_s "
                "decide.",
                code="image_fetch_timeout",
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            log.info("an address could not be reached: %s", _reason(error))  # the operator's to know
            raise exhausted(error) or _unreachable() from None

    async def _follow(self, url: URL, kind: MediaKind, progress: _Progress) -> bytes:
        wanted = {"accept": _ACCEPT[kind]}
        for _ in range(self._settings.max_redirects + 1):
            async with self._session.get(
                url, headers=wanted, allow_redirects=False, trace_request_ctx=progress
            ) as answer:
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
        literal = _literal(host)
        if _is_within(host, self._denied) or (self._allowed and not _is_within(host, self._allowed)):
            raise InvalidRequest(
                "its domain is not one that is fetched from; the settings fetch.allowed_domains and "
                "fetch.denied_domains decide.",
                code="image_domain_not_allowed",
            )
        # aiohttp asks no resolver about these.
        if literal and not _may_connect(literal, self._networks):
            log.info("an address could not be reached: %s", _NOT_PUBLIC)
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
            raise _RefusedError(_NOT_PUBLIC)
        return self._open_socket(info)


class _Resolver(AbstractResolver):
    """Resolves names in threads of its own, and refuses those with any address that may not be connected to.

    The service waits for the event loop's own threads when it ends, and a name server that never answers keeps a thread
    for half a minute.
    """

    def __init__(self, look_up: Callable[[str], Sequence[str]], networks: tuple[Network, ...], most: int) -> None:
        self._look_up = look_up
        self._networks = networks
        self._free = asyncio.Semaphore(most)

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002  (every address counts)
    ) -> list[ResolveResult]:
        addresses = await self._addresses(host)
        if not addresses:
            raise _RefusedError("the name has no address")
        if not all(may_connect(address, self._networks) for address in addresses):
            raise _RefusedError(_NOT_PUBLIC)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def _addresses(self, host: str) -> Sequence[str]:
        """What ``look_up`` finds; empty where it finds nothing."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Sequence[str]] = loop.create_future()

        def finish(addresses: Sequence[str]) -> None:
            self._free.release()
            if not found.done():
                found.set_result(addresses)

        def run() -> None:
            addresses: Sequence[str] = []
            try:
                addresses = self._look_up(host)
            except (OSError, UnicodeError):
                pass
            finally:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(finish, addresses)

        threading.Thread(target=run, name="vlserve-look-up", daemon=True).start()
        return await found

    async def close(self) -> None:
        """Nothing is kept."""


async def _connecting(_session: aiohttp.ClientSession, context: SimpleNamespace, _: Any) -> None:
    context.trace_request_ctx.is_connecting = True


async def _connected(_session: aiohttp.ClientSession, context: SimpleNamespace, _: Any) -> None:
    context.trace_request_ctx.is_connecting = False


def _is_host(host: str) -> bool:
    return _literal(host) is not None or _NAME.fullmatch(host) is not None


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
    if isinstance(cause, _RefusedError):
        return str(cause)
    return getattr(cause, "strerror", None) or type(cause).__name__


def _unreachable() -> InvalidRequest:
    return InvalidRequest("the address could not be fetched.", code="image_fetch_failed")
