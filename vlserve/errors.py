"""Exceptions: every error that clients or operators see, with its HTTP status and error object.

VlserveError
├── ConfigError            invalid configuration: printed by the CLI, exit code 2
├── InvalidRequest   400   also for every 4xx of an engine
├── Unauthorized     401
├── Forbidden        403   a web page of another origin; a key without access to the metrics
├── NotFound         404
├── MethodNotAllowed 405
├── RequestTimeout   408   the body did not arrive in time
├── PayloadTooLarge  413
├── UnsupportedMediaType 415
├── MisdirectedRequest 421 the Host header names another service
├── HeadTooLarge     431
├── TooManyRequests  429   with Retry-After
├── EngineFailed     500   the engine reported an internal error
├── NotInstalled     501   required packages are not installed
├── EngineAway       503   loading or restarting; with Retry-After
│   └── EngineDied         terminated during this request, or the connection to it broke
├── ServiceExhausted 503   out of file descriptors or memory; with Retry-After
├── EngineTimeout    504
└── InsufficientStorage 507  the disk is full (RFC 4918)

``type`` and ``code`` follow OpenAI's error objects (https://platform.openai.com/docs/guides/error-codes). Errors of
``/v1/messages`` follow Anthropic's (https://docs.anthropic.com/en/api/errors).
"""

import json
from typing import Any


class VlserveError(Exception):
    """Base class. ``param`` names the invalid part of the request; ``code`` is a stable identifier for programs."""

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
        """Return OpenAI's error object."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def body(self) -> bytes:
        return json.dumps(self.envelope()).encode()

    def anthropic(self, request_id: str) -> dict[str, Any]:
        """Return Anthropic's error object. It has no ``param``, so the message names it."""
        kind = _ANTHROPIC_TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "api_error")
        is_named = self.param is None or self.param in self.message
        message = self.message if is_named else f"{self.param}: {self.message}"
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}

    def headers(self) -> dict[str, str]:
        """Return Retry-After in whole seconds, at least one (RFC 9110)."""
        if self.retry_after_s is None:
            return {}
        return {"retry-after": str(max(1, round(self.retry_after_s)))}


class ConfigError(VlserveError):
    """An invalid setting. The message names the setting and how to correct it."""


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
    """The Host header names another service (RFC 9110, 15.5.20)."""

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
    """The engine terminated during this request, or the connection to it broke: its health must be checked."""


def internal_error() -> VlserveError:
    """Return the error for a bug in the gateway."""
    return VlserveError("The server failed on this request. It was logged.", code="internal_error")


def shutdown_error() -> EngineAway:
    """Return the error for requests during shutdown. When a successor starts is unknown."""
    return EngineAway("The service is shutting down. Please send the request again.", retry_after_s=5)


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
