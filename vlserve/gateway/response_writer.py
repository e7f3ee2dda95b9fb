"""Writes one answer to a client, with keep-alive comments in streams. Writes are serialised by a lock."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from starlette.types import Send

_COMMENT = b": waiting\n\n"
STREAM_HEAD = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx passes on each event at once
}


class Writer:
    """The response to one request. Its status and headers are sent with the first bytes."""

    def __init__(self, send: Send, headers: Mapping[str, str], started: float) -> None:
        """``started``: monotonic time of the request's arrival."""
        self._send, self._headers = send, headers
        self._written_at = started
        self._lock = asyncio.Lock()
        self.is_started = self.is_over = False

    async def whole(self, body: bytes, content_type: str) -> None:
        """Send a complete answer that is not a stream."""
        async with self._lock:
            await self._write(body, {"content-type": content_type, "content-length": str(len(body))}, is_last=True)

    async def events(self, events: Sequence[bytes]) -> None:
        """Send events of a stream."""
        if events:
            async with self._lock:
                await self._write(b"".join(events), STREAM_HEAD, is_last=False)

    async def end(self, events: Sequence[bytes]) -> None:
        """Send the last events of a stream and end it."""
        async with self._lock:
            await self._write(b"".join(events), STREAM_HEAD, is_last=True)

    @asynccontextmanager
    async def comments(self, quiet_s: float) -> AsyncIterator[None]:
        """Send a comment whenever nothing was written for ``quiet_s``, for the duration of the block."""
        task = asyncio.create_task(self._comment(quiet_s))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait((task,))
            if not task.cancelled():
                task.result()

    async def _comment(self, quiet_s: float) -> None:
        while not self.is_over:
            wait_s = self._written_at + quiet_s - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
                continue
            async with self._lock:
                if not self.is_over and time.monotonic() - self._written_at >= quiet_s:
                    await self._write(_COMMENT, STREAM_HEAD, is_last=False)

    async def _write(self, body: bytes, head: Mapping[str, str], *, is_last: bool) -> None:
        self._written_at = time.monotonic()
        if not self.is_started:
            self.is_started = True
            headers = {**head, **self._headers}
            raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
            await self._send({"type": "http.response.start", "status": 200, "headers": raw})
        self.is_over = is_last
        await self._send({"type": "http.response.body", "body": body, "more_body": not is_last})
