"""systemd's notification protocol (sd_notify(3)): READY, STATUS and STOPPING for a unit with Type=notify."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Mapping

from vlserve.config.engine_settings import EngineName
from vlserve.engines.view import EngineView

log = logging.getLogger("vlserve.service_notify")

_POLL_S = 0.5


@contextlib.asynccontextmanager
async def notifications(
    engines: Mapping[EngineName, EngineView], environ: Mapping[str, str] = os.environ
) -> AsyncIterator[None]:
    """Notify systemd during the block, if it listens: READY=1 once an engine is ready (as ``/ready``), the engines'
    states in STATUS=, and STOPPING=1 as soon as one drains, at the latest at the end of the block.

    Does nothing without NOTIFY_SOCKET in the environment.
    """
    address = environ.get("NOTIFY_SOCKET")
    if not address:
        yield
        return
    service_manager = _ServiceManager(address)
    reporting = asyncio.create_task(_report(service_manager, engines))
    try:
        yield
    finally:
        reporting.cancel()
        await asyncio.wait([reporting])
        service_manager.send("STOPPING=1", "STATUS=stopping the engines")


async def _report(service_manager: "_ServiceManager", engines: Mapping[EngineName, EngineView]) -> None:
    """Send what has changed, until cancelled."""
    was_ready, last_status = False, ""
    while True:
        states = {name: view.state for name, view in engines.items()}
        status = "STATUS=" + ", ".join(f"{name}: {state}" for name, state in states.items())
        is_ready = any(view.is_ready for view in engines.values())
        changes = [status] if status != last_status else []
        if is_ready and not was_ready:
            changes.append("READY=1")
        if "draining" in states.values():
            service_manager.send("STOPPING=1", status)
            return
        if not changes or service_manager.send(*changes):
            was_ready, last_status = was_ready or is_ready, status
        await asyncio.sleep(_POLL_S)


class _ServiceManager:
    """The receiver of notifications. An address that begins with @ is an abstract socket."""

    def __init__(self, address: str) -> None:
        self._path = "\0" + address[1:] if address.startswith("@") else address
        self._has_failed = False

    def send(self, *assignments: str) -> bool:
        """Send one datagram of ``NAME=value`` lines. Returns False if it was not sent, so that it can be sent again."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)  # a full queue must not block the event loop
                sender.sendto("\n".join(assignments).encode(), self._path)
        except BlockingIOError:
            return False
        except OSError as error:
            if not self._has_failed:
                log.warning("systemd was not notified (%s): %s", ", ".join(assignments), error)
            self._has_failed = True
            return False
        return True
