"""Every error a client or an operator can see, and its one mapping to each protocol's envelope.

VlserveError
├── ConfigError            the operator's: printed by the CLI, exit code 2
├── InvalidRequest   400   also every 4xx an engine gave, translated
├── Unauthorized     401
├── Forbidden        403   a web page of another origin; a key that may not read the metrics
├── NotFound         404
├── MethodNotAllowed 405
├── RequestTimeout   408   the body did not come in time
├── PayloadTooLarge  413
├── UnsupportedMediaType 415
├── MisdirectedRequest 421 a Host that is not this service's
├── HeadTooLarge     431
├── TooManyRequests  429   with Retry-After
├── EngineFailed     500   the engine answered with a fault of its own
├── NotInstalled     501   needs packages that are not installed here
├── EngineAway       503   loading or restarting; with Retry-After
│   └── EngineDied         died under this request, or its connection broke
├── ServiceExhausted 503   no file descriptors or memory left for a connection; with Retry-After
├── EngineTimeout    504
└── InsufficientStorage 507  the disk is full (RFC 4918)

``type`` and ``code`` follow OpenAI's error objects (https://platform.openai.com/docs/guides/error-codes), for
Anthropic's Messages theirs (https://docs.anthropic.com/en/api/errors).
"""

import json
from typing import Any


class VlserveError(Exception):
    """Base of the tree. ``param`` names the part of the request at fault, ``code`` is for programs."""

    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.code
        self.retry_after_s = retry_after_s

    def envelope(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def body(self) -> bytes:
        return json.dumps(self.envelope()).encode()

    def anthropic(self, request_id: str) -> dict[str, Any]:
        """Anthropic's error object, which has no ``param``."""
        kind = _ANTHROPIC_TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "api_error")
        is_told = self.param is None or self.param in self.message
        message = self.message if is_told else f"{self.param}: {self.message}"
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}

    def headers(self) -> dict[str, str]:
        """Retry-After in whole seconds, at least one (RFC 9110)."""
        if self.retry_after_s is None:
            return {}
        return {"retry-after": str(max(1, round(self.retry_after_s)))}


class ConfigError(VlserveError):
    """A setting that cannot work. The message names the setting and what to write instead."""


class InvalidRequest(VlserveError):
    status = 400
    type = "invalid_request_error"


class Unauthorized(VlserveError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"

    def headers(self) -> dict[str, str]:
        return {"www-authenticate": "Bearer"}


class Forbidden(VlserveError):
    status = 403
    type = "permission_error"
    code = "forbidden"


class NotFound(VlserveError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class MethodNotAllowed(VlserveError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class RequestTimeout(VlserveError):
    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


class PayloadTooLarge(VlserveError):
    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class UnsupportedMediaType(VlserveError):
    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"


class MisdirectedRequest(VlserveError):
    """Its Host names another service (RFC 9110, 15.5.20)."""

    status = 421
    type = "invalid_request_error"
    code = "host_not_allowed"


class HeadTooLarge(VlserveError):
    status = 431
    type = "invalid_request_error"
    code = "head_too_large"


class TooManyRequests(VlserveError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class EngineFailed(VlserveError):
    status = 500
    code = "engine_failed"


class NotInstalled(VlserveError):
    status = 501
    code = "not_installed"


class EngineAway(VlserveError):
    status = 503
    type = "service_unavailable_error"
    code = "engine_unavailable"


class EngineDied(EngineAway):
    """It died under this request, or the connection to it broke: the engine must be checked."""


def internal_error() -> VlserveError:
    """A fault of the gateway's own."""
    return VlserveError("The server failed on this request. It was logged.", code="internal_error")


def service_ends() -> EngineAway:
    """The service is ending. Nobody here knows when another one comes."""
    return EngineAway("The service is ending. Please send the request again.", retry_after_s=5)


class ServiceExhausted(VlserveError):
    status = 503
    type = "service_unavailable_error"
    code = "service_exhausted"


class EngineTimeout(VlserveError):
    status = 504
    type = "timeout_error"
    code = "engine_timeout"


class InsufficientStorage(VlserveError):
    status = 507
    code = "insufficient_storage"


_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
