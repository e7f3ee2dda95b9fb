"""A request's body: parsed once, held against a closed set of fields, written anew where something has to change."""

import json
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vlserve.config import Request as RequestCaps
from vlserve.errors import InvalidRequest
from vlserve.fields import CHAT_FIELDS, INT64
from vlserve.parts import Media, find_media

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

_LEFT_OUT = "[An earlier picture was left out here.]"
# What vLLM's /tokenize needs to count a prompt.
_PROMPT_FIELDS = ("messages", "tools", "add_generation_prompt", "continue_final_message")
# A body within its byte cap may still hold millions of values, which would take seconds to read. No prompt that fits
# a model's context comes near these.
_MOST_CONTAINERS, _MOST_COMMAS = 100_000, 1_000_000
_DEEPEST = 200  # what was read must also be written, by code that recurses


@dataclass(frozen=True)
class Sent:
    """How a picture goes to its engine."""

    url: bytes | None
    """A data: URL in ASCII. None: the engine is to have it already, under ``uuid``."""
    uuid: str | None = None
    """The picture's name in the engine's cache (vLLM's field)."""


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
    is_rewritten: bool = False
    """``tree`` says something else than ``raw``."""

    def body(
        self, model: str | None = None, sent: Sequence[Sent] = (), **additions: Any
    ) -> tuple[bytes | bytearray | memoryview, ...]:
        """What to send to an engine, in pieces: as it came where nothing has to change.

        A stream's usage is always asked for (the log tells what a request cost). ``model``: the name that the engine
        knows, where it differs. ``sent``: how each of ``media`` goes, none: as they came. ``additions``: fields of
        the gateway's own.
        """
        if self.is_stream and not self.wants_usage:
            additions["stream_options"] = {**(self.tree.get("stream_options") or {}), "include_usage": True}
        if model is not None and self.model != model:
            additions["model"] = model
        is_same = not sent and not self.dropped and not self.is_rewritten
        if is_same and not additions.keys() & self.tree.keys():
            if not additions:
                return (self.raw,)
            # Both are valid JSON objects and have no key in common, so members can be put in front of the others.
            start = self.raw.index(b"{") + 1
            return (b"{" + _dump(additions)[1:-1] + b",", memoryview(self.raw)[start:])
        kept = {name: value for name, value in self.tree.items() if name not in self.dropped}
        return self._with_pictures({**kept, **additions}, sent)

    def question(self, model: str, sent: Sequence[Sent] | None) -> tuple[bytes | bytearray | memoryview, ...]:
        """The body for vLLM's ``/tokenize``: what of this request makes its prompt; without pictures (None), the text
        alone."""
        kept = {name: self.tree[name] for name in _PROMPT_FIELDS if self.tree.get(name) is not None}
        if sent is None:
            return (_dump({**kept, "model": model, "messages": self._text_alone()}),)
        return self._with_pictures({**kept, "model": model}, sent)

    def _text_alone(self) -> list[Any]:
        places = {(media.message, media.part) for media in self.media}
        messages = []
        for number, message in enumerate(self.tree["messages"]):
            content = message.get("content")
            if isinstance(content, list):
                content = [part for index, part in enumerate(content) if (number, index) not in places]
            messages.append({**message, "content": content or ("" if isinstance(content, list) else content)})
        return messages

    def keep_latest(self, allowed: int) -> "ChatRequest":
        """With a short text in the place of all pictures but the last ``allowed``."""
        pictures = [media for media in self.media if media.kind == "image"]
        left_out = pictures[: max(0, len(pictures) - allowed)]
        for media in left_out:
            self.tree["messages"][media.message]["content"][media.part] = {"type": "text", "text": _LEFT_OUT}
        places = {(media.message, media.part) for media in left_out}
        kept = tuple(media for media in self.media if (media.message, media.part) not in places)
        return replace(self, media=kept, is_rewritten=self.is_rewritten or bool(left_out))

    def _with_pictures(
        self, tree: Mapping[str, Any], sent: Sequence[Sent]
    ) -> tuple[bytes | bytearray | memoryview, ...]:
        """Pictures are megabytes, and base64 needs no escapes: what is around them is written, they are put between."""
        marker = secrets.token_hex(16)
        urls = []
        for media, one in zip(self.media, sent, strict=bool(sent)):
            part: dict[str, Any] = {"type": "image_url", "image_url": None}
            if one.url is not None:
                part["image_url"] = {"url": marker}
                urls.append(one.url)
            if one.uuid is not None:
                part["uuid"] = one.uuid
            self.tree["messages"][media.message]["content"][media.part] = part
        first, *others = _dump(tree).split(marker.encode())
        pieces: list[bytes | bytearray | memoryview] = [first]
        for url, other in zip(urls, others, strict=True):
            pieces += (url, other)
        return tuple(pieces)


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
    media = tuple(find_media(messages))
    return ChatRequest(
        raw=raw,
        tree=tree,
        model=model or None,
        is_stream=is_stream,
        wants_usage=bool((options or {}).get("include_usage")),
        media=media,
        dropped=tuple(name for name in tree if name not in CHAT_FIELDS),
        is_rewritten=any(one.is_respelled for one in media),
    )


def ask_about(
    prompt: str, pictures: Sequence[tuple[str, bytes]], fields: Mapping[str, Any], detail: str | None = None
) -> ChatRequest:
    """A chat request with one turn about some pictures: (how the client names it, its bytes). ``fields``: more of the
    request. Raises InvalidRequest as ``parse_chat`` does."""
    parts = [{"type": "image_url", "image_url": {"url": "-", "detail": detail}} for _ in pictures]
    content: list[Any] = [*parts, {"type": "text", "text": prompt}]
    parsed = parse_chat(_dump({**fields, "messages": [{"role": "user", "content": content}]}))
    media = tuple(
        replace(one, param=param, url="", upload=upload)
        for one, (param, upload) in zip(parsed.media, pictures, strict=True)
    )
    return replace(parsed, media=media, is_rewritten=True)


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
    if raw.count(b"{") + raw.count(b"[") > _DEEPEST and _is_deeper(tree, _DEEPEST):
        raise InvalidRequest(f"The request is nested more than {_DEEPEST} deep.", code="invalid_json")
    return tree


def _is_deeper(tree: Any, depth: int) -> bool:
    """Whether lists and objects stand inside each other more than ``depth`` times. It does not recurse."""
    level = [tree]
    for _ in range(depth):
        if not level:
            return False
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
    return bool(level)


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
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()
