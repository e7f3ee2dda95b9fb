"""What the service takes and answers, as an OpenAPI document, and a page that shows it without asking another host.

FastAPI makes the frame from the routes; what it cannot know is here as data: the chat body, the answers, their headers.
``CHAT_FIELDS`` is the closed set of a chat request's fields; everything else that asks for it reads it here.
"""

import importlib.resources
import pathlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

from vlserve import errors

Schema = dict[str, Any]

_INT64 = 2**63
# 28 × 28 pixels, red.
_PICTURE_EXAMPLE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABwAAAAcCAIAAAD9b0jDAAAAJElEQVR42mP8z0B9wMQwauiooaOGjho6auiooaOG"
    "jho6IgwFAE/nATcm1a0iAAAAAElFTkSuQmCC"
)


def _maybe(kind: str, **more: Any) -> Schema:
    """A field that may also be null, which is the same as leaving it out."""
    return {"type": [kind, "null"], **more}


def _object(required: str = "", /, **properties: Schema) -> Schema:
    """An object; ``required`` names the properties that must be there."""
    return {"type": "object", "properties": properties, "required": required.split()}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_TEXT: Schema = {"type": "string"}
_INTEGER: Schema = {"type": "integer"}
_SWITCH: Schema = {"type": "boolean"}
_TOKEN_IDS = _maybe("array", items=_INTEGER)
_FUNCTION: Schema = {"const": "function"}
_TOOL = _object(
    "function",
    type=_FUNCTION,
    function=_object(
        "name",
        name=_TEXT,
        description=_maybe("string"),
        parameters=_maybe("object", description="JSON schema of the arguments."),
        strict=_maybe("boolean"),
    ),
)
_JSON_SCHEMA = _object(
    "name", name=_TEXT, description=_maybe("string"), schema=_maybe("object"), strict=_maybe("boolean")
)
_RESPONSE_FORMATS = [
    _object("type", type={"enum": ["text", "json_object"]}),
    _object("type json_schema", type={"const": "json_schema"}, json_schema=_JSON_SCHEMA),
    _object("type", type={"const": "structural_tag"})
    | {"description": "vLLM's structural tags: `format`, or the older `structures` and `triggers`."},
]

CHAT_FIELDS: Mapping[str, Schema] = {
    "messages": {"type": "array", "minItems": 1, "items": _ref("Message")},
    "model": _maybe(
        "string", description="A name from `/v1/models`. `auto`, or none: pictures go to `vision`, else `text`."
    ),
    "stream": _maybe("boolean", description="Answer with server-sent events."),
    "stream_options": _maybe(
        "object",
        description="With `stream` only.",
        properties={"include_usage": _maybe("boolean"), "continuous_usage_stats": _maybe("boolean")},
    ),
    "n": _maybe("integer", minimum=1, description="Answers to make."),
    "seed": _maybe("integer", minimum=-_INT64, maximum=_INT64 - 1),
    "stop": {"type": ["string", "array", "null"], "items": {"type": "string"}},
    "temperature": _maybe("number", minimum=0, maximum=2),
    "top_p": _maybe("number", exclusiveMinimum=0, maximum=1),
    "user": _maybe("string", description="Taken and not used."),
    "max_tokens": _maybe("integer", minimum=1, description="The older name of `max_completion_tokens`."),
    "max_completion_tokens": _maybe("integer", minimum=1),
    "frequency_penalty": _maybe("number", minimum=-2, maximum=2),
    "presence_penalty": _maybe("number", minimum=-2, maximum=2),
    "logit_bias": _maybe("object", description="Token id → bias.", additionalProperties={"type": "number"}),
    "logprobs": _maybe("boolean"),
    "top_logprobs": _maybe("integer", minimum=-1, description="With `logprobs`. -1: the whole vocabulary."),
    "response_format": {"anyOf": [*_RESPONSE_FORMATS, {"type": "null"}]},
    "tools": _maybe("array", minItems=1, items=_TOOL),
    "tool_choice": {
        "anyOf": [
            {"enum": ["none", "auto", "required", None]},
            _object("function", type=_FUNCTION, function=_object("name", name=_TEXT)),
        ]
    },
    "parallel_tool_calls": _maybe("boolean"),
    "reasoning_effort": {"enum": ["none", "minimal", "low", "medium", "high", "xhigh", "max", None]},
    # vLLM's own
    "top_k": _maybe("integer", minimum=-1, description="0 or -1: all."),
    "min_p": _maybe("number", minimum=0, maximum=1),
    "repetition_penalty": _maybe("number", exclusiveMinimum=0),
    "length_penalty": {"type": "number"},
    "min_tokens": {"type": "integer", "minimum": 0},
    "stop_token_ids": _TOKEN_IDS,
    "ignore_eos": _SWITCH,
    "include_stop_str_in_output": _SWITCH,
    "bad_words": {"type": "array", "items": {"type": "string"}},
    "allowed_token_ids": _TOKEN_IDS,
    "skip_special_tokens": _SWITCH,
    "structured_outputs": _maybe(
        "object",
        description="Exactly one of `json`, `regex`, `choice`, `grammar`, `json_object`, `structural_tag`.",
        properties={
            "json": {"type": ["object", "string", "null"]},
            "regex": _maybe("string"),
            "choice": _maybe("array", items={"type": "string"}),
            "grammar": _maybe("string"),
            "json_object": _maybe("boolean"),
            "structural_tag": _maybe("string"),
            "whitespace_pattern": _maybe("string"),
            "disable_any_whitespace": _SWITCH,
            "disable_additional_properties": _SWITCH,
        },
    ),
    "spaces_between_special_tokens": _SWITCH,
    "prompt_logprobs": _maybe("integer", minimum=-1, description="Without `stream` only."),
    "include_reasoning": _SWITCH,
    "echo": _SWITCH,
    "add_generation_prompt": _SWITCH,
    "continue_final_message": _SWITCH,
    "return_token_ids": _maybe("boolean"),
}
"""Field → JSON schema, as vLLM 0.32 takes it (vllm/entrypoints/openai/chat_completion/protocol.py, sampling_params.py).

The gateway checks ``messages``, ``model``, ``stream`` and ``stream_options``; the engine checks the others.
"""


def _part(types: list[str], field: str, value: Schema) -> Schema:
    # Of a part without a type, its one content field tells.
    known = {"type": {"enum": [*types, None]}, field: value, "detail": {}, "cache_control": {}}
    return _object(field, **known) | {"additionalProperties": False}


_URL: Schema = {"type": "string", "pattern": "^data:image/", "description": "data:image/png;base64,…"}
_PICTURE: Schema = {"anyOf": [_object("url", url=_URL, detail={}) | {"additionalProperties": False}, _URL]}
_CONTENT: list[Schema] = [_TEXT, {"type": "array", "items": _ref("Part")}]
_MESSAGE: Schema = {
    "name": _TEXT,
    "tool_call_id": _maybe("string"),
    "tool_calls": _maybe("array", items={"type": "object"}),
}
_CHOICE = _object(
    "index message finish_reason",
    index=_INTEGER,
    message=_object(
        "role content",
        role=_TEXT,
        content=_maybe("string"),
        tool_calls={"type": "array", "items": {"type": "object"}},
    ),
    finish_reason=_maybe("string"),
    logprobs=_maybe("object"),
)
_ENGINE_STATE = _object("state model", state=_TEXT, model=_TEXT, retry_after_s=_INTEGER, problem=_TEXT)
_SCHEMAS: Mapping[str, Schema] = {
    "Message": {
        "anyOf": [
            _object("role", role={"const": "assistant"}, content={"anyOf": [*_CONTENT, {"type": "null"}]}, **_MESSAGE),
            _object("role content", role=_TEXT, content={"anyOf": _CONTENT}, **_MESSAGE),
        ]
    },
    "Part": {
        "anyOf": [
            _part(["text", "input_text", "output_text"], "text", _TEXT),
            _part(["refusal"], "refusal", _TEXT),
            _part(["image_url", "input_image"], "image_url", _PICTURE),
        ]
    },
    "ChatCompletion": _object(
        "id object model choices usage",
        id=_TEXT,
        object={"const": "chat.completion"},
        created=_INTEGER,
        model=_TEXT | {"description": "The model that answered."},
        choices={"type": "array", "items": _CHOICE},
        usage=_object(prompt_tokens=_INTEGER, completion_tokens=_INTEGER, total_tokens=_INTEGER),
    ),
    "Model": _object(
        "id object created owned_by", id=_TEXT, object={"const": "model"}, created=_INTEGER, owned_by=_TEXT
    ),
    "Models": _object("object data", object={"const": "list"}, data={"type": "array", "items": _ref("Model")}),
    "Readiness": _object(
        "status engines",
        status={"enum": ["ready", "not ready"]},
        engines={"type": "object", "additionalProperties": _ENGINE_STATE},
    ),
    "Error": _object(
        "error",
        error=_object(
            "message type param code",
            message=_TEXT,
            type=_TEXT,
            param=_maybe("string", description="The part of the request at fault."),
            code=_maybe("string", description="For programs."),
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
        answers[str(kind.status)] = _answer(_PROBLEMS[kind], _ref("Error"), headers)
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
    body = _object("messages", **fields)
    named = {name: {"value": value} for name, value in examples.items()}
    whole = _answer("The answer, or its events.", _ref("ChatCompletion"), _ROUTED)
    # As OpenAPI had it before 3.2, the schema of server-sent events is that of each one.
    events = "chat.completion.chunk objects as JSON, then `[DONE]`; or an error as JSON, and no more."
    whole["content"]["text/event-stream"] = {"schema": _object("data", data=_TEXT | {"description": events})}
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
    health = _object("status", status={"const": "ok"})
    models = {"200": _answer("The models.", _ref("Models")), **_refusals(errors.Unauthorized)}
    by_name = {"200": _answer("The model.", _ref("Model")), **_refusals(errors.Unauthorized, errors.NotFound)}
    ready = {
        "200": _answer("Ready.", _ref("Readiness")),
        "503": _answer("Not ready.", _ref("Readiness"), _RETRY_AFTER),
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
    headers = {
        "content-security-policy": _POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }

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
