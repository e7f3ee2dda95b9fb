"""Admission control: API keys, rate limits, per-engine permits and a fair queue.

A key is refused when it asks too often or has too many requests open. An engine computes ``max_in_flight`` requests;
more wait in a queue of ``max_queued``, from which keys are served in turns. Where there are several keys, one may wait
with as many requests as places are still free, so that it takes at most half of the queue and another one always finds
room.
"""

import hashlib
import hmac
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager

from vlserve.config.engine_settings import EngineSettings
from vlserve.config.keys import ANONYMOUS, ApiKey
from vlserve.config.settings import KeyLimits, Server
from vlserve.errors import Forbidden, TooManyRequests, Unauthorized
from vlserve.fair_queue import FairQueue

_MINUTE_S = 60.0
# 50 megapixels are 150 MB in memory; an upload of 100 MiB lies in the folder for temporary files until it is whole.
# A video is read by a process of its own, which may take a gigabyte.
_DECODERS, _VIDEO_READERS, _UPLOADS, _MOST_WAITING = 4, 4, 8, 64


class Admission:
    """The door. Without keys everyone comes in as ``anonymous``."""

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
        # A picture is decoded in seconds, so turns are enough there. A video may take 40 s, an upload half an hour.
        self._decoding = queue("place for decoding pictures", _DECODERS, _MOST_WAITING)
        self._reading = queue("place for reading videos", _VIDEO_READERS, _MOST_WAITING, is_slow=True)
        self._uploading = queue("place for uploads", _UPLOADS, _MOST_WAITING, is_slow=True)

    def in_flight(self, engine: str) -> int:
        """Requests inside this engine."""
        return self._queues[engine].in_flight

    def queued(self, engine: str) -> int:
        """Requests that wait for this engine."""
        return self._queues[engine].queued

    @property
    def is_idle(self) -> bool:
        return not any(queue.in_flight or queue.queued for queue in self._queues.values())

    def authenticate(self, headers: Mapping[str, str]) -> str:
        """The name of the key in ``Authorization: Bearer …``, or ``x-api-key``, as Anthropic's clients send it.

        Raises Unauthorized.

        Digests are compared, every one of them, so the time taken tells nothing about a key.
        """
        if not self._keys:
            return ANONYMOUS
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if not scheme:
            scheme, token = "bearer", headers.get("x-api-key", "")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized("An API key is needed: send the header 'Authorization: Bearer YOUR_KEY'.")
        digest = hashlib.sha256(token.strip().encode()).digest()
        found = [key.name for key in self._keys if hmac.compare_digest(key.digest, digest)]
        if not found:
            raise Unauthorized("This API key is not known here.")
        return found[0]

    def check_operator(self, key: str) -> None:
        """Raise Forbidden where API keys exist and this one may not see what is about all of them."""
        if self._keys and key not in self._operators:
            raise Forbidden(
                "The metrics are about all API keys, and this one may not read them. "
                f"The setting server.keys allows it: {{{key}: {{metrics: true}}}}."
            )

    @contextmanager
    def request(self, key: str) -> Iterator[None]:
        """Counts an open request of this key, from its head to the end of its answer. Raises TooManyRequests."""
        limits = self._limits.get(key, self._server.key_limits)
        if limits.max_in_flight is not None and self._open[key] >= limits.max_in_flight:
            raise TooManyRequests(
                f"This API key has {self._open[key]} requests open, as many as it may (key_limits.max_in_flight).",
                retry_after_s=1,
            )
        if wait_s := self._rate(key, limits).take():
            raise TooManyRequests(
                f"This API key may ask {limits.requests_per_minute:g} times a minute (key_limits.requests_per_minute).",
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
        """Bytes of all requests that are in memory."""
        return self._memory.used

    @contextmanager
    def holding(self, key: str) -> Iterator["RequestMemory"]:
        """Counts the bytes of one request of this key that are in memory, until the block ends."""
        memory = RequestMemory(self._memory, key)
        try:
            yield memory
        finally:
            memory.resize(0)

    def check_room(self, engine: str, key: str) -> None:
        """Raise TooManyRequests where ``permit`` would at once, so that nothing is done for nothing."""
        self._queues[engine].check(key)

    def decoding(self, key: str) -> AbstractAsyncContextManager[None]:
        """A place to decode pictures, which is much memory and work. Raises as ``permit`` does."""
        return self._decoding.place(key)

    def reading_video(self, key: str) -> AbstractAsyncContextManager[None]:
        """A place for a process that reads a video. Raises as ``permit`` does."""
        return self._reading.place(key)

    def uploading(self, key: str) -> AbstractAsyncContextManager[None]:
        """A place to upload a file, which lies on the disk twice meanwhile. Raises as ``permit`` does."""
        return self._uploading.place(key)

    def permit(self, engine: str, key: str) -> AbstractAsyncContextManager[None]:
        """A place in an engine, after a wait in its queue where it is full; given back however the block ends.

        Raises TooManyRequests where the queue has no room for this key, or after ``queue_timeout_s`` in it.
        """
        return self._queues[engine].place(key)


class _Budget:
    """Bytes. Where several keys share them (``is_shared``), one key may use as many as are still free, half of all:
    whoever sends slowly would else take them all for as long as that may last."""

    def __init__(self, most: int, *, is_shared: bool) -> None:
        self._most, self._is_shared = most, is_shared
        self.used = 0
        self._used_by: Counter[str] = Counter()

    def take(self, key: str, size: int) -> None:
        """Give back where ``size`` is negative. Raises TooManyRequests."""
        own = self._used_by[key]
        if size > 0 and self.used + size + (own if self._is_shared else 0) > self._most:
            raise TooManyRequests(
                "The server holds as many bytes of requests as it may (server.max_bodies_bytes); try again.",
                retry_after_s=1,
            )
        self.used += size
        self._used_by[key] = own + size


class RequestMemory:
    """Bytes of one request that are in memory, as they count against ``server.max_bodies_bytes``."""

    def __init__(self, budget: _Budget, key: str) -> None:
        self._budget, self._key = budget, key
        self._size = 0

    def charge(self, size: int) -> None:
        """Count ``size`` more bytes. Raises TooManyRequests where those of all requests become too many."""
        self.resize(self._size + size)

    def resize(self, size: int) -> None:
        """Set what is counted to ``size`` bytes. Raises TooManyRequests as ``charge`` does, never when it shrinks."""
        self._budget.take(self._key, size - self._size)
        self._size = size


class _Rate:
    """A bucket that holds a minute's worth of requests and fills evenly."""

    def __init__(self, per_minute: float | None, now: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._now = now
        self._left = max(1.0, per_minute or 0.0)
        self._filled = now()

    def take(self) -> float:
        """Take one request; 0, or the seconds until there is one to take."""
        if self._per_minute is None:
            return 0.0
        now = self._now()
        per_second = self._per_minute / _MINUTE_S
        self._left = min(max(1.0, self._per_minute), self._left + (now - self._filled) * per_second)
        self._filled = now
        if self._left < 1:
            return (1 - self._left) / per_second
        self._left -= 1
        return 0.0
