"""Anthropic's Messages: checks content blocks, and finds every picture.

vLLM silently drops what it does not know: pictures in ``system``, without a source, or in a tool result next to
unknown blocks (0.32, vllm/entrypoints/anthropic/serving.py). All of that is refused here.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vlserve.errors import InvalidRequest
from vlserve.protocols.chat import refuse_other_keys
from vlserve.protocols.media_reference import Media

# Type of a block → its keys besides type and cache_control.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "citations"),
    "image": ("source",),
    "tool_use": ("id", "name", "input", "caller"),
    "tool_result": ("tool_use_id", "content", "is_error"),
    "thinking": ("thinking", "signature"),
    "redacted_thinking": ("data",),
}
# Role, tool result or system prompt → accepted types of blocks.
_ALLOWED: Mapping[str, tuple[str, ...]] = {
    "user": ("text", "image", "tool_result"),
    "assistant": ("text", "tool_use", "thinking", "redacted_thinking"),
    "tool_result": ("text", "image"),
    "system": ("text",),
}
_SOURCES: Mapping[str, tuple[str, ...]] = {
    "base64": ("data", "media_type"),
    "url": ("url",),
    "file": ("file_id",),
}


def find_media(tree: dict[str, Any]) -> Iterator[Media]:
    """Yield every picture of every message and tool result. Raises InvalidRequest."""
    messages = tree.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("'messages' must be a list with at least one message.", param="messages")
    if isinstance(tree.get("system"), list):
        yield from _blocks(tree["system"], "system", "system")
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("user", "assistant"):
            raise InvalidRequest(
                f"{where}.role must be user or assistant; the system prompt goes into 'system'.", param=f"{where}.role"
            )
        content = message.get("content")
        if isinstance(content, list):
            yield from _blocks(content, role, f"{where}.content")
        elif not isinstance(content, str):
            raise InvalidRequest(f"{where}.content must be a string or a list of blocks.", param=f"{where}.content")


def _blocks(blocks: list[Any], place: str, where: str) -> Iterator[Media]:
    for index, block in enumerate(blocks):
        here = f"{where}[{index}]"
        kind = block.get("type") if isinstance(block, dict) else None
        if not isinstance(kind, str) or kind not in _ALLOWED[place]:
            raise InvalidRequest(
                f"{here} must be an object with one of these types: {', '.join(_ALLOWED[place])}.",
                param=here,
                code="unsupported_content_block",
            )
        refuse_other_keys(block, {"type", "cache_control", *_KEYS[kind]}, here)
        if kind == "text" and not isinstance(block.get("text"), str):
            raise InvalidRequest(f"{here}.text must be a string.", param=here)
        if kind == "tool_use" and not isinstance(block.get("input"), dict | None):
            raise InvalidRequest(f"{here}.input must be an object.", param=here)
        if kind == "image":
            yield _picture(block.get("source"), blocks, index, here)
        if kind == "tool_result" and isinstance(block.get("content"), list):
            yield from _blocks(block["content"], "tool_result", f"{here}.content")


def _picture(source: Any, blocks: list[Any], index: int, where: str) -> Media:
    kind = source.get("type") if isinstance(source, dict) else None
    if not isinstance(kind, str) or kind not in _SOURCES:
        raise InvalidRequest(
            f"{where}.source must be an object with one of these types: {', '.join(_SOURCES)}.",
            param=where,
            code="invalid_image",
        )
    refuse_other_keys(source, {"type", *_SOURCES[kind]}, f"{where}.source")
    field = _SOURCES[kind][0]
    value = source.get(field)
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{where}.source.{field} must be a string.", param=where, code="invalid_image")
    if kind == "file":
        return Media("image", where, blocks, index, file_id=value)
    # The client's media_type is ignored: the format is read from the bytes.
    return Media("image", where, blocks, index, url=value if kind == "url" else f"data:image/png;base64,{value}")
