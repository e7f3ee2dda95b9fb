"""Protection of a listener that asks for no API key against web pages: checks of Host, Origin and Content-Type.

A browser lets any page send a request to any address, loopback included, and read the answer where the page's own host
name was pointed to that address (DNS rebinding). Origin and Host are written by the browser, not by the page.

Host          only with ``hosts`` (hosts_of): an IP address or one of these; /health has any
Origin        of all methods that may change something: absent, that of the Host, or one of ``origins``
Content-Type  of POST: absent or JSON; on ``form_paths`` also multipart/form-data
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
_OTHER_JSON = re.compile(r"[a-z0-9!#$&^_-]+/[a-z0-9!#$&^_.-]+\+json")  # names as RFC 6838 (4.2) has them
REFUSALS: Mapping[str, Sequence[type[VlserveError]]] = {
    "get": (MisdirectedRequest,),
    "post": (Forbidden, UnsupportedMediaType, MisdirectedRequest),
    "delete": (Forbidden, MisdirectedRequest),
}
"""What a request may be refused with here, by its method."""


def hosts_of(listening: str, allowed_hosts: Collection[str]) -> frozenset[str] | None:
    """Host names to serve while listening on the address ``listening``; None: all.

    On a network nobody knows its names but the operator, so all are served until ``allowed_hosts`` names some.
    """
    return frozenset(("localhost", *allowed_hosts)) if allowed_hosts or is_loopback(listening) else None


class OriginCheck:
    """ASGI middleware; ``refused`` makes the answer of an error."""

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
                if not self._is_served(host, self._hosts):
                    return _wrong_host(host)
        if scope["method"] in _SAFE_METHODS:
            return None
        for origin in origins:
            if not self._is_welcome(origin, hosts):
                return _wrong_origin(origin)
        if scope["method"] != "POST":
            return None
        takes_form = scope["path"] in self._form_paths
        for kind in types:
            if not _is_taken(kind, takes_form=takes_form):
                return _wrong_type(kind, takes_form=takes_form)
        return None

    def _is_served(self, host: str, names: Collection[str]) -> bool:
        parts = split_authority(host)
        return parts is not None and (parts[0] in names or is_ip_literal(parts[0]))

    def _is_welcome(self, origin: str, hosts: list[str]) -> bool:
        if len(hosts) == 1 and is_same_host(origin, hosts[0]):
            return True
        return ANY_ORIGIN in self._origins or normal_origin(origin) in self._origins


def _is_taken(content_type: str, *, takes_form: bool) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    if kind in ("", "application/json") or _OTHER_JSON.fullmatch(kind):
        return True
    return takes_form and kind == "multipart/form-data"


def _wrong_host(host: str) -> MisdirectedRequest:
    return MisdirectedRequest(
        f"No API key is asked for here, so the host {host[:_LONGEST_SHOWN]!r} is not answered to; "
        "use localhost or an IP address. The setting server.allowed_hosts adds names."
    )


def _wrong_origin(origin: str) -> Forbidden:
    return Forbidden(
        f"No API key is asked for here, so web pages of the origin {origin[:_LONGEST_SHOWN]!r} may send no requests. "
        "Settings add origins: server.public_origins for its own page behind a proxy, server.cors_origins for other "
        "pages and extensions.",
        code="origin_not_allowed",
    )


def _wrong_type(content_type: str, *, takes_form: bool) -> UnsupportedMediaType:
    problem = f"The body is called {content_type[:_LONGEST_SHOWN]!r}, which this path does not take while no API "
    problem += "key is asked for."
    if takes_form:
        return UnsupportedMediaType(f"{problem} Send multipart/form-data, as in: curl -F name=value")
    if content_type.partition(";")[0].strip().lower() == "multipart/form-data":
        return UnsupportedMediaType(
            f"{problem} It takes no forms: send JSON, with the header content-type: application/json"
        )
    return UnsupportedMediaType(
        f"{problem} Send JSON and say so; with curl, whose -d calls it a form: -H 'content-type: application/json'"
    )
