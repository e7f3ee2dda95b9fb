"""Parser of an engine's event stream: events for the client, token usage, errors and the end."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

from vlserve.protocols.sse import Event, EventTooLongError, Reader
from vlserve.protocols.stream_events import CONTENT, Events, Kind, Meaning
from vlserve.protocols.strict_json import LARGE_JSON_BYTES

_LONGEST_EVENT_BYTES = 16 * 1024**2


class Batch(NamedTuple):
    """The result of parsing one chunk of a stream, up to its last event or an error."""

    ready: list[bytes]
    """Complete events for the client, unchanged except for details of usage."""
    events: int
    """Number of these that are events rather than comments or pings."""
    usages: list[Any]
    is_last: bool
    error: bytes | None
    """Data of an error event, which is not in ``ready``."""


class EngineStream:
    """The events of one answer.

    The preamble and comments before the answer's first content are held back, so that an error until then can still be
    reported with its HTTP status.
    """

    def __init__(self, interpreter: Events, threads: Executor) -> None:
        """``interpreter`` classifies events; ``threads`` parse large ones."""
        self._events = interpreter
        self._threads = threads
        self._reader = Reader(_LONGEST_EVENT_BYTES)
        self._held, self._held_events = bytearray(), 0
        self._has_begun = False

    @property
    def is_in_preamble(self) -> bool:
        """Whether the preamble was received, but no content yet."""
        return self._held_events > 0

    async def feed(self, chunk: bytes) -> Batch:
        """Parse a chunk. Raises EventTooLongError."""
        return await self._parse(self._reader.feed(chunk))

    async def finish(self) -> Batch:
        """Parse the rest after the stream has ended."""
        return await self._parse(self._reader.finish())

    async def _parse(self, events: Sequence[Event]) -> Batch:
        interpreter = self._events
        ready: list[bytes] = []
        usages: list[Any] = []
        count = 0
        for event in events:
            meaning = interpreter.read(event) if len(event.raw) < LARGE_JSON_BYTES else await self._in_thread(event)
            if meaning is CONTENT and self._has_begun:  # the common case
                ready.append(event.raw)
                count += 1
                continue
            kind = meaning.kind
            if kind is Kind.ERROR:
                return Batch(ready, count, usages, False, interpreter.error(event))
            if meaning.usage is not None:
                usages.append(meaning.usage)
                if not interpreter.is_for_client(meaning):
                    continue
            if not self._has_begun:
                if kind is Kind.PREAMBLE or kind is Kind.IDLE:
                    self._hold(event, kind)
                    continue
                count += self._begin(ready)
            ready.append(
                event.raw if meaning.usage is None else interpreter.add_usage_details(event.raw, meaning.usage)
            )
            if kind is not Kind.IDLE:
                count += 1
            if kind is Kind.LAST:
                return Batch(ready, count, usages, True, None)
        return Batch(ready, count, usages, False, None)

    async def _in_thread(self, event: Event) -> Meaning:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._events.read, event)

    def _begin(self, ready: list[bytes]) -> int:
        """Release the events that were held back. Returns their number."""
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
