"""The sockets that the service listens on, and which application answers at which."""

import socket
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from vlserve.config.settings import Server
from vlserve.errors import ConfigError


class ByPort:
    """ASGI: connections to ``port`` go to ``other``, all else to ``app``."""

    def __init__(self, app: ASGIApp, port: int, other: ASGIApp) -> None:
        self._app, self._port, self._other = app, port, other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_other = scope["type"] == "http" and scope["server"][1] == self._port
        await (self._other if is_other else self._app)(scope, receive, send)


def listen(server: Server) -> list[socket.socket]:
    """Sockets for ``server.host`` and ``server.metrics_listen``, where that is set. Raises ConfigError."""
    endpoint = _listen(server.host, server.port, "Choose another with --port.")
    if not server.metrics_address:
        return [endpoint]
    try:
        host, port = server.metrics_address
        _check_distinct(server, endpoint.getsockname()[1])
        return [endpoint, _listen(host, port, "The setting server.metrics_listen decides.")]
    except ConfigError:
        endpoint.close()
        raise


def check_ports(server: Server) -> None:
    """Raise ConfigError where both listeners have the same port. Opens nothing."""
    _check_distinct(server, server.port)


def check_free(server: Server) -> None:
    """Raise ConfigError where ``listen`` would, so that it is told before everything else is done."""
    for listener in listen(server):
        listener.close()


def addresses(listeners: Sequence[socket.socket]) -> list[str]:
    """Each as host:port, IPv6 in brackets."""
    names = [listener.getsockname()[:2] for listener in listeners]
    return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in names]


def _check_distinct(server: Server, port: int) -> None:
    """``port``: the service's own. It tells which application answers, so one alone will not do."""
    if server.metrics_address and server.metrics_address[1] == port:
        raise ConfigError(f"server.metrics_listen {server.metrics_listen} must have another port than server.port.")


def _listen(host: str, port: int, remedy: str) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048, reuse_port=False
        )
    except OSError as error:
        raise ConfigError(f"Cannot listen on {host}:{port}: {error.strerror}. {remedy}") from error
