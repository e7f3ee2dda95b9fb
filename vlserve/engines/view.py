"""The read-only view of an engine: address, state and limits; and the activity that requests report to its supervisor.

The gateway imports nothing else of this room but its errors, so that an engine may be supervised by another process.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self, cast

import aiohttp

from vlserve.config.engine_settings import EngineSettings
from vlserve.engines.diagnosis import Diagnosis
from vlserve.media.pixels import Grid

# aiohttp reads from the engine at most this far ahead of a client that reads slowly.
_READ_AHEAD_BYTES = 64 * 1024
# vLLM closes idle connections after 5 s. A request that meets such a close fails, so ours are closed earlier.
_KEEP_ALIVE_S = 2.0

_SUSPECT_AGAIN_S = 1.0


class EngineEndedError(ConnectionError):
    """The engine's life ended while a request was open at it."""


class Activity:
    """Of one engine. Requests report what they see; the supervisor ends them together with the engine."""

    def __init__(self) -> None:
        self.last_progress = 0.0
        """When the engine last gave anything of an answer (monotonic time)."""
        self.is_suspect = False
        """The engine looks dead: a request lost it, or the probe did, and no later check has found it healthy."""
        self.lives = 0
        """How many times the engine became ready; a new process has nothing of the last one's caches."""
        self._is_over = False
        self._cleared_at = float("-inf")
        self._lost = asyncio.Event()
        self._healthy = asyncio.Event()
        self._open: set[OpenRequest] = set()

    def progressed(self) -> None:
        self.last_progress = time.monotonic()

    def lost(self) -> None:
        """A request lost its connection, or the engine reported its own death: the probe checks at once.

        A client may be able to break its own requests again and again. So that others are not refused all the time, an
        engine that was suspected without reason is only checked, and not suspected, for a second.
        """
        self._lost.set()
        if time.monotonic() - self._cleared_at > _SUSPECT_AGAIN_S:
            self.is_suspect = True

    async def until_lost(self, timeout_s: float) -> None:
        """Until a request reports a loss, or the time is over. The report is consumed: a check follows."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._lost.wait()
        except TimeoutError:
            return
        self._lost.clear()

    async def is_healthy(self, timeout_s: float) -> bool:
        """Have the probe check the engine at once, and wait for a good result; the engine is not suspect meanwhile."""
        self._healthy.clear()
        self._lost.set()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._healthy.wait()
        except TimeoutError:
            return False

    def found_healthy(self) -> None:
        """A check found nothing wrong. A loss that was reported after it began is checked next."""
        if self._lost.is_set():
            return
        self._healthy.set()
        if self.is_suspect:
            self.is_suspect, self._cleared_at = False, time.monotonic()

    def begin(self) -> None:
        """The engine is ready: requests may be open at it."""
        self.lives += 1
        self._is_over = self.is_suspect = False
        self._cleared_at = float("-inf")
        self._lost.clear()

    def end(self) -> None:
        """The engine's life is over: open requests end, and none may be opened before the next one begins."""
        self._is_over = True
        for request in tuple(self._open):
            request.cancel()

    def request(self) -> "OpenRequest":
        return OpenRequest(self, self._open)

    @property
    def is_over(self) -> bool:
        return self._is_over


class OpenRequest:
    """One request at the engine, or in the queue before it: ``async with`` around all of its work.

    When the engine's life ends, EngineEndedError is raised in it, as if the connection had broken: a server elsewhere
    may keep connections open for as long as it likes, and so does a process that hangs.
    """

    def __init__(self, activity: Activity, requests: set["OpenRequest"]) -> None:
        self._activity = activity
        self._requests = requests
        self._is_ended = False

    async def __aenter__(self) -> Self:
        if self._activity.is_over:
            raise EngineEndedError
        self._task = cast(asyncio.Task[object], asyncio.current_task())
        self._cancelling = self._task.cancelling()
        self._requests.add(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.complete()
        # As asyncio.timeout does: a cancellation from elsewhere that came at the same time stays one.
        if self._is_ended and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise EngineEndedError from error

    def complete(self) -> None:
        """The whole answer was read: the client gets the rest of it, whatever becomes of the engine."""
        self._requests.discard(self)

    def cancel(self) -> None:
        self.complete()
        self._is_ended = True
        self._task.cancel()


@dataclass(frozen=True)
class Address:
    """Where an engine listens: a Unix socket, or a server's base URL; ``headers`` carry that server's key."""

    base_url: str
    socket: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def open_session(self) -> aiohttp.ClientSession:
        """A connection pool to this address. No limit on connections: admission limits requests."""
        connector: aiohttp.BaseConnector = (
            aiohttp.UnixConnector(path=self.socket, limit=0, keepalive_timeout=_KEEP_ALIVE_S)
            if self.socket
            else aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S)
        )
        return aiohttp.ClientSession(
            connector=connector,
            read_bufsize=_READ_AHEAD_BYTES,
            # Compressed, a stream would come in blocks.
            headers={"accept-encoding": "identity", **self.headers},
            cookie_jar=aiohttp.DummyCookieJar(),
        )


class EngineView(Protocol):
    """What the gateway sees of an engine."""

    @property
    def settings(self) -> EngineSettings: ...
    @property
    def address(self) -> Address: ...
    @property
    def activity(self) -> Activity: ...
    @property
    def state(self) -> str: ...
    @property
    def diagnosis(self) -> Diagnosis | None: ...
    @property
    def is_ready(self) -> bool: ...
    @property
    def max_model_len(self) -> int | None: ...
    @property
    def grid(self) -> Grid: ...
    @property
    def special_tokens(self) -> frozenset[str]: ...
    def retry_after_s(self) -> float: ...
