"""Hosts, ports and origins as HTTP and settings write them: parsed, compared, checked."""

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
    """Host (lower case, without a last dot, IPv6 in brackets) and port of ``host:port``; None where it is neither."""
    found = _AUTHORITY.fullmatch(text.lower())
    if not found:
        return None
    host, port = found["host"].removesuffix("."), int(found["port"]) if found["port"] else None
    is_possible = host and not host.endswith(".") and (port is None or port <= _LARGEST_PORT)
    return (host, port) if is_possible else None


def split_origin(text: str) -> tuple[str, str, int | None] | None:
    """Scheme, host and port of an origin, for http(s) always with its port. None: there is no such origin."""
    found = _ORIGIN.fullmatch(text.lower())
    authority = split_authority(found["authority"]) if found else None
    if not found or not authority or (authority[0].startswith("[") and not is_ip_literal(authority[0])):
        return None
    return found["scheme"], authority[0], authority[1] or _DEFAULT_PORTS.get(found["scheme"])


def is_same_host(origin: str, host: str) -> bool:
    """Whether a web page of ``origin`` was loaded from where the Host header ``host`` leads.

    The scheme is not compared: a proxy in front may have ended TLS. A Host without a port has the scheme's own.
    """
    page, named = split_origin(origin), split_authority(host)
    if not page or not named or page[0] not in _DEFAULT_PORTS:
        return False
    return page[1:] == (named[0], named[1] or _DEFAULT_PORTS[page[0]])


def is_ip_literal(host: str) -> bool:
    """An IPv4 address, or an IPv6 address in brackets, as a Host header has them. No name server is asked for one."""
    try:
        if host.startswith("["):
            ipaddress.IPv6Address(host.removeprefix("[").removesuffix("]"))
        else:
            ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on ``host``, a name or an address without brackets."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def normal_origin(text: str) -> str:
    """An origin as browsers write it: lower case, without the scheme's own port. Others stay as they are."""
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
                    "with nothing after host and port, not even a slash"
                )
        return [normal_origin(one) for one in given]

    return check


def _hosts(given: list[str]) -> list[str]:
    hosts = []
    for one in given:
        parts = split_authority(one)
        if not parts or parts[1] is not None:
            raise ValueError(f"{one!r} is not a host. Write its name alone, like gpu-box.lan, without a port")
        hosts.append(parts[0])
    return hosts


def split_listener(text: str) -> tuple[str, int]:
    """Host (IPv6 without brackets) and port to listen on. Raises ValueError."""
    parts = split_authority(text)
    if not parts or not parts[1]:
        raise ValueError(_NOT_A_LISTENER.format(text))
    return parts[0].strip("[]"), parts[1]


def _not_a_number(given: Any) -> Any:
    """A port alone, as YAML reads it."""
    if isinstance(given, int):
        raise ValueError(_NOT_A_LISTENER.format(given))
    return given


def _listener(text: str) -> str:
    split_listener(text)
    return text


WebOrigins = Annotated[list[str], AfterValidator(_origins(web_only=True))]
WebOriginsOrAny = Annotated[list[str], AfterValidator(_origins(web_only=True, also=(ANY_ORIGIN,)))]
Origins = Annotated[list[str], AfterValidator(_origins(web_only=False, also=(ANY_ORIGIN, "null")))]
"""Of extensions and desktop programs, too."""
Hosts = Annotated[list[str], AfterValidator(_hosts)]
Listener = Annotated[str, BeforeValidator(_not_a_number), AfterValidator(_listener)]
