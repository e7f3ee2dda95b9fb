"""The FastAPI application: routes, headers, error handlers, one log line per request. Composes the modules below it."""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from vlserve import __version__, images, routing
from vlserve.admission import Admission
from vlserve.config import AUTO, ApiKey, Config, EngineName, EngineSettings
from vlserve.errors import EngineAway, InvalidRequest, MethodNotAllowed, NotFound, PayloadTooLarge, VlserveError
from vlserve.metrics import CONTENT_TYPE, Metrics
from vlserve.requests import ChatRequest, parse_chat
from vlserve.routing import Route
from vlserve.upstream import Address, Outcome, PassThrough, Upstream

log = logging.getLogger("vlserve.request")

_SCRAPE_TIMEOUT_S = 5.0
_CLIENT_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_MOST_DROPPED_NAMED = 20


class EngineView(Protocol):
    """What the app sees of an engine."""

    @property
    def settings(self) -> EngineSettings: ...
    @property
    def address(self) -> Address: ...
    @property
    def state(self) -> str: ...
    @property
    def is_ready(self) -> bool: ...
    def retry_after_s(self) -> float: ...


@dataclass(frozen=True)
class Runtime:
    """What every request shares; one per app."""

    config: Config
    engines: Mapping[EngineName, EngineView]
    sessions: Mapping[EngineName, aiohttp.ClientSession]
    admission: Admission
    metrics: Metrics
    served: Mapping[EngineName, str]
    started: int


def create_app(
    config: Config,
    engines: Mapping[EngineName, EngineView],
    keys: tuple[ApiKey, ...] = (),
    metrics: Metrics | None = None,
) -> FastAPI:
    """The service over ``engines``, which somebody else starts and ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            sessions = {
                name: await stack.enter_async_context(engine.address.open_session()) for name, engine in engines.items()
            }
            app.state.runtime = Runtime(
                config=config,
                engines=engines,
                sessions=sessions,
                admission=Admission(keys, {name: engine.settings.max_in_flight for name, engine in engines.items()}),
                metrics=metrics or Metrics(),
                served={name: engine.settings.model_id for name, engine in engines.items()},
                started=int(time.time()),
            )
            yield

    app = FastAPI(title="vlserve", version=__version__, lifespan=lifespan, openapi_url=None, redirect_slashes=False)
    app.post("/v1/chat/completions", response_model=None)(chat)
    app.get("/v1/models")(list_models)
    app.get("/v1/models/{model:path}")(get_model)
    app.get("/health")(health)
    app.get("/ready")(ready)
    app.get("/metrics", response_model=None)(scrape)
    app.exception_handler(VlserveError)(_on_error)
    app.exception_handler(HTTPException)(_on_http_exception)
    app.exception_handler(ClientDisconnect)(_on_client_left)
    app.exception_handler(Exception)(_on_bug)
    return app


async def chat(request: Request) -> PassThrough:
    """Chat completions: parse, route, admit, check the pictures, hand to the engine."""
    runtime: Runtime = request.app.state.runtime
    outcome = Outcome()
    key = runtime.admission.authenticate(request.headers)
    parsed = parse_chat(await _read_body(request, runtime.config.server.max_body_bytes))
    route = routing.choose(
        parsed.model,
        parsed.media,
        runtime.served,
        auto_aliases=runtime.config.auto_aliases,
        away=[name for name, view in runtime.engines.items() if not view.is_ready],
        fallback=runtime.config.fallback,
    )
    request.state.route = route
    engine = runtime.engines[route.engine]
    images.check_count(parsed.media, engine.settings.limit_mm_per_prompt, route.engine)
    if not engine.is_ready:
        raise EngineAway(
            f"The {route.engine} engine is not ready (state: {engine.state}). Please try again later.",
            retry_after_s=engine.retry_after_s(),
        )
    await images.check(parsed.media, runtime.config.image)
    headers = _headers(request)

    def done() -> None:
        request.state.is_accounted = True
        _account(runtime.metrics, route, parsed, outcome, key, headers["x-request-id"])

    upstream = Upstream(
        engine=route.engine,
        session=runtime.sessions[route.engine],
        url=f"{engine.address.base_url}/v1/chat/completions",
        body=parsed.body(engine.settings.forwarded_model),
        is_stream=parsed.is_stream,
        wants_usage=parsed.wants_usage,
        request_id=uuid.uuid4().hex,  # vLLM's own id is made of it and must be unique, a client's need not be
        timeout_s=runtime.config.server.request_timeout_s,
        retry_after_s=engine.retry_after_s,
    )
    if parsed.dropped:
        headers["x-vlserve-dropped"] = _printable(parsed.dropped)
    return PassThrough(upstream, headers, outcome, runtime.admission.permit(route.engine), done)


async def _read_body(request: Request, limit: int) -> bytes:
    too_large = PayloadTooLarge(f"The body is larger than {limit:,} bytes; the setting server.max_body_bytes decides.")
    if int(request.headers.get("content-length") or 0) > limit:
        raise too_large
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise too_large
        pieces.append(piece)
    return b"".join(pieces)


def _request_id(request: Request) -> str:
    """The client's own x-request-id where it is harmless, else a new one."""
    given = request.headers.get("x-request-id", "")
    return given if _CLIENT_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _headers(request: Request) -> dict[str, str]:
    if not hasattr(request.state, "request_id"):
        request.state.request_id = _request_id(request)
    headers = {"x-request-id": request.state.request_id}
    route: Route | None = getattr(request.state, "route", None)
    if route:
        headers |= {"x-vlserve-engine": route.engine, "x-vlserve-reason": route.reason}
    return headers


def _printable(names: tuple[str, ...]) -> str:
    """Field names for a header: a client may have sent anything as one."""
    shown = [re.sub(r"[^A-Za-z0-9_.-]", "?", name[:64]) for name in names[:_MOST_DROPPED_NAMED]]
    return ", ".join(shown)


def _account(metrics: Metrics, route: Route, parsed: ChatRequest, outcome: Outcome, key: str, request_id: str) -> None:
    duration = time.monotonic() - outcome.started
    metrics.requests.labels(route.engine, route.reason, str(outcome.status)).inc()
    metrics.images.labels(route.engine).inc(len(parsed.media))
    metrics.prompt_tokens.labels(route.engine).inc(outcome.prompt_tokens or 0)
    metrics.completion_tokens.labels(route.engine).inc(outcome.completion_tokens or 0)
    metrics.duration.labels(route.engine).observe(duration)
    if outcome.first_byte_s is not None:
        metrics.first_byte.labels(route.engine).observe(outcome.first_byte_s)
    log.info(
        "%s key=%s engine=%s reason=%s stream=%s images=%d status=%d%s prompt_tokens=%s completion_tokens=%s"
        " first_byte_s=%s duration_s=%.3f",
        request_id,
        key,
        route.engine,
        route.reason,
        "yes" if parsed.is_stream else "no",
        len(parsed.media),
        outcome.status,
        f" error={outcome.error}" if outcome.error else "",
        outcome.prompt_tokens if outcome.prompt_tokens is not None else "-",
        outcome.completion_tokens if outcome.completion_tokens is not None else "-",
        f"{outcome.first_byte_s:.3f}" if outcome.first_byte_s is not None else "-",
        duration,
    )


def _account_refusal(request: Request, error: VlserveError) -> None:
    """A request that never came to an engine."""
    runtime: Runtime = request.app.state.runtime
    runtime.metrics.refused.labels(str(error.status), error.code or error.type).inc()
    log.info(
        "%s %s %r status=%d error=%s param=%r",
        _headers(request)["x-request-id"],
        request.method,
        request.url.path,
        error.status,
        error.code or error.type,
        error.param,
    )


async def list_models(request: Request) -> dict[str, Any]:
    """The models by name, and ``auto``."""
    runtime: Runtime = request.app.state.runtime
    runtime.admission.authenticate(request.headers)
    names = [*runtime.served.values(), AUTO, *runtime.config.auto_aliases]
    return {"object": "list", "data": [_model(runtime, name) for name in names]}


async def get_model(request: Request, model: str) -> dict[str, Any]:
    runtime: Runtime = request.app.state.runtime
    runtime.admission.authenticate(request.headers)
    if model not in (*runtime.served.values(), AUTO, *runtime.config.auto_aliases):
        raise routing.unknown_model(model, runtime.served)
    return _model(runtime, model)


def _model(runtime: Runtime, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": runtime.started, "owned_by": "vlserve"}


async def health() -> dict[str, str]:
    """The gateway lives."""
    return {"status": "ok"}


async def ready(request: Request, engine: str = "any") -> JSONResponse:
    """200 when any engine serves; ``?engine=text|vision|all`` is strict. The body tells every engine's state."""
    runtime: Runtime = request.app.state.runtime
    serving: dict[str, bool] = {name: view.is_ready for name, view in runtime.engines.items()}
    if engine not in ("any", "all", *runtime.engines):
        raise InvalidRequest(f"'engine' must be one of any, all, {', '.join(runtime.engines)}.", param="engine")
    answers: dict[str, bool] = {"any": any(serving.values()), "all": all(serving.values())}
    is_ready = (answers | serving)[engine]
    states = {
        name: {"state": view.state, "model": view.settings.model_id}
        | ({} if view.is_ready else {"retry_after_s": round(view.retry_after_s())})
        for name, view in runtime.engines.items()
    }
    waits = [view.retry_after_s() for view in runtime.engines.values() if not view.is_ready]
    headers = {} if is_ready else {"retry-after": str(max(1, round(min(waits, default=1.0))))}
    body = {"status": "ready" if is_ready else "not ready", "engines": states}
    return JSONResponse(body, 200 if is_ready else 503, headers)


async def scrape(request: Request) -> Response:
    """Prometheus text: the gateway's figures and each serving engine's, labelled ``vlserve_engine``."""
    runtime: Runtime = request.app.state.runtime
    runtime.admission.authenticate(request.headers)
    for name in runtime.engines:
        runtime.metrics.in_flight.labels(name).set(runtime.admission.in_flight[name])
    ready = [name for name, view in runtime.engines.items() if view.is_ready]
    texts = await asyncio.gather(
        *(_engine_metrics(runtime.sessions[name], runtime.engines[name].address) for name in ready)
    )
    scraped = {str(name): text for name, text in zip(ready, texts, strict=True) if text}
    # vLLM's are some thousand lines: parsed off the event loop.
    return Response(await asyncio.to_thread(runtime.metrics.render, scraped), headers={"content-type": CONTENT_TYPE})


async def _engine_metrics(session: aiohttp.ClientSession, address: Address) -> str:
    try:
        timeout = aiohttp.ClientTimeout(total=_SCRAPE_TIMEOUT_S)
        async with session.get(f"{address.base_url}/metrics", timeout=timeout) as answer:
            return await answer.text() if answer.status == 200 else ""
    except (aiohttp.ClientError, ConnectionError, TimeoutError, UnicodeDecodeError):
        return ""


async def _on_error(request: Request, error: VlserveError) -> Response:
    if not getattr(request.state, "is_accounted", False):
        _account_refusal(request, error)
    headers = {**_headers(request), **error.headers()}
    return Response(error.body(), error.status, headers, media_type="application/json")


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    """Starlette's own 404 and 405, in the envelope."""
    where = f"{request.method} {request.url.path}"
    if error.status_code == 405:
        return await _on_error(request, MethodNotAllowed(f"{where}: this path has other methods."))
    return await _on_error(request, NotFound(f"{where}: there is no such path."))


async def _on_client_left(request: Request, error: ClientDisconnect) -> Response:  # noqa: ARG001
    """It left while it sent its body; nobody reads this."""
    return Response(status_code=499)


async def _on_bug(request: Request, error: Exception) -> Response:  # noqa: ARG001  (Starlette logs and raises it again)
    return await _on_error(
        request, VlserveError("The server failed on this request. It was logged.", code="internal_error")
    )
