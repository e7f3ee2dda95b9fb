"""A fair queue: a bounded number of permits, and API keys that wait for them in turns."""

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
class _Waiting:
    key: str
    admitted: asyncio.Future[None]


class FairQueue:
    """Places, and who waits for them: a line for each key, served in turns.

    Turns do not help where work is slow (``is_slow``) and several keys share the places (``is_shared``): there a key
    may hold as many of them as are still free, which is half at most, and another key always finds one.
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
        self._limits_places = is_shared and is_slow
        self._held: Counter[str] = Counter()
        self._max_in_flight, self._max_queued = max_in_flight, max_queued
        self._timeout_s = timeout_s
        self._is_shared = is_shared
        self._lines: dict[str, deque[_Waiting]] = {}  # in the order of their turns
        self.in_flight = self.queued = 0
        self._left_at = time.monotonic()
        self._interval_s = 1.0

    def check(self, key: str) -> None:
        """Raise TooManyRequests where there is neither a place nor room to wait for one."""
        if self._has_place(key):
            return
        own = len(self._lines.get(key, ())) if self._is_shared else 0
        if own >= self._max_queued - self.queued:
            if self.in_flight < self._max_in_flight:
                raise self._full(f"has {self._held[key]} requests of this API key, as many as one key may have now")
            # Not how many requests there are: those of other keys are not this client's business.
            raise self._full("is full, and so is its queue")

    @asynccontextmanager
    async def place(self, key: str) -> AsyncIterator[None]:
        """A place, given back however the block ends. Raises TooManyRequests."""
        await self.enter(key)
        try:
            yield
        finally:
            self.leave(key)

    def _has_place(self, key: str) -> bool:
        return self._max_in_flight - self.in_flight > (self._held[key] if self._limits_places else 0)

    def _take(self, key: str) -> None:
        self.in_flight += 1
        self._held[key] += 1

    async def enter(self, key: str) -> None:
        self.check(key)
        if self._has_place(key):
            self._take(key)
            return
        waiting = _Waiting(key, asyncio.get_running_loop().create_future())
        self._lines.setdefault(key, deque()).append(waiting)
        self.queued += 1
        is_in = False
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timeout_s):
                    await waiting.admitted
                is_in = True
        finally:
            if not is_in and waiting.admitted.done() and not waiting.admitted.cancelled():
                self.leave(key)  # its turn came in the same moment: the place must not be lost
            elif not is_in:
                self._forget(waiting)
        if not is_in:
            raise self._full(f"had no place within queue_timeout_s ({self._timeout_s:g} s)")

    def leave(self, key: str) -> None:
        """One request of this key less inside; the next in turn comes in."""
        now = time.monotonic()
        self._interval_s += 0.2 * (min(now - self._left_at, _LONGEST_RETRY_S) - self._interval_s)
        self._left_at = now
        self.in_flight -= 1
        self._held[key] -= 1
        while (turn := next((one for one in self._lines if self._has_place(one)), None)) is not None:
            line = self._lines[turn]
            waiting = line[0]
            self._forget(waiting)
            if line:  # to the end of the turns
                self._lines[turn] = self._lines.pop(turn)
            if not waiting.admitted.done():  # it has just left, and does not know yet that its turn came
                self._take(turn)
                waiting.admitted.set_result(None)

    def _forget(self, waiting: _Waiting) -> None:
        line = self._lines.get(waiting.key, ())
        if waiting in line:
            self._lines[waiting.key].remove(waiting)
            self.queued -= 1
        if not line:
            self._lines.pop(waiting.key, None)

    def _full(self, problem: str) -> TooManyRequests:
        wait_s = min(self._interval_s * (self.queued + 1), _LONGEST_RETRY_S)
        return TooManyRequests(f"The {self._what} {problem}; try again.", retry_after_s=wait_s)
