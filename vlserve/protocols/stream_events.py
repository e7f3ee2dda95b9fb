"""Classifies the events of an engine's stream: what all protocols share, and the events of chat and completions."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, ClassVar, NamedTuple

from vlserve.errors import VlserveError
from vlserve.protocols.sse import Event

_DONE = b"[DONE]"
_LONGEST_DONE_BYTES = 16
# An engine that is shutting down ends its requests with this reason, and then sends [DONE] (vLLM 0.32, EngineCore).
# A model cannot produce these bytes: quotation marks in its text are escaped.
_ABORTED = b'"finish_reason":"abort"'
ABORTED_ERROR = b'{"error":{"message":"EngineCore aborted the request.","code":500}}'
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
# Clients read fields of these objects in usage, which vLLM leaves out or null (0.32). These models do not reason.
_USAGE_DETAILS = {
    "prompt_tokens_details": b'{"cached_tokens":null}',
    "completion_tokens_details": b'{"reasoning_tokens":0}',
}
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_STATUS = re.compile(r"'code': (\d{3})")
# Error codes and types of servers that send no numeric code as vLLM does, such as another vlserve.
_STATUSES = {
    "invalid_request_error": 400,
    "rate_limit_error": 429,
    "service_unavailable_error": 503,
    "overloaded_error": 503,
    "engine_unavailable": 503,
    "timeout_error": 504,
    "engine_timeout": 504,
}


class Kind(Enum):
    """The kind of an event, as the relay needs it."""

    CONTENT = auto()
    """Part of the answer."""
    PREAMBLE = auto()
    """Sent before the engine starts work, so it does not mean that the request was accepted."""
    IDLE = auto()
    """Keeps the connection alive: a comment, a ping."""
    LAST = auto()
    ERROR = auto()


class Meaning(NamedTuple):
    kind: Kind
    usage: Any = None
    """The token counts in the event, if it has any."""


CONTENT, _, _IDLE, _LAST, _ERROR = map(Meaning, Kind)


class Events:
    """OpenAI's chat and completions: ``data:`` lines with JSON, then ``data: [DONE]``."""

    def __init__(self, *, wants_usage: bool) -> None:
        """``wants_usage``: the client requested the usage event, which the gateway always requests."""
        self._wants_usage = wants_usage

    def read(self, event: Event) -> Meaning:
        """Classify an event. This may parse its JSON: for a large event, call it in a thread."""
        if not event.dispatches:
            return _IDLE
        return self._read(event)

    def _read(self, event: Event) -> Meaning:
        data = event.data
        if len(data) <= _LONGEST_DONE_BYTES and data.strip() == _DONE:
            return _LAST
        # Most events contain none of these words, and their JSON need not be parsed.
        if event.type == "error" or (b"error" in data and _is_error(parse_object(data))):
            return _ERROR
        if _ABORTED in data:
            return _ERROR
        if b'"usage"' in data and _NO_CHOICES.search(data) and not (tree := parse_object(data)).get("choices"):
            return Meaning(Kind.CONTENT, tree.get("usage"))
        return CONTENT

    def is_aborted(self, answer: dict[str, Any]) -> bool:
        """Whether the engine aborted the request of this answer (not streamed) because it is shutting down."""
        choices = answer.get("choices")
        reasons = [
            one.get("finish_reason") for one in (choices if isinstance(choices, list) else []) if isinstance(one, dict)
        ]
        return "abort" in reasons

    def error(self, event: Event) -> bytes:
        """The engine's error in the data of an error event."""
        return ABORTED_ERROR if _ABORTED in event.data else event.data

    def is_for_client(self, meaning: Meaning) -> bool:
        return self._wants_usage or not meaning.usage

    def add_usage_details(self, raw: bytes, usage: Any) -> bytes:
        """Return an answer or event, whose parsed ``usage`` is given, with the details of its usage as objects."""
        if not isinstance(usage, dict) or not usage:
            return raw
        # Quotation marks inside of strings are escaped, so only keys match.
        for name, default in _USAGE_DETAILS.items():
            if usage.get(name) is None and name in usage:
                raw = re.sub(rb'("%s"\s*:\s*)null' % name.encode(), rb"\g<1>" + default, raw, count=1)
            elif name not in usage:
                raw = _USAGE.sub(rb'\g<0>"%s":%s,' % (name.encode(), default), raw, count=1)
        return raw

    def is_reason_lost(self, data: bytes) -> bool:  # noqa: ARG002
        """Whether an error event lacks the reason for the error."""
        return False

    def failure(self, error: VlserveError, request_id: str, sent: int) -> bytes:  # noqa: ARG002
        """The error event that ends a stream after ``sent`` other events."""
        return b"data: " + error.body() + b"\n\n"


class TypedEvents(Events, ABC):
    """Events that have a type, also in their JSON: those of Responses and Messages."""

    _kinds: ClassVar[Mapping[str, Kind]]

    def _read(self, event: Event) -> Meaning:
        name = event.type
        if name == "message":
            tree = parse_object(event.data)
            name = "error" if _is_error(tree) else str(tree.get("type", ""))
        usage = self._usage(name, event.data)
        if usage is None and name not in self._kinds:
            return CONTENT
        return Meaning(self._kinds.get(name, Kind.CONTENT), usage)

    @abstractmethod
    def _usage(self, name: str, data: bytes) -> Any:
        """The token counts in an event of type ``name``; None if it has none."""

    def add_usage_details(self, raw: bytes, usage: Any) -> bytes:  # noqa: ARG002
        return raw

    def is_for_client(self, meaning: Meaning) -> bool:  # noqa: ARG002
        return True


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in an event's data; empty if there is none."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _is_error(tree: dict[str, Any]) -> bool:
    """Whether an event's JSON is an error as OpenAI, vLLM, TensorRT-LLM or Anthropic write it."""
    return bool(tree.get("error")) or "error" in (tree.get("object"), tree.get("type"))


def status(data: bytes) -> int:
    """The HTTP status in an error event's data: the response itself already has status 200."""
    error = parse_object(data)
    error = error["error"] if isinstance(error.get("error"), dict) else error
    try:
        return int(error.get("code", ""))
    except (TypeError, ValueError, OverflowError):
        word = next((str(error[name]) for name in ("code", "type") if str(error.get(name)) in _STATUSES), "")
        found = _STATUS.search(str(error.get("message", "")))
        return int(found[1]) if found else _STATUSES.get(word, 500)


def write_event(name: str, tree: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(tree)}\n\n".encode()
