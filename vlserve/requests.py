"""A request's body: parsed once, held against closed sets of fields and part types, its pictures found by one walker.

Whatever vLLM would take for a picture must be one here too, or a limit could be passed by: it also accepts
``{"image_url": "data:…"}`` without a ``type``, a string instead of an object, and ``input_image``
(vllm/renderers/chat_utils.py, 0.32).
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vlserve.config import Request as RequestCaps
from vlserve.errors import InvalidRequest
from vlserve.fields import CHAT_FIELDS, INT64

_STRUCTURED = "vLLM ignores it since 0.12; use structured_outputs"
# Fields that are refused, not dropped: they reach into the server, or ignoring them would change the answer silently.
_REFUSED_FIELDS: Mapping[str, str] = {
    **dict.fromkeys(("chat_template", "chat_template_kwargs"), "the template is the server's"),
    **dict.fromkeys(("mm_processor_kwargs", "media_io_kwargs"), "picture processing is the server's"),
    **dict.fromkeys(("mm_payload", "return_mm_kwargs", "prompt_embeds"), "inner tensors are not taken from clients"),
    **dict.fromkeys(("kv_transfer_params", "ec_transfer_params", "vllm_xargs"), "it is for the server's own use"),
    **dict.fromkeys(("request_id", "session_id", "cache_salt", "priority"), "it is for the server's own use"),
    **dict.fromkeys(("guided_json", "guided_regex", "guided_choice", "guided_grammar"), _STRUCTURED),
    "truncate_prompt_tokens": "it would cut the prompt without a word; send less instead",
    "logits_processors": "code is not taken from clients",
    "use_beam_search": "vLLM's chat endpoint no longer has it",
    "functions": "use tools",
    "function_call": "use tool_choice",
    "audio": "these models neither hear nor speak",
}

_CAPPED_NUMBERS = {
    "n": "max_n",
    "top_logprobs": "max_top_logprobs",
    "prompt_logprobs": "max_top_logprobs",
    **dict.fromkeys(("max_tokens", "max_completion_tokens", "min_tokens"), "max_tokens"),
}
_CAPPED_LISTS = ("stop", "stop_token_ids", "bad_words")

MediaKind = Literal["image", "video"]
_ROLES_WITH_PICTURES = ("user", "system", "assistant", "tool")
_TEXT_TYPES = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
_MEDIA_TYPES: Mapping[str, tuple[MediaKind, str]] = {
    "image_url": ("image", "image_url"),
    "input_image": ("image", "image_url"),
    "video_url": ("video", "video_url"),
}
# A body within its byte cap may still hold millions of values, which would take seconds to read. No prompt that fits
# a model's context comes near these.
_MOST_CONTAINERS, _MOST_COMMAS = 100_000, 1_000_000


@dataclass(frozen=True)
class Media:
    """A picture (or video) of a request: where it stands and its URL as sent."""

    kind: MediaKind
    url: str
    message: int
    part: int
    is_respelled: bool = False
    """It came in another spelling than OpenAI's, of which vLLM takes only some; the tree has OpenAI's now."""

    @property
    def param(self) -> str:
        return f"messages[{self.message}].content[{self.part}]"


@dataclass(frozen=True)
class ChatRequest:
    """A parsed chat request. ``raw`` is the body as it came; ``tree`` is what it says."""

    raw: bytes | bytearray
    tree: Mapping[str, Any]
    model: str | None
    is_stream: bool
    wants_usage: bool
    media: tuple[Media, ...]
    dropped: tuple[str, ...]

    def body(self, model: str | None = None, **additions: Any) -> tuple[bytes | bytearray | memoryview, ...]:
        """What to send to an engine, in pieces: as it came where nothing has to change.

        A stream's usage is always asked for (the log tells what a request cost). ``model``: the name that the engine
        knows, where it differs. ``additions``: fields of the gateway's own.
        """
        if self.is_stream and not self.wants_usage:
            additions["stream_options"] = {**(self.tree.get("stream_options") or {}), "include_usage": True}
        if model is not None and self.model != model:
            additions["model"] = model
        is_respelled = any(media.is_respelled for media in self.media)
        if not self.dropped and not is_respelled and not additions.keys() & self.tree.keys():
            if not additions:
                return (self.raw,)
            # Both are valid JSON objects and have no key in common, so members can be put in front of the others.
            start = self.raw.index(b"{") + 1
            return (b"{" + _dump(additions)[1:-1] + b",", memoryview(self.raw)[start:])
        kept = {name: value for name, value in self.tree.items() if name not in self.dropped}
        return (_dump({**kept, **additions}),)


def parse_chat(raw: bytes | bytearray) -> ChatRequest:
    """Parse the body of ``POST /v1/chat/completions``.

    Raises InvalidRequest where it is not UTF-8 JSON, has duplicate keys, a refused field, or messages or parts of an
    unknown form. Values of sampling fields are left to vLLM, which checks them.
    """
    tree = parse_json(raw)
    for name, reason in _REFUSED_FIELDS.items():
        if tree.get(name) is not None:
            raise InvalidRequest(f"The field {name!r} is not accepted: {reason}.", param=name, code="unsupported_field")
    messages = tree.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("'messages' must be a list with at least one message.", param="messages")
    model = tree.get("model")
    if model is not None and not isinstance(model, str):
        raise InvalidRequest("'model' must be a string.", param="model")
    is_stream = tree.get("stream") or False
    if not isinstance(is_stream, bool):
        raise InvalidRequest("'stream' must be true or false.", param="stream")
    options = tree.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise InvalidRequest("'stream_options' must be an object.", param="stream_options")
    return ChatRequest(
        raw=raw,
        tree=tree,
        model=model or None,
        is_stream=is_stream,
        wants_usage=bool((options or {}).get("include_usage")),
        media=tuple(_walk(messages)),
        dropped=tuple(name for name in tree if name not in CHAT_FIELDS),
    )


def capped_fields(caps: RequestCaps) -> dict[str, int]:
    """Field → the largest number, or the most entries, that it may have."""
    numbers = {name: getattr(caps, setting) for name, setting in _CAPPED_NUMBERS.items()}
    entries = dict.fromkeys(_CAPPED_LISTS, caps.max_stop)
    return {name: most for name, most in (numbers | entries).items() if most is not None}


def check_caps(tree: Mapping[str, Any], caps: RequestCaps) -> None:
    """Hold the fields with which one request can cost much against the settings. Raises InvalidRequest."""
    for name, setting in _CAPPED_NUMBERS.items():
        value, most = tree.get(name), getattr(caps, setting)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):  # vLLM would read a number in a string
            raise InvalidRequest(f"{name!r} must be a number.", param=name)
        if value < 0 and name.endswith("logprobs"):  # vLLM's sign for the whole vocabulary
            raise InvalidRequest(f"{name!r} may not be negative.", param=name)
        if most is not None and value > most:
            raise InvalidRequest(f"{name!r} may be {most} at most; the setting request.{setting} decides.", param=name)
    for name in _CAPPED_LISTS:
        value = tree.get(name)
        if isinstance(value, list) and len(value) > caps.max_stop:
            raise InvalidRequest(
                f"{name!r} may have {caps.max_stop} entries at most; the setting request.max_stop decides.", param=name
            )


def parse_json(raw: bytes | bytearray) -> dict[str, Any]:
    """A JSON object in UTF-8 without duplicate keys, NaN or Infinity. Raises InvalidRequest."""
    if raw.count(b"{") + raw.count(b"[") > _MOST_CONTAINERS or raw.count(b",") > _MOST_COMMAS:
        raise InvalidRequest("The body has too many objects, lists or values.", code="invalid_json")
    try:
        tree = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_small,
        )
        if b"\\ud" in raw or b"\\uD" in raw:
            _refuse_lone_surrogates(tree)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8 (byte {error.start}).", code="invalid_json") from None
    except RecursionError:
        raise InvalidRequest("The request is nested too deeply.", code="invalid_json") from None
    except ValueError as error:
        raise InvalidRequest(f"The body is not JSON: {error}.", code="invalid_json") from None
    if not isinstance(tree, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    return tree


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        seen: set[str] = set()
        name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InvalidRequest(f"The key {name[:100]!r} is given twice in one object.", code="invalid_json")
    return tree


def _refuse_lone_surrogates(tree: Any) -> None:
    """Half of a pair cannot be written as UTF-8, and no tokenizer takes it."""
    if isinstance(tree, str):
        if not tree.isascii():
            try:
                tree.encode()
            except UnicodeEncodeError:
                raise InvalidRequest("The body holds half of a surrogate pair.", code="invalid_json") from None
    elif isinstance(tree, dict):
        for name, value in tree.items():
            _refuse_lone_surrogates(name)
            _refuse_lone_surrogates(value)
    elif isinstance(tree, list):
        for value in tree:
            _refuse_lone_surrogates(value)


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        _refuse_constant(number)
    return value


def _small(number: str) -> int:
    value = int(number)
    if not -INT64 <= value < INT64:
        raise ValueError("a number has more than 64 bits")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _dump(tree: Mapping[str, Any]) -> bytes:
    return json.dumps(tree, separators=(",", ":")).encode()


def _walk(messages: list[Any]) -> Iterator[Media]:
    """Every picture and video of every message, whatever its role; checks the form of messages and parts."""
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
        for index, part in enumerate(content):
            media = _read_part(part, number, index)
            if not media:
                continue
            if message["role"] not in _ROLES_WITH_PICTURES:
                raise InvalidRequest(
                    f"{media.param}: pictures may be in messages of {', '.join(_ROLES_WITH_PICTURES)}.",
                    param=media.param,
                    code="unsupported_content_part",
                )
            yield media


def _read_part(part: Any, message: int, index: int) -> Media | None:
    where = f"messages[{message}].content[{index}]"
    if not isinstance(part, dict):
        raise InvalidRequest(f"{where} must be an object with a type.", param=where)
    kind = _kind(part, where)
    field = _TEXT_TYPES[kind] if kind in _TEXT_TYPES else _MEDIA_TYPES[kind][1]
    _refuse_other_keys(part, {"type", field, "detail", "cache_control"}, where)
    value = part.get(field)
    if kind in _TEXT_TYPES:
        if not isinstance(value, str):
            raise InvalidRequest(f"{where}.{field} must be a string.", param=where)
        return None
    url = value
    if isinstance(value, dict):
        _refuse_other_keys(value, {"url", "detail"}, f"{where}.{field}")
        url = value.get("url")
    if not isinstance(url, str) or not url:
        raise InvalidRequest(f'{where}.{field} must hold a URL: {{"url": "data:…"}} or a string.', param=where)
    is_respelled = part.get("type") != field or not isinstance(value, dict)
    if is_respelled:
        part.clear()
        part.update({"type": field, field: {"url": url}})
    return Media(_MEDIA_TYPES[kind][0], url, message, index, is_respelled)


def _kind(part: Mapping[str, Any], where: str) -> str:
    """A part's type; of one that names none, its one content field."""
    kind = part.get("type")
    if kind is None:
        named = [name for name in ("text", "refusal", "image_url", "video_url") if name in part]
        if len(named) != 1:
            raise InvalidRequest(f"{where} has no type, and not exactly one of text, image_url.", param=where)
        return named[0]
    if not isinstance(kind, str) or kind not in (*_TEXT_TYPES, *_MEDIA_TYPES):
        known = ", ".join(sorted((*_TEXT_TYPES, *_MEDIA_TYPES)))
        raise InvalidRequest(
            f"{where} has a type that is not accepted here ({str(kind)[:40]!r}). Accepted: {known}.",
            param=where,
            code="unsupported_content_part",
        )
    return kind


def _refuse_other_keys(tree: Mapping[str, Any], known: set[str], where: str) -> None:
    """Engines look at more keys than OpenAI names, some of which would be pictures that nobody checked, or (``uuid``)
    name a picture in a cache that all clients share."""
    other = next((name for name in tree if name not in known), None)
    if other is not None:
        raise InvalidRequest(
            f"{where} has a field that is not accepted here ({other[:40]!r}).",
            param=where,
            code="unsupported_content_part",
        )
