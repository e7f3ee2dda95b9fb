"""Protection against cross-site requests for a listener without API keys: checks of Host, Origin and Content-Type.

Browsers let any web page send requests to any address, including loopback, and read the answers if the page's host name
resolves to that address (DNS rebinding). The browser sets Origin and Host; a page cannot change them.

Host          with ``hosts`` (see ``hosts_of``): an IP address or one of these names; any for /health
Origin        for methods that are not safe: absent, the origin of the Host, or one of ``origins``
Content-Type  for POST: absent or JSON; for ``form_paths`` also multipart/form-data
"""

import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from vlserve.config.authority import (
    ANY_ORIGIN,
    is_ip_literal,
    is_loopback,
    is_same_host,
    normal_origin,
    split_authority,
)
from vlserve.errors import Forbidden, MisdirectedRequest, UnsupportedMediaType, VlserveError

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_LONGEST_SHOWN = 100
_OTHER_JSON = re.compile(r"[a-z0-9!#$&^_-]+/[a-z0-9!#$&^_.-]+\+json")  # RFC 6838, 4.2
REFUSALS: Mapping[str, Sequence[type[VlserveError]]] = {
    "get": (MisdirectedRequest,),
    "post": (Forbidden, UnsupportedMediaType, MisdirectedRequest),
    "delete": (Forbidden, MisdirectedRequest),
}
"""Method → errors that ``OriginCheck`` may answer with."""


def hosts_of(listening: str, allowed_hosts: Collection[str]) -> frozenset[str] | None:
    """Return the host names to accept for a listener on the address ``listening``; None means any.

    On a network address the service's host names are unknown, so any is accepted unless ``allowed_hosts`` is set.
    """
    return frozenset(("localhost", *allowed_hosts)) if allowed_hosts or is_loopback(listening) else None


class OriginCheck:
    """ASGI middleware. ``refused`` converts an error to a response."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str] | None,
        origins: Collection[str] = (),
        form_paths: Collection[str] = (),
        refused: Callable[[Request, VlserveError], Awaitable[Response]],
    ) -> None:
        self.app = app
        self._hosts = hosts
        self._origins = frozenset(origins)
        self._form_paths = frozenset(form_paths)
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (error := self._check(scope)):
            answer = await self._refused(Request(scope), error)
            await answer(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> VlserveError | None:
        hosts, origins, types = list[str](), list[str](), list[str]()
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value.decode("latin-1"))
            elif name == b"origin":
                origins.append(value.decode("latin-1"))
            elif name == b"content-type":
                types.append(value.decode("latin-1"))
        if self._hosts is not None and scope["path"] != "/health":
            for host in hosts:
                if not self._is_allowed_host(host, self._hosts):
                    return _wrong_host(host)
        if scope["method"] in _SAFE_METHODS:
            return None
        for origin in origins:
            if not self._is_allowed_origin(origin, hosts):
                return _wrong_origin(origin)
        if scope["method"] != "POST":
            return None
        accepts_form = scope["path"] in self._form_paths
        for kind in types:
            if not _is_allowed_type(kind, accepts_form=accepts_form):
                return _wrong_type(kind, accepts_form=accepts_form)
        return None

    def _is_allowed_host(self, host: str, names: Collection[str]) -> bool:
        parts = split_authority(host)
        return parts is not None and (parts[0] in names or is_ip_literal(parts[0]))

    def _is_allowed_origin(self, origin: str, hosts: list[str]) -> bool:
        if len(hosts) == 1 and is_same_host(origin, hosts[0]):
            return True
        return ANY_ORIGIN in self._origins or normal_origin(origin) in self._origins


def _is_allowed_type(content_type: str, *, accepts_form: bool) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    if kind in ("", "application/json") or _OTHER_JSON.fullmatch(kind):
        return True
    return accepts_form and kind == "multipart/form-data"


def _wrong_host(host: str) -> MisdirectedRequest:
    return MisdirectedRequest(
        f"Requests need no API key here, so the host {host[:_LONGEST_SHOWN]!r} is not accepted; "
        "use localhost or an IP address. The setting server.allowed_hosts adds names."
    )


def _wrong_origin(origin: str) -> Forbidden:
    return Forbidden(
        f"This service has no API keys, so it accepts no requests from web pages of {origin[:_LONGEST_SHOWN]!r}. "
        "Settings add origins: server.public_origins for its own page behind a proxy, server.cors_origins for other "
        "pages and extensions.",
        code="origin_not_allowed",
    )


def _wrong_type(content_type: str, *, accepts_form: bool) -> UnsupportedMediaType:
    problem = f"This path does not accept the content type {content_type[:_LONGEST_SHOWN]!r} while the service has no "
    problem += "API keys."
    if accepts_form:
        return UnsupportedMediaType(f"{problem} Send multipart/form-data, as in: curl -F name=value")
    if content_type.partition(";")[0].strip().lower() == "multipart/form-data":
        return UnsupportedMediaType(
            f"{problem} It accepts no forms: send JSON, with the header content-type: application/json"
        )
    return UnsupportedMediaType(
        f"{problem} Send JSON; with curl -d, which sets another type, add: -H 'content-type: application/json'"
    )
