"""Error handlers: convert exceptions to responses in the error format of the client's protocol."""

import contextlib

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

from vlserve.errors import MethodNotAllowed, NotFound, VlserveError
from vlserve.gateway import request_paths
from vlserve.gateway.access_log import refuse
from vlserve.gateway.app_state import Runtime
from vlserve.protocols import routing
from vlserve.protocols.protocol_definitions import MESSAGES_PATH
from vlserve.resource_errors import to_client_error

_LONGEST_PATH = 200


def add_error_handlers(app: FastAPI) -> None:
    app.exception_handler(VlserveError)(error_response)
    app.exception_handler(HTTPException)(_on_http_exception)
    app.exception_handler(ClientDisconnect)(_on_disconnect)
    app.exception_handler(Exception)(_on_bug)


async def response_to(request: Request, error: VlserveError | ClientDisconnect) -> Response:
    """The response to an error of an endpoint, for those that are called without the router."""
    if isinstance(error, ClientDisconnect):
        return await _on_disconnect(request, error)
    return await error_response(request, error)


async def error_response(request: Request, error: VlserveError) -> Response:
    """Convert an error to a response in the protocol's format. Logs it as refused if no engine was involved."""
    if not hasattr(request.state, "account"):
        runtime: Runtime = request.app.state.runtime
        state = request.state
        known = {"key": getattr(state, "key", None), "model": getattr(state, "model", None)}
        fields = refuse(runtime.metrics, error, request.scope, **known)
        if hasattr(request.state, "trace"):
            request.state.trace.end(fields)
    headers = {**routing.headers(getattr(request.state, "route", None)), **error.headers()}
    if is_anthropic(request.scope["path"]):
        return JSONResponse(error.anthropic(request.state.request_id), error.status, headers)
    return Response(error.body(), error.status, headers, media_type="application/json")


def is_anthropic(path: str) -> bool:
    """Whether a path has the error format and the request-id header of Anthropic's API."""
    return path == MESSAGES_PATH or path.startswith(f"{MESSAGES_PATH}/")


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    """Convert Starlette's 404 and 405 to errors in the protocol's format."""
    with contextlib.suppress(VlserveError):  # the key is only logged
        request.state.key = request.app.state.runtime.admission.authenticate(request.headers)
    where = f"{request.method} {request.scope['path'][:_LONGEST_PATH]}"
    refusal: VlserveError = NotFound(f"{where}: there is no such path.{_hint(request)}")
    if error.status_code == 405:
        refusal = MethodNotAllowed(f"{where}: this path does not support the method.")
    answer = await error_response(request, refusal)
    answer.headers.update(error.headers or {})
    if error.status_code == 405:  # Starlette lists only the methods of the path's first route
        answer.headers["allow"] = ", ".join(_methods(request))
    return answer


def _hint(request: Request) -> str:
    meant = request_paths.suggest(request.scope["path"][:_LONGEST_PATH], request.app.routes)
    if not meant:
        has_docs = any(isinstance(route, Route) and route.path == "/docs" for route in request.app.routes)
        return " GET /docs lists the paths." if has_docs else ""  # the metrics listener has none
    hint = f" Did you mean {meant}?"
    if meant.startswith("/v1/"):
        hint += " Check the client's base URL: for OpenAI's SDKs it ends in /v1, for Anthropic's it has no path."
    return hint


def _methods(request: Request) -> list[str]:
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    matching = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in matching for method in route.methods or ()})


async def _on_disconnect(request: Request, error: ClientDisconnect) -> Response:  # noqa: ARG001
    """End the trace of a request whose client disconnected before it reached an engine; the response is not sent."""
    if hasattr(request.state, "trace"):
        request.state.trace.end({"status": 499, "error": "client_left"})
    return Response(status_code=499)


async def _on_bug(request: Request, error: Exception) -> Response:
    """Report a bug as a 500. Starlette logs the exception and raises it again."""
    answer = await error_response(request, to_client_error(error))
    answer.headers["x-request-id"] = request.state.request_id  # this response bypasses the middleware that sets it
    return answer
