"""Relays one request to an engine and the engine's answer to the client, byte for byte.

When the client disconnects, the connection to the engine is closed, which ends its work at once. An error of the engine
is an HTTP status before the first byte, and one SSE error event and the end of the stream after it, never a ``[DONE]``
(vLLM sends one after its error event; it is dropped).
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vlserve.engines.errors import from_engine
from vlserve.engines.view import Activity
from vlserve.errors import EngineDied, EngineFailed, EngineTimeout, InvalidRequest, VlserveError, service_ends
from vlserve.exhaustion import exhausted, reported
from vlserve.gateway.engine_stream import Batch, EngineStream
from vlserve.gateway.writer import Writer
from vlserve.media.picture_cache import is_cache_miss
from vlserve.protocols.sse import EventTooLongError
from vlserve.protocols.stream_events import ABORTED_ERROR, Events, status

_WRITE_PIECE_BYTES = 256 * 1024
_LAST_EVENT_S = 1.0  # for a client that does not read to take the news of a fault
_CHECK_S = 8.0  # the probe's next check of a server elsewhere, and its answer; a process is checked within a second
_LONGEST_RETRY_AFTER_S = 3600.0
Body = tuple[bytes | bytearray | memoryview, ...]
_LARGE_BYTES = 64 * 1024  # reading so much may take longer than others should wait


@dataclass
class Outcome:
    """What one request cost, for the log and the metrics; filled in as it goes. Times in seconds."""

    started: float = field(default_factory=time.monotonic)
    status: int = 0
    error: str | None = None
    queued_s: float | None = None
    first_token_s: float | None = None
    """Streams only: a whole answer's first token is not seen."""
    events: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def count(self, usage: Any) -> None:
        """Note the token counts of a ``usage`` object, in the words of any protocol."""
        counts = usage if isinstance(usage, dict) else {}
        prompt = counts.get("prompt_tokens", counts.get("input_tokens"))
        completion = counts.get("completion_tokens", counts.get("output_tokens"))
        self.prompt_tokens = prompt if isinstance(prompt, int) else self.prompt_tokens
        self.completion_tokens = completion if isinstance(completion, int) else self.completion_tokens


@dataclass(frozen=True)
class Upstream:
    """What to send to which engine."""

    engine: str
    activity: Activity
    session: aiohttp.ClientSession
    url: str
    body: Body
    whole_body: Callable[[], Awaitable[Body]] | None
    """The same request with every picture in it, where ``body`` has only the names of some: for an engine that does
    not have them any more."""
    accepted: Callable[[], None]
    """Called when the engine has begun to answer."""
    released: Callable[[], None]
    """Called when the request will not be sent again, and its bytes were freed."""
    threads: Executor
    """For the JSON of large answers."""
    is_stream: bool
    events: Events
    is_constrained: bool
    """Whether the engine has to compile a schema or tools of the client: the likely cause if it fails."""
    has_logit_bias: bool
    """Its token ids are checked as late as schemas are."""
    too_long: Callable[[VlserveError], Awaitable[VlserveError]] | None
    """Says the same with more numbers, while the request has its place and was not answered."""
    request_id: str
    headers: Mapping[str, str]
    timeout_s: float
    """From the request's arrival to the end of its answer."""
    keep_alive_s: float
    """After this long without an event a stream gets a comment."""
    retry_after_s: Callable[[], float]


class _PictureCacheMissError(Exception):
    """The engine does not have a picture that it was sent the name of."""


class PassThrough(Response):
    """A response that makes itself: sends the request on when called, and the engine's answer back.

    Raises VlserveError before anything was sent; afterwards it reports a fault inside the stream.
    """

    def __init__(
        self,
        upstream: Upstream,
        headers: Mapping[str, str],
        outcome: Outcome,
        permit: contextlib.AbstractAsyncContextManager[None],
        held: contextlib.ExitStack,
    ) -> None:
        """``permit`` is held while the engine works; ``held`` is closed when ``outcome`` is complete."""
        super().__init__()
        self.upstream = upstream
        self.extra_headers = headers
        self.outcome = outcome
        self.permit = permit
        self.held = held
        self.at_engine = upstream.activity.request()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        with self.held:
            await self._race(receive, Writer(send, self.extra_headers, self.outcome.started))

    async def _race(self, receive: Receive, client: Writer) -> None:
        """Relay until the answer is complete or the client has left, whichever is first."""
        relay = asyncio.create_task(self._relay(client))
        leaving = asyncio.create_task(until_disconnect(receive))
        try:
            await asyncio.wait((relay, leaving), return_when=asyncio.FIRST_COMPLETED)
            if relay.done():
                await self._end(relay.exception(), client)
            elif not client.is_over:  # clients leave when they have read the last event
                self.outcome.status, self.outcome.error = 499, "client_left"
        except asyncio.CancelledError:  # the service ends; the client is told, and this task has nothing else to do
            relay.cancel()
            await asyncio.wait((relay,))
            ending = service_ends()
            if not client.is_started:
                raise ending from None
            await self._report(ending, client)
        finally:
            if client.is_started:
                self.outcome.status = self.outcome.status or 200
            for task in (relay, leaving):
                task.cancel()
            await asyncio.wait((relay, leaving))

    async def _end(self, fault: BaseException | None, client: Writer) -> None:
        """A fault that ``_relay`` does not know, a bug, is logged by who gets it."""
        if fault and client.is_started:
            await self._report(reported(fault), client)
        if fault:
            raise fault

    async def _relay(self, client: Writer) -> None:
        try:
            async with self.at_engine, asyncio.timeout(self.upstream.timeout_s - self._elapsed_s()), self.permit:
                self.outcome.queued_s = self._elapsed_s()
                # Nothing is sent before: without a place the answer is a 429, which clients try again.
                async with self._comments(client):
                    await self._ask(client)
        except (aiohttp.ClientError, ConnectionError, TimeoutError, VlserveError) as fault:
            error = self._explain(fault)
            if isinstance(error, EngineDied):
                self.upstream.activity.lost()
            if not client.is_started:
                raise error from fault
            await self._report(error, client)

    def _comments(self, client: Writer) -> contextlib.AbstractAsyncContextManager[None]:
        return client.comments(self.upstream.keep_alive_s) if self.upstream.is_stream else contextlib.nullcontext()

    def _release(self) -> None:
        """Free what was needed to send the request: a long answer would keep its pictures in memory."""
        self.upstream = replace(self.upstream, body=(), whole_body=None, too_long=None)
        self.upstream.released()

    async def _ask(self, client: Writer) -> None:
        """Send the request; once more with all of its pictures where the engine lacks those that were only named."""
        may_miss = self.upstream.whole_body is not None
        is_answered = await self._try(self.upstream.body, client, may_miss=may_miss)
        if self.upstream.whole_body and not is_answered:
            await self._try(await self.upstream.whole_body(), client, may_miss=False)

    async def _try(self, body: Body, client: Writer, *, may_miss: bool) -> bool:
        """Whether the engine answered; False: it lacks a picture that ``body`` only names (``may_miss``)."""
        try:
            exchange = self._exchange(body, client, may_miss=may_miss)
            del body
            await exchange
        except _PictureCacheMissError:
            return False
        return True

    async def _exchange(self, body: Body, client: Writer, *, may_miss: bool) -> None:
        async with self._post(body) as answer:
            del body
            if answer.status != 200:
                problem = await answer.read()
                if may_miss and is_cache_miss(answer.status, problem):
                    raise _PictureCacheMissError
                raise await self._translate(answer.status, problem, _retry_after_s(answer))
            if self.upstream.is_stream:
                await self._relay_events(answer.content.iter_any(), client, may_miss=may_miss)
            else:
                self._release()
                await self._relay_whole(await answer.read(), client)

    async def _late_error(self, status: int, *, may_miss: bool) -> Exception:
        """What to raise for an error that the engine found after its status 200, and whose reason it did not send.

        ``status``: the error's own. vLLM 0.32 checks an answer's schema late and then cuts the connection, as a crash
        of the engine does; the probe tells them apart.
        """
        engine = self.upstream.engine
        if not await self.upstream.activity.is_healthy(_CHECK_S):
            return aiohttp.ServerDisconnectedError()
        if may_miss:  # a picture that the engine no longer has fails in the same way
            return _PictureCacheMissError()
        if self.upstream.is_constrained:
            return _invalid_structured_output(engine)
        if self.upstream.has_logit_bias:
            message = (
                f"The {engine} engine refused this request, most likely for a token id that the model does not have."
            )
            return InvalidRequest(message, param="logit_bias")
        message = f"The {engine} engine refused this request or failed on it, and gave no reason."
        return InvalidRequest(message) if status < 500 else EngineFailed(message)

    def _post(self, body: Body) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self.upstream.session.post(
            self.upstream.url,
            data=in_pieces(body),
            headers={
                "content-type": "application/json",
                "content-length": str(sum(map(len, body))),
                **self.upstream.headers,
            },
            timeout=aiohttp.ClientTimeout(total=None),
            allow_redirects=False,
        )

    def _elapsed_s(self) -> float:
        return time.monotonic() - self.outcome.started

    async def _report(self, error: VlserveError, client: Writer) -> None:
        """Inside a stream: one error event and its end. Of an answer that is not one, only the log can tell."""
        self.outcome.error = error.code
        if not self.upstream.is_stream or client.is_over:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_EVENT_S):
                event = self.upstream.events.failure(error, self.upstream.request_id, self.outcome.events)
                await client.end([event])

    def _explain(self, fault: Exception) -> VlserveError:
        if isinstance(fault, VlserveError):
            return fault
        if isinstance(fault, TimeoutError):
            return EngineTimeout(f"The {self.upstream.engine} engine did not finish in {self.upstream.timeout_s:g} s.")
        return exhausted(fault) or EngineDied(
            f"The {self.upstream.engine} engine went away while it worked on this request. Please send it again.",
            retry_after_s=self.upstream.retry_after_s(),
        )

    async def _translate(self, status: int, body: bytes, told_s: float | None = None) -> VlserveError:
        error = from_engine(status, body, self.upstream.engine, self.upstream.retry_after_s(), told_s)
        if error.code == "context_length_exceeded" and self.upstream.too_long:
            return await self.upstream.too_long(error)
        if error.code == EngineFailed.code and self.upstream.is_constrained:
            return _invalid_structured_output(self.upstream.engine)
        return error

    async def _in_thread(self, read: Callable[[bytes], Any], raw: bytes) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.upstream.threads, read, raw)

    async def _relay_whole(self, body: bytes, client: Writer) -> None:
        self.upstream.activity.progressed()
        self.at_engine.complete()
        try:
            answer = await self._in_thread(json.loads, body) if len(body) > _LARGE_BYTES else json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):  # TensorRT-LLM says null, with status 200, before it ends over a fault
            raise EngineFailed(f"The {self.upstream.engine} engine's answer was not a JSON object.")
        if self.upstream.events.is_aborted(answer):
            raise await self._translate(500, ABORTED_ERROR)
        self.outcome.count(answer.get("usage"))
        self.upstream.accepted()
        await client.whole(body, "application/json")

    async def _relay_events(self, pieces: AsyncIterator[bytes], client: Writer, *, may_miss: bool) -> None:
        """Server-sent events, whole ones only, so that an engine that dies mid-event leaves no half of one."""
        stream = EngineStream(self.upstream.events, self.upstream.threads)
        try:
            async for piece in pieces:
                self.upstream.activity.progressed()
                if await self._pass_on(await stream.feed(piece), client, may_miss=may_miss):
                    with contextlib.suppress(aiohttp.ClientError):
                        async for _ in pieces:  # to the end, so that the connection can be used again
                            pass
                    return
            if not await self._pass_on(await stream.finish(), client, may_miss=may_miss):
                raise aiohttp.ServerDisconnectedError
        except EventTooLongError:
            raise EngineFailed(f"The {self.upstream.engine} engine sent an event that does not end.") from None
        except aiohttp.ClientError:
            if stream.is_in_preamble:
                raise await self._late_error(500, may_miss=may_miss) from None
            raise

    async def _pass_on(self, batch: Batch, client: Writer, *, may_miss: bool) -> bool:
        """Whether the answer is complete."""
        for usage in batch.usages:
            self.outcome.count(usage)
        # The status of an error event is inside: vLLM's HTTP status was 200 already.
        if batch.error is not None and not batch.events and not self.outcome.events:
            if may_miss and is_cache_miss(status(batch.error), batch.error):
                raise _PictureCacheMissError
            if self.upstream.events.is_reason_lost(batch.error):
                raise await self._late_error(status(batch.error), may_miss=may_miss)
        if batch.events and self.outcome.first_token_s is None:
            self.outcome.first_token_s = self._elapsed_s()
            self.upstream.accepted()
            self._release()
        self.outcome.events += batch.events
        if batch.is_last:
            self.at_engine.complete()
            await client.end(batch.ready)
            return True
        await client.events(batch.ready)
        if batch.error is not None:
            raise await self._translate(status(batch.error), batch.error)
        return False


def _invalid_structured_output(engine: str) -> InvalidRequest:
    return InvalidRequest(
        f"The {engine} engine failed on this request, most likely on its structured output or tools: a schema or "
        "pattern that is not valid, or that nothing can match.",
        code="invalid_structured_output",
    )


def _retry_after_s(answer: aiohttp.ClientResponse) -> float | None:
    """Retry-After, where it is in seconds."""
    told = answer.headers.get("retry-after", "")
    return min(float(told), _LONGEST_RETRY_AFTER_S) if told.isascii() and told.isdigit() else None


async def until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def in_pieces(body: Body) -> AsyncIterator[memoryview]:
    """The body in pieces, without copying it, so that a large picture does not hold the event loop."""
    for part in body:
        view = memoryview(part)
        for start in range(0, len(view), _WRITE_PIECE_BYTES):
            yield view[start : start + _WRITE_PIECE_BYTES]
