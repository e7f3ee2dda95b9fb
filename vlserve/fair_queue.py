"""Fair queue: a bounded number of permits, granted to waiting API keys in round-robin order."""

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from vlserve.errors import TooManyRequests

_LONGEST_RETRY_S = 60.0


@dataclass(eq=False)
class _Waiter:
    key: str
    granted: asyncio.Future[None]


class FairQueue:
    """Permits with a bounded queue. Keys that wait get permits in round-robin order.

    Where several keys share the queue (``is_shared``), one key may have as many waiting requests as there are free
    positions, hence at most half of the queue.

    Round-robin order is not enough where work is slow (``is_slow``), because one key could hold all permits for a long
    time. There one key may hold as many permits as are free, hence at most half, and another key always finds one.
    """

    def __init__(
        self,
        what: str,
        max_in_flight: int,
        max_queued: int,
        timeout_s: float,
        *,
        is_shared: bool = False,
        is_slow: bool = False,
    ) -> None:
        self._what = what
        self._limits_permits = is_shared and is_slow
        self._in_flight: Counter[str] = Counter()
        self._max_in_flight, self._max_queued = max_in_flight, max_queued
        self._timeout_s = timeout_s
        self._is_shared = is_shared
        self._waiters: dict[str, deque[_Waiter]] = {}  # in round-robin order
        self.in_flight = self.queued = 0
        self._released_at = time.monotonic()
        self._interval_s = 1.0

    def check(self, key: str) -> None:
        """Raise TooManyRequests if no permit is free and the queue has no room for this key."""
        if self._has_permit(key):
            return
        own = len(self._waiters.get(key, ())) if self._is_shared else 0
        if own >= self._max_queued - self.queued:
            if self.in_flight < self._max_in_flight:
                raise self._full(
                    f"has {self._in_flight[key]} requests of this API key, the most that one key may have now"
                )
            # Without numbers: clients must not learn how many requests other keys have.
            raise self._full("is full, and so is its queue")

    @asynccontextmanager
    async def permit(self, key: str) -> AsyncIterator[None]:
        """Hold a permit for the duration of the block. Raises TooManyRequests."""
        await self.acquire(key)
        try:
            yield
        finally:
            self.release(key)

    def _has_permit(self, key: str) -> bool:
        return self._max_in_flight - self.in_flight > (self._in_flight[key] if self._limits_permits else 0)

    def _take(self, key: str) -> None:
        self.in_flight += 1
        self._in_flight[key] += 1

    async def acquire(self, key: str) -> None:
        """Acquire a permit, which ``release`` returns to the queue. Raises TooManyRequests."""
        self.check(key)
        if self._has_permit(key):
            self._take(key)
            return
        waiter = _Waiter(key, asyncio.get_running_loop().create_future())
        self._waiters.setdefault(key, deque()).append(waiter)
        self.queued += 1
        is_admitted = False
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timeout_s):
                    await waiter.granted
                is_admitted = True
        finally:
            if not is_admitted and waiter.granted.done() and not waiter.granted.cancelled():
                self.release(key)  # granted at the moment of the timeout or cancellation: it must not leak
            elif not is_admitted:
                self._remove(waiter)
        if not is_admitted:
            raise self._full(f"stayed full for queue_timeout_s ({self._timeout_s:g} s)")

    def release(self, key: str) -> None:
        """Release a permit of this key, and grant it to the next waiting request."""
        now = time.monotonic()
        self._interval_s += 0.2 * (min(now - self._released_at, _LONGEST_RETRY_S) - self._interval_s)
        self._released_at = now
        self.in_flight -= 1
        self._in_flight[key] -= 1
        while (turn := next((one for one in self._waiters if self._has_permit(one)), None)) is not None:
            waiting = self._waiters[turn]
            waiter = waiting[0]
            self._remove(waiter)
            if waiting:  # this key goes to the end of the round
                self._waiters[turn] = self._waiters.pop(turn)
            if not waiter.granted.done():  # else it was cancelled and has not run since
                self._take(turn)
                waiter.granted.set_result(None)

    def _remove(self, waiter: _Waiter) -> None:
        waiting = self._waiters.get(waiter.key, ())
        if waiter in waiting:
            self._waiters[waiter.key].remove(waiter)
            self.queued -= 1
        if not waiting:
            self._waiters.pop(waiter.key, None)

    def _full(self, problem: str) -> TooManyRequests:
        wait_s = min(self._interval_s * (self.queued + 1), _LONGEST_RETRY_S)
        return TooManyRequests(f"The {self._what} {problem}; try again.", retry_after_s=wait_s)
