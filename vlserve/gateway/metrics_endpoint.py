"""``GET /metrics``: the metrics of the gateway and of all ready engines, labelled ``vlserve_engine``."""

import asyncio
import sqlite3

from fastapi import Request, Response

from vlserve.gateway.admission import Admission
from vlserve.gateway.app_state import Runtime
from vlserve.gateway.engine_client import EngineClient
from vlserve.metrics import CONTENT_TYPE
from vlserve.resource_errors import resource_error

_SCRAPE_TIMEOUT_S = 5.0
_FILES_TIMEOUT_S = 1.0
_UNKNOWN = float("nan")


async def metrics(request: Request) -> Response:
    """Metrics for an API key that has access to them. Raises Unauthorized, Forbidden."""
    admission: Admission = request.app.state.runtime.admission
    key = request.state.key = admission.authenticate(request.headers)
    admission.check_operator(key)
    return await open_metrics(request)


async def open_metrics(request: Request) -> Response:
    """Metrics without an API key."""
    runtime: Runtime = request.app.state.runtime
    runtime.metrics.request_bytes.set(runtime.admission.request_bytes)
    for name, view in runtime.engines.items():
        runtime.metrics.set_state(name, view.state)
        runtime.metrics.in_flight.labels(name).set(runtime.admission.in_flight(name))
        runtime.metrics.queued.labels(name).set(runtime.admission.queued(name))
        runtime.metrics.in_flight_limit.labels(name).set(view.settings.max_in_flight)
        runtime.metrics.queued_limit.labels(name).set(view.settings.max_queued)
    ready = [name for name, view in runtime.engines.items() if view.is_ready]
    _, *texts = await asyncio.gather(
        _measure_files(runtime), *(_engine_metrics(runtime.clients[name]) for name in ready)
    )
    scraped = {str(name): text for name, text in zip(ready, texts, strict=True) if text}
    # vLLM's metrics are some thousand lines, so they are parsed in a thread.
    text = await asyncio.get_running_loop().run_in_executor(runtime.threads, runtime.metrics.render, scraped)
    return Response(text, headers={"content-type": CONTENT_TYPE})


async def _measure_files(runtime: Runtime) -> None:
    """Set the metrics of uploaded files: NaN without a file store, or if its disk does not respond."""
    used = free = limit = _UNKNOWN
    if store := runtime.store:
        limit = runtime.config.files.max_total_bytes
        measuring = asyncio.get_running_loop().run_in_executor(store.threads, store.disk_usage)
        try:
            async with asyncio.timeout(_FILES_TIMEOUT_S):
                used, free = await measuring
        except (TimeoutError, OSError, sqlite3.Error) as fault:
            resource_error(fault)  # logs it
    runtime.metrics.files_bytes.set(used)
    runtime.metrics.files_free_bytes.set(free)
    runtime.metrics.files_limit_bytes.set(limit)


async def _engine_metrics(client: EngineClient) -> str:
    try:
        async with asyncio.timeout(_SCRAPE_TIMEOUT_S), client.get("/metrics") as answer:
            # Other servers may have something else there: TensorRT-LLM has JSON.
            is_text = answer.header("content-type").partition(";")[0].strip().lower() == "text/plain"
            return (await answer.read()).decode() if answer.status == 200 and is_text else ""
    except (ConnectionError, TimeoutError, UnicodeDecodeError) as fault:
        resource_error(fault)  # logs it
        return ""
