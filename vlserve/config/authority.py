"""Parses and compares hosts, ports and origins of HTTP headers and settings."""

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

ANY_ORIGIN = "*"
_HOST = r"\[[0-9a-f:.]+\]|[^\s/?#@:%*\[\]\\\x00-\x20]+"
_AUTHORITY = re.compile(rf"(?P<host>{_HOST})(?::(?P<port>[0-9]{{1,5}}))?", re.ASCII)
_ORIGIN = re.compile(rf"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>(?:{_HOST})(?::[0-9]{{1,5}})?)", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LARGEST_PORT = 65535
_NOT_A_LISTENER = "{!r} is not an address to listen on. Write it like 127.0.0.1:9400"


def split_authority(text: str) -> tuple[str, int | None] | None:
    """Split ``host:port`` into host (lower case, no trailing dot, IPv6 in brackets) and port; None if malformed."""
    found = _AUTHORITY.fullmatch(text.lower())
    if not found:
        return None
    host, port = found["host"].removesuffix("."), int(found["port"]) if found["port"] else None
    is_possible = host and not host.endswith(".") and (port is None or port <= _LARGEST_PORT)
    return (host, port) if is_possible else None


def split_origin(text: str) -> tuple[str, str, int | None] | None:
    """Split an origin into scheme, host and port (http and https: never None). None if it is malformed."""
    found = _ORIGIN.fullmatch(text.lower())
    authority = split_authority(found["authority"]) if found else None
    if not found or not authority or (authority[0].startswith("[") and not is_ip_literal(authority[0])):
        return None
    return found["scheme"], authority[0], authority[1] or _DEFAULT_PORTS.get(found["scheme"])


def is_same_host(origin: str, host: str) -> bool:
    """Whether ``origin`` has the same host and port as the Host header ``host``.

    The scheme is not compared, because a proxy may have terminated TLS. A missing port is the scheme's default.
    """
    page, named = split_origin(origin), split_authority(host)
    if not page or not named or page[0] not in _DEFAULT_PORTS:
        return False
    return page[1:] == (named[0], named[1] or _DEFAULT_PORTS[page[0]])


def is_ip_literal(host: str) -> bool:
    """Whether a Host header's host is an IPv4 address, or an IPv6 address in brackets, rather than a name."""
    try:
        if host.startswith("["):
            ipaddress.IPv6Address(host.removeprefix("[").removesuffix("]"))
        else:
            ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to ``host``, a name or an IP address without brackets."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def normal_origin(text: str) -> str:
    """Normalize an origin as browsers do: lower case, no default port. A malformed one is returned unchanged."""
    parts = split_origin(text)
    if not parts:
        return text
    scheme, host, port = parts
    return f"{scheme}://{host}" + ("" if port in (None, _DEFAULT_PORTS.get(scheme)) else f":{port}")


def _origins(*, web_only: bool, also: tuple[str, ...] = ()) -> Callable[[list[str]], list[str]]:
    def check(given: list[str]) -> list[str]:
        for one in given:
            parts = split_origin(one)
            if one not in also and (not parts or (web_only and parts[0] not in _DEFAULT_PORTS)):
                raise ValueError(
                    f"{one!r} is not an origin. Write it like https://example.com or http://10.1.2.3:8080, "
                    "without a path or a trailing slash"
                )
        return [normal_origin(one) for one in given]

    return check


def _hosts(given: list[str]) -> list[str]:
    hosts = []
    for one in given:
        parts = split_authority(one)
        if not parts or parts[1] is not None:
            raise ValueError(f"{one!r} is not a host. Write only the name, like gpu-box.lan, without a port")
        hosts.append(parts[0])
    return hosts


def split_listener(text: str) -> tuple[str, int]:
    """Split ``host:port`` into host (IPv6 without brackets) and port. Raises ValueError."""
    parts = split_authority(text)
    if not parts or not parts[1]:
        raise ValueError(_NOT_A_LISTENER.format(text))
    return parts[0].strip("[]"), parts[1]


def _not_a_number(given: Any) -> Any:
    """Refuse a number, which is what YAML makes of a port without a host."""
    if isinstance(given, int):
        raise ValueError(_NOT_A_LISTENER.format(given))
    return given


def _listener(text: str) -> str:
    split_listener(text)
    return text


WebOrigins = Annotated[list[str], AfterValidator(_origins(web_only=True))]
WebOriginsOrAny = Annotated[list[str], AfterValidator(_origins(web_only=True, also=(ANY_ORIGIN,)))]
Origins = Annotated[list[str], AfterValidator(_origins(web_only=False, also=(ANY_ORIGIN, "null")))]
"""Also origins of browser extensions and desktop programs."""
Hosts = Annotated[list[str], AfterValidator(_hosts)]
Listener = Annotated[str, BeforeValidator(_not_a_number), AfterValidator(_listener)]
