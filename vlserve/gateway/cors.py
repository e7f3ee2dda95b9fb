"""CORS for the pages that ``server.cors_origins`` allows, with the request headers that SDKs send in browsers."""

import re

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, Response

# The SDKs of OpenAI and Anthropic (built on Stainless), OpenRouter's titles, and tracing (W3C Trace Context).
_REQUEST_HEADERS = re.compile(
    r"accept|accept-language|authorization|baggage|cache-control|content-encoding|content-language|content-type"
    r"|http-referer|idempotency-key|traceparent|tracestate|user-agent|x-api-key|x-request-id|x-title"
    r"|(?:anthropic|openai|x-stainless)-[a-z0-9-]{1,64}",
    re.ASCII,
)


class CORS(CORSMiddleware):
    """Starlette's middleware, created with ``allow_headers=["*"]``, limited to the headers that this service expects.

    The headers in a preflight request are repeated in its response; an unknown one is a 400.
    """

    def preflight_response(self, request_headers: Headers) -> Response:
        names = [name.strip().lower() for name in request_headers.get("access-control-request-headers", "").split(",")]
        if unknown := next((name for name in names if name and not _REQUEST_HEADERS.fullmatch(name)), None):
            return PlainTextResponse(f"Disallowed CORS header {unknown[:64]!r}", 400, {"vary": "Origin"})
        return super().preflight_response(request_headers)
