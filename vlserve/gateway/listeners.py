"""Listening sockets, and dispatch to an application by port."""

import errno
import socket
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from vlserve.config.settings import Server
from vlserve.errors import ConfigError


class ByPort:
    """ASGI application that passes connections on ``port`` to ``other`` and all others to ``app``."""

    def __init__(self, app: ASGIApp, port: int, other: ASGIApp) -> None:
        self._app, self._port, self._other = app, port, other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_other = scope["type"] == "http" and scope["server"][1] == self._port
        await (self._other if is_other else self._app)(scope, receive, send)


def listen(server: Server) -> list[socket.socket]:
    """Open sockets for ``server.host`` and, if set, ``server.metrics_listen``. Raises ConfigError."""
    endpoint = _listen(server.host, server.port, "Choose another {0} with --{0}.")
    if not server.metrics_address:
        return [endpoint]
    try:
        host, port = server.metrics_address
        _check_distinct(server, endpoint.getsockname()[1])
        return [endpoint, _listen(host, port, "Change the setting server.metrics_listen.")]
    except ConfigError:
        endpoint.close()
        raise


def check_ports(server: Server) -> None:
    """Raise ConfigError if both listeners have the same port. Opens no socket."""
    _check_distinct(server, server.port)


def check_free(server: Server) -> None:
    """Raise ConfigError if ``listen`` would, before the slow steps of the startup."""
    for listener in listen(server):
        listener.close()


def addresses(listeners: Sequence[socket.socket]) -> list[str]:
    """Return each address as host:port, IPv6 in brackets."""
    names = [listener.getsockname()[:2] for listener in listeners]
    return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in names]


def _check_distinct(server: Server, port: int) -> None:
    """Raise ConfigError unless the metrics have another port than the service, whose port is ``port``."""
    if server.metrics_address and server.metrics_address[1] == port:
        raise ConfigError(f"server.metrics_listen {server.metrics_listen} must have a different port from server.port.")


def _listen(host: str, port: int, remedy: str) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048, reuse_port=False
        )
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # socket adds the address
        is_host = error.errno == errno.EADDRNOTAVAIL or (error.errno or 0) < 0  # getaddrinfo's are negative
        wrong = "host" if is_host else "port"
        raise ConfigError(f"Cannot listen on {host}:{port}: {reason}. {remedy.format(wrong)}") from error
