"""One trace per request: the client's goes on to the engine, and with a collector the gateway adds its own span.

The headers are W3C Trace Context's (https://www.w3.org/TR/trace-context/). OpenTelemetry is imported only where a
collector is set; its exporter reads its own OTEL_* variables besides (headers with a collector's key, a sampler).
"""

import asyncio
import logging
import re
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vlserve import __version__
from vlserve.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import Span

log = logging.getLogger("vlserve.tracing")

_LAST_FLUSH_S = 3.0
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE_MEMBER = re.compile(r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{1,256}")
_LONGEST_TRACESTATE = 512
# What a span tells of a request's figures, and nothing else: figures may be added for the log that no collector should
# have. Where OpenTelemetry has a name for one, it is used.
_ATTRIBUTES = {
    "request_id": "vlserve.request_id",
    "engine": "vlserve.engine",
    "reason": "vlserve.reason",
    "stream": "vlserve.stream",
    "images": "vlserve.images",
    "status": "http.response.status_code",
    "error": "error.type",
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
    "queued_s": "vlserve.queued_s",
    "time_to_first_token_s": "gen_ai.server.time_to_first_token",
}


def make(endpoint: str | None) -> "Tracing":
    """Spans to the OTLP/HTTP collector at ``endpoint`` (like http://host:4318); without one the client's trace only.

    Raises ConfigError where OpenTelemetry is not installed.
    """
    check(endpoint)
    return _SpanTracing(f"{endpoint.rstrip('/')}/v1/traces") if endpoint else Tracing()


def check(endpoint: str | None) -> None:
    """Raise ConfigError where a collector is set and OpenTelemetry is not installed."""
    if not endpoint:
        return
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace.export
        import opentelemetry.trace.propagation.tracecontext  # noqa: F401
    except ImportError as error:
        raise ConfigError("tracing.otlp_endpoint needs OpenTelemetry: pip install 'vlserve[tracing]'.") from error


class Trace:
    """One request's part in a trace; ``headers`` are for the engine."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = headers

    @property
    def id(self) -> str | None:
        """The trace's id, to find a log line's trace; None where nobody traces this request."""
        return self.headers["traceparent"].split("-")[1] if "traceparent" in self.headers else None

    def end(self, fields: Mapping[str, object]) -> None:
        """The request is over; ``fields`` are its figures, as in the log. The first call counts."""


class Tracing:
    """Hands on the client's trace context where it is well-formed, and records nothing."""

    def begin(self, name: str, headers: Mapping[str, str]) -> Trace:  # noqa: ARG002  (for spans)
        """A request came: ``name`` is its method and route, ``headers`` are the client's."""
        return Trace(_context(headers))

    async def shutdown(self) -> None:
        """Send what was not sent yet; takes at most some seconds."""


class _SpanTrace(Trace):
    def __init__(self, headers: Mapping[str, str], span: "Span") -> None:
        super().__init__(headers)
        self._span = span

    def end(self, fields: Mapping[str, object]) -> None:
        from opentelemetry.trace import StatusCode

        if not self._span.is_recording():  # ended already, or not sampled
            return
        for field, attribute in _ATTRIBUTES.items():
            value = fields.get(field)
            if isinstance(value, str | bool | int | float):
                self._span.set_attribute(attribute, value)
        status = fields.get("status")
        # A status of 200 with an error: it came inside the stream. What a client does wrong is no fault of this span.
        if isinstance(status, int) and (status >= 500 or (status < 400 and fields.get("error"))):
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class _SpanTracing(Tracing):
    def __init__(self, url: str) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._exporter = _make_exporter(url)
        self._provider = _make_provider(self._exporter)
        self._propagator = TraceContextTextMapPropagator()
        self._tracer = self._provider.get_tracer("vlserve", __version__)

    def begin(self, name: str, headers: Mapping[str, str]) -> Trace:
        from opentelemetry.trace import SpanKind, set_span_in_context

        method, _, route = name.partition(" ")
        context = self._propagator.extract(_context(headers))
        attributes = {"http.request.method": method, "http.route": route}
        span = self._tracer.start_span(name, context, SpanKind.SERVER, attributes)
        onward: dict[str, str] = {}
        self._propagator.inject(onward, set_span_in_context(span, context))
        return _SpanTrace(onward, span)

    async def shutdown(self) -> None:
        # OpenTelemetry's own waits up to 30 s for a collector that does not answer. Its threads end with the process.
        ending = threading.Thread(target=self._provider.shutdown, name="tracing-shutdown", daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, _LAST_FLUSH_S)
        if ending.is_alive():
            # Ends its retries.
            self._exporter.shutdown()


def _make_provider(exporter: "SpanExporter") -> "TracerProvider":
    """The gateway's own, not the process's: a library that traces itself would write into a global one."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": "vlserve", "service.version": __version__})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _make_exporter(url: str) -> "SpanExporter":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    # It logs every attempt to reach a collector that is away, several a minute.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    class Exporter(OTLPSpanExporter):
        """Says once that the collector is away, and once that it is back."""

        is_away = is_over = False

        def export(self, spans: "Sequence[ReadableSpan]") -> "SpanExportResult":
            try:
                result = super().export(spans)
            except OSError:  # raised by earlier versions (seen in 1.27)
                result = SpanExportResult.FAILURE
            was_away, self.is_away = self.is_away, result is not SpanExportResult.SUCCESS
            if self.is_away and not was_away and not self.is_over:
                log.warning("tracing: no spans can be sent to %s; they are dropped until it takes them", url)
            elif was_away and not self.is_away:
                log.info("tracing: spans are sent to %s again", url)
            return result

        def shutdown(self) -> None:
            self.is_over = True
            super().shutdown()  # type: ignore[no-untyped-call]

    return Exporter(url)


def _context(headers: Mapping[str, str]) -> dict[str, str]:
    """The client's trace context; a malformed one counts as none, as the standard asks."""
    traceparent, tracestate = (
        ",".join(value.strip(" \t") for key, value in headers.items() if key.lower() == name)
        for name in ("traceparent", "tracestate")
    )
    if not _TRACEPARENT.fullmatch(traceparent):
        return {}
    members = [member.strip(" \t") for member in tracestate.split(",")]
    if len(tracestate) > _LONGEST_TRACESTATE or not all(map(_TRACESTATE_MEMBER.fullmatch, filter(None, members))):
        return {"traceparent": traceparent}
    return {"traceparent": traceparent, "tracestate": tracestate} if tracestate else {"traceparent": traceparent}
