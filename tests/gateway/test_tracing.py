"""Tracing: spans for a collector, trace context for an engine, unreachable collectors."""

import asyncio
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from starlette.datastructures import Headers

from tests.conftest import REPOSITORY, until
from vlserve.errors import ConfigError
from vlserve.gateway import tracing

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CLIENT = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01", "tracestate": "vendor=1, t@other=a b"}
CHAT = "POST /v1/chat/completions"
FIGURES = {
    "request_id": "3f2c",
    "engine": "vision",
    "reason": "image",
    "stream": True,
    "images": 2,
    "status": 200,
    "error": None,
    "prompt_tokens": 1200,
    "completion_tokens": 64,
    "queued_s": 0.5,
    "time_to_first_token_s": 0.75,
    "key": "team-a",
    "prompt": "a secret",
}


@dataclass
class Collector:
    """An OTLP/HTTP collector."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        export = ExportTraceServiceRequest.FromString(await request.read())
        for group in export.resource_spans:
            self.resources.append(attributes(group.resource))
            self.spans += [span for scope in group.scope_spans for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")


def attributes(owner: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in owner.attributes}


async def serve(collector: Collector, port: int = 0) -> web.AppRunner:
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    collector.url = "http://{}:{}".format(*runner.addresses[0])
    return runner


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    runner = await serve(collector)
    yield collector
    await runner.cleanup()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports at once and gives up soon."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "1")


def watch_exports(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The thread of each attempt to send spans, once that is over."""
    exports: list[threading.Thread] = []
    send = OTLPSpanExporter.export

    def export(self: OTLPSpanExporter, spans: Any) -> Any:
        try:
            return send(self, spans)
        finally:
            exports.append(threading.current_thread())

    monkeypatch.setattr(OTLPSpanExporter, "export", export)
    return exports


async def trace(collector: Collector, headers: dict[str, str], fields: dict[str, Any]) -> tuple[tracing.Trace, Span]:
    traces = tracing.make(collector.url)
    ended = traces.begin(CHAT, Headers(headers))
    ended.end(fields)
    await traces.shutdown()
    (span,) = collector.spans
    return ended, span


async def test_a_span_continues_the_clients_trace_and_has_only_known_fields(collector: Collector) -> None:
    _, span = await trace(collector, CLIENT, FIGURES)
    assert (span.name, span.kind) == (CHAT, Span.SPAN_KIND_SERVER)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE_ID, PARENT_ID)
    assert span.end_time_unix_nano >= span.start_time_unix_nano > 0
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert attributes(span) == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "vlserve.request_id": "3f2c",
        "vlserve.engine": "vision",
        "vlserve.reason": "image",
        "vlserve.stream": True,
        "vlserve.images": 2,
        "vlserve.queued_s": 0.5,
        "gen_ai.usage.input_tokens": 1200,
        "gen_ai.usage.output_tokens": 64,
        "gen_ai.server.time_to_first_token": 0.75,
    }
    assert collector.resources[0]["service.name"] == "vlserve"


async def test_the_engine_is_given_this_span_as_its_parent(collector: Collector) -> None:
    ended, span = await trace(collector, CLIENT, FIGURES)
    assert ended.headers["traceparent"] == f"00-{TRACE_ID}-{span.span_id.hex()}-01"
    assert ended.headers["tracestate"].replace(" ", "") == CLIENT["tracestate"].replace(" ", "")
    assert ended.id == TRACE_ID


@pytest.mark.parametrize("headers", [{}, {"traceparent": "00-nonsense"}, {"tracestate": "vendor=1"}])
async def test_a_request_without_a_trace_begins_one(collector: Collector, headers: dict[str, str]) -> None:
    ended, span = await trace(collector, headers, FIGURES)
    assert span.parent_span_id == b""
    assert list(ended.headers) == ["traceparent"]
    assert ended.headers["traceparent"].startswith(f"00-{span.trace_id.hex()}-{span.span_id.hex()}-0")


@pytest.mark.parametrize(
    ("status", "error", "is_fault"),
    [
        (200, None, False),
        (400, "too_many_images", False),
        (499, "client_left", False),
        (503, "engine_unavailable", True),
        (200, "engine_failed", True),  # inside a stream
    ],
)
async def test_failures_are_marked(collector: Collector, status: int, error: str | None, is_fault: bool) -> None:
    _, span = await trace(collector, {}, {"status": status, "error": error})
    assert (span.status.code == Status.STATUS_CODE_ERROR) == is_fault
    assert attributes(span).get("error.type") == error


async def test_a_request_ends_once(collector: Collector) -> None:
    traces = tracing.make(collector.url + "/")
    begun = traces.begin(CHAT, Headers(CLIENT))
    begun.end({"status": 200})
    begun.end({"status": 500})
    await traces.shutdown()
    assert [attributes(span)["http.response.status_code"] for span in collector.spans] == [200]


async def test_the_clients_sampling_decision_is_respected(collector: Collector) -> None:
    traces = tracing.make(collector.url)
    begun = traces.begin(CHAT, Headers({"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-00"}))
    begun.end(FIGURES)
    await traces.shutdown()
    assert begun.headers["traceparent"].startswith(f"00-{TRACE_ID}-")
    assert begun.headers["traceparent"].endswith("-00")
    assert collector.spans == []


def without_collector(*headers: tuple[str, str]) -> tracing.Trace:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return tracing.make(None).begin(CHAT, Headers(raw=raw))


def test_without_a_collector_the_engine_gets_the_clients_trace() -> None:
    begun = without_collector(("Authorization", "Bearer x"), *CLIENT.items())
    assert begun.headers == CLIENT | {"tracestate": "vendor=1,t@other=a b"}
    assert begun.id == TRACE_ID
    begun.end(FIGURES)


def test_a_state_in_several_headers_is_one() -> None:
    states = [("tracestate", "a=1"), ("tracestate", "b=2")]
    begun = without_collector(("traceparent", CLIENT["traceparent"]), *states)
    assert begun.headers["tracestate"] == "a=1,b=2"


def test_a_request_without_a_trace_has_none() -> None:
    begun = without_collector(("tracestate", "vendor=1"))
    assert (begun.headers, begun.id) == ({}, None)
    begun.end(FIGURES)


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        f"00-{TRACE_ID}-{PARENT_ID}",
        f"00-{TRACE_ID}-{PARENT_ID}-01-more",
        f"ff-{TRACE_ID}-{PARENT_ID}-01",
        f"00-{'0' * 32}-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID.upper()}-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{PARENT_ID}-01\r\nx-evil: 1",
    ],
)
def test_a_malformed_trace_counts_as_none(traceparent: str) -> None:
    begun = without_collector(("traceparent", traceparent), ("tracestate", "vendor=1"))
    assert begun.headers == {}
    assert begun.id is None


@pytest.mark.parametrize("tracestate", ["vendor", "a=b=c", "UPPER=1", "a=ä", "a=1\r\nx-evil: 1", "a=" + "x" * 513])
def test_a_malformed_state_is_left_out(caplog: pytest.LogCaptureFixture, tracestate: str) -> None:
    begun = without_collector(("traceparent", CLIENT["traceparent"]), ("tracestate", tracestate))
    assert begun.headers == {"traceparent": CLIENT["traceparent"]}
    assert caplog.records == []


def test_without_a_collector_the_sdk_is_not_imported() -> None:
    code = f"""
import asyncio, sys
from starlette.datastructures import Headers
from vlserve.gateway import tracing
traces = tracing.make(None)
traces.begin({CHAT!r}, Headers({CLIENT!r})).end({{}})
asyncio.run(traces.shutdown())
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.exporter.otlp.proto.http.trace_exporter"])
def test_a_collector_needs_opentelemetry(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[tracing\]'"):
        tracing.make("http://127.0.0.1:4318")


@pytest.mark.parametrize("answers", ["refuses", "hangs"])
async def test_an_unreachable_collector_slows_nothing_and_is_logged_once(
    answers: str, quick: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Spans are exported in a thread of their own."""
    exports = watch_exports(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        if answers == "refuses":
            listening.close()
        traces = tracing.make(f"http://127.0.0.1:{port}")
        for count in (1, 2, 3):
            traces.begin(CHAT, Headers(CLIENT)).end(FIGURES)
            await until(lambda count=count: len(exports) == count)  # type: ignore[misc]
        await traces.shutdown()
    assert threading.main_thread() not in exports
    [record] = caplog.records
    assert f"cannot export spans to http://127.0.0.1:{port}/v1/traces" in record.getMessage()


async def test_shutdown_does_not_wait_for_a_collector_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "600")
    monkeypatch.setattr(tracing, "_LAST_FLUSH_S", 0.2)
    exports = watch_exports(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        traces = tracing.make(f"http://127.0.0.1:{listening.getsockname()[1]}")
        traces.begin(CHAT, Headers(CLIENT)).end(FIGURES)
        async with asyncio.timeout(20):  # OpenTelemetry's own would take 30
            await traces.shutdown()
        assert exports == []


async def test_a_collector_that_comes_back_is_logged_and_served(quick: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    collector = Collector()
    await (await serve(collector)).cleanup()
    port = int(collector.url.rpartition(":")[2])
    traces = tracing.make(collector.url)
    traces.begin(CHAT, Headers()).end({"status": 200})
    async with asyncio.timeout(60):
        while f"cannot export spans to {collector.url}" not in caplog.text:
            await asyncio.sleep(0.02)
    runner = await serve(collector, port)
    async with asyncio.timeout(60):
        while "again" not in caplog.text:
            traces.begin(CHAT, Headers()).end({"status": 201})
            await asyncio.sleep(0.1)
    await traces.shutdown()
    await runner.cleanup()
    assert {attributes(span)["http.response.status_code"] for span in collector.spans} == {201}
