"""An engine's stream, taken apart: what goes on to the client, how many tokens were counted, how it ended."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

from vlserve.protocols.sse import Event, EventTooLongError, Reader
from vlserve.protocols.stream_events import CONTENT, Events, Kind, Meaning

_LONGEST_EVENT_BYTES = 16 * 1024**2
_LARGE_BYTES = 64 * 1024  # parsing so much may take longer than others should wait


class Batch(NamedTuple):
    """What one piece of a stream brought; behind a last event or an error nothing is read."""

    ready: list[bytes]
    """For the client: whole events, as they came."""
    events: int
    """How many of these are events, not comments or pings."""
    usages: list[Any]
    is_last: bool
    error: bytes | None
    """The data of an error event, which is not in ``ready``."""


class EngineStream:
    """The events of one answer.

    What an engine sends before it has done anything (a preamble, comments) is held back until the first part of the
    answer, so that an error until then can still become a status.
    """

    def __init__(self, form: Events, threads: Executor) -> None:
        """``threads`` parse large events."""
        self._form = form
        self._threads = threads
        self._reader = Reader(_LONGEST_EVENT_BYTES)
        self._held, self._held_events = bytearray(), 0
        self._has_begun = False

    @property
    def is_in_preamble(self) -> bool:
        """Whether the engine has announced an answer, and nothing of it has come."""
        return self._held_events > 0

    async def feed(self, piece: bytes) -> Batch:
        """Raises EventTooLongError."""
        return await self._sort(self._reader.feed(piece))

    async def finish(self) -> Batch:
        """What is complete now that the stream has ended."""
        return await self._sort(self._reader.finish())

    async def _sort(self, events: Sequence[Event]) -> Batch:
        form = self._form
        ready: list[bytes] = []
        usages: list[Any] = []
        count = 0
        for event in events:
            meaning = form.read(event) if len(event.raw) < _LARGE_BYTES else await self._in_thread(event)
            if meaning is CONTENT and self._has_begun:  # nearly all
                ready.append(event.raw)
                count += 1
                continue
            kind = meaning.kind
            if kind is Kind.ERROR:
                return Batch(ready, count, usages, False, form.error(event))
            if meaning.usage is not None:
                usages.append(meaning.usage)
                if not form.is_for_client(meaning):
                    continue
            if not self._has_begun:
                if kind is Kind.PREAMBLE or kind is Kind.IDLE:
                    self._hold(event, kind)
                    continue
                count += self._begin(ready)
            ready.append(event.raw)
            if kind is not Kind.IDLE:
                count += 1
            if kind is Kind.LAST:
                return Batch(ready, count, usages, True, None)
        return Batch(ready, count, usages, False, None)

    async def _in_thread(self, event: Event) -> Meaning:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._form.read, event)

    def _begin(self, ready: list[bytes]) -> int:
        """Release what was held back; returns how many events that is."""
        self._has_begun = True
        if self._held:
            ready.append(bytes(self._held))
            self._held.clear()
        count, self._held_events = self._held_events, 0
        return count

    def _hold(self, event: Event, kind: Kind) -> None:
        self._held += event.raw
        self._held_events += kind is Kind.PREAMBLE
        if len(self._held) > _LONGEST_EVENT_BYTES:
            raise EventTooLongError
