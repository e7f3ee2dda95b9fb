"""Prometheus metrics of the gateway, merged with those of the engines."""

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from vlserve.logs import dropped_lines

log = logging.getLogger("vlserve.metrics")

# vLLM has a label `engine` of its own, which numbers its data-parallel cores.
ENGINE = "vlserve_engine"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
# Engines' metrics with these prefixes would collide with the gateway's.
_COLLIDING = ("process_", "python_", "http_request", "http_response", "vlserve_")
# Series that alerts watch, by status and code. They start at 0, so that increase() and rate() see the first error.
_REFUSED = (
    ("400", "image_fetch_failed"),
    ("400", "image_fetch_timeout"),
    ("500", "engine_failed"),
    ("500", "internal_error"),
    ("503", "engine_unavailable"),
    ("503", "service_exhausted"),
    ("504", "engine_timeout"),
)
_STREAM_ERRORS = ("engine_failed", "engine_timeout", "engine_unavailable", "internal_error", "service_exhausted")


class Metrics:
    """The gateway's metrics, in a separate registry so that two apps in one process do not share them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "vlserve_requests", "Requests answered.", (ENGINE, "reason", "status"), registry=self.registry
        )
        self.refused = Counter(
            "vlserve_requests_refused",
            "Requests that were refused before they reached an engine.",
            ("status", "code"),
            registry=self.registry,
        )
        self.stream_errors = Counter(
            "vlserve_stream_errors",
            "Answers that ended with an error after their status 200.",
            (ENGINE, "code"),
            registry=self.registry,
        )
        self.images = Counter("vlserve_images", "Pictures sent to an engine.", (ENGINE,), registry=self.registry)
        self.videos = Counter("vlserve_videos", "Videos sent to an engine.", (ENGINE,), registry=self.registry)
        self.prompt_tokens = Counter(
            "vlserve_prompt_tokens", "Prompt tokens, by API key.", (ENGINE, "key"), registry=self.registry
        )
        self.completion_tokens = Counter(
            "vlserve_completion_tokens", "Tokens generated, by API key.", (ENGINE, "key"), registry=self.registry
        )
        self.duration = Histogram(
            "vlserve_request_duration_seconds",
            "From the request's arrival to its last byte.",
            (ENGINE,),
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.first_token = Histogram(
            "vlserve_time_to_first_token_seconds",
            "From the request's arrival to the first event of a streamed answer.",
            (ENGINE,),
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.in_flight = Gauge(
            "vlserve_requests_in_flight", "Requests being processed by an engine.", (ENGINE,), registry=self.registry
        )
        self.queued = Gauge(
            "vlserve_requests_queued", "Requests waiting for an engine.", (ENGINE,), registry=self.registry
        )
        self.in_flight_limit = Gauge(
            "vlserve_requests_in_flight_limit", "The setting max_in_flight.", (ENGINE,), registry=self.registry
        )
        self.queued_limit = Gauge(
            "vlserve_requests_queued_limit", "The setting max_queued.", (ENGINE,), registry=self.registry
        )
        self.request_bytes = Gauge(
            "vlserve_request_bytes_in_memory",
            "Bytes of requests in memory, as counted against server.max_bodies_bytes.",
            registry=self.registry,
        )
        self.is_ready = Gauge("vlserve_engine_ready", "1 while the engine is ready.", (ENGINE,), registry=self.registry)
        self.state = Gauge(
            "vlserve_engine_state",
            "1 for the engine's state, as in /ready; 0 for its earlier ones.",
            (ENGINE, "state"),
            registry=self.registry,
        )
        self.transitions = Counter(
            "vlserve_engine_transitions",
            "Changes of an engine's state.",
            (ENGINE, "from", "to"),
            registry=self.registry,
        )
        self.restarts = Counter(
            "vlserve_engine_restarts", "Times an engine was started again.", (ENGINE,), registry=self.registry
        )
        self.files_bytes = Gauge("vlserve_files_bytes", "Bytes of all uploaded files.", registry=self.registry)
        self.files_limit_bytes = Gauge(
            "vlserve_files_limit_bytes", "The setting files.max_total_bytes.", registry=self.registry
        )
        self.files_free_bytes = Gauge(
            "vlserve_files_disk_free_bytes", "Free bytes on the disk of the uploaded files.", registry=self.registry
        )
        self.registry.register(_DroppedLines())
        for labels in _REFUSED:
            self.refused.labels(*labels)
        self._of_keys: dict[tuple[str, str], KeyMetrics] = {}
        self._states: dict[str, str] = {}

    def of_key(self, engine: str, key: str) -> "KeyMetrics":
        """Return the metrics of one API key's requests to an engine. They are kept: looking labels up takes time."""
        found = self._of_keys.get((engine, key))
        if not found:
            found = self._of_keys[engine, key] = KeyMetrics(
                self.images.labels(engine),
                self.videos.labels(engine),
                self.prompt_tokens.labels(engine, key),
                self.completion_tokens.labels(engine, key),
                self.duration.labels(engine),
                self.first_token.labels(engine),
            )
        return found

    def set_state(self, engine: str, state: str) -> None:
        """Note the current state of an engine."""
        if before := self._states.get(engine):
            self.state.labels(engine, before).set(0)
        self._states[engine] = state
        self.state.labels(engine, state).set(1)
        self.restarts.labels(engine)  # 0 before the first one, so that increase() sees it
        for code in _STREAM_ERRORS:
            self.stream_errors.labels(engine, code)

    def render(self, scraped: Mapping[str, str]) -> bytes:
        """Return the gateway's metrics and those of the engines (name → text), labelled ``vlserve_engine``."""
        registry = CollectorRegistry()
        registry.register(_Relabelled(scraped))
        return generate_latest(self.registry) + generate_latest(registry)


class KeyMetrics(NamedTuple):
    """The metrics of one API key's requests to an engine. Those without a key label are shared by all keys."""

    images: Counter
    videos: Counter
    prompt_tokens: Counter
    completion_tokens: Counter
    duration: Histogram
    first_token: Histogram


class _DroppedLines(Collector):
    """The counter of dropped lines, which the process's log queue keeps."""

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "vlserve_log_lines_dropped", "Log lines dropped because the queue was full.", value=dropped_lines()
        )


class _Relabelled(Collector):
    """Engines' metrics with the label added. Samples that have it belong to another gateway and are left out."""

    def __init__(self, scraped: Mapping[str, str]) -> None:
        self._scraped = scraped

    def describe(self) -> Iterable[Metric]:
        return ()  # names are known only when collected

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for engine, text in self._scraped.items():
            try:
                parsed = list(text_string_to_metric_families(text))
            except ValueError:
                log.warning("%s engine: its /metrics is not in the Prometheus text format and is left out", engine)
                continue
            for family in itertools.filterfalse(_collides, parsed):
                samples = [sample for sample in family.samples if ENGINE not in sample.labels]
                if not samples:
                    continue
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in samples:
                    merged.samples.append(sample._replace(labels={**sample.labels, ENGINE: engine}))
        yield from families.values()


def _collides(family: Metric) -> bool:
    return family.name.startswith(_COLLIDING)
