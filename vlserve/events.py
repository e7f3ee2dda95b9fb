"""What the server-sent events of an engine's stream mean in each protocol, and how an error of ours is told in it."""

import json
import re
from typing import Any

from vlserve.errors import VlserveError

_DATA = re.compile(rb"(?:^|\n)data: ?")
_STATUS = re.compile(r"'code': (\d{3})")
# Of servers that have words in the place of vLLM's numbers; another vlserve is one.
_STATUSES = {
    "invalid_request_error": 400,
    "rate_limit_error": 429,
    "service_unavailable_error": 503,
    "overloaded_error": 503,
    "engine_unavailable": 503,
    "timeout_error": 504,
    "engine_timeout": 504,
}


class Events:
    """OpenAI's chat and completions: ``data:`` with JSON, at the end ``data: [DONE]``."""

    is_told_late = False
    """An error that the engine finds after its status 200 does not come through the stream as what it is."""
    _ERROR = re.compile(rb'data: ?\{"(?:error"|object": ?"error")')
    _LAST = re.compile(rb"data: ?\[DONE\]")
    _PROMISE: re.Pattern[bytes] | None = None

    def __init__(self, *, wants_usage: bool) -> None:
        """``wants_usage``: the client asked for the event with the counts of tokens; the gateway always does."""
        self._wants_usage = wants_usage

    def is_error(self, event: bytes) -> bool:
        return bool(self._ERROR.match(event))

    def is_last(self, event: bytes) -> bool:
        return bool(self._LAST.match(event))

    def is_promise(self, event: bytes) -> bool:
        """It came before the engine did anything, and so proves nothing."""
        return bool(self._PROMISE and self._PROMISE.match(event))

    def usage(self, event: bytes) -> Any:
        """The counts of tokens in an event, if it has them."""
        if b'"choices":[]' not in event and b'"choices": []' not in event:
            return None
        tree = inside(event)
        return None if tree.get("choices") else tree.get("usage")

    def is_for_client(self, event: bytes, usage: Any) -> bool:  # noqa: ARG002
        return self._wants_usage or not usage

    def failure(self, error: VlserveError, request_id: str, sent: int) -> bytes:  # noqa: ARG002
        """The event that tells an error after ``sent`` others; the stream ends with it."""
        return b"data: " + error.body() + b"\n\n"


class ResponseEvents(Events):
    """OpenAI's Responses: typed events with a number each. vLLM begins with two before its engine has looked at the
    request, and cuts the connection when that then refuses it."""

    is_told_late = True
    _ERROR = re.compile(rb"event: error\n")
    _LAST = re.compile(rb"event: response\.(?:completed|incomplete|failed)\n")
    _PROMISE = re.compile(rb"event: response\.(?:created|queued|in_progress)\n")

    def usage(self, event: bytes) -> Any:
        response = inside(event).get("response") if self.is_last(event) else None
        return response.get("usage") if isinstance(response, dict) else None

    def is_for_client(self, event: bytes, usage: Any) -> bool:  # noqa: ARG002
        return True

    def failure(self, error: VlserveError, request_id: str, sent: int) -> bytes:  # noqa: ARG002
        told = {"type": "error", "code": error.code, "message": error.message, "param": error.param}
        return _event("error", told | {"sequence_number": sent})


class MessageEvents(Events):
    """Anthropic's Messages. vLLM's event for an error is a report of its own forms, in which the error is lost."""

    is_told_late = True
    _ERROR = re.compile(rb"event: error\n")
    _LAST = re.compile(rb"event: message_stop\n")

    def usage(self, event: bytes) -> Any:
        if event.startswith(b"event: message_delta\n"):
            return inside(event).get("usage")
        if event.startswith(b"event: message_start\n"):
            message = inside(event).get("message")
            usage = message.get("usage") if isinstance(message, dict) else None
            return {"input_tokens": usage.get("input_tokens")} if isinstance(usage, dict) else None
        return None

    def is_for_client(self, event: bytes, usage: Any) -> bool:  # noqa: ARG002
        return True

    def failure(self, error: VlserveError, request_id: str, sent: int) -> bytes:  # noqa: ARG002
        return _event("error", error.anthropic(request_id))


def data(event: bytes) -> bytes:
    """What stands after ``data:``."""
    return _DATA.split(event, maxsplit=1)[-1]


def inside(event: bytes) -> dict[str, Any]:
    """The JSON object of an event; empty where it has none."""
    try:
        tree = json.loads(data(event))
    except ValueError:
        return {}
    return tree if isinstance(tree, dict) else {}


def status(event: bytes) -> int:
    """The status that an error event tells, whose HTTP status was 200 already."""
    error = inside(event)
    error = error["error"] if isinstance(error.get("error"), dict) else error
    try:
        return int(error.get("code", ""))
    except (TypeError, ValueError):
        word = next((str(error[name]) for name in ("code", "type") if str(error.get(name)) in _STATUSES), "")
        found = _STATUS.search(str(error.get("message", "")))
        return int(found[1]) if found else _STATUSES.get(word, 500)


def _event(name: str, tree: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(tree)}\n\n".encode()
