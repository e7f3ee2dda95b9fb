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
from vlserve.config.settings import Request as RequestCaps
from vlserve.gateway.origins import REFUSALS
from vlserve.gateway.schemas import SCHEMAS
from vlserve.media.files import LONGEST_LIST, PURPOSES
from vlserve.protocols.base import CHAT, COMPLETIONS, MESSAGE_TOKENS, MESSAGES, RESPONSES, Protocol
from vlserve.protocols.fields import INTEGER, TEXT, Schema, an_object, ref
from vlserve.protocols.request import capped_fields
from vlserve.testgen.result import LONGEST_SCENARIO
from vlserve.testgen.wanted import FORMATS, TARGETS, VIEWPORT

# 28 × 28 pixels, red.
_PICTURE_EXAMPLE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABwAAAAcCAIAAAD9b0jDAAAAJElEQVR42mP8z0B9wMQwauiooaOGjho6auiooaOG"
    "jho6IgwFAE/nATcm1a0iAAAAAElFTkSuQmCC"
)


def _header(description: str, *, required: bool = True, **schema: Any) -> Schema:
    return {"description": description, "required": required, "schema": {"type": "string", **schema}}


_REQUEST_ID = {"x-request-id": _header("The client's own where it is harmless, else a new one; also in the log.")}
_RETRY_AFTER = {"retry-after": _header("Whole seconds.", type="integer", minimum=1)}
_ROUTED = {
    "x-vlserve-engine": _header("The engine that answers.", enum=["text", "vision"]),
    "x-vlserve-reason": _header("Why this one: `named`, `has_image`, `text_only`, `only_engine` or `fallback`."),
    "x-vlserve-dropped": _header("Fields of the request that are not known here and were left out.", required=False),
}
_SIZES = {
    "x-vlserve-images": _header(
        "For each picture: its size, the size at which the model saw it (boxes are in these pixels), and its tokens: "
        "`original=1920x1080; model=1932x1092; tokens=2691`.",
        required=False,
    ),
    "x-vlserve-videos": _header(
        "For each video: its size and frames, the size and the frames that the model saw, and its tokens: "
        "`original=1280x720; frames=300; model=1008x560; model_frames=20; tokens=7200`.",
        required=False,
    ),
    "x-vlserve-images-dropped": _header("Pictures that `image_overflow: keep_latest` took out.", required=False),
}
_PROBLEMS: dict[type[errors.VlserveError], str] = {
    errors.InvalidRequest: "The request is at fault; the message says where.",
    errors.Unauthorized: "The API key is missing or unknown.",
    errors.NotFound: "There is no such model or file.",
    errors.RequestTimeout: "The body did not come in time.",
    errors.PayloadTooLarge: "The body is larger than the service takes.",
    errors.TooManyRequests: "More requests than the engine or the key may have.",
    errors.EngineFailed: "The engine, or the service, failed on this request.",
    errors.EngineAway: "The engine is loading, restarting, or died under this request.",
    errors.EngineTimeout: "The engine did not finish in time.",
}
_RARE: dict[type[errors.VlserveError], str] = {
    errors.Forbidden: "This API key may not read the metrics, or a web page of another origin asks (without keys).",
    errors.MisdirectedRequest: "The Host header is none of this service's names (only without API keys).",
    errors.UnsupportedMediaType: "The body is not called JSON, or a form (only without API keys).",
    errors.InsufficientStorage: "The disk is full.",
    errors.NotInstalled: "The server lacks packages that this needs.",
}


def _answer(
    description: str, schema: Schema, headers: Schema | None = None, media_type: str = "application/json"
) -> Schema:
    every = _REQUEST_ID | (headers or {})
    return {"description": description, "headers": every, "content": {media_type: {"schema": schema}}}


def _refusals(*kinds: type[errors.VlserveError], error: str = "Error") -> Schema:
    answers = {}
    for kind in kinds:
        headers: Schema = {}
        if kind is errors.Unauthorized:
            headers = {"www-authenticate": _header("The scheme.", const="Bearer")}
        elif kind in (errors.TooManyRequests, errors.EngineAway):
            headers = _RETRY_AFTER
        answers[str(kind.status)] = _answer((_PROBLEMS | _RARE)[kind], ref(error), headers)
    return answers


_CLOSED = "Fields that are not listed are left out and named in `x-vlserve-dropped`; some are refused."
_CHAT_EXAMPLES = {
    "text": {"model": "auto", "messages": [{"role": "user", "content": "What is a kiwi?"}], "max_tokens": 100},
    "picture": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Which color is this?"},
                    {"type": "image_url", "image_url": {"url": _PICTURE_EXAMPLE}},
                ],
            }
        ],
        "max_tokens": 100,
    },
}
_INPUT = [
    {"type": "input_text", "text": "Which color is this?"},
    {"type": "input_image", "image_url": _PICTURE_EXAMPLE},
]
_BLOCKS = [
    {"type": "image", "source": {"type": "url", "url": _PICTURE_EXAMPLE}},
    {"type": "text", "text": "Which color is this?"},
]
_ABOUT_PICTURE = {"max_tokens": 100, "messages": [{"role": "user", "content": _BLOCKS}]}


def _asking(
    protocol: Protocol, caps: RequestCaps, summary: str, required: str, examples: Schema, answer: Schema
) -> Schema:
    """The operation of a protocol's endpoint."""
    fields = {name: dict(schema) for name, schema in protocol.fields.items()}
    for name, most in capped_fields(protocol, caps).items():
        kinds = fields[name].get("type", "")
        fields[name]["maxItems" if "array" in kinds else "maximum"] = most
    body = an_object(required, **fields)
    named = {name: {"value": value} for name, value in examples.items()}
    error = "AnthropicError" if protocol in (MESSAGES, MESSAGE_TOKENS) else "Error"
    return {
        "summary": summary,
        "description": f"Text goes to one model, anything with a picture to the other. {_CLOSED}",
        "requestBody": {"required": True, "content": {"application/json": {"schema": body, "examples": named}}},
        "responses": {"200": answer} | _refusals(*_PROBLEMS, error=error),
    }


def _completion(name: str = "ChatCompletion", events: str = "") -> Schema:
    whole = _answer("The answer, or its events.", ref(name), _ROUTED | _SIZES)
    # As OpenAPI had it before 3.2, the schema of server-sent events is that of each one.
    events = events or "chat.completion.chunk objects as JSON, then `[DONE]`; or an error as JSON, and no more."
    whole["content"]["text/event-stream"] = {"schema": an_object("data", data=TEXT | {"description": events})}
    return whole


def _models(caps: RequestCaps) -> Mapping[tuple[str, str], Schema]:
    """All ways to ask."""
    counted = _answer("What the prompt takes.", ref("AnthropicTokens"), _ROUTED | _SIZES)
    operations: Mapping[Protocol, tuple[str, str, Schema, Schema]] = {
        CHAT: ("Chat completions", "messages", _CHAT_EXAMPLES, _completion()),
        COMPLETIONS: (
            "Completions of a text",
            "prompt",
            {"text": {"prompt": "A kiwi is", "max_tokens": 20}},
            _completion("Completion", "text_completion objects as JSON, then `[DONE]`; or an error as JSON."),
        ),
        RESPONSES: (
            "Responses",
            "input",
            {"text": {"input": "What is a kiwi?"}, "picture": {"input": [{"role": "user", "content": _INPUT}]}},
            _completion("Response", "Typed events, `response.completed` or `error` the last."),
        ),
        MESSAGES: (
            "Anthropic's Messages",
            "messages max_tokens",
            {"picture": _ABOUT_PICTURE},
            _completion("AnthropicAnswer", "Typed events, `message_stop` or `error` the last."),
        ),
        MESSAGE_TOKENS: ("Count the tokens of a message", "messages", {"picture": _ABOUT_PICTURE}, counted),
    }
    return {("post", one.path): _asking(one, caps, *what) for one, what in operations.items()}


def _form(required: str, /, **fields: Schema) -> Schema:
    return {"required": True, "content": {"multipart/form-data": {"schema": an_object(required, **fields)}}}


_FILE: Schema = {"type": "string", "format": "binary"}


def _pictures(chat: Schema) -> Mapping[tuple[str, str], Schema]:
    """Questions about pictures in a form, and what a prompt costs."""
    analyze = _form(
        "image prompt",
        image={"type": "array", "items": _FILE, "minItems": 1, "description": "One picture or several."},
        prompt=TEXT | {"minLength": 1},
        model=TEXT,
        stream={"type": "boolean"},
        max_tokens=INTEGER | {"minimum": 1},
        temperature={"type": "number", "minimum": 0, "maximum": 2},
        response_format=TEXT | {"description": "`json_object`, `text`, or JSON as in a chat request."},
        detail={"enum": ["low", "auto", "high"]},
    )
    counted = _answer("What the prompt costs.", ref("InputTokens"), _ROUTED | _SIZES)
    return {
        ("post", "/v1/analyze"): {
            "summary": "Ask about pictures in a form",
            "requestBody": analyze,
            "responses": {"200": _completion()} | _refusals(*_PROBLEMS, errors.InsufficientStorage),
        },
        ("post", "/v1/chat/completions/input_tokens"): {
            "summary": "Count the tokens of a chat request",
            "requestBody": chat["requestBody"],
            "responses": {"200": counted} | _refusals(*_PROBLEMS),
        },
    }


def _files() -> Mapping[tuple[str, str], Schema]:
    upload = _form(
        "file purpose",
        file=_FILE,
        purpose={"enum": list(PURPOSES)},
        **{"expires_after[anchor]": {"const": "created_at"}, "expires_after[seconds]": INTEGER | {"minimum": 1}},
    )
    refused = (errors.InvalidRequest, errors.Unauthorized, errors.NotFound, errors.TooManyRequests)
    deleted = an_object("id object deleted", id=TEXT, object={"const": "file"}, deleted={"const": True})
    query = {
        "purpose": {"enum": list(PURPOSES)},
        "limit": INTEGER | {"minimum": 1, "maximum": LONGEST_LIST, "default": LONGEST_LIST},
        "after": TEXT,
        "order": {"enum": ["asc", "desc"], "default": "desc"},
    }
    parameters = [{"name": name, "in": "query", "schema": schema} for name, schema in query.items()]
    content = _answer("The file's bytes.", _FILE, media_type="application/octet-stream")
    return {
        ("post", "/v1/files"): {
            "summary": "Upload a file",
            "requestBody": upload,
            "responses": {"200": _answer("The file.", ref("File"))}
            | _refusals(
                *refused, errors.RequestTimeout, errors.PayloadTooLarge, errors.EngineAway, errors.InsufficientStorage
            ),
        },
        ("get", "/v1/files"): {
            "parameters": parameters,
            "responses": {"200": _answer("The key's files.", ref("Files")), **_refusals(*refused)},
        },
        ("get", "/v1/files/{file_id}"): {
            "responses": {"200": _answer("The file.", ref("File")), **_refusals(*refused)}
        },
        ("get", "/v1/files/{file_id}/content"): {"responses": {"200": content, **_refusals(*refused)}},
        ("delete", "/v1/files/{file_id}"): {
            "responses": {"200": _answer("It is gone.", deleted), **_refusals(*refused)}
        },
    }


def _testgen() -> Mapping[tuple[str, str], Schema]:
    """A test of a screenshot, and what may be asked for."""
    common = {
        "scenario": TEXT | {"minLength": 1, "maxLength": LONGEST_SCENARIO, "description": "What the test does."},
        "target": {"enum": list(TARGETS)},
        "url": TEXT | {"description": "The page; without one the test is a draft. `testgen.allowed_origins` decides."},
        "viewport": {
            "type": "string",
            "pattern": f"^{VIEWPORT.pattern}$",
            "description": "The page's size in CSS pixels, like `1280x720`.",
        },
        "stream": {"type": "boolean", "default": True, "description": "`false`: one JSON object and no events."},
        "file_id": TEXT | {"description": "Of an uploaded file (`/v1/files`), in the place of the picture."},
    }
    form = an_object("scenario target", image=_FILE | {"description": f"{', '.join(FORMATS)}."}, **common)
    image_url = TEXT | {"pattern": "^data:image/", "description": "data:image/png;base64,…"}
    content = _form("")["content"]
    content["multipart/form-data"]["schema"] = form | {"additionalProperties": False}
    body = an_object("scenario target", image_url=image_url, **common) | {"additionalProperties": False}
    body["oneOf"] = [{"required": ["image_url"]}, {"required": ["file_id"]}]
    made = _answer("The test, or the steps that lead to it as events.", ref("GeneratedTest"))
    told = "Of a `step` its name and what came of it (empty: it begins), of `result` the test, of `error` the error."
    events = {"event": {"enum": ["step", "result", "error"]}, "data": TEXT | {"description": f"JSON. {told}"}}
    made["content"]["text/event-stream"] = {"schema": an_object("event data", **events)}
    return {
        ("post", "/v1/testgen"): {
            "summary": "A test of a screenshot",
            "requestBody": {"required": True, "content": {**content, "application/json": {"schema": body}}},
            "responses": {"200": made} | _refusals(*_PROBLEMS, errors.NotInstalled, errors.InsufficientStorage),
        },
        ("get", "/v1/testgen"): {
            "summary": "Whether tests are made here, and of which pages",
            "responses": {"200": _answer("What may be asked for.", ref("Testgen")), **_refusals(errors.Unauthorized)},
        },
    }


def _operations(caps: RequestCaps) -> Mapping[tuple[str, str], Schema]:
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
    asking = _models(caps)
    return {
        **asking,
        **_pictures(asking["post", CHAT.path]),
        **_files(),
        **_testgen(),
        ("get", "/v1/models"): {"responses": models},
        ("get", "/v1/models/{model}"): {"responses": by_name},
        ("get", "/metrics"): {"responses": {"200": metrics, **_refusals(errors.Unauthorized, errors.Forbidden)}},
        ("get", "/health"): {"responses": {"200": _answer("It lives.", health)}, "security": []},
        ("get", "/ready"): {"parameters": [which], "responses": ready, "security": []},
    }


def document(app: FastAPI, *, caps: RequestCaps, needs_key: bool = False) -> Schema:
    """The OpenAPI document of the routes that ``app`` has now.

    ``caps``: what requests may ask for. ``needs_key``: API keys are set.
    """
    tree = get_openapi(title=app.title, version=app.version, routes=app.routes)
    known = _operations(caps)
    for path, methods in tree["paths"].items():
        for method, operation in methods.items():
            operation |= {"security": [{"bearer": []}] if needs_key else [{}, {"bearer": []}]}
            operation |= known.get((method, path), {})
            error = "AnthropicError" if path.startswith(MESSAGES.path) else "Error"
            refusals = _refusals(errors.EngineFailed, *([] if needs_key else REFUSALS[method]), error=error)
            operation["responses"] = refusals | operation["responses"]
    bearer = {"type": "http", "scheme": "bearer"}
    tree["components"] = {"schemas": dict(SCHEMAS), "securitySchemes": {"bearer": bearer}}
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


def add_docs(app: FastAPI, *, caps: RequestCaps, needs_key: bool = False) -> None:
    """Add ``/openapi.json`` and the page ``/docs``; call it when every other route is there.

    Both are open: they hold no secret and no name of a model. The page's files come from the package fastapi-swagger,
    and its policy forbids the browser every other host.
    """
    tree = document(app, caps=caps, needs_key=needs_key)
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
