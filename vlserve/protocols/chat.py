"""OpenAI's Chat Completions: checks messages and their content parts, and finds every picture and video.

Routing, limits and fetching all use the pictures found here, so every spelling that vLLM accepts must be known, or a
limit could be bypassed. vLLM also accepts ``{"image_url": "data:…"}`` without a ``type``, a string instead of an
object, and ``input_image`` (vllm/renderers/chat_utils.py, 0.32). ``image_file``, ``file`` and ``file_id`` are OpenAI's
fields for uploaded files; ``{"type": "image", "image": "data:…"}`` is qwen-vl-utils' spelling. Keys that are not known
are left out, because vLLM reads more keys than OpenAI documents, and some hold pictures, which would not be checked.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vlserve.errors import InvalidRequest
from vlserve.protocols import requested_pixels
from vlserve.protocols.dropped_fields import Changes
from vlserve.protocols.fields import MESSAGE_KEYS
from vlserve.protocols.media_reference import Media, MediaKind
from vlserve.protocols.tools import clean_calls

_DETAILS = ("low", "auto", "high", "original")
_ROLES_WITH_PICTURES = ("user", "system", "developer", "assistant", "tool")
_TEXT_TYPES = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
    "thinking": "thinking",
}
_NULLABLE = frozenset({"content"})
_PLAIN_TEXT_KEYS = frozenset({"type", "text", "detail", "cache_control"})
# Type of a part → kind of media, and the fields that may hold it: a URL, a file's id, or an object with one of them.
_MEDIA_TYPES: Mapping[str, tuple[MediaKind, tuple[str, ...]]] = {
    "image_url": ("image", ("image_url",)),
    "input_image": ("image", ("image_url", "file_id")),
    "image_file": ("image", ("image_file",)),
    "file": ("image", ("file",)),
    "image": ("image", ("image", "url")),
    "video_url": ("video", ("video_url",)),
    "video": ("video", ("video", "url")),
}
_TYPELESS = ("text", "refusal", "thinking", "image_url", "image_file", "file", "image", "video_url", "video")
_SOURCES: Mapping[str, tuple[str, ...]] = {
    "image_url": ("url",),
    "video_url": ("url", "file_id"),
    "image_file": ("file_id",),
    "file": ("file_id", "file_data"),
}
_OPENAI_TYPES = ("image_url", "video_url")
_URL_WANTED = 'a URL: {"url": "data:..."} or a string'
_WANTED = {
    "file_id": "the id of an uploaded file",
    "video_url": 'a URL or the id of an uploaded file: {"url": "data:..."} or {"file_id": "file-..."}',
    "image_file": 'the id of an uploaded file: {"file_id": "file-..."}',
    "file": 'an uploaded file or a picture: {"file_id": "file-..."} or {"file_data": "data:image/..."}',
}


def find_media(tree: dict[str, Any], changes: Changes) -> Iterator[Media]:
    """Yield every picture and video of every message, whatever its role. Raises InvalidRequest for malformed messages.

    Keys that are not known are left out. Text parts of other types are rewritten as ``text``, because vLLM accepts some
    types from some roles only.
    """
    messages = tree.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("'messages' must be a list with at least one message.", param="messages")
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if not isinstance(message, dict):
            raise InvalidRequest(f"{where} must be an object with a role and content.", param=where)
        if not isinstance(message.get("role"), str):
            raise InvalidRequest(f"{where}.role must be a string: user, system, assistant ...", param=f"{where}.role")
        changes.keep(message, MESSAGE_KEYS, where, _NULLABLE)
        content = message.get("content")
        if content is None and message["role"] != "assistant":
            raise InvalidRequest(f"{where}.content may be null in assistant messages only.", param=f"{where}.content")
        if "tool_calls" in message:
            clean_calls(message["tool_calls"], changes, f"{where}.tool_calls")
        if content is None or isinstance(content, str):
            continue
        if not isinstance(content, list):
            raise InvalidRequest(
                f"{where}.content must be a string, a list of parts, or null.", param=f"{where}.content"
            )
        for media in _read_parts(content, f"{where}.content", changes):
            if message["role"] not in _ROLES_WITH_PICTURES:
                raise InvalidRequest(
                    f"{media.param}: pictures are accepted in messages of {', '.join(_ROLES_WITH_PICTURES)}.",
                    param=media.param,
                    code="unsupported_content_part",
                )
            yield media


def _read_parts(content: list[Any], where: str, changes: Changes) -> Iterator[Media]:
    for index in range(len(content)):
        media = read_part(content, index, f"{where}[{index}]", changes)
        if media:
            yield media
        elif content[index].get("type") != "text":
            content[index] = {"type": "text", "text": text_of(content[index])}
            changes.is_rewritten = True


def read_part(parts: list[Any], index: int, where: str, changes: Changes) -> Media | None:
    """The picture or video in one content part; None: it is text. Raises InvalidRequest for anything else.

    ``where`` is the part's place in the request. A string becomes a text part, and a picture in another spelling than
    OpenAI's is rewritten.
    """
    part = parts[index]
    if isinstance(part, str):
        parts[index] = {"type": "text", "text": part}
        changes.is_rewritten = True
        return None
    if not isinstance(part, dict):
        raise InvalidRequest(f"{where} must be an object with a type, or a string.", param=where)
    refuse_uuid(part, where)
    kind = _kind(part, where)
    if kind in _TEXT_TYPES:
        field = _TEXT_TYPES[kind]
        changes.keep(part, _PLAIN_TEXT_KEYS if field == "text" else _PLAIN_TEXT_KEYS | {field}, where)
        if not isinstance(part.get(field), str):
            raise InvalidRequest(f"{where}.{field} must be a string.", param=where)
        return None
    return _read_media(parts, index, kind, where, changes)


def _read_media(parts: list[Any], index: int, kind: str, where: str, changes: Changes) -> Media:
    part = parts[index]
    media_kind, fields = _MEDIA_TYPES[kind]
    limits = requested_pixels.take(part, where) if media_kind == "image" else None
    changes.keep(part, {"type", *fields, "detail", "cache_control"}, where)
    given = [(field, part[field]) for field in fields if field in part]
    if len(given) != 1:
        raise InvalidRequest(f"{where} must have {' or '.join(map(repr, fields))}.", param=where)
    field, value = given[0]
    detail = part.get("detail")
    if isinstance(value, dict) and field in _SOURCES:
        refuse_uuid(value, f"{where}.{field}")
        changes.keep(value, {*_SOURCES[field], "detail", "filename"}, f"{where}.{field}")
        detail = value.get("detail", detail)
        sources = [(name, value[name]) for name in _SOURCES[field] if name in value]
        name, value = sources[0] if len(sources) == 1 else ("", None)
        is_file = name == "file_id"
    else:
        is_file = field == "file_id"
        value = None if field in ("image_file", "file") else value
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{where}.{field} must hold {_WANTED.get(field, _URL_WANTED)}.", param=where)
    if detail is not None and detail not in _DETAILS:
        raise InvalidRequest(f"{where}: 'detail' must be one of {', '.join(_DETAILS)}.", param=where)
    if media_kind == "video" and detail not in (None, "auto"):
        raise InvalidRequest(f"{where}: 'detail' is accepted for pictures only.", param=where)
    is_plain = part.get("type") in _OPENAI_TYPES and isinstance(part.get(field), dict)
    if not is_plain and not is_file:
        target = "video_url" if media_kind == "video" else "image_url"
        part.clear()
        part.update({"type": target, target: {"url": value}})
    changes.is_rewritten = changes.is_rewritten or not is_plain or limits is not None
    return Media(
        media_kind,
        where,
        parts,
        index,
        url="" if is_file else value,
        file_id=value if is_file else None,
        detail=detail or "auto",
        pixel_limits=limits,
    )


def text_of(part: Mapping[str, Any]) -> str:
    """The text of a text part."""
    return str(next(part[name] for name in ("text", "refusal", "thinking") if name in part))


def _kind(part: Mapping[str, Any], where: str) -> str:
    """A part's type; if it has none, its only content field."""
    kind = part.get("type")
    if kind is None:
        named = [name for name in _TYPELESS if part.get(name) is not None]
        if len(named) != 1:
            raise InvalidRequest(f"{where} has no type, nor exactly one of text and image_url.", param=where)
        return named[0]
    if not isinstance(kind, str) or kind not in (*_TEXT_TYPES, *_MEDIA_TYPES):
        known = ", ".join(sorted((*_TEXT_TYPES, *_MEDIA_TYPES)))
        raise InvalidRequest(
            f"{where} has a type that is not accepted here ({str(kind)[:40]!r}). Accepted: {known}.",
            param=where,
            code="unsupported_content_part",
        )
    return kind


def refuse_uuid(part: Mapping[str, Any], where: str) -> None:
    """Raise InvalidRequest for a picture's name in vLLM's cache, which all clients share."""
    if part.get("uuid") is not None:
        raise InvalidRequest(
            f"{where}.uuid is not accepted: it names a picture in a cache that all clients share, and is set by the "
            "server.",
            param=where,
            code="unsupported_content_part",
        )
