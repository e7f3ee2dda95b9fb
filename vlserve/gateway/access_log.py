"""Access log: the log line, metrics and trace of each request. Never logs prompts, API keys or pictures."""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Self

from starlette.types import Scope

from vlserve.errors import VlserveError, shutdown_error
from vlserve.gateway.relay import Outcome
from vlserve.gateway.tracing import Trace
from vlserve.metrics import Metrics
from vlserve.protocols.routing import Route
from vlserve.resource_errors import to_client_error

log = logging.getLogger("vlserve.request")

_LONGEST_MODEL, _LONGEST_PATH, _LONGEST_CLIENT = 128, 200, 64


def client_of(scope: Scope) -> str | None:
    """Return the client's address: that of the connection, or the one that a trusted proxy reports (server.py)."""
    client = scope.get("client")
    return str(client[0])[:_LONGEST_CLIENT] if client else None


@dataclass
class Account:
    """The record of one request, filled in as it is processed.

    ``key`` is the name of its API key, ``model`` the model that it names. As a context manager it is closed at the end
    of the block.
    """

    metrics: Metrics
    trace: Trace
    request_id: str
    key: str
    outcome: Outcome
    client: str | None = None
    path: str | None = None
    model: str | None = None
    route: Route | None = None
    is_stream: bool = False
    image_count: int = 0
    video_count: int = 0
    images_dropped: int = 0
    images_shrunk: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, fault: BaseException | None, trace: object) -> None:
        """Note the exception that ended the request, if any, and close the account."""
        if fault is not None:
            error = shutdown_error() if isinstance(fault, asyncio.CancelledError) else to_client_error(fault)
            self.outcome.status = self.outcome.status or error.status
            self.outcome.error = self.outcome.error or error.code or error.type
        self.close()

    def close(self) -> None:
        """Log and count the request, if it was routed to an engine."""
        route, outcome, metrics = self.route, self.outcome, self.metrics
        if not route:
            return
        duration = time.monotonic() - outcome.started
        # A stream that the client cancelled has no usage; each of its events carried at least one token.
        completion_tokens = outcome.completion_tokens if outcome.completion_tokens is not None else outcome.events
        metrics.requests.labels(route.engine, route.reason, str(outcome.status)).inc()
        if outcome.status == 200 and outcome.error:
            metrics.stream_errors.labels(route.engine, outcome.error).inc()
        of_key = metrics.of_key(route.engine, self.key)
        of_key.images.inc(self.image_count)
        of_key.videos.inc(self.video_count)
        of_key.prompt_tokens.inc(outcome.prompt_tokens or 0)
        of_key.completion_tokens.inc(completion_tokens)
        of_key.duration.observe(duration)
        if outcome.first_token_s is not None:
            of_key.first_token.observe(outcome.first_token_s)
        fields = {
            "request_id": self.request_id,
            "trace_id": self.trace.id,
            "key": self.key,
            "client": self.client,
            "path": self.path,
            "model": self.model and self.model[:_LONGEST_MODEL],
            "engine": route.engine,
            "reason": route.reason,
            "stream": self.is_stream,
            "images": self.image_count,
            "videos": self.video_count,
            "images_dropped": self.images_dropped,
            "images_shrunk": self.images_shrunk,
            "status": outcome.status,
            "error": outcome.error,
            "prompt_tokens": outcome.prompt_tokens,
            "completion_tokens": completion_tokens,
            "queued_s": outcome.queued_s,
            "time_to_first_token_s": outcome.first_token_s,
            "duration_s": duration,
        }
        log.info("request", extra={"fields": fields})
        self.trace.end(fields)


def refuse(
    metrics: Metrics,
    error: VlserveError,
    scope: Scope | None = None,
    *,
    client: str | None = None,
    key: str | None = None,
    model: str | None = None,
) -> dict[str, object]:
    """Log and count a request that was refused before it reached an engine. Returns the logged fields.

    Unknown fields are None: the key or model, or everything but ``client`` if the head could not be parsed.
    """
    code = error.code or error.type
    metrics.refused.labels(str(error.status), code).inc()
    fields: dict[str, object] = {
        "request_id": scope["state"]["request_id"] if scope else None,
        "key": key,
        "client": client_of(scope) if scope else client,
        "method": scope["method"] if scope else None,
        "path": scope["path"][:_LONGEST_PATH] if scope else None,
        "model": model and model[:_LONGEST_MODEL],
        "status": error.status,
        "error": code,
        "param": error.param,
    }
    log.info("refused", extra={"fields": fields})
    return fields
