"""Relays one request to an engine and the engine's answer to the client, byte for byte.

When the client disconnects, the connection to the engine is closed, which cancels its work at once. An engine's error
is reported with its HTTP status before the first byte. After it, one SSE error event ends the stream, without a
``[DONE]`` (vLLM sends one after its error event; it is dropped).
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vlserve.engines.errors import from_engine
from vlserve.engines.view import Activity
from vlserve.errors import EngineDied, EngineFailed, EngineTimeout, InvalidRequest, VlserveError, shutdown_error
from vlserve.gateway.disconnect import CancelOnDisconnect
from vlserve.gateway.engine_client import EngineClient, Exchange
from vlserve.gateway.engine_connection import Body, EngineAnswer, EngineConnectionError
from vlserve.gateway.engine_stream import Batch, EngineStream
from vlserve.gateway.response_writer import Writer
from vlserve.media.picture_cache import is_cache_miss
from vlserve.protocols.sse import EventTooLongError
from vlserve.protocols.stream_events import ABORTED_ERROR, Events, status
from vlserve.protocols.strict_json import LARGE_JSON_BYTES
from vlserve.resource_errors import resource_error, to_client_error

_LAST_EVENT_S = 1.0  # limit for sending an error event to a client that does not read
_CHECK_S = 8.0  # limit for the probe's next health check; remote servers are checked less often than processes
_LONGEST_RETRY_AFTER_S = 3600.0
_STREAM_END_S = 1.0  # limit for reading the end of a stream after its last event


@dataclass
class Outcome:
    """Status, tokens and times (seconds) of one request, filled in as it is processed."""

    started: float = field(default_factory=time.monotonic)
    status: int = 0
    error: str | None = None
    queued_s: float | None = None
    first_token_s: float | None = None
    """For streams only."""
    events: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def count(self, usage: Any) -> None:
        """Note the token counts of a ``usage`` object of any protocol."""
        counts = usage if isinstance(usage, dict) else {}
        prompt = counts.get("prompt_tokens", counts.get("input_tokens"))
        completion = counts.get("completion_tokens", counts.get("output_tokens"))
        self.prompt_tokens = prompt if isinstance(prompt, int) else self.prompt_tokens
        self.completion_tokens = completion if isinstance(completion, int) else self.completion_tokens


@dataclass(frozen=True)
class Upstream:
    """The engine that a request is sent to, and the time limits."""

    engine: str
    activity: Activity
    client: EngineClient
    path: str
    retry_after_s: Callable[[], float]
    timeout_s: float
    """From the request's arrival to the end of its answer."""
    keep_alive_s: float
    """A stream gets a comment after this long without an event."""
    threads: Executor
    """They parse the JSON of large answers."""


@dataclass
class UpstreamRequest:
    """One request to an engine."""

    request_id: str
    """The client's, for error events."""
    headers: Mapping[str, str]
    body: Body
    full_body: Callable[[], Awaitable[Body]] | None
    """Builds the same request with all pictures, if ``body`` has only the names of some: for an engine that has dropped
    these from its cache."""
    is_stream: bool
    events: Events
    """Interprets the protocol's events."""
    is_constrained: bool
    """Whether the engine compiles a schema or tools of the client, which are the likely cause if it fails."""
    has_logit_bias: bool
    """Its token ids are validated as late as schemas are."""


@dataclass
class Callbacks:
    """What the relay reports to the request's handler."""

    on_answer: Callable[[], None]
    """The engine has begun to answer successfully."""
    on_release: Callable[[], None]
    """The request's bytes were freed, because it will not be sent again."""
    explain_too_long: Callable[[VlserveError], Awaitable[VlserveError]] | None
    """Adds token counts to the error of a prompt that is too long; called while the request holds its permit."""


class _PictureCacheMissError(Exception):
    """The engine has dropped a picture that was sent by name only."""


class PassThrough(Response):
    """A response that, when called, sends the request to the engine and relays the answer.

    Raises VlserveError before anything was sent to the client; later errors are reported in the stream.
    """

    def __init__(
        self,
        upstream: Upstream,
        request: UpstreamRequest,
        callbacks: Callbacks,
        headers: Mapping[str, str],
        outcome: Outcome,
        permit: contextlib.AbstractAsyncContextManager[None],
        resources: contextlib.ExitStack,
    ) -> None:
        """``headers`` are added to the answer. ``permit`` is held while the engine works; ``resources`` are closed when
        ``outcome`` is complete."""
        super().__init__()
        self.upstream = upstream
        self.request = request
        self.callbacks = callbacks
        self.extra_headers = headers
        self.outcome = outcome
        self.permit = permit
        self.resources = resources
        self.tracked = upstream.activity.request()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        with self.resources:
            try:
                await self._run(receive, Writer(send, self.extra_headers, self.outcome.started))
            finally:
                self._release()  # an exception keeps this object in a cycle, until the garbage collector finds it

    async def _run(self, receive: Receive, client: Writer) -> None:
        """Relay until the answer is complete or the client disconnects."""
        try:
            async with CancelOnDisconnect(receive, lambda: client.is_over):
                await self._relay(client)
        except ClientDisconnect:
            self.outcome.status, self.outcome.error = 499, "client_left"
        except asyncio.CancelledError:  # shutdown: report it to the client
            error = shutdown_error()
            if not client.is_started:
                raise error from None
            await self._report(error, client)
        except Exception as bug:  # any fault of the gateway: a stream that has begun still ends with an error event
            if client.is_started:
                await self._report(to_client_error(bug), client)
            raise
        finally:
            if client.is_started:
                self.outcome.status = self.outcome.status or 200

    async def _relay(self, client: Writer) -> None:
        try:
            async with self.tracked, asyncio.timeout(self.upstream.timeout_s - self._elapsed_s()), self.permit:
                self.outcome.queued_s = self._elapsed_s()
                # Nothing is sent while waiting for the permit, so that it can still become a 429, which clients retry.
                async with self._comments(client):
                    await self._send(client)
        except (ConnectionError, TimeoutError, VlserveError) as fault:
            error = self._explain(fault)
            if isinstance(error, EngineDied):
                self.upstream.activity.lost()
            if not client.is_started:
                raise error from fault
            await self._report(error, client)

    def _comments(self, client: Writer) -> contextlib.AbstractAsyncContextManager[None]:
        return client.comments(self.upstream.keep_alive_s) if self.request.is_stream else contextlib.nullcontext()

    def _release(self) -> None:
        """Free the request's bytes, so that pictures do not stay in memory during a long answer."""
        self.request.body, self.request.full_body = (), None
        self.callbacks.explain_too_long = None
        self.callbacks.on_release()

    async def _send(self, client: Writer) -> None:
        """Send the request, and once more with all pictures if the engine has dropped one that was sent by name."""
        may_miss = self.request.full_body is not None
        is_answered = await self._try(self.request.body, client, may_miss=may_miss)
        if self.request.full_body and not is_answered:
            await self._try(await self.request.full_body(), client, may_miss=False)

    async def _try(self, body: Body, client: Writer, *, may_miss: bool) -> bool:
        """Send ``body``. Returns False if the engine lacks a picture that ``body`` only names (``may_miss``)."""
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
            if self.request.is_stream:
                await self._relay_events(answer, client, may_miss=may_miss)
            else:
                self._release()
                await self._relay_whole(await answer.read(), client)

    async def _late_error(self, status: int, *, may_miss: bool) -> Exception:
        """Return the exception for a late error: one after the status 200, whose reason the engine did not send.

        ``status``: the error's own. vLLM 0.32 validates schemas late and then closes the connection, as a crash does;
        the probe's next check tells these apart.
        """
        engine = self.upstream.engine
        if not await self.upstream.activity.is_healthy(_CHECK_S):
            return EngineConnectionError()
        if may_miss:  # a cache miss fails in the same way
            return _PictureCacheMissError()
        if self.request.is_constrained:
            return _invalid_structured_output(engine)
        if self.request.has_logit_bias:
            message = f"The {engine} engine refused this request, most likely because the model lacks a token id."
            return InvalidRequest(message, param="logit_bias")
        message = f"The {engine} engine refused this request or failed on it, and gave no reason."
        return InvalidRequest(message) if status < 500 else EngineFailed(message)

    def _post(self, body: Body) -> Exchange:
        return self.upstream.client.post(self.upstream.path, body, self.request.headers)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self.outcome.started

    async def _report(self, error: VlserveError, client: Writer) -> None:
        """End a stream with one error event. An error after a complete answer is only logged."""
        self.outcome.error = error.code
        if not self.request.is_stream or client.is_over:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_EVENT_S):
                event = self.request.events.failure(error, self.request.request_id, self.outcome.events)
                await client.end([event])

    def _explain(self, fault: Exception) -> VlserveError:
        if isinstance(fault, VlserveError):
            return fault
        if isinstance(fault, TimeoutError):
            return EngineTimeout(f"The {self.upstream.engine} engine did not finish in {self.upstream.timeout_s:g} s.")
        return resource_error(fault) or EngineDied(
            f"The connection to the {self.upstream.engine} engine was lost during this request. Please send it again.",
            retry_after_s=self.upstream.retry_after_s(),
        )

    async def _translate(self, status: int, body: bytes, retry_after_s: float | None = None) -> VlserveError:
        error = from_engine(status, body, self.upstream.engine, self.upstream.retry_after_s(), retry_after_s)
        if error.code == "context_length_exceeded" and self.callbacks.explain_too_long:
            return await self.callbacks.explain_too_long(error)
        if error.code == EngineFailed.code and self.request.is_constrained:
            return _invalid_structured_output(self.upstream.engine)
        return error

    async def _in_thread(self, read: Callable[[bytes], Any], raw: bytes) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.upstream.threads, read, raw)

    async def _relay_whole(self, body: bytes, client: Writer) -> None:
        self.upstream.activity.progressed()
        self.tracked.complete()
        try:
            answer = await self._in_thread(json.loads, body) if len(body) >= LARGE_JSON_BYTES else json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):  # TensorRT-LLM sends null with status 200 before it crashes
            raise EngineFailed(f"The {self.upstream.engine} engine's answer was not a JSON object.")
        if self.request.events.is_aborted(answer):
            raise await self._translate(500, ABORTED_ERROR)
        usage = answer.get("usage")
        self.outcome.count(usage)
        self.callbacks.on_answer()
        await client.whole(self.request.events.add_usage_details(body, usage), "application/json")

    async def _relay_events(self, answer: EngineAnswer, client: Writer, *, may_miss: bool) -> None:
        """Relay complete events only, so that an engine that crashes mid-event leaves no partial one."""
        stream = EngineStream(self.request.events, self.upstream.threads)
        try:
            while chunk := await answer.receive():
                self.upstream.activity.progressed()
                if await self._pass_on(await stream.feed(chunk), client, may_miss=may_miss):
                    await _read_end(answer)
                    return
            if not await self._pass_on(await stream.finish(), client, may_miss=may_miss):
                raise EngineConnectionError
        except EventTooLongError:
            raise EngineFailed(f"The {self.upstream.engine} engine sent an event that is too long.") from None
        except EngineConnectionError:
            if stream.is_in_preamble:
                raise await self._late_error(500, may_miss=may_miss) from None
            raise

    async def _pass_on(self, batch: Batch, client: Writer, *, may_miss: bool) -> bool:
        """Send a batch of events to the client. Returns whether the answer is complete."""
        for usage in batch.usages:
            self.outcome.count(usage)
        # The error event contains its status, because vLLM's HTTP status was already 200.
        if batch.error is not None and not batch.events and not self.outcome.events:
            if may_miss and is_cache_miss(status(batch.error), batch.error):
                raise _PictureCacheMissError
            if self.request.events.is_reason_lost(batch.error):
                raise await self._late_error(status(batch.error), may_miss=may_miss)
        if batch.events and self.outcome.first_token_s is None:
            self.outcome.first_token_s = self._elapsed_s()
            self.callbacks.on_answer()
            self._release()
        self.outcome.events += batch.events
        if batch.is_last:
            self.tracked.complete()
            await client.end(batch.ready)
            return True
        await client.events(batch.ready)
        if batch.error is not None:
            raise await self._translate(status(batch.error), batch.error)
        return False


def _invalid_structured_output(engine: str) -> InvalidRequest:
    return InvalidRequest(
        f"The {engine} engine failed on this request, most likely on its structured output or tools: a schema or "
        "pattern that is invalid, or that no text can match.",
        code="invalid_structured_output",
    )


def _retry_after_s(answer: EngineAnswer) -> float | None:
    """Return Retry-After, if it is in seconds."""
    value = answer.header("retry-after")
    return min(float(value), _LONGEST_RETRY_AFTER_S) if value.isascii() and value.isdigit() else None


async def _read_end(answer: EngineAnswer) -> None:
    """Read a stream to its end after its last event, so that the connection can be reused."""
    if answer.is_complete:
        return
    with contextlib.suppress(EngineConnectionError, TimeoutError):
        async with asyncio.timeout(_STREAM_END_S):
            await answer.read()
