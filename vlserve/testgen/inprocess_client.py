"""Sends chat requests to this service inside the process, with the client's own key.

Routing, limits, queues, log lines and metrics are those of any chat request. Each request runs in a task of its own:
when the caller is cancelled, the request sees a disconnect, as from a client, and the engine is free at once.
"""

import asyncio
import json
from typing import Any

from fastapi import Request
from starlette.types import Message, Scope

from vlserve.errors import EngineFailed, VlserveError
from vlserve.gateway.tracing import Trace
from vlserve.protocols.protocol_definitions import CHAT
from vlserve.testgen import service_client
from vlserve.testgen.result import Ask, ModelAnswer, TestgenError

_CREDENTIALS = ("authorization", "x-api-key")


class AskError(TestgenError):
    """The service refused a request, or failed on it; ``error`` is the error that any client would get."""

    def __init__(self, error: VlserveError) -> None:
        super().__init__(error.message)
        self.error = error


def through(request: Request, trace: Trace) -> Ask:
    """A function that sends chat requests to the app of ``request``, with that client's key and request id."""
    given = {name: request.headers[name] for name in _CREDENTIALS if name in request.headers}
    own = {"content-type": "application/json", "x-request-id": request.state.request_id, **trace.headers}

    async def ask(question: dict[str, Any]) -> ModelAnswer:
        body = await asyncio.to_thread(lambda: json.dumps(question).encode())
        headers = {**own, **given, "content-length": str(len(body))}
        status, received, raw = await _exchange(request, headers, body)
        if status != 200:
            raise AskError(_error(status, received, raw))
        try:
            return service_client.read(json.loads(raw), received.get("x-vlserve-images", ""))
        except (ValueError, TestgenError):
            raise AskError(EngineFailed("The engine's answer was not a chat completion.")) from None

    return ask


async def _exchange(request: Request, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers with lower-case names, and body of the response."""
    status, headers_received, raw = 0, dict[str, str](), bytearray()
    sent, left = asyncio.Event(), asyncio.Event()

    async def receive() -> Message:
        if not sent.is_set():
            sent.set()
            return {"type": "http.request", "body": body, "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            headers_received.update(
                (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in message["headers"]
            )
        else:
            raw.extend(message.get("body", b""))

    scope: Scope = {
        **{name: request.scope.get(name) for name in ("asgi", "http_version", "scheme", "server", "client")},
        "type": "http",
        "method": "POST",
        "path": CHAT.path,
        "raw_path": CHAT.path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        "state": {},
    }
    answering = asyncio.ensure_future(request.app(scope, receive, send))
    try:
        await asyncio.wait((answering,))
    finally:
        left.set()
        await asyncio.wait((answering,))
    answering.result()
    return status, headers_received, bytes(raw)


def _error(status: int, headers: dict[str, str], raw: bytes) -> VlserveError:
    """The endpoint's error with its status, type, code and Retry-After, but without ``param``: that names a field of a
    request that the client did not send."""
    fields, wait_s = json.loads(raw)["error"], headers.get("retry-after")
    error = VlserveError(fields["message"], code=fields["code"], retry_after_s=float(wait_s) if wait_s else None)
    error.status, error.type = status, fields["type"]
    return error
