"""The FastAPI application: routes, headers, error handlers, one log line per request. Composes the modules below it."""

import asyncio
import contextlib
import functools
import hashlib
import hmac
import re
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlserve import __version__, images, routing, structured
from vlserve.accounting import Account, refuse
from vlserve.admission import Admission
from vlserve.config import AUTO, Config, EngineName, EngineSettings
from vlserve.config import Request as RequestCaps
from vlserve.diagnosis import Diagnosis
from vlserve.errors import (
    EngineAway,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    RequestTimeout,
    VlserveError,
)
from vlserve.keys import ApiKey
from vlserve.metrics import CONTENT_TYPE, Metrics
from vlserve.openapi import add_docs
from vlserve.requests import ChatRequest, capped_fields, check_caps, parse_chat
from vlserve.routing import Route
from vlserve.tracing import Tracing
from vlserve.upstream import ENDING, Activity, Address, Outcome, PassThrough, Upstream

_SCRAPE_TIMEOUT_S = 5.0
_CLIENT_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_MOST_DROPPED_NAMED = 20
_BODY_BYTES_PER_S = 64 * 1024
_LARGE_BODY_BYTES = 64 * 1024  # reading one may take longer than others should wait
_ENDING_RETRY_S = 5.0  # whoever comes next will answer then, or not; nobody here knows


class EngineView(Protocol):
    """What the app sees of an engine."""

    @property
    def settings(self) -> EngineSettings: ...
    @property
    def address(self) -> Address: ...
    @property
    def activity(self) -> Activity: ...
    @property
    def state(self) -> str: ...
    @property
    def diagnosis(self) -> Diagnosis | None: ...
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
    tracing: Tracing
    salts: Mapping[str, str]
    """Key name → what separates its prompts from other keys' in an engine's prefix cache."""
    started: int


def create_app(
    config: Config,
    engines: Mapping[EngineName, EngineView],
    keys: tuple[ApiKey, ...] = (),
    metrics: Metrics | None = None,
    tracing: Tracing | None = None,
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
                admission=Admission(keys, config.server, {name: engine.settings for name, engine in engines.items()}),
                metrics=metrics or Metrics(),
                tracing=traces,
                salts=_salts({key.name for key in keys}),
                served={name: engine.settings.model_id for name, engine in engines.items()},
                started=int(time.time()),
            )
            stack.push_async_callback(traces.shutdown)
            yield

    traces = tracing or Tracing()
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
    add_docs(app, limits=capped_fields(config.request), needs_key=bool(keys))
    if config.server.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.server.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-request-id"],
            expose_headers=["x-request-id", "x-vlserve-engine", "x-vlserve-reason", "x-vlserve-dropped", "retry-after"],
        )
    app.add_middleware(_RequestId)
    return app


def _salts(names: set[str]) -> Mapping[str, str]:
    """Nobody outside may know one: who does can find out what others have asked. One key alone has nobody to fear."""
    secret = secrets.token_bytes(32)
    if len(names) < 2:
        return {}
    return {name: hmac.new(secret, name.encode(), hashlib.sha256).hexdigest() for name in names}


async def chat(request: Request) -> PassThrough:
    """Chat completions: admit, parse, route, check the pictures, hand to the engine."""
    runtime: Runtime = request.app.state.runtime
    key = request.state.key = runtime.admission.authenticate(request.headers)
    trace = request.state.trace = runtime.tracing.begin("POST /v1/chat/completions", request.headers)
    account = Account(runtime.metrics, trace, request.state.request_id, key, Outcome())
    with ExitStack() as held:
        held.enter_context(runtime.admission.request(key))
        body = await _read_body(request, runtime, held)
        understood = functools.partial(_understand, body, runtime.config.request)
        parsed = understood() if len(body) < _LARGE_BODY_BYTES else await asyncio.to_thread(understood)
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
            if engine.state in ("draining", "stopped"):
                raise EngineAway(ENDING, retry_after_s=_ENDING_RETRY_S)
            raise EngineAway(
                f"The {route.engine} engine is not ready (state: {engine.state}). Please try again later.",
                retry_after_s=engine.retry_after_s(),
            )
        await images.check(parsed.media, runtime.config.image)
        headers = _route_headers(request)
        if parsed.dropped:
            headers["x-vlserve-dropped"] = _printable(parsed.dropped)
        account.route, account.is_stream, account.image_count = route, parsed.is_stream, len(parsed.media)
        request.state.account = account
        held.callback(account.close)
        upstream = Upstream(
            engine=route.engine,
            activity=engine.activity,
            session=runtime.sessions[route.engine],
            url=f"{engine.address.base_url}/v1/chat/completions",
            body=parsed.body(engine.settings.forwarded_model, **_additions(runtime, engine.settings, parsed, key)),
            is_stream=parsed.is_stream,
            wants_usage=parsed.wants_usage,
            is_constrained=structured.is_constrained(parsed.tree),
            headers={"x-request-id": uuid.uuid4().hex, **trace.headers},  # vLLM's own id is made of it: unique
            timeout_s=runtime.config.server.request_timeout_s,
            keep_alive_s=runtime.config.server.sse_keep_alive_s,
            retry_after_s=engine.retry_after_s,
        )
        permit = runtime.admission.permit(route.engine, key)
        return PassThrough(upstream, headers, account.outcome, permit, held.pop_all())


def _understand(body: bytearray, caps: RequestCaps) -> ChatRequest:
    """Raises InvalidRequest."""
    parsed = parse_chat(body)
    check_caps(parsed.tree, caps)
    structured.check(parsed.tree, allow_grammar=caps.allow_grammar)
    return parsed


def _additions(runtime: Runtime, settings: EngineSettings, parsed: ChatRequest, key: str) -> dict[str, Any]:
    """Fields that only the gateway may set."""
    if not settings.is_vllm:
        names_none = all(parsed.tree.get(name) is None for name in ("max_tokens", "max_completion_tokens"))
        most = runtime.config.request.max_tokens
        return {"max_tokens": most} if most and names_none else {}
    return {"cache_salt": runtime.salts[key]} if key in runtime.salts else {}


async def _read_body(request: Request, runtime: Runtime, held: ExitStack) -> bytearray:
    """The body, under its caps of bytes and time. Raises PayloadTooLarge, RequestTimeout, TooManyRequests."""
    server = runtime.config.server
    limit = server.max_body_bytes
    too_large = PayloadTooLarge(f"The body is larger than {limit:,} bytes; the setting server.max_body_bytes decides.")
    if int(request.headers.get("content-length") or 0) > limit:
        raise too_large
    body = bytearray()
    held.callback(lambda: runtime.admission.hold(-len(body)))
    end = asyncio.get_running_loop().time() + server.body_timeout_s
    try:
        async with asyncio.timeout_at(end) as deadline:
            async for piece in request.stream():
                if len(body) + len(piece) > limit:
                    raise too_large
                runtime.admission.hold(len(piece))
                body += piece
                deadline.reschedule(end + len(body) / _BODY_BYTES_PER_S)
    except asyncio.CancelledError:  # the service ends, and its grace is over
        raise EngineAway(ENDING, retry_after_s=_ENDING_RETRY_S) from None
    except TimeoutError:
        raise RequestTimeout("The body of the request did not come in time (server.body_timeout_s).") from None
    return body


class _RequestId:
    """Gives each request an id, the client's own x-request-id where it is harmless, and names it in each answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), "")
        request_id = given if _CLIENT_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        await self.app(scope, receive, named)


def _route_headers(request: Request) -> dict[str, str]:
    route: Route | None = getattr(request.state, "route", None)
    return {"x-vlserve-engine": route.engine, "x-vlserve-reason": route.reason} if route else {}


def _printable(names: tuple[str, ...]) -> str:
    """Field names for a header: a client may have sent anything as one."""
    shown = [re.sub(r"[^A-Za-z0-9_.-]", "?", name[:64]) for name in names[:_MOST_DROPPED_NAMED]]
    return ", ".join(shown)


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
        | ({} if view.is_ready or not view.diagnosis else {"problem": str(view.diagnosis)})
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
        runtime.metrics.in_flight.labels(name).set(runtime.admission.in_flight(name))
        runtime.metrics.queued.labels(name).set(runtime.admission.queued(name))
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
    if not hasattr(request.state, "account"):
        runtime: Runtime = request.app.state.runtime
        key = getattr(request.state, "key", None)
        fields = refuse(runtime.metrics, error, request.state.request_id, key, request.method, request.scope["path"])
        if hasattr(request.state, "trace"):
            request.state.trace.end(fields)
    headers = {**_route_headers(request), **error.headers()}
    return Response(error.body(), error.status, headers, media_type="application/json")


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    """Starlette's own 404 and 405, in the envelope."""
    with contextlib.suppress(VlserveError):  # for the log
        request.state.key = request.app.state.runtime.admission.authenticate(request.headers)
    where = f"{request.method} {request.scope['path'][:200]}"
    refusal: VlserveError = NotFound(f"{where}: there is no such path.")
    if error.status_code == 405:
        refusal = MethodNotAllowed(f"{where}: this path has other methods.")
    answer = await _on_error(request, refusal)
    answer.headers.update(error.headers or {})
    return answer


async def _on_client_left(request: Request, error: ClientDisconnect) -> Response:  # noqa: ARG001
    """It left while it sent its body; nobody reads this."""
    request.state.trace.end({"status": 499, "error": "client_left"})
    return Response(status_code=499)


async def _on_bug(request: Request, error: Exception) -> Response:  # noqa: ARG001  (Starlette logs and raises it again)
    answer = await _on_error(
        request, VlserveError("The server failed on this request. It was logged.", code="internal_error")
    )
    answer.headers["x-request-id"] = request.state.request_id  # this answer is made outside of _RequestId
    return answer
