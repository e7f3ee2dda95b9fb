"""OpenAI's Chat Completions: checks messages and their content parts, and finds every picture and video.

Routing, limits and fetching all use the pictures found here, so every spelling that vLLM accepts must be known, or a
limit could be bypassed. vLLM also accepts ``{"image_url": "data:…"}`` without a ``type``, a string instead of an
object, and ``input_image`` (vllm/renderers/chat_utils.py, 0.32). ``image_file``, ``file`` and ``file_id`` are OpenAI's
fields for uploaded files.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vlserve.errors import InvalidRequest
from vlserve.protocols.media_reference import Media, MediaKind

_DETAILS = ("low", "auto", "high", "original")
_ROLES_WITH_PICTURES = ("user", "system", "developer", "assistant", "tool")
_TEXT_TYPES = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
# Type of a part → kind of media, and the fields that may hold it: a URL, a file's id, or an object with one of them.
_MEDIA_TYPES: Mapping[str, tuple[MediaKind, tuple[str, ...]]] = {
    "image_url": ("image", ("image_url",)),
    "input_image": ("image", ("image_url", "file_id")),
    "image_file": ("image", ("image_file",)),
    "file": ("image", ("file",)),
    "video_url": ("video", ("video_url",)),
}
_SOURCES: Mapping[str, tuple[str, ...]] = {
    "image_url": ("url",),
    "video_url": ("url", "file_id"),
    "image_file": ("file_id",),
    "file": ("file_id", "file_data"),
}
_OPENAI_TYPES = ("image_url", "video_url")
_URL_WANTED = 'a URL: {"url": "data:…"} or a string'
_WANTED = {
    "file_id": "the id of an uploaded file",
    "video_url": 'a URL or the id of an uploaded file: {"url": "data:…"} or {"file_id": "file-…"}',
    "image_file": 'the id of an uploaded file: {"file_id": "file-…"}',
    "file": 'an uploaded file or a picture: {"file_id": "file-…"} or {"file_data": "data:image/…"}',
}


def find_media(tree: dict[str, Any]) -> Iterator[Media]:
    """Yield every picture and video of every message, whatever its role. Raises InvalidRequest for malformed messages.

    Text parts of other types are rewritten as ``text``, because vLLM accepts some types from some roles only;
    ``tree["messages"]`` is then replaced by a new list.
    """
    messages = tree.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("'messages' must be a list with at least one message.", param="messages")
    is_normalized = False
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if not isinstance(message, dict):
            raise InvalidRequest(f"{where} must be an object with a role and content.", param=where)
        if not isinstance(message.get("role"), str):
            raise InvalidRequest(f"{where}.role must be a string: user, system, assistant …", param=f"{where}.role")
        content = message.get("content")
        if content is None and message.get("role") != "assistant":
            raise InvalidRequest(f"{where}.content may be null in assistant messages only.", param=f"{where}.content")
        if content is None or isinstance(content, str):
            continue
        if not isinstance(content, list):
            raise InvalidRequest(
                f"{where}.content must be a string, a list of parts, or null.", param=f"{where}.content"
            )
        for index in range(len(content)):
            media = read_part(content, index, f"{where}.content[{index}]")
            if not media:
                if content[index].get("type") != "text":
                    content[index] = {"type": "text", "text": text_of(content[index])}
                    is_normalized = True
                continue
            if message["role"] not in _ROLES_WITH_PICTURES:
                raise InvalidRequest(
                    f"{media.param}: pictures are accepted in messages of {', '.join(_ROLES_WITH_PICTURES)}.",
                    param=media.param,
                    code="unsupported_content_part",
                )
            yield media
    if is_normalized:
        tree["messages"] = list(messages)


def read_part(parts: list[Any], index: int, where: str) -> Media | None:
    """The picture or video in one content part; None: it is text. Raises InvalidRequest for anything else.

    ``where`` is the part's place in the request, for errors. A part in another spelling than OpenAI's is rewritten.
    """
    part = parts[index]
    if not isinstance(part, dict):
        raise InvalidRequest(f"{where} must be an object with a type.", param=where)
    kind = _kind(part, where)
    if kind in _TEXT_TYPES:
        field = _TEXT_TYPES[kind]
        refuse_other_keys(part, {"type", field, "detail", "cache_control"}, where)
        if not isinstance(part.get(field), str):
            raise InvalidRequest(f"{where}.{field} must be a string.", param=where)
        return None
    media_kind, fields = _MEDIA_TYPES[kind]
    refuse_other_keys(part, {"type", *fields, "detail", "cache_control"}, where)
    given = [(field, part[field]) for field in fields if part.get(field) is not None]
    if len(given) != 1:
        raise InvalidRequest(f"{where} must have {' or '.join(map(repr, fields))}.", param=where)
    field, value = given[0]
    detail = part.get("detail")
    if isinstance(value, dict) and field in _SOURCES:
        refuse_other_keys(value, {*_SOURCES[field], "detail", "filename"}, f"{where}.{field}")
        detail = value.get("detail", detail)
        sources = [(name, value[name]) for name in _SOURCES[field] if value.get(name) is not None]
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
    media = Media(
        media_kind,
        where,
        parts,
        index,
        url="" if is_file else value,
        file_id=value if is_file else None,
        detail=detail or "auto",
        is_normalized=not is_plain,
    )
    if media.is_normalized and not is_file:
        target = "video_url" if media_kind == "video" else "image_url"
        part.clear()
        part.update({"type": target, target: {"url": value}})
    return media


def text_of(part: Mapping[str, Any]) -> str:
    """The text of a text part."""
    return str(part.get("text", part.get("refusal")))


def _kind(part: Mapping[str, Any], where: str) -> str:
    """A part's type; if it has none, its only content field."""
    kind = part.get("type")
    if kind is None:
        named = [name for name in ("text", "refusal", "image_url", "image_file", "file", "video_url") if name in part]
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


def refuse_other_keys(tree: Mapping[str, Any], known: set[str], where: str) -> None:
    """Raise InvalidRequest for a key that is not in ``known``.

    vLLM reads more keys than OpenAI documents. Some hold pictures, which would not be checked; ``uuid`` names a
    picture in a cache that all clients share.
    """
    other = next((name for name in tree if name not in known), None)
    if other is not None:
        raise InvalidRequest(
            f"{where} has a field that is not accepted here ({other[:40]!r}).",
            param=where,
            code="unsupported_content_part",
        )
