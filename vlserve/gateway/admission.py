"""Admission control: limits of API keys, rate limits, per-engine permits and a fair queue.

A request is refused if its key exceeds its rate or its limit of open requests. An engine processes ``max_in_flight``
requests; up to ``max_queued`` more wait in a queue, from which keys are served in round-robin order. With several keys,
one key may have as many waiting requests as there are free positions, hence at most half of the queue.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager

from vlserve.config.engine_settings import EngineSettings
from vlserve.config.keys import ApiKey
from vlserve.config.settings import KeyLimits, Server
from vlserve.errors import Forbidden, TooManyRequests
from vlserve.fair_queue import FairQueue
from vlserve.gateway.authentication import authenticate

_MINUTE_S = 60.0
# A decoded picture of 50 megapixels takes 150 MB of memory. A video is read in a child process, which may take 1 GB.
# An upload of up to 100 MiB is stored in the temporary folder until it is complete.
_DECODERS, _VIDEO_READERS, _UPLOADS, _MOST_WAITING = 4, 4, 8, 64


class Admission:
    """Admits requests. Without API keys every client is ``anonymous``."""

    def __init__(self, keys: tuple[ApiKey, ...], server: Server, engines: Mapping[str, EngineSettings]) -> None:
        self._keys = keys
        self._server = server
        self._limits = {name: server.limits(name) for name in server.keys}
        self._operators = frozenset(name for name, settings in server.keys.items() if settings.metrics)
        self.has_several_keys = len({key.name for key in keys}) > 1

        def queue(what: str, max_in_flight: int, max_queued: int, *, is_slow: bool = False) -> FairQueue:
            return FairQueue(
                what,
                max_in_flight,
                max_queued,
                server.queue_timeout_s,
                is_shared=self.has_several_keys,
                is_slow=is_slow,
            )

        self._queues = {
            name: queue(f"{name} engine", settings.max_in_flight, settings.max_queued)
            for name, settings in engines.items()
        }
        self._rates: dict[str, _Rate] = {}
        self._open: Counter[str] = Counter()
        self._memory = _Budget(server.max_bodies_bytes, is_shared=self.has_several_keys)
        # Decoding a picture takes seconds, reading a video up to 40 s, an upload up to half an hour.
        self._decoding = queue("picture decoder", _DECODERS, _MOST_WAITING)
        self._reading = queue("video reader", _VIDEO_READERS, _MOST_WAITING, is_slow=True)
        self._uploading = queue("upload service", _UPLOADS, _MOST_WAITING, is_slow=True)

    def in_flight(self, engine: str) -> int:
        """Return the number of requests that hold a permit of this engine."""
        return self._queues[engine].in_flight

    def queued(self, engine: str) -> int:
        """Return the number of requests that wait for a permit of this engine."""
        return self._queues[engine].queued

    def authenticate(self, headers: Mapping[str, str]) -> str:
        """Return the name of the request's API key. Raises Unauthorized."""
        return authenticate(self._keys, headers)

    def check_operator(self, key: str) -> None:
        """Raise Forbidden if API keys exist and this one has no access to the metrics."""
        if self._keys and key not in self._operators:
            raise Forbidden(
                "This API key has no access to the metrics, which cover all keys. "
                f"To grant it, set server.keys: {{{key}: {{metrics: true}}}}."
            )

    @contextmanager
    def request(self, key: str) -> Iterator[None]:
        """Count a request towards its key's limits for the duration of the block. Raises TooManyRequests."""
        limits = self._limits.get(key, self._server.key_limits)
        if limits.max_in_flight is not None and self._open[key] >= limits.max_in_flight:
            raise TooManyRequests(
                f"This API key has {self._open[key]} open requests, its limit (key_limits.max_in_flight).",
                retry_after_s=1,
            )
        if wait_s := self._rate(key, limits).take():
            raise TooManyRequests(
                f"This API key is limited to {limits.requests_per_minute:g} requests a minute "
                "(key_limits.requests_per_minute).",
                retry_after_s=wait_s,
            )
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

    def _rate(self, key: str, limits: KeyLimits) -> "_Rate":
        return self._rates.setdefault(key, _Rate(limits.requests_per_minute))

    @property
    def request_bytes(self) -> int:
        """Bytes of all requests in memory."""
        return self._memory.used

    @contextmanager
    def request_memory(self, key: str) -> Iterator["RequestMemory"]:
        """Count one request's bytes in memory for the duration of the block."""
        memory = RequestMemory(self._memory, key)
        try:
            yield memory
        finally:
            memory.resize(0)

    def check_room(self, engine: str, key: str) -> None:
        """Raise TooManyRequests if ``permit`` would raise it at once, before any other work is done."""
        self._queues[engine].check(key)

    def decoding(self, key: str) -> AbstractAsyncContextManager[None]:
        """Hold a permit to decode pictures, which takes memory and time. Raises TooManyRequests."""
        return self._decoding.permit(key)

    def reading_video(self, key: str) -> AbstractAsyncContextManager[None]:
        """Hold a permit for a child process that reads a video. Raises TooManyRequests."""
        return self._reading.permit(key)

    def uploading(self, key: str) -> AbstractAsyncContextManager[None]:
        """Hold a permit to upload a file, which takes its size twice on the disk. Raises TooManyRequests."""
        return self._uploading.permit(key)

    def permit(self, engine: str, key: str) -> AbstractAsyncContextManager[None]:
        """Hold a permit of an engine for the duration of the block, after waiting in its queue if necessary.

        Raises TooManyRequests if the queue has no room for this key, or after ``queue_timeout_s`` in it.
        """
        return self._queues[engine].permit(key)


class _Budget:
    """A limit on bytes in memory.

    With several keys (``is_shared``) one key may use as many bytes as are free, hence at most half: otherwise a slow
    client could use all of them for a long time.
    """

    def __init__(self, most: int, *, is_shared: bool) -> None:
        self._most, self._is_shared = most, is_shared
        self.used = 0
        self._used_by: Counter[str] = Counter()

    def take(self, key: str, size: int) -> None:
        """Add ``size`` bytes, or release them if it is negative. Raises TooManyRequests."""
        own = self._used_by[key]
        if size > 0 and self.used + size + (own if self._is_shared else 0) > self._most:
            raise TooManyRequests(
                "The requests in memory have reached server.max_bodies_bytes; try again.",
                retry_after_s=1,
            )
        self.used += size
        self._used_by[key] = own + size


class RequestMemory:
    """One request's bytes in memory, counted towards ``server.max_bodies_bytes``."""

    def __init__(self, budget: _Budget, key: str) -> None:
        self._budget, self._key = budget, key
        self._size = 0

    def charge(self, size: int) -> None:
        """Count ``size`` more bytes. Raises TooManyRequests at the limit for all requests."""
        self.resize(self._size + size)

    def resize(self, size: int) -> None:
        """Set the count to ``size`` bytes. Raises TooManyRequests as ``charge`` does, but never if it shrinks."""
        self._budget.take(self._key, size - self._size)
        self._size = size


class _Rate:
    """Token bucket that holds one minute's requests."""

    def __init__(self, per_minute: float | None, now: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._now = now
        self._tokens = max(1.0, per_minute or 0.0)
        self._filled_at = now()

    def take(self) -> float:
        """Take one token. Returns 0, or the seconds until one is available."""
        if self._per_minute is None:
            return 0.0
        now = self._now()
        per_second = self._per_minute / _MINUTE_S
        self._tokens = min(max(1.0, self._per_minute), self._tokens + (now - self._filled_at) * per_second)
        self._filled_at = now
        if self._tokens < 1:
            return (1 - self._tokens) / per_second
        self._tokens -= 1
        return 0.0
