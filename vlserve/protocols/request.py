"""Parses and checks a request's body, and writes the body that is sent to the engine."""

import contextlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vlserve.config.settings import Request as RequestCaps
from vlserve.errors import InvalidRequest
from vlserve.protocols import completions, requested_pixels, tools
from vlserve.protocols.dropped_fields import Changes
from vlserve.protocols.media_reference import Media, MediaReference, PixelLimits
from vlserve.protocols.payloads import Cut, cut
from vlserve.protocols.protocol_definitions import CHAT, Protocol, has_no_effect, video_url
from vlserve.protocols.strict_json import dump, parse_json

# vLLM ignores these fields since 0.12; each is now a field of structured_outputs.
_GUIDED = {f"guided_{kind}": kind for kind in ("json", "regex", "choice", "grammar")}
_GUIDED_EXTRAS = {"guided_whitespace_pattern": "whitespace_pattern"}
_LEFT_OUT = "[An earlier picture was left out here.]"
# Arguments of chat templates that Qwen2.5's do not have, in any spelling of clients of models that think.
_THINKING = frozenset({"enable_thinking", "thinking", "thinking_budget", "thinking_mode", "preserve_thinking"})


@dataclass(frozen=True)
class ModelRequest:
    """A parsed request to a model. ``raw``: the body as received, empty after ``without_bytes``; ``tree``: the
    parsed body, with markers in place of the payloads of ``media``."""

    protocol: Protocol
    raw: bytes | bytearray
    text: bytes | bytearray
    """What of ``raw`` was parsed: all but the payloads of ``media``. Empty after ``without_bytes``."""
    tree: dict[str, Any]
    model: str | None
    is_stream: bool
    wants_usage: bool
    media: tuple[Media, ...]
    dropped: tuple[str, ...]
    """Paths of what was left out, such as ``store`` or ``messages[3].content[0].foo``."""
    neutralized: int = 0
    """Number of control tokens in its text that were neutralized."""
    is_rewritten: bool = False
    """``tree`` differs from ``raw``."""

    def body(
        self, model: str | None = None, sent: Sequence[MediaReference] = (), **additions: Any
    ) -> tuple[bytes | bytearray | memoryview, ...]:
        """The body for an engine, in pieces; the received bytes if nothing has to change.

        A stream's usage is always requested, for the log. ``model``: the engine's name for the model, if it differs.
        ``sent``: how to send each of ``media``; empty: as received. ``additions``: fields that the gateway adds.
        """
        if self.is_stream and not self.wants_usage and self.protocol.has_usage_option:
            additions["stream_options"] = {**(self.tree.get("stream_options") or {}), "include_usage": True}
        if model is not None and self.model != model:
            additions["model"] = model
        is_same = self.raw and not sent and not self.is_rewritten
        if is_same and not additions.keys() & self.tree.keys():
            if not additions:
                return (self.raw,)
            # The two objects have no key in common, so the additions can be inserted before the other members.
            start = self.raw.index(b"{") + 1
            return (b"{" + dump(additions)[1:-1] + b",", memoryview(self.raw)[start:])
        return self._with_pictures({**self.tree, **additions}, sent)

    @property
    def max_tokens(self) -> int | None:
        """The limit on the answer's tokens, if the request has one."""
        given = (self.tree[name] for name in self.protocol.max_tokens_fields if self.tree.get(name) is not None)
        return next((int(value) for value in given), None)

    def prompt_body(
        self, model: str, sent: Sequence[MediaReference] | None
    ) -> tuple[bytes | bytearray | memoryview, ...]:
        """The body of a token counting request: the fields of the prompt. ``sent`` None: an empty text replaces each
        picture."""
        kept = {name: self.tree[name] for name in self.protocol.prompt_fields if self.tree.get(name) is not None}
        if sent is None:
            for media in self.media:
                media.parts[media.index] = {"type": self.protocol.text, "text": ""}
            return (dump({**kept, "model": model}),)
        return self._with_pictures({**kept, "model": model}, sent)

    def without_bytes(self) -> "ModelRequest":
        """A copy without the received body and the pictures' bytes."""
        return replace(self, raw=b"", text=b"", media=tuple(one.without_bytes() for one in self.media))

    def keep_latest(self, allowed: int) -> "ModelRequest":
        """A copy with a short text in place of each picture but the last ``allowed``."""
        pictures = [media for media in self.media if media.kind == "image"]
        left_out = pictures[: max(0, len(pictures) - allowed)]
        for media in left_out:
            media.parts[media.index] = {"type": self.protocol.text, "text": _LEFT_OUT}
        places = {(id(media.parts), media.index) for media in left_out}
        kept = tuple(media for media in self.media if (id(media.parts), media.index) not in places)
        if left_out:  # a part of the received body would keep all of it in memory
            kept = tuple(media.copied() for media in kept)
        return replace(self, media=kept, is_rewritten=self.is_rewritten or bool(left_out))

    def _with_pictures(
        self, tree: Mapping[str, Any], sent: Sequence[MediaReference]
    ) -> tuple[bytes | bytearray | memoryview, ...]:
        """Serialise ``tree`` around the pictures, which are megabytes and are not copied: base64 needs no escapes."""
        marker = secrets.token_hex(16)
        urls = []
        if not sent and any(media.payload for media in self.media):
            sent = [MediaReference((media.url.encode(), media.payload or b"")) for media in self.media]
        for media, one in zip(self.media, sent, strict=bool(sent)):
            if one.url is not None:
                urls.append(one.url)
            write = self.protocol.picture if media.kind == "image" else video_url
            media.parts[media.index] = write(None if one.url is None else marker, one.uuid)
        first, *others = dump(tree).split(marker.encode())
        pieces: list[bytes | bytearray | memoryview] = [first]
        for url, other in zip(urls, others, strict=True):
            pieces += (*url, other)
        return tuple(pieces)


def parse(raw: bytes | bytearray, protocol: Protocol = CHAT, found: Cut | None = None) -> ModelRequest:
    """Parse the body of a request to a model. What vLLM would ignore, or refuse without need, is left out.

    ``found``: the body's ``payloads.cut``, if it is already known. Raises InvalidRequest for invalid JSON, a refused
    field, or a malformed prompt. Sampling fields are not checked: vLLM does that.
    """
    found = found or cut(raw)
    if found.payloads:
        with contextlib.suppress(InvalidRequest):  # errors may contain positions and texts of the whole body
            parsed = _parse(raw, found.rest, protocol)
            media = found.restore(parsed.media)
            if media is not None:
                return replace(parsed, media=media)
    found = None  # what was decoded in vain is freed
    return _parse(raw, raw, protocol)


def _parse(raw: bytes | bytearray, text: bytes | bytearray, protocol: Protocol) -> ModelRequest:
    """Parse ``text``: the body ``raw``, or what was left of it when its base64 data were cut out."""
    tree = parse_json(text)
    changes = Changes()
    for name, value in tree.items():
        if name in protocol.refused and not has_no_effect(name, value):
            raise InvalidRequest(
                f"The field {name!r} is not accepted: {protocol.refused[name]}.", param=name, code="unsupported_field"
            )
    limits = _take_pixel_limits(tree, changes) if "mm_processor_kwargs" in tree else None
    if "chat_template_kwargs" in tree:
        _check_template_arguments(tree["chat_template_kwargs"])
    if "structured_outputs" in protocol.fields:
        _translate_guided(tree, changes)
    changes.keep(tree, protocol.fields)
    model, is_stream = _read_options(tree)
    _clean_objects(tree, protocol, changes, is_stream=is_stream)
    if "tools" in protocol.fields:
        tools.clean(tree, changes, is_flat=protocol.has_flat_tools)
    media = tuple(protocol.find_media(tree, changes))
    if limits is not None:
        media = tuple(
            replace(one, pixel_limits=requested_pixels.merge(one.pixel_limits, limits, one.param))
            if one.kind == "image"
            else one
            for one in media
        )
    return ModelRequest(
        protocol=protocol,
        raw=raw,
        text=text,
        tree=tree,
        model=model,
        is_stream=is_stream,
        wants_usage=bool((tree.get("stream_options") or {}).get("include_usage")),
        media=media,
        dropped=changes.dropped,
        is_rewritten=changes.is_rewritten,
    )


def _read_options(tree: Mapping[str, Any]) -> tuple[str | None, bool]:
    """The model's name, and whether the answer is a stream. Raises InvalidRequest."""
    model = tree.get("model")
    if model is not None and not isinstance(model, str):
        raise InvalidRequest("'model' must be a string.", param="model")
    is_stream = tree.get("stream", False)
    if not isinstance(is_stream, bool):
        raise InvalidRequest("'stream' must be true or false.", param="stream")
    options = tree.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise InvalidRequest("'stream_options' must be an object.", param="stream_options")
    return model or None, is_stream


def _clean_objects(tree: dict[str, Any], protocol: Protocol, changes: Changes, *, is_stream: bool) -> None:
    """Clean the fields that hold objects, and leave out values of fields without effect that vLLM would refuse."""
    for name, keys in protocol.keys.items():
        if isinstance(tree.get(name), dict):
            changes.keep(tree[name], keys, name)
    for name, values in protocol.values.items():
        if isinstance(tree.get(name), str) and tree[name] not in values:
            del tree[name]
            changes.drop(name)
    if "stream_options" in tree and not is_stream:  # vLLM refuses them without a stream
        del tree["stream_options"]
        changes.drop("stream_options")


def _take_pixel_limits(tree: dict[str, Any], changes: Changes) -> PixelLimits | None:
    """Take the limits on all pictures out of ``mm_processor_kwargs``, which is not sent to vLLM: the gateway resizes.

    Raises InvalidRequest for other keys.
    """
    name = "mm_processor_kwargs"
    given = tree.pop(name)
    changes.is_rewritten = True
    if given is None:
        return None
    if not isinstance(given, dict):
        raise InvalidRequest(f"{name!r} must be an object.", param=name)
    limits = requested_pixels.take(given, name)
    other = next((key for key, value in given.items() if value is not None), None)
    if other is not None:
        raise InvalidRequest(
            f"The field '{name}.{other[:40]}' is not accepted: picture processing is set by the server. Accepted: "
            f"{', '.join(requested_pixels.NAMES)}.",
            param=name,
            code="unsupported_field",
        )
    return limits


def _check_template_arguments(given: Any) -> None:
    """Raise InvalidRequest for arguments that could change a prompt; those about thinking have no effect on Qwen2.5."""
    name = "chat_template_kwargs"
    if given is not None and not isinstance(given, dict):
        raise InvalidRequest(f"{name!r} must be an object.", param=name)
    other = next((key for key, value in (given or {}).items() if value is not None and key not in _THINKING), None)
    if other is not None:
        raise InvalidRequest(
            f"The field '{name}.{other[:40]}' is not accepted: the chat template is set by the server.",
            param=name,
            code="unsupported_field",
        )


def _translate_guided(tree: dict[str, Any], changes: Changes) -> None:
    """Replace vLLM's former ``guided_*`` fields by ``structured_outputs``. Raises InvalidRequest."""
    given = [name for name in _GUIDED if tree.get(name) is not None]
    if not given:
        return
    if len(given) > 1 or tree.get("structured_outputs") is not None:
        others = ", ".join(repr(name) for name in (*given[1:], "structured_outputs") if tree.get(name) is not None)
        raise InvalidRequest(
            f"{given[0]!r} and {others} cannot be combined.", param=given[0], code="invalid_structured_output"
        )
    constraint = {_GUIDED[given[0]]: tree.pop(given[0])}
    for name, field in _GUIDED_EXTRAS.items():
        if tree.get(name) is not None:
            constraint[field] = tree.pop(name)
    tree["structured_outputs"] = constraint
    changes.is_rewritten = True


def build_picture_request(
    prompt: str, pictures: Sequence[tuple[str, bytes]], fields: Mapping[str, Any], detail: str | None = None
) -> ModelRequest:
    """A chat request with one user message. ``pictures``: (name for errors, bytes) of each; ``fields``: further fields
    of the request. Raises InvalidRequest as ``parse`` does."""
    parts = [{"type": "image_url", "image_url": {"url": "-", "detail": detail}} for _ in pictures]
    content: list[Any] = [*parts, {"type": "text", "text": prompt}]
    parsed = parse(dump({**fields, "messages": [{"role": "user", "content": content}]}))
    media = tuple(
        replace(one, param=param, url="", upload=upload)
        for one, (param, upload) in zip(parsed.media, pictures, strict=True)
    )
    return replace(parsed, media=media, is_rewritten=True)


def capped_fields(protocol: Protocol, caps: RequestCaps) -> dict[str, int]:
    """Field → its largest number, or its largest number of entries."""
    numbers = {name: getattr(caps, setting) for name, setting in protocol.numbers.items()}
    entries = dict.fromkeys(protocol.lists, caps.max_stop)
    return {name: most for name, most in (numbers | entries).items() if most is not None and name in protocol.fields}


def check_caps(parsed: ModelRequest, caps: RequestCaps) -> None:
    """Check fields that make a request expensive against the settings. Raises InvalidRequest."""
    tree, protocol = parsed.tree, parsed.protocol
    for name, setting in protocol.numbers.items():
        value, most = tree.get(name), getattr(caps, setting)
        if value is None or name not in protocol.fields:  # a dropped field costs nothing
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):  # vLLM accepts a number in a string
            raise InvalidRequest(f"{name!r} must be a number.", param=name)
        if value < 0 and name.endswith("logprobs"):  # to vLLM −1 is the whole vocabulary
            raise InvalidRequest(f"{name!r} may not be negative.", param=name)
        if value < 1 and name in protocol.max_tokens_fields:
            raise InvalidRequest(f"{name!r} must be at least 1.", param=name)
        if most is not None and value > most:
            raise InvalidRequest(f"{name!r} may be {most} at most; the setting request.{setting} decides.", param=name)
    for name in protocol.lists:
        value = tree.get(name)
        if isinstance(value, list) and len(value) > caps.max_stop and name in protocol.fields:
            raise InvalidRequest(
                f"{name!r} may have {caps.max_stop} entries at most; the setting request.max_stop decides.", param=name
            )
    if "prompt" in tree and protocol.prompt == "prompt":
        answers = completions.count(tree["prompt"]) * int(tree.get("n") or 1)
        if answers > caps.max_n:
            raise InvalidRequest(
                f"The prompts of this request ask for {answers:,} answers; {caps.max_n} are allowed. The setting "
                "request.max_n decides.",
                param="prompt",
            )
