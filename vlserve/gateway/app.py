"""The FastAPI application: routes, middleware and lifespan."""

import asyncio
import functools
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlserve import __version__
from vlserve.config.authority import is_loopback
from vlserve.config.engine_settings import AUTO, EngineName
from vlserve.config.keys import ApiKey
from vlserve.config.settings import Config, Server
from vlserve.engines.view import EngineView
from vlserve.errors import InvalidRequest, Unauthorized, VlserveError
from vlserve.gateway import files_api, metrics_endpoint, origins, request_paths
from vlserve.gateway.access_log import refuse
from vlserve.gateway.admission import Admission
from vlserve.gateway.app_state import Runtime
from vlserve.gateway.cors import CORS
from vlserve.gateway.engine_client import EngineClient
from vlserve.gateway.error_handlers import add_error_handlers, error_response, is_anthropic, response_to
from vlserve.gateway.handler import analyze, answer, count_tokens
from vlserve.gateway.openapi import add_docs
from vlserve.gateway.routes import Routes
from vlserve.gateway.tracing import Tracing
from vlserve.gateway.web_page import add_page
from vlserve.media.fetch import Fetcher
from vlserve.media.file_store import FileStore
from vlserve.media.load import Pictures
from vlserve.media.picture_cache import PictureCache
from vlserve.metrics import Metrics
from vlserve.protocols import routing
from vlserve.protocols.protocol_definitions import CHAT_TOKENS_PATH, PROTOCOLS

_OWN_HEADERS = [
    f"x-vlserve-{name}"
    for name in ("engine", "reason", "dropped", "control-tokens", "images", "images-dropped", "videos")
]
_FORM_PATHS = ("/v1/analyze", files_api.PATH)
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
    """Create the application over ``engines``, which the caller starts and stops.

    ``store`` is an open file store; without one ``/v1/files`` stores nothing. Without ``testgen`` there is no
    ``/v1/testgen``.
    """
    traces = tracing or Tracing()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _open_runtime(config, engines, keys, metrics or Metrics(), traces, store) as runtime:
            app.state.runtime = runtime
            yield

    app = FastAPI(title="vlserve", version=__version__, lifespan=lifespan, openapi_url=None, redirect_slashes=False)
    endpoints: dict[str, ASGIApp] = {protocol.path: _Endpoint(answer(protocol)) for protocol in PROTOCOLS}
    app.add_middleware(_HotRoutes, endpoints=endpoints)  # the first one is the innermost
    _add_routes(app, endpoints, testgen)
    add_error_handlers(app)
    add_page(app, needs_key=bool(keys), testgen=testgen.mode if testgen else "off")
    add_docs(app, config.request, needs_key=bool(keys), parts=[testgen.openapi] if testgen else [])
    _add_head(app)
    _add_middleware(app, config.server, testgen, needs_key=bool(keys))
    return app


@asynccontextmanager
async def _open_runtime(
    config: Config,
    engines: Mapping[EngineName, EngineView],
    keys: tuple[ApiKey, ...],
    metrics: Metrics,
    tracing: Tracing,
    store: FileStore | None,
) -> AsyncIterator[Runtime]:
    async with AsyncExitStack() as stack:
        clients = {name: EngineClient(engine.address) for name, engine in engines.items()}
        for client in clients.values():
            stack.callback(client.close)
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
        runtime = Runtime(
            config=config,
            engines=engines,
            clients=clients,
            admission=admission,
            metrics=metrics,
            pictures=pictures,
            threads=threads,
            picture_caches={
                name: PictureCache(view.activity) for name, view in engines.items() if view.settings.keeps_pictures
            },
            store=store,
            tracing=tracing,
            salts=_salts({key.name for key in keys}),
            served={name: engine.settings.model_id for name, engine in engines.items()},
            started=int(time.time()),
        )
        stack.push_async_callback(tracing.shutdown)
        if store:
            expiring = asyncio.create_task(files_api.remove_expired(store))
            stack.callback(expiring.cancel)
        yield runtime


def _add_routes(app: FastAPI, endpoints: Mapping[str, ASGIApp], testgen: Routes | None) -> None:
    app.routes.extend(Route(path, endpoint, methods=["POST"]) for path, endpoint in endpoints.items())
    app.post(CHAT_TOKENS_PATH, response_model=None)(count_tokens)
    app.post("/v1/analyze", response_model=None)(analyze)
    files_api.add_routes(app)
    if testgen:
        testgen.add(app)
    app.get("/v1/models")(list_models)
    app.get("/v1/models/{model:path}")(get_model)
    app.get("/health")(health)
    app.get("/ready")(ready)
    app.get("/metrics", response_model=None)(metrics_endpoint.metrics)


class _Endpoint:
    """A route without FastAPI's dependency injection, which costs much of a small request's CPU time."""

    def __init__(self, handle: Callable[[Request], Awaitable[ASGIApp]]) -> None:
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            answer = await self._handle(request)
            await answer(scope, receive, send)
            return
        except (VlserveError, ClientDisconnect) as error:
            refusal = await response_to(request, error)
            # Its frames hold the request's body, in a cycle that only the garbage collector would find.
            error.__traceback__ = error.__context__ = error.__cause__ = None
        await refusal(scope, receive, send)


class _HotRoutes:
    """Calls the endpoints of the hot routes directly; the router and its middleware would cost CPU time."""

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, ASGIApp]) -> None:
        self._app, self._endpoints = app, endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        await (endpoint or self._app)(scope, receive, send)


def _add_head(app: FastAPI) -> None:
    """Let every GET route answer HEAD, as Starlette's own routes do and FastAPI's do not."""
    for route in app.routes:
        if isinstance(route, Route) and route.methods and "GET" in route.methods:
            route.methods.add("HEAD")


def _add_middleware(app: FastAPI, server: Server, testgen: Routes | None, *, needs_key: bool) -> None:
    if not needs_key:
        form_paths = (*_FORM_PATHS, *(testgen.form_paths if testgen else ()))
        allowed = [*server.public_origins, *server.cors_origins]
        app.add_middleware(_origin_check(server.host, server), origins=allowed, form_paths=form_paths)
    if server.cors_origins:
        app.add_middleware(
            CORS,
            allow_origins=server.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["*"],  # CORS limits them
            expose_headers=["x-request-id", "request-id", "retry-after", *_OWN_HEADERS],
        )
    app.add_middleware(_RequestHead)


def create_metrics_app(app: FastAPI, server: Server, keys: tuple[ApiKey, ...]) -> FastAPI:
    """Create the application for ``server.metrics_listen``, with ``/metrics`` only. On loopback it needs no API key."""
    host, _ = server.metrics_address or (server.host, 0)
    needs_key = bool(keys) and not is_loopback(host)
    metrics_app = FastAPI(title="vlserve metrics", openapi_url=None, redirect_slashes=False)
    metrics_app.state = app.state
    metrics_app.get("/metrics", response_model=None)(
        metrics_endpoint.metrics if needs_key else metrics_endpoint.open_metrics
    )
    _add_head(metrics_app)
    add_error_handlers(metrics_app)
    if not needs_key:
        metrics_app.add_middleware(_origin_check(host, server))
    metrics_app.add_middleware(_RequestHead)
    return metrics_app


def _origin_check(host: str, server: Server) -> Any:
    """Return the middleware for a listener on ``host`` without API keys."""
    hosts = origins.hosts_of(host, server.allowed_hosts)
    return functools.partial(origins.OriginCheck, hosts=hosts, refused=error_response)


def _salts(names: set[str]) -> Mapping[str, str]:
    """Return a secret ``cache_salt`` for each key, if there are several.

    A client that knew another key's salt could probe the engine's prefix cache for that key's prompts.
    """
    secret = secrets.token_bytes(32)
    if len(names) < 2:
        return {}
    return {name: hmac.new(secret, name.encode(), hashlib.sha256).hexdigest() for name in names}


class _RequestHead:
    """Outermost middleware: normalizes the path before anything reads it, and sets the request's id: the client's
    ``x-request-id`` if it is valid, else a new one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["path"] = request_paths.normalize(scope["path"])
        given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), "")
        request_id = given if _CLIENT_REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = (b"x-request-id", b"request-id") if is_anthropic(scope["path"]) else (b"x-request-id",)
                message["headers"] = [*message["headers"], *((name, request_id.encode()) for name in names)]
            await send(message)

        await self.app(scope, receive, send_with_id)


async def list_models(request: Request) -> dict[str, Any]:
    """List the models' names, ``auto`` and its aliases."""
    runtime: Runtime = request.app.state.runtime
    runtime.admission.authenticate(request.headers)
    names = [*runtime.served.values(), AUTO, *runtime.config.auto_aliases]
    return {"object": "list", "data": [_model(runtime, name) for name in names]}


async def get_model(request: Request, model: str) -> dict[str, Any]:
    """Return one model. Raises NotFound."""
    runtime: Runtime = request.app.state.runtime
    runtime.admission.authenticate(request.headers)
    if model not in (*runtime.served.values(), AUTO, *runtime.config.auto_aliases):
        raise routing.unknown_model(model, runtime.served)
    return _model(runtime, model)


def _model(runtime: Runtime, name: str) -> dict[str, Any]:
    """Return a model object, with vLLM's ``max_model_len`` (prompt and answer) if it is known.

    ``auto`` and its aliases have the smallest of all engines: any of them may answer.
    """
    limits = {served: runtime.engines[engine].max_model_len for engine, served in runtime.served.items()}
    own = limits.get(name) if name in limits else min((each or 0 for each in limits.values()), default=0)
    limit = {"max_model_len": own} if own else {}
    return {"id": name, "object": "model", "created": runtime.started, "owned_by": "vlserve", **limit}


async def health() -> dict[str, str]:
    """Report that the gateway is running."""
    return {"status": "ok"}


async def ready(request: Request, engine: str = "any") -> JSONResponse:
    """Return 200 if an engine is ready, or with ``?engine=text|vision|all`` that one or all, else 503.

    The body has each engine's state, and its model and problem unless the service has API keys and the request none.
    """
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
    description = {"state": view.state, "model": view.settings.model_id}
    if view.is_ready:
        return description
    problem = {"problem": str(view.diagnosis)} if view.diagnosis else {}
    return description | {"retry_after_s": round(view.retry_after_s())} | problem


def _has_key(request: Request) -> bool:
    """Whether a request to a public route has a valid key. An invalid one is logged, because it may be a guess."""
    runtime: Runtime = request.app.state.runtime
    try:
        runtime.admission.authenticate(request.headers)
    except Unauthorized as error:
        if "authorization" in request.headers or "x-api-key" in request.headers:
            refuse(runtime.metrics, error, request.scope)
        return False
    return True
