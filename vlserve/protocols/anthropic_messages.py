"""Anthropic's Messages: checks and cleans content blocks, finds every picture, reads and writes stream events.

vLLM silently drops what it does not know: pictures in ``system``, without a source, or in a tool result next to
unknown blocks (0.32, vllm/entrypoints/anthropic/serving.py). Such a picture is refused here. Turns with the role
``system`` stay where they are; vLLM moves them into the system prompt if the model's template requires it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from vlserve.errors import InvalidRequest, VlserveError
from vlserve.protocols import requested_pixels
from vlserve.protocols.chat import refuse_uuid
from vlserve.protocols.dropped_fields import Changes
from vlserve.protocols.fields import HOSTED_BLOCKS, TURN_KEYS
from vlserve.protocols.media_reference import Media, PixelLimits
from vlserve.protocols.stream_events import Kind, TypedEvents, parse_object, write_event

# Type of a block → its keys.
_KEYS: Mapping[str, frozenset[str]] = {
    kind: frozenset({"type", "cache_control", *names})
    for kind, names in {
        "text": ("text", "citations"),
        "image": ("source",),
        "tool_use": ("id", "name", "input", "caller"),
        "tool_result": ("tool_use_id", "content", "is_error"),
        "thinking": ("thinking", "signature"),
        "redacted_thinking": ("data",),
    }.items()
}
# Role, tool result or system prompt → accepted types of blocks.
_ALLOWED: Mapping[str, tuple[str, ...]] = {
    "user": ("text", "image", "document", "tool_result"),
    "assistant": ("text", "tool_use", "thinking", "redacted_thinking"),
    "tool_result": ("text", "image", "document"),
    "system": ("text",),
}
_SOURCES: Mapping[str, tuple[str, ...]] = {
    "base64": ("data", "media_type"),
    "url": ("url",),
    "file": ("file_id",),
}


def find_media(tree: dict[str, Any], changes: Changes) -> Iterator[Media]:
    """Yield every picture of every message and tool result. Raises InvalidRequest."""
    messages = tree.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("'messages' must be a list with at least one message.", param="messages")
    if isinstance(tree.get("system"), list):
        yield from _blocks(tree["system"], "system", "system", changes)
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("user", "assistant", "system"):
            raise InvalidRequest(f"{where}.role must be user, assistant or system.", param=f"{where}.role")
        changes.keep(message, TURN_KEYS, where)
        content = message.get("content")
        if isinstance(content, list):
            yield from _blocks(content, role, f"{where}.content", changes)
        elif not isinstance(content, str):
            raise InvalidRequest(f"{where}.content must be a string or a list of blocks.", param=f"{where}.content")


def _blocks(blocks: list[Any], place: str, where: str, changes: Changes) -> Iterator[Media]:
    _leave_out_hosted(blocks, where, changes)
    for index, block in enumerate(blocks):
        here = f"{where}[{index}]"
        if isinstance(block, str):
            block = blocks[index] = {"type": "text", "text": block}
            changes.is_rewritten = True
        kind = block.get("type") if isinstance(block, dict) else None
        if not isinstance(kind, str) or kind not in _ALLOWED[place]:
            raise InvalidRequest(
                f"{here} must be an object with one of these types: {', '.join(_ALLOWED[place])}.",
                param=here,
                code="unsupported_content_block",
            )
        refuse_uuid(block, here)
        if kind == "document":
            block = blocks[index] = {"type": "text", "text": _document_text(block.get("source"), here)}
            kind, changes.is_rewritten = "text", True
        limits = requested_pixels.take(block, here) if kind == "image" else None
        changes.is_rewritten = changes.is_rewritten or limits is not None
        changes.keep(block, _KEYS[kind], here)
        if kind == "text" and not isinstance(block.get("text"), str):
            raise InvalidRequest(f"{here}.text must be a string.", param=here)
        if kind == "tool_use" and not isinstance(block.get("input"), dict | None):
            raise InvalidRequest(f"{here}.input must be an object.", param=here)
        if kind == "image":
            yield _picture(block.get("source"), limits, blocks, index, here, changes)
        if kind == "tool_result" and isinstance(block.get("content"), list):
            yield from _blocks(block["content"], "tool_result", f"{here}.content", changes)


def _leave_out_hosted(blocks: list[Any], where: str, changes: Changes) -> None:
    """Remove blocks of hosted tools from the list."""
    hosted = [index for index, block in enumerate(blocks) if _is_hosted(block)]
    for index in reversed(hosted):
        changes.drop(f"{where}[{index}] ({blocks[index]['type'][:40]})")
        del blocks[index]


def _is_hosted(block: Any) -> bool:
    kind = block.get("type") if isinstance(block, dict) else None
    return isinstance(kind, str) and (kind in HOSTED_BLOCKS or kind.endswith("_tool_result"))


def _document_text(source: Any, where: str) -> str:
    """The text of a document. Raises InvalidRequest for a PDF."""
    kind = source.get("type") if isinstance(source, dict) else None
    if kind == "text" and isinstance(source.get("data"), str):
        return str(source["data"])
    content = source.get("content") if kind == "content" else None
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(one, dict) and isinstance(one.get("text"), str) for one in content):
        return "\n".join(one["text"] for one in content)
    raise InvalidRequest(
        f"{where}: only documents of text are read: a source of type text with its text in 'data'. PDFs and documents "
        "at a URL are not read; send their pages as pictures.",
        param=where,
        code="unsupported_content_block",
    )


def _picture(
    source: Any, limits: PixelLimits | None, blocks: list[Any], index: int, where: str, changes: Changes
) -> Media:
    kind = source.get("type") if isinstance(source, dict) else None
    if not isinstance(kind, str) or kind not in _SOURCES:
        raise InvalidRequest(
            f"{where}.source must be an object with one of these types: {', '.join(_SOURCES)}.",
            param=where,
            code="invalid_image",
        )
    changes.keep(source, {"type", *_SOURCES[kind]}, f"{where}.source")
    field = _SOURCES[kind][0]
    value = source.get(field)
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{where}.source.{field} must be a string.", param=where, code="invalid_image")
    if kind == "file":
        return Media("image", where, blocks, index, file_id=value, pixel_limits=limits)
    # The client's media_type is ignored: the format is read from the bytes.
    url = value if kind == "url" else f"data:image/png;base64,{value}"
    return Media("image", where, blocks, index, url=url, pixel_limits=limits)


class MessageEvents(TypedEvents):
    """Anthropic's Messages. vLLM replaces the error in an error event by a validation error of its own chunk, so only
    the status is known (0.32)."""

    _LOST_REASON = re.compile(rb"validation errors? for ChatCompletionStreamResponse")

    _kinds: ClassVar = {"error": Kind.ERROR, "message_stop": Kind.LAST, "ping": Kind.IDLE}

    def _usage(self, name: str, data: bytes) -> Any:
        if name == "message_delta":
            return parse_object(data).get("usage")
        if name == "message_start":
            message = parse_object(data).get("message")
            usage = message.get("usage") if isinstance(message, dict) else None
            return {"input_tokens": usage.get("input_tokens")} if isinstance(usage, dict) else None
        return None

    def is_reason_lost(self, data: bytes) -> bool:
        return bool(self._LOST_REASON.search(data))

    def failure(self, error: VlserveError, request_id: str, sent: int) -> bytes:  # noqa: ARG002
        return write_event("error", error.anthropic(request_id))
