"""Restart policy: exponential backoff and a circuit breaker. Pure: time and randomness are passed in.

the engine ended                                       next start
─────────────────────────────────────────────────────  ──────────────────────────────────────────────────────────
after it was ready for more than ten seconds           in 1 s; the backoff is reset, the breaker closes
sooner                                                 in 1 s, 2 s, 4 s … 60 s, with a jitter of ±25 %
sooner, for the fifth time within a minute             the breaker opens: in 60 s, doubled up to 600 s while open
in a way that would repeat                             never
twice in the same way before it was ever ready         never
"""

import random
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

STABLE_S = 10.0
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 60.0
BREAKER_DEATHS, BREAKER_WINDOW_S = 5, 60.0
FIRST_BREAK_S, LONGEST_BREAK_S = 60.0, 600.0
_JITTER = 0.25
_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+")


@dataclass(frozen=True)
class Pause:
    """How long to wait before the next start, and whether the breaker is open meanwhile."""

    wait_s: float
    is_broken: bool


class Restarts:
    """Tracks one engine's deaths and computes when it is started again."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        """``chance`` returns random numbers in [0, 1)."""
        self._chance = chance
        self._backoff_s, self._break_s = FIRST_BACKOFF_S, FIRST_BREAK_S
        self._deaths: deque[float] = deque(maxlen=BREAKER_DEATHS)
        self._is_broken = False
        self._was_ready = False
        self._last_words = ""

    def next_wait_s(self, ready_s: float) -> float:
        """The wait, without jitter, if an engine that was ready for ``ready_s`` died now."""
        if ready_s > STABLE_S:
            return FIRST_BACKOFF_S
        return self._break_s if self._is_broken else self._backoff_s

    def after(self, now: float, ready_s: float, *, is_lasting: bool, last_words: str = "") -> Pause | None:
        """Record a death at ``now`` after ``ready_s`` seconds of being ready. Returns None if it must not be restarted.

        ``is_lasting``: the next start would fail the same way. ``last_words``: the error of a start whose cause is
        unknown, else empty; errors that differ only in numbers (times, pids, addresses) are the same.
        """
        self._was_ready |= ready_s > 0
        last_words = _NUMBER.sub("#", last_words)
        is_repeated = bool(last_words) and last_words == self._last_words and not self._was_ready
        self._last_words = last_words
        if is_lasting or is_repeated:
            return None
        if ready_s > STABLE_S:
            self._backoff_s, self._break_s, self._is_broken = FIRST_BACKOFF_S, FIRST_BREAK_S, False
            self._deaths.clear()
        self._deaths.append(now)
        if len(self._deaths) == BREAKER_DEATHS and now - self._deaths[0] <= BREAKER_WINDOW_S:
            self._is_broken = True
        wait_s = self._break_s if self._is_broken else self._backoff_s
        if self._is_broken:
            self._break_s = min(2 * self._break_s, LONGEST_BREAK_S)
        else:
            self._backoff_s = min(2 * self._backoff_s, LONGEST_BACKOFF_S)
        return Pause(wait_s * (1 - _JITTER + 2 * _JITTER * self._chance()), self._is_broken)
