"""When an engine that ended is started again. Pure: time and chance come from outside.

what ended                                             next
─────────────────────────────────────────────────────  ──────────────────────────────────────────────────────────
a life that was ready for ten seconds                  the backoff begins anew, at 1 s, and the breaker closes
any other                                              2 s, 4 s … 60 s, each up to a quarter more or less by chance
the fifth within a minute                              the breaker opens: 60 s, doubled to 600 s while it is open
a start that would fail the same way again             never
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

STABLE_S = 10.0
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 60.0
BREAKER_DEATHS, BREAKER_WINDOW_S = 5, 60.0
FIRST_BREAK_S, LONGEST_BREAK_S = 60.0, 600.0
_JITTER = 0.25


@dataclass(frozen=True)
class Pause:
    """How long to wait before the next start, and whether the breaker is open meanwhile."""

    wait_s: float
    is_broken: bool


class Restarts:
    """One engine's deaths, and what follows from them."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        """``chance`` gives numbers in [0, 1)."""
        self._chance = chance
        self._backoff_s, self._break_s = FIRST_BACKOFF_S, FIRST_BREAK_S
        self._deaths: deque[float] = deque(maxlen=BREAKER_DEATHS)
        self._is_broken = False

    def next_wait_s(self, ready_s: float) -> float:
        """What the death of a life that was ready for ``ready_s`` would cost now, without its part of chance."""
        if ready_s > STABLE_S:
            return FIRST_BACKOFF_S
        return self._break_s if self._is_broken else self._backoff_s

    def after(self, now: float, ready_s: float, *, is_lasting: bool) -> Pause | None:
        """What follows a death at ``now`` of a life that was ready for ``ready_s``; None: it must not start again.

        ``is_lasting``: the next start would fail the same way.
        """
        if is_lasting:
            return None
        if ready_s > STABLE_S:
            self._backoff_s, self._break_s, self._is_broken = FIRST_BACKOFF_S, FIRST_BREAK_S, False
        self._deaths.append(now)
        if len(self._deaths) == BREAKER_DEATHS and now - self._deaths[0] <= BREAKER_WINDOW_S:
            self._is_broken = True
        wait_s = self._break_s if self._is_broken else self._backoff_s
        if self._is_broken:
            self._break_s = min(2 * self._break_s, LONGEST_BREAK_S)
        else:
            self._backoff_s = min(2 * self._backoff_s, LONGEST_BACKOFF_S)
        return Pause(wait_s * (1 - _JITTER + 2 * _JITTER * self._chance()), self._is_broken)
