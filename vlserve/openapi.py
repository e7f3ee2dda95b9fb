"""What the service takes and answers, as an OpenAPI document, and a page that shows it without asking another host.

FastAPI makes the frame from the routes; what it cannot know is here as data: the chat body, the answers, their headers.
"""

import importlib.resources
import pathlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

from vlserve import errors
from vlserve.fields import CHAT_FIELDS, INTEGER, TEXT, Schema, an_object, maybe, ref

# 28 × 28 pixels, red.
_PICTURE_EXAMPLE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABwAAAAcCAIAAAD9b0jDAAAAJElEQVR42mP8z0B9wMQwauiooaOGjho6auiooaOG"
    "jho6IgwFAE/nATcm1a0iAAAAAElFTkSuQmCC"
)


def _part(types: list[str], field: str, value: Schema) -> Schema:
    # Of a part without a type, its one content field tells.
    known = {"type": {"enum": [*types, None]}, field: value, "detail": {}, "cache_control": {}}
    return an_object(field, **known) | {"additionalProperties": False}


_URL: Schema = {"type": "string", "pattern": "^data:image/", "description": "data:image/png;base64,…"}
_PICTURE: Schema = {"anyOf": [an_object("url", url=_URL, detail={}) | {"additionalProperties": False}, _URL]}
_CONTENT: list[Schema] = [TEXT, {"type": "array", "items": ref("Part")}]
_MESSAGE: Schema = {
    "name": TEXT,
    "tool_call_id": maybe("string"),
    "tool_calls": maybe("array", items={"type": "object"}),
}
_CHOICE = an_object(
    "index message finish_reason",
    index=INTEGER,
    message=an_object(
        "role content",
        role=TEXT,
        content=maybe("string"),
        tool_calls={"type": "array", "items": {"type": "object"}},
    ),
    finish_reason=maybe("string"),
    logprobs=maybe("object"),
)
_ENGINE_STATE = an_object("state model", state=TEXT, model=TEXT, retry_after_s=INTEGER, problem=TEXT)
_SCHEMAS: Mapping[str, Schema] = {
    "Message": {
        "anyOf": [
            an_object(
                "role", role={"const": "assistant"}, content={"anyOf": [*_CONTENT, {"type": "null"}]}, **_MESSAGE
            ),
            an_object("role content", role=TEXT, content={"anyOf": _CONTENT}, **_MESSAGE),
        ]
    },
    "Part": {
        "anyOf": [
            _part(["text", "input_text", "output_text"], "text", TEXT),
            _part(["refusal"], "refusal", TEXT),
            _part(["image_url", "input_image"], "image_url", _PICTURE),
        ]
    },
    "ChatCompletion": an_object(
        "id object model choices usage",
        id=TEXT,
        object={"const": "chat.completion"},
        created=INTEGER,
        model=TEXT | {"description": "The model that answered."},
        choices={"type": "array", "items": _CHOICE},
        usage=an_object(prompt_tokens=INTEGER, completion_tokens=INTEGER, total_tokens=INTEGER),
    ),
    "Model": an_object(
        "id object created owned_by", id=TEXT, object={"const": "model"}, created=INTEGER, owned_by=TEXT
    ),
    "Models": an_object("object data", object={"const": "list"}, data={"type": "array", "items": ref("Model")}),
    "Readiness": an_object(
        "status engines",
        status={"enum": ["ready", "not ready"]},
        engines={"type": "object", "additionalProperties": _ENGINE_STATE},
    ),
    "Error": an_object(
        "error",
        error=an_object(
            "message type param code",
            message=TEXT,
            type=TEXT,
            param=maybe("string", description="The part of the request at fault."),
            code=maybe("string", description="For programs."),
        ),
    ),
}


def _header(description: str, *, required: bool = True, **schema: Any) -> Schema:
    return {"description": description, "required": required, "schema": {"type": "string", **schema}}


_REQUEST_ID = {"x-request-id": _header("The client's own where it is harmless, else a new one; also in the log.")}
_RETRY_AFTER = {"retry-after": _header("Whole seconds.", type="integer", minimum=1)}
_ROUTED = {
    "x-vlserve-engine": _header("The engine that answers.", enum=["text", "vision"]),
    "x-vlserve-reason": _header("Why this one: `named`, `has_image`, `text_only`, `only_engine` or `fallback`."),
    "x-vlserve-dropped": _header("Fields of the request that are not known here and were left out.", required=False),
}
_PROBLEMS: Mapping[type[errors.VlserveError], str] = {
    errors.InvalidRequest: "The request is at fault; the message says where.",
    errors.Unauthorized: "The API key is missing or unknown.",
    errors.NotFound: "There is no such model.",
    errors.RequestTimeout: "The body did not come in time.",
    errors.PayloadTooLarge: "The body is larger than the service takes.",
    errors.TooManyRequests: "More requests than the engine or the key may have.",
    errors.EngineFailed: "The engine, or the service, failed on this request.",
    errors.EngineAway: "The engine is loading, restarting, or died under this request.",
    errors.EngineTimeout: "The engine did not finish in time.",
}


def _answer(
    description: str, schema: Schema, headers: Schema | None = None, media_type: str = "application/json"
) -> Schema:
    every = _REQUEST_ID | (headers or {})
    return {"description": description, "headers": every, "content": {media_type: {"schema": schema}}}


def _refusals(*kinds: type[errors.VlserveError]) -> Schema:
    answers = {}
    for kind in kinds:
        headers: Schema = {}
        if kind is errors.Unauthorized:
            headers = {"www-authenticate": _header("The scheme.", const="Bearer")}
        elif kind in (errors.TooManyRequests, errors.EngineAway):
            headers = _RETRY_AFTER
        answers[str(kind.status)] = _answer(_PROBLEMS[kind], ref("Error"), headers)
    return answers


def _chat(limits: Mapping[str, int]) -> Schema:
    fields = {name: dict(schema) for name, schema in CHAT_FIELDS.items()}
    for name, most in limits.items():
        fields[name]["maxItems" if "array" in fields[name]["type"] else "maximum"] = most
    picture = {"type": "image_url", "image_url": {"url": _PICTURE_EXAMPLE}}
    examples = {
        "text": {"model": "auto", "messages": [{"role": "user", "content": "What is a kiwi?"}], "max_tokens": 100},
        "picture": {
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Which color is this?"}, picture]}],
            "max_tokens": 100,
        },
    }
    body = an_object("messages", **fields)
    named = {name: {"value": value} for name, value in examples.items()}
    whole = _answer("The answer, or its events.", ref("ChatCompletion"), _ROUTED)
    # As OpenAPI had it before 3.2, the schema of server-sent events is that of each one.
    events = "chat.completion.chunk objects as JSON, then `[DONE]`; or an error as JSON, and no more."
    whole["content"]["text/event-stream"] = {"schema": an_object("data", data=TEXT | {"description": events})}
    return {
        "summary": "Chat completions",
        "description": "Text goes to one model, anything with a picture to the other. Fields that are not listed are "
        "left out and named in `x-vlserve-dropped`; some, such as `chat_template`, are refused.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": body, "examples": named}}},
        "responses": {"200": whole} | _refusals(*_PROBLEMS),
    }


def _operations(limits: Mapping[str, int]) -> Mapping[tuple[str, str], Schema]:
    which = {
        "name": "engine",
        "in": "query",
        "description": "`any`: one engine is enough. `all`: every one. Or one by name.",
        "schema": {"enum": ["any", "all", "text", "vision"], "default": "any"},
    }
    health = an_object("status", status={"const": "ok"})
    models = {"200": _answer("The models.", ref("Models")), **_refusals(errors.Unauthorized)}
    by_name = {"200": _answer("The model.", ref("Model")), **_refusals(errors.Unauthorized, errors.NotFound)}
    ready = {
        "200": _answer("Ready.", ref("Readiness")),
        "503": _answer("Not ready.", ref("Readiness"), _RETRY_AFTER),
        **_refusals(errors.InvalidRequest),
    }
    metrics = _answer("Prometheus' text format.", {"type": "string"}, media_type="text/plain")
    return {
        ("post", "/v1/chat/completions"): _chat(limits),
        ("get", "/v1/models"): {"responses": models},
        ("get", "/v1/models/{model}"): {"responses": by_name},
        ("get", "/metrics"): {"responses": {"200": metrics, **_refusals(errors.Unauthorized)}},
        ("get", "/health"): {"responses": {"200": _answer("It lives.", health)}, "security": []},
        ("get", "/ready"): {"parameters": [which], "responses": ready, "security": []},
    }


def document(app: FastAPI, *, limits: Mapping[str, int] | None = None, needs_key: bool = False) -> Schema:
    """The OpenAPI document of the routes that ``app`` has now.

    ``limits``: chat field → its largest value here (of a list: its most items). ``needs_key``: API keys are set.
    """
    tree = get_openapi(title=app.title, version=app.version, routes=app.routes)
    known = _operations(limits or {})
    for path, methods in tree["paths"].items():
        for method, operation in methods.items():
            operation |= {"security": [{"bearer": []}] if needs_key else [{}, {"bearer": []}]}
            operation |= known.get((method, path), {})
            operation["responses"] |= _refusals(errors.EngineFailed)
    bearer = {"type": "http", "scheme": "bearer"}
    tree["components"] = {"schemas": dict(_SCHEMAS), "securitySchemes": {"bearer": bearer}}
    return tree


# Swagger UI sets style attributes, hence 'unsafe-inline' for styles; its icons are data: URLs.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Addresses are relative, so that the page also works behind a prefix.
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>vlserve API</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
<div id="api"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</html>
"""
# Without validatorUrl Swagger UI asks validator.swagger.io about the document.
_START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#api",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
  validatorUrl: null,
});
"""
_ASSETS = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")


def add_docs(app: FastAPI, *, limits: Mapping[str, int] | None = None, needs_key: bool = False) -> None:
    """Add ``/openapi.json`` and the page ``/docs``; call it when every other route is there.

    Both are open: they hold no secret and no name of a model. The page's files come from the package fastapi-swagger,
    and its policy forbids the browser every other host.
    """
    tree = document(app, limits=limits, needs_key=needs_key)
    headers = {"content-security-policy": _POLICY}  # others are put on every answer (connections.py)

    async def openapi_json() -> Response:
        return JSONResponse(tree)

    async def docs() -> Response:
        return HTMLResponse(_PAGE, headers=headers)

    async def start() -> Response:
        return Response(_START, media_type="text/javascript", headers=headers)

    app.get("/openapi.json", include_in_schema=False)(openapi_json)
    app.get("/docs", include_in_schema=False)(docs)
    app.get("/docs/start.js", include_in_schema=False)(start)
    folder = pathlib.Path(str(importlib.resources.files("fastapi_swagger") / "resources"))
    for name in _ASSETS:
        app.get(f"/docs/{name}", include_in_schema=False)(_asset(folder / name, headers))


def _asset(path: pathlib.Path, headers: Mapping[str, str]) -> Callable[[], Awaitable[Response]]:
    async def asset() -> Response:
        return FileResponse(path, headers=headers)

    return asset
