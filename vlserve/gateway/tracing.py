"""OpenTelemetry tracing: W3C trace context from client to engine, and one server span per request for a collector.

https://www.w3.org/TR/trace-context/. The SDK and its exporter (the extra ``tracing``) are imported only with a
collector; they read the OTEL_* environment variables.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers

from vlserve import __version__
from vlserve.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

log = logging.getLogger("vlserve.tracing")

_LAST_FLUSH_S = 3.0
# Log field → span attribute, by OpenTelemetry's name where it has one. No other field is sent to a collector.
_ATTRIBUTES = {
    name: f"vlserve.{name}" for name in ("request_id", "engine", "reason", "stream", "images", "queued_s")
} | {
    "status": "http.response.status_code",
    "error": "error.type",
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
    "time_to_first_token_s": "gen_ai.server.time_to_first_token",
}
_propagator = TraceContextTextMapPropagator()


def make(endpoint: str | None) -> "Tracing":
    """Create tracing with an OTLP/HTTP collector at ``endpoint`` (like http://host:4318), or without one.

    Raises ConfigError if there is a collector and the SDK is not installed.
    """
    check(endpoint)
    return _SpanTracing(f"{endpoint.rstrip('/')}/v1/traces") if endpoint else Tracing()


def check(endpoint: str | None) -> None:
    """Raise ConfigError if there is a collector and the SDK is not installed."""
    try:
        if endpoint:
            import opentelemetry.exporter.otlp.proto.http.trace_exporter
            import opentelemetry.sdk.trace.export  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "tracing.otlp_endpoint needs OpenTelemetry: pip install '.[tracing]' in the folder of vlserve's repository."
        ) from error


class Trace:
    """The span of one request. ``headers`` carry the trace context to the engine."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self.headers: dict[str, str] = {}
        _propagator.inject(self.headers, trace.set_span_in_context(span))

    @property
    def id(self) -> str | None:
        """The trace id in hexadecimal, for the log; None if the request has no trace."""
        context = self._span.get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else None

    def end(self, fields: Mapping[str, object]) -> None:
        """End the span with the request's log fields. Only the first call has an effect."""
        if not self._span.is_recording():  # ended, not sampled, or no collector
            return
        for field, attribute in _ATTRIBUTES.items():
            if isinstance(value := fields.get(field), str | bool | int | float):
                self._span.set_attribute(attribute, value)
        status = fields.get("status")
        # An error with status 200 came inside a stream. A client error does not fail a server's span.
        if isinstance(status, int) and (status >= 500 or (status < 400 and fields.get("error"))):
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()


_NO_TRACE = Trace(trace.INVALID_SPAN)


class Tracing:
    """Forwards the client's trace context to the engine; records no spans."""

    def __init__(self, tracer: trace.Tracer | None = None) -> None:
        self._tracer = tracer or trace.NoOpTracer()
        self._is_recording = tracer is not None
        # OpenTelemetry logs each malformed header and each failed export.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    def begin(self, name: str, headers: Headers) -> Trace:
        """Start a request's span. ``name``: its method and route; ``headers``: the client's."""
        if not self._is_recording and "traceparent" not in headers:
            return _NO_TRACE
        method, _, route = name.partition(" ")
        parent = _propagator.extract({field: headers.getlist(field) for field in _propagator.fields})
        attributes = {"http.request.method": method, "http.route": route}
        return Trace(self._tracer.start_span(name, parent, trace.SpanKind.SERVER, attributes))

    async def shutdown(self) -> None:
        """Export the remaining spans; takes a few seconds at most."""


class _SpanTracing(Tracing):
    def __init__(self, url: str) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._exporter = _make_exporter(url)
        resource = Resource.create({"service.name": "vlserve", "service.version": __version__})
        # Not the global provider, because instrumented libraries would add their spans to it.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        super().__init__(self._provider.get_tracer("vlserve", __version__))

    async def shutdown(self) -> None:
        # The SDK's shutdown waits up to 30 s for a collector that does not answer.
        ending = threading.Thread(target=self._provider.shutdown, name="tracing-shutdown", daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, _LAST_FLUSH_S)
        if ending.is_alive():
            self._exporter.shutdown()  # ends its retries


def _make_exporter(url: str) -> "SpanExporter":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    class Exporter(OTLPSpanExporter):
        """Logs once when the collector becomes unreachable, and once when it is reachable again."""

        is_away = is_over = False

        def export(self, spans: "Sequence[ReadableSpan]") -> "SpanExportResult":
            try:
                result = super().export(spans)
            except OSError:  # seen in 1.27
                result = SpanExportResult.FAILURE
            was_away, self.is_away = self.is_away, result is not SpanExportResult.SUCCESS
            if self.is_away and not was_away and not self.is_over:
                log.warning("tracing: cannot export spans to %s; spans are dropped until it is reachable", url)
            elif was_away and not self.is_away:
                log.info("tracing: exporting spans to %s again", url)
            return result

        def shutdown(self) -> None:
            self.is_over = True
            super().shutdown()  # type: ignore[no-untyped-call]

    return Exporter(url)
