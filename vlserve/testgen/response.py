"""The response of ``/v1/testgen``: runs the pipeline, streams its progress and sends the result."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pybase64
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vlserve.errors import EngineTimeout, InvalidRequest, TooManyRequests, VlserveError, internal_error, shutdown_error
from vlserve.gateway.disconnect import until_disconnect
from vlserve.gateway.response_writer import STREAM_HEAD
from vlserve.gateway.tracing import Trace
from vlserve.testgen import inprocess_client
from vlserve.testgen.result import Ask, Event, Job, ReportProgress, Result, TestgenError

log = logging.getLogger("vlserve.testgen")

Generate = Callable[[Job, Ask, ReportProgress], Awaitable[Result]]
_RETRY_AFTER_S = 15.0
_LAST_EVENT_S = 1.0  # for a slow client to receive the error that the service is shutting down
_COMMENT = b": waiting\n\n"


class Slots:
    """The tests that may be made at the same time."""

    def __init__(self, limit: int) -> None:
        self._free = limit

    def check(self) -> None:
        """Raise TooManyRequests where ``take`` would, before the request is read."""
        if not self._free:
            raise TooManyRequests(
                "This server is making as many tests as it may at the same time (testgen.max_concurrent); try again.",
                retry_after_s=_RETRY_AFTER_S,
            )

    @contextmanager
    def take(self) -> Iterator[None]:
        self.check()
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


@dataclass
class Account:
    """The log entry of one request, without its scenario, picture or page."""

    request_id: str
    key: str
    trace: Trace
    job: Job
    started: float = field(default_factory=time.monotonic)

    def close(self, status: int, error: str | None = None, result: Result | None = None) -> None:
        fields = {
            "request_id": self.request_id,
            "trace_id": self.trace.id,
            "key": self.key,
            "target": self.job.target,
            "mode": result.mode if result else None,
            "outcome": result.outcome if result else None,
            "status": status,
            "error": error,
            "duration_s": time.monotonic() - self.started,
        }
        log.info("testgen", extra={"fields": fields})
        self.trace.end(fields)


class TestgenResponse(Response):
    """Runs the pipeline and sends its progress as events, or its result as JSON.

    Raises VlserveError before the first byte; afterwards an error is the stream's last event.
    """

    def __init__(
        self,
        generate: Generate,
        job: Job,
        ask: Ask,
        account: Account,
        slots: Slots,
        timeout_s: float,
        keep_alive_s: float | None,
        resources: ExitStack,
    ) -> None:
        """``keep_alive_s``: after this long without an event a stream gets a comment; None: no stream. ``resources``
        are closed at the end of the response."""
        super().__init__()
        self.generate, self.job, self.ask, self.account, self.slots = generate, job, ask, account, slots
        self.timeout_s, self.keep_alive_s = timeout_s, keep_alive_s
        self.resources = resources
        self.is_started = self.is_over = False
        self.events: asyncio.Queue[Event | None] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        with self.resources:
            await self._race(receive, send)

    async def _race(self, receive: Receive, send: Send) -> None:
        """Run until the response is complete or the client disconnects, then cancel what still runs."""
        work = asyncio.create_task(self._work())
        work.add_done_callback(lambda _: self.events.put_nowait(None))
        relay = asyncio.create_task(self._relay(work, send))
        leaving = asyncio.create_task(until_disconnect(receive))
        tasks = (work, relay, leaving)
        try:
            await asyncio.wait((relay, leaving), return_when=asyncio.FIRST_COMPLETED)
            if relay.done():
                relay.result()
            else:
                self.account.close(499, "client_left")
        except asyncio.CancelledError:
            relay.cancel()
            await asyncio.wait((relay,))
            ending = shutdown_error()
            if not self.is_started:
                raise ending from None
            if self.is_over:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_EVENT_S):
                    await self._fail(ending, send)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _work(self) -> Result:
        """Raises VlserveError."""
        try:
            with self.slots.take():
                async with asyncio.timeout(self.timeout_s) as limit:
                    return await self.generate(self.job, self.ask, self.events.put_nowait)
        except inprocess_client.AskError as refused:
            raise refused.error from None
        except TestgenError as error:
            raise InvalidRequest(str(error), code="testgen_failed") from None
        except TimeoutError:
            if not limit.expired():
                raise
            raise EngineTimeout(
                f"The test was not made in {self.timeout_s:g} s; the setting testgen.timeout_s decides.",
                code="testgen_timeout",
            ) from None

    async def _relay(self, work: "asyncio.Task[Result]", send: Send) -> None:
        while event := await self._next(send):
            if self.keep_alive_s:
                await self._send(send, _event("step", {"step": event.step, "text": event.text}))
        error = work.exception()
        if error is None:
            await self._finish(work.result(), send)
        elif not self.is_started:
            raise error
        elif isinstance(error, VlserveError):
            await self._fail(error, send)
        else:  # a bug: the client gets a general error, the log the exception
            await self._fail(internal_error(), send)
            raise error

    async def _next(self, send: Send) -> Event | None:
        """The next event; None after the last. A stream that waits for it gets comments."""
        while True:
            try:
                async with asyncio.timeout(self.keep_alive_s):
                    return await self.events.get()
            except TimeoutError:
                await self._send(send, _COMMENT)

    async def _finish(self, result: Result, send: Send) -> None:
        body = await asyncio.to_thread(_encode, result)
        self.account.close(200, result=result)
        if self.keep_alive_s:
            await self._send(send, b"event: result\ndata: " + body + b"\n\n", is_last=True)
        else:
            await self._send(send, body, is_last=True, length=len(body))

    async def _fail(self, error: VlserveError, send: Send) -> None:
        self.account.close(error.status, error.code or error.type)
        await self._send(send, _event("error", error.envelope()), is_last=True)

    async def _send(self, send: Send, body: bytes, *, is_last: bool = False, length: int | None = None) -> None:
        if not self.is_started:
            headers = STREAM_HEAD
            if length is not None:
                headers = {"content-type": "application/json", "content-length": str(length)}
            raw = [(name.encode(), value.encode()) for name, value in headers.items()]
            self.is_started = True
            await send({"type": "http.response.start", "status": 200, "headers": raw})
        self.is_over = is_last
        await send({"type": "http.response.body", "body": body, "more_body": not is_last})


def _event(name: str, tree: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(tree)}\n\n".encode()


def _encode(result: Result) -> bytes:
    """The result as JSON. ``files`` are those to save for the test to run, ``code`` the test itself."""
    tree = {
        "mode": result.mode,
        "outcome": result.outcome,
        "file_name": result.file_name,
        "code": result.code,
        "files": dict(result.sources),
        "report": result.report,
        "annotated": _data_url("image/png", result.annotated),
        "junit": result.junit.decode() if result.junit is not None else None,
        "trace": _data_url("application/zip", result.trace) if result.trace is not None else None,
    }
    return json.dumps(tree).encode()


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{pybase64.b64encode_as_string(data)}"
