"""The gateway's interface to an engine: address, state, limits, and the activity that requests report.

The gateway imports only this module and errors.py from this package, so that engines could be supervised by another
process.
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

# vLLM closes idle connections after 5 s. A request sent at that moment would fail, so ours are closed earlier.
KEEP_ALIVE_S = 2.0

_SUSPECT_AGAIN_S = 1.0


class EngineEndedError(ConnectionError):
    """The engine ended while a request to it was open."""


class Activity:
    """Activity of one engine: requests report progress and failures; the supervisor ends them with the engine."""

    def __init__(self) -> None:
        self.last_progress = 0.0
        """When the engine last made progress, such as a byte of an answer (monotonic time)."""
        self.is_suspect = False
        """A request or the probe lost its connection to the engine, and no later check has found it healthy."""
        self.lives = 0
        """How many times the engine became ready. A new process starts with empty caches."""
        self._is_over = False
        self._cleared_at = float("-inf")
        self._lost = asyncio.Event()
        self._healthy = asyncio.Event()
        self._open: set[OpenRequest] = set()

    def progressed(self) -> None:
        self.last_progress = time.monotonic()

    def lost(self) -> None:
        """A request lost its connection, or the engine reported its own death: have the probe check at once.

        A client may be able to break its own requests repeatedly, and others must not be refused because of that. So
        for a second after a false suspicion the engine is only checked, not suspected.
        """
        self._lost.set()
        if time.monotonic() - self._cleared_at > _SUSPECT_AGAIN_S:
            self.is_suspect = True

    async def until_lost(self, timeout_s: float) -> None:
        """Wait until a request reports a loss, or for ``timeout_s``. Clears the report; the caller must check then."""
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
        """Record a successful check. Ignored if a loss was reported since the check began; another check follows."""
        if self._lost.is_set():
            return
        self._healthy.set()
        if self.is_suspect:
            self.is_suspect, self._cleared_at = False, time.monotonic()

    def begin(self) -> None:
        """The engine is ready: requests may be sent to it."""
        self.lives += 1
        self._is_over = self.is_suspect = False
        self._cleared_at = float("-inf")
        self._lost.clear()

    def end(self) -> None:
        """The engine has ended: end open requests, and refuse new ones until it is ready again."""
        self._is_over = True
        for request in tuple(self._open):
            request.cancel()

    def request(self) -> "OpenRequest":
        return OpenRequest(self, self._open)

    @property
    def is_over(self) -> bool:
        return self._is_over


class OpenRequest:
    """One request at the engine, or in the queue before it: an ``async with`` block around all of its work.

    When the engine ends, EngineEndedError is raised in the block, as if the connection had broken, because a remote
    server or a hung process may keep the connection open.
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
        # As in asyncio.timeout: a cancellation from elsewhere at the same time takes precedence.
        if self._is_ended and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise EngineEndedError from error

    def complete(self) -> None:
        """The whole answer was read: it is delivered even if the engine ends now."""
        self._requests.discard(self)

    def cancel(self) -> None:
        self.complete()
        self._is_ended = True
        self._task.cancel()


@dataclass(frozen=True)
class Address:
    """Where an engine listens: a Unix socket, or a server's base URL; ``headers`` contain that server's key."""

    base_url: str
    socket: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def open_session(self) -> aiohttp.ClientSession:
        """A connection pool to this address. No limit on connections: admission limits requests."""
        connector: aiohttp.BaseConnector = (
            aiohttp.UnixConnector(path=self.socket, limit=0, keepalive_timeout=KEEP_ALIVE_S)
            if self.socket
            else aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
        )
        return aiohttp.ClientSession(
            connector=connector,
            # A compressed stream would arrive in blocks.
            headers={"accept-encoding": "identity", **self.headers},
            cookie_jar=aiohttp.DummyCookieJar(),
        )


class EngineView(Protocol):
    """The attributes of an engine that the gateway uses."""

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
