"""The four protocols (chat, completions, responses, messages): paths, accepted and refused fields, limits, streams."""

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any

from vlserve.protocols import anthropic_messages, chat, completions, responses
from vlserve.protocols.anthropic_messages import MessageEvents
from vlserve.protocols.dropped_fields import Changes
from vlserve.protocols.fields import (
    CHAT_FIELDS,
    COMPLETION_FIELDS,
    MESSAGE_FIELDS,
    MESSAGE_PROMPT_FIELDS,
    OUTPUT_CONFIG_KEYS,
    REASONING_KEYS,
    RESPONSE_FIELDS,
    STREAM_OPTION_KEYS,
    STRUCTURED_OUTPUT_KEYS,
    TEXT_KEYS,
)
from vlserve.protocols.media_reference import Media
from vlserve.protocols.responses import ResponseEvents
from vlserve.protocols.stream_events import Events

# Field → why it is refused. These are not dropped: they change the server itself, or ignoring them would silently
# change the answer.
_REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("chat_template", "documents"), "the chat template is set by the server"),
    "media_io_kwargs": "picture processing is set by the server",
    **dict.fromkeys(("mm_payload", "return_mm_kwargs", "prompt_embeds"), "tensors are not accepted from clients"),
    **dict.fromkeys(("kv_transfer_params", "ec_transfer_params", "vllm_xargs"), "it is reserved for the server"),
    **dict.fromkeys(("request_id", "session_id", "cache_salt", "priority"), "it is reserved for the server"),
    "truncate_prompt_tokens": "it would truncate the prompt silently; send a shorter prompt",
    "logits_processors": "code is not accepted from clients",
    "use_beam_search": "one request would compute many answers",
    "audio": "these models do not support audio",
}
_CHAT_REFUSED = {"functions": "use tools", "function_call": "use tool_choice"}
_COMPLETION_REFUSED = {
    "suffix": "these models do not support insertion",
    "best_of": "use n",
}
_STATELESS = "this service does not store responses; send the earlier items in 'input'"
_RESPONSE_REFUSED = {
    **dict.fromkeys(("previous_response_id", "conversation"), _STATELESS),
    "previous_input_messages": _STATELESS,
    "background": "background responses are not supported",
    "prompt": "stored prompts are not supported; use 'instructions' and 'input'",
    "response_format": "use text.format",
    "n": "the Responses API gives one answer per request",
}
_MESSAGE_REFUSED = {
    **dict.fromkeys(
        ("structured_outputs", "response_format", "output_format"),
        "use output_config.format",
    ),
    **dict.fromkeys(("guided_json", "guided_regex", "guided_choice", "guided_grammar"), "use output_config.format"),
}
_MAX_TOKENS = dict.fromkeys(("max_tokens", "min_tokens"), "max_tokens")
_LOGPROBS = dict.fromkeys(("top_logprobs", "prompt_logprobs"), "max_top_logprobs")


def has_no_effect(name: str, value: Any) -> bool:
    """Whether a refused field has a value that requests nothing (null, false, 0, "", [], {}, or n=1): some SDKs send
    every field."""
    return value in (None, False, "", [], {}) or (value == 1 and name in ("n", "best_of"))


def _image_url(url: str | None, uuid: str | None) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "image_url", "image_url": None if url is None else {"url": url}}
    return part if uuid is None else part | {"uuid": uuid}


def video_url(url: str | None, uuid: str | None) -> dict[str, Any]:
    """The content part for a video, which vLLM accepts in chat only."""
    part: dict[str, Any] = {"type": "video_url", "video_url": None if url is None else {"url": url}}
    return part if uuid is None else part | {"uuid": uuid}


def _input_image(url: str | None, uuid: str | None) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "input_image", "image_url": url, "detail": "auto"}
    return part if uuid is None else part | {"uuid": uuid}


def _image(url: str | None, uuid: str | None) -> dict[str, Any]:  # noqa: ARG001  (Messages have no uuid)
    return {"type": "image", "source": {"type": "url", "url": url}}


@dataclass(frozen=True, kw_only=True, eq=False)
class Protocol:
    """One API of the gateway and of its engines: how its requests, answers and streams are written."""

    path: str
    prompt: str
    """The field with the messages, the input or the prompt."""
    fields: Set[str]
    refused: Mapping[str, str]
    """Refused field → reason. A value that requests nothing is accepted (``has_no_effect``)."""
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Field without effect → the values that vLLM accepts. A field with another value is dropped."""
    numbers: Mapping[str, str]
    """Numeric field → the setting in ``request`` that limits it."""
    lists: tuple[str, ...] = ("stop", "stop_token_ids", "bad_words")
    """List fields, whose number of entries ``request.max_stop`` limits."""
    find_media: Callable[[dict[str, Any], Changes], Iterator[Media]]
    """Checks and cleans the prompt, and yields its pictures and videos."""
    keys: Mapping[str, Set[str]] = field(default_factory=dict)
    """Field that holds an object → its accepted keys."""
    picture: Callable[[str | None, str | None], dict[str, Any]] = _image_url
    """(URL, ``uuid`` in the engine's cache) → the content part for a picture."""
    text: str = "text"
    """The type of a text part."""
    count_path: str | None = "/tokenize"
    """The engine's path that counts a prompt's tokens; None: it has none for this protocol."""
    prompt_fields: tuple[str, ...] = ("messages", "prompt", "tools", "add_generation_prompt", "continue_final_message")
    """Fields that make up the prompt."""
    max_tokens_fields: tuple[str, ...]
    """Fields that limit the answer's tokens; the first one given applies."""
    events: type[Events] = Events
    has_usage_option: bool = True
    """Streams report usage only with ``stream_options.include_usage``. False: they always do."""
    supports_uuid: bool = True
    """The engine accepts a picture's ``uuid`` in place of its bytes (media/picture_cache.py)."""
    needs_model: bool = False
    """vLLM requires ``model``."""
    has_flat_tools: bool = False
    """Tools have their name and schema at the top level, not inside of ``function``."""
    tool_choices: tuple[str, ...] = ()
    """Accepted types of a ``tool_choice`` object, where vLLM ignores unknown ones. Empty: vLLM checks them itself."""


MESSAGES_PATH = "/v1/messages"
CHAT = Protocol(
    path="/v1/chat/completions",
    prompt="messages",
    fields=CHAT_FIELDS,
    refused={**_REFUSED, **_CHAT_REFUSED},
    values={"reasoning_effort": ("none", "minimal", "low", "medium", "high", "xhigh", "max")},
    keys={"stream_options": STREAM_OPTION_KEYS, "structured_outputs": STRUCTURED_OUTPUT_KEYS},
    numbers={"n": "max_n", **_LOGPROBS, **_MAX_TOKENS, "max_completion_tokens": "max_tokens"},
    find_media=chat.find_media,
    max_tokens_fields=("max_completion_tokens", "max_tokens"),
)
COMPLETIONS = Protocol(
    path="/v1/completions",
    prompt="prompt",
    fields=COMPLETION_FIELDS,
    refused={**_REFUSED, **_COMPLETION_REFUSED},
    keys={"stream_options": STREAM_OPTION_KEYS, "structured_outputs": STRUCTURED_OUTPUT_KEYS},
    numbers={"n": "max_n", **_LOGPROBS, **_MAX_TOKENS, "logprobs": "max_top_logprobs"},
    find_media=completions.find_media,
    max_tokens_fields=("max_tokens",),
)
RESPONSES = Protocol(
    path="/v1/responses",
    prompt="input",
    fields=RESPONSE_FIELDS,
    refused={**_REFUSED, **_RESPONSE_REFUSED},
    values={
        "truncation": ("disabled",),  # vLLM would truncate with any other value, null included
        "service_tier": ("auto", "default", "flex", "scale", "priority"),
    },
    keys={"reasoning": REASONING_KEYS, "text": TEXT_KEYS, "structured_outputs": STRUCTURED_OUTPUT_KEYS},
    numbers={**_LOGPROBS, "max_output_tokens": "max_tokens"},
    find_media=responses.find_media,
    picture=_input_image,
    text="input_text",
    count_path=None,
    prompt_fields=("input", "instructions", "tools"),
    max_tokens_fields=("max_output_tokens",),
    events=ResponseEvents,
    has_usage_option=False,
    has_flat_tools=True,
    tool_choices=("function", "custom"),
)
MESSAGES = Protocol(
    path=MESSAGES_PATH,
    prompt="messages",
    fields=MESSAGE_FIELDS,
    refused={**_REFUSED, **_MESSAGE_REFUSED},
    keys={"output_config": OUTPUT_CONFIG_KEYS},
    numbers={"max_tokens": "max_tokens"},
    lists=("stop_sequences",),
    find_media=anthropic_messages.find_media,
    picture=_image,
    count_path=f"{MESSAGES_PATH}/count_tokens",
    prompt_fields=MESSAGE_PROMPT_FIELDS,
    max_tokens_fields=("max_tokens",),
    events=MessageEvents,
    has_usage_option=False,
    supports_uuid=False,
    needs_model=True,
    has_flat_tools=True,
    tool_choices=("auto", "any", "tool", "none"),
)
CHAT_TOKENS_PATH = f"{CHAT.path}/input_tokens"
"""Counts the tokens of a chat request."""
# Token counting. SDKs send the whole body of a request, so other fields are dropped silently.
MESSAGE_TOKENS = replace(
    MESSAGES, path=f"{MESSAGES_PATH}/count_tokens", fields=frozenset(MESSAGE_PROMPT_FIELDS), max_tokens_fields=()
)
PROTOCOLS = (CHAT, COMPLETIONS, RESPONSES, MESSAGES, MESSAGE_TOKENS)
