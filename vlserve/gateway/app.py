"""The FastAPI application: routes, headers, error handlers. Composes the modules below it."""

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
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlserve import __version__
from vlserve.config.authority import is_loopback
from vlserve.config.engine_settings import AUTO, EngineName
from vlserve.config.keys import ApiKey
from vlserve.config.settings import Config, Server
from vlserve.engines.view import EngineView
from vlserve.errors import InvalidRequest, MethodNotAllowed, NotFound, Unauthorized, VlserveError
from vlserve.exhaustion import reported
from vlserve.gateway import origins, scrape, uploads
from vlserve.gateway.accounting import refuse
from vlserve.gateway.admission import Admission
from vlserve.gateway.handler import analyze, answer, count_tokens
from vlserve.gateway.openapi import add_docs
from vlserve.gateway.page import add_page
from vlserve.gateway.routes import Routes
from vlserve.gateway.runtime import Runtime
from vlserve.gateway.tracing import Tracing
from vlserve.media.fetch import Fetcher
from vlserve.media.files import FileStore
from vlserve.media.load import Pictures
from vlserve.media.picture_cache import PictureCache
from vlserve.metrics import Metrics
from vlserve.protocols import routing
from vlserve.protocols.definitions import CHAT, COMPLETIONS, MESSAGE_TOKENS, MESSAGES, MESSAGES_PATH, RESPONSES

_OWN_HEADERS = [f"x-vlserve-{name}" for name in ("engine", "reason", "dropped", "images", "images-dropped", "videos")]
_FORM_PATHS = ("/v1/analyze", uploads.PATH)
_CLIENT_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def create_app(
    config: Config,
    engines: Mapping[EngineName, EngineView],
    keys: tuple[ApiKey, ...] = (),
    metrics: Metrics | None = None,
    tracing: Tracing | None = None,
    store: FileStore | None = None,
    testgen: Routes | None = None,
) -> FastAPI:
    """The service over ``engines``, which the caller starts and stops. ``store`` is open; None: no files are kept.
    Without ``testgen`` there is no ``/v1/testgen``."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            sessions = {
                name: await stack.enter_async_context(engine.address.open_session()) for name, engine in engines.items()
            }
            admission = Admission(keys, config.server, {name: engine.settings for name, engine in engines.items()})
            fetcher = Fetcher(
                config.fetch,
                config.image.max_image_bytes,
                max_video_bytes=config.video.max_video_bytes,
                queue_timeout_s=config.server.queue_timeout_s,
                is_shared=admission.has_several_keys,
            )
            pictures = Pictures(config.image, config.video, fetcher, store)
            stack.push_async_callback(pictures.close)
            threads = ThreadPoolExecutor(thread_name_prefix="request")
            stack.callback(threads.shutdown, wait=False, cancel_futures=True)
            app.state.runtime = Runtime(
                config=config,
                engines=engines,
                sessions=sessions,
                admission=admission,
                metrics=metrics or Metrics(),
                pictures=pictures,
                threads=threads,
                seen={
                    name: PictureCache(view.activity) for name, view in engines.items() if view.settings.keeps_pictures
                },
                store=store,
                tracing=traces,
                salts=_salts({key.name for key in keys}),
                served={name: engine.settings.model_id for name, engine in engines.items()},
                started=int(time.time()),
            )
            stack.push_async_callback(traces.shutdown)
            if store:
                expiring = asyncio.create_task(uploads.remove_expired(store))
                stack.callback(expiring.cancel)
            yield

    traces = tracing or Tracing()
    app = FastAPI(title="vlserve", version=__version__, lifespan=lifespan, openapi_url=None, redirect_slashes=False)
    for protocol in (CHAT, COMPLETIONS, RESPONSES, MESSAGES, MESSAGE_TOKENS):
        app.post(protocol.path, response_model=None)(answer(protocol))
    app.post("/v1/chat/completions/input_tokens", response_model=None)(count_tokens)
    app.post("/v1/analyze", response_model=None)(analyze)
    uploads.add_routes(app)
    if testgen:
        testgen.add(app)
    app.get("/v1/models")(list_models)
    app.get("/v1/models/{model:path}")(get_model)
    app.get("/health")(health)
    app.get("/ready")(ready)
    app.get("/metrics", response_model=None)(scrape.metrics)
    _handle_errors(app)
    add_page(app, needs_key=bool(keys), testgen=testgen.mode if testgen else "off")
    add_docs(app, config.request, needs_key=bool(keys), parts=[testgen.openapi] if testgen else [])
    server = config.server
    if not keys:
        check = _origin_check(server.host, server)
        form_paths = (*_FORM_PATHS, *(testgen.form_paths if testgen else ()))
        app.add_middleware(check, origins=[*server.public_origins, *server.cors_origins], form_paths=form_paths)
    if server.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=server.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", "x-request-id", "x-api-key", "anthropic-version"],
            expose_headers=["x-request-id", "retry-after", *_OWN_HEADERS],
        )
    app.add_middleware(_RequestId)
    return app


def create_metrics_app(app: FastAPI, server: Server, keys: tuple[ApiKey, ...]) -> FastAPI:
    """``/metrics`` of ``app`` alone, for ``server.metrics_listen``. On a loopback address it needs no key."""
    host, _ = server.metrics_address or (server.host, 0)
    needs_key = bool(keys) and not is_loopback(host)
    alone = FastAPI(title="vlserve metrics", openapi_url=None, redirect_slashes=False)
    alone.state = app.state
    alone.get("/metrics", response_model=None)(scrape.metrics if needs_key else scrape.open_metrics)
    _handle_errors(alone)
    if not needs_key:
        alone.add_middleware(_origin_check(host, server))
    alone.add_middleware(_RequestId)
    return alone


def _handle_errors(app: FastAPI) -> None:
    app.exception_handler(VlserveError)(_on_error)
    app.exception_handler(HTTPException)(_on_http_exception)
    app.exception_handler(ClientDisconnect)(_on_client_left)
    app.exception_handler(Exception)(_on_bug)


def _origin_check(host: str, server: Server) -> Any:
    """The middleware for a listener on ``host`` that asks for no key."""
    hosts = origins.hosts_of(host, server.allowed_hosts)
    return functools.partial(origins.OriginCheck, hosts=hosts, refused=_on_error)


def _salts(names: set[str]) -> Mapping[str, str]:
    """Nobody outside may know one: who does can find out what others have asked. One key alone has nobody to fear."""
    secret = secrets.token_bytes(32)
    if len(names) < 2:
        return {}
    return {name: hmac.new(secret, name.encode(), hashlib.sha256).hexdigest() for name in names}


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
                names = (b"x-request-id", b"request-id") if _is_anthropic(scope["path"]) else (b"x-request-id",)
                message["headers"] = [*message["headers"], *((name, request_id.encode()) for name in names)]
            await send(message)

        await self.app(scope, receive, named)


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
    """Its longest prompt plus answer under the name that vLLM has for it, where it is known."""
    limits = {served: runtime.engines[engine].max_model_len for engine, served in runtime.served.items()}
    limit = {"max_model_len": limits[name]} if limits.get(name) else {}
    return {"id": name, "object": "model", "created": runtime.started, "owned_by": "vlserve", **limit}


async def health() -> dict[str, str]:
    """The gateway lives."""
    return {"status": "ok"}


async def ready(request: Request, engine: str = "any") -> JSONResponse:
    """200 when any engine serves; ``?engine=text|vision|all`` is strict. The body tells every engine's state; its
    model and problem only to those who have a key, where keys exist."""
    runtime: Runtime = request.app.state.runtime
    serving: dict[str, bool] = {name: view.is_ready for name, view in runtime.engines.items()}
    if engine not in ("any", "all", *runtime.engines):
        raise InvalidRequest(f"'engine' must be one of any, all, {', '.join(runtime.engines)}.", param="engine")
    answers: dict[str, bool] = {"any": any(serving.values()), "all": all(serving.values())}
    is_ready = (answers | serving)[engine]
    describe = _describe if _has_key(request) else _state_of
    states = {name: describe(view) for name, view in runtime.engines.items()}
    waits = [view.retry_after_s() for view in runtime.engines.values() if not view.is_ready]
    headers = {} if is_ready else {"retry-after": str(max(1, round(min(waits, default=1.0))))}
    body = {"status": "ready" if is_ready else "not ready", "engines": states}
    return JSONResponse(body, 200 if is_ready else 503, headers)


def _state_of(view: EngineView) -> dict[str, Any]:
    return {"state": view.state}


def _describe(view: EngineView) -> dict[str, Any]:
    told = {"state": view.state, "model": view.settings.model_id}
    if view.is_ready:
        return told
    problem = {"problem": str(view.diagnosis)} if view.diagnosis else {}
    return told | {"retry_after_s": round(view.retry_after_s())} | problem


def _has_key(request: Request) -> bool:
    """Whether a request to a route that is open to all has a valid key. A wrong one is logged: it may be a guess."""
    runtime: Runtime = request.app.state.runtime
    try:
        runtime.admission.authenticate(request.headers)
    except Unauthorized as error:
        if "authorization" in request.headers or "x-api-key" in request.headers:
            refuse(runtime.metrics, error, request.scope)
        return False
    return True


async def _on_error(request: Request, error: VlserveError) -> Response:
    if not hasattr(request.state, "account"):
        runtime: Runtime = request.app.state.runtime
        state = request.state
        known = {"key": getattr(state, "key", None), "model": getattr(state, "model", None)}
        fields = refuse(runtime.metrics, error, request.scope, **known)
        if hasattr(request.state, "trace"):
            request.state.trace.end(fields)
    headers = {**routing.headers(getattr(request.state, "route", None)), **error.headers()}
    if _is_anthropic(request.scope["path"]):
        return JSONResponse(error.anthropic(request.state.request_id), error.status, headers)
    return Response(error.body(), error.status, headers, media_type="application/json")


def _is_anthropic(path: str) -> bool:
    """Whose form errors have there, and which header names the request."""
    return path == MESSAGES_PATH or path.startswith(f"{MESSAGES_PATH}/")


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
    if error.status_code == 405:  # Starlette names the methods of the first route of this path alone
        answer.headers["allow"] = ", ".join(_methods(request))
    return answer


def _methods(request: Request) -> list[str]:
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    matching = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in matching for method in route.methods or ()})


async def _on_client_left(request: Request, error: ClientDisconnect) -> Response:  # noqa: ARG001
    """It left before its request was at an engine; nobody reads this."""
    if hasattr(request.state, "trace"):
        request.state.trace.end({"status": 499, "error": "client_left"})
    return Response(status_code=499)


async def _on_bug(request: Request, error: Exception) -> Response:
    """Starlette logs the error and raises it again."""
    answer = await _on_error(request, reported(error))
    answer.headers["x-request-id"] = request.state.request_id  # this answer is made outside of _RequestId
    return answer
