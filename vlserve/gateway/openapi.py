"""The OpenAPI document, built from openapi.yaml, and the Swagger UI page."""

import functools
import importlib.resources
import json
import pathlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import yaml
from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

from vlserve import __version__
from vlserve.config.settings import Request as RequestCaps
from vlserve.gateway.origins import REFUSALS
from vlserve.protocols.protocol_definitions import CHAT, CHAT_TOKENS_PATH, MESSAGES, PROTOCOLS, Protocol
from vlserve.protocols.request import capped_fields

_DOCUMENT = pathlib.Path(__file__).with_name("openapi.yaml")
_BODIES: Mapping[str, Protocol] = {
    **{protocol.path: protocol for protocol in PROTOCOLS},
    CHAT_TOKENS_PATH: CHAT,
}
"""Path → protocol of its request body."""


def document(caps: RequestCaps, *, needs_key: bool = False, parts: Sequence[pathlib.Path] = ()) -> dict[str, Any]:
    """Build the OpenAPI document.

    ``caps`` become limits of request fields. ``needs_key``: the service has API keys. ``parts``: YAML files with more
    ``paths`` and ``components``, in the format of openapi.yaml.
    """
    tree = _read(_DOCUMENT)
    for part in map(_read, parts):
        tree["paths"] |= part["paths"]
        tree["components"]["schemas"] |= part["components"]["schemas"]
    tree["info"]["version"] = __version__
    headers, errors = tree.pop("x-headers")["every"], tree.pop("x-responses")
    for path, methods in tree["paths"].items():
        error = {"$ref": f"#/components/schemas/{'AnthropicError' if path.startswith(MESSAGES.path) else 'Error'}"}
        content = {"content": {"application/json": {"schema": error}}}
        for method, operation in methods.items():
            operation.setdefault("security", [{"bearer": []}] if needs_key else [{}, {"bearer": []}])
            refusals = [] if needs_key else [kind.status for kind in REFUSALS[method]]
            statuses = map(str, (500, *refusals, *operation.pop("x-errors", ())))
            responses = {status: errors[status] | content for status in statuses} | operation["responses"]
            operation["responses"] = {
                status: response | {"headers": headers | response.get("headers", {})}
                for status, response in responses.items()
            }
    for path, protocol in _BODIES.items():
        _limit(tree["paths"][path]["post"], capped_fields(protocol, caps))
    return tree


@functools.cache
def _read_json(path: pathlib.Path) -> str:
    return json.dumps(yaml.safe_load(path.read_text("utf-8")))


def _read(path: pathlib.Path) -> dict[str, Any]:
    """Return a new copy of a YAML file's content, with aliases expanded to copies."""
    tree: dict[str, Any] = json.loads(_read_json(path))
    return tree


def _limit(operation: Mapping[str, Any], caps: Mapping[str, int]) -> None:
    """Set the limits of fields in the request body's schema."""
    fields = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
    for name, most in caps.items():
        fields[name]["maxItems" if "array" in fields[name]["type"] else "maximum"] = most


# Swagger UI sets style attributes, hence 'unsafe-inline' for styles; its icons are data: URLs.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# URLs are relative, so that the page also works behind a path prefix.
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
# By default Swagger UI sends the document's URL to validator.swagger.io.
_START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#api",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
  validatorUrl: null,
});
"""
_ASSETS = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")


def add_docs(app: FastAPI, caps: RequestCaps, *, needs_key: bool = False, parts: Sequence[pathlib.Path] = ()) -> None:
    """Add ``/openapi.json`` and the page ``/docs``; the parameters are those of ``document``.

    Neither needs an API key, because they contain no secrets and no model names. The page's files come from the
    package fastapi-swagger; its Content-Security-Policy allows no other host.
    """
    tree = document(caps, needs_key=needs_key, parts=parts)
    headers = {"content-security-policy": _POLICY}

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
