"""The forms in which the models can be asked. All go one way through the gateway; what differs between them is here."""

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any

from vlserve.protocols import chat, completions, messages, responses
from vlserve.protocols.fields import (
    CHAT_FIELDS,
    COMPLETION_FIELDS,
    MESSAGE_FIELDS,
    MESSAGE_PROMPT_FIELDS,
    RESPONSE_FIELDS,
)
from vlserve.protocols.media_reference import Media
from vlserve.protocols.stream_events import Events, MessageEvents, ResponseEvents

# Fields that are refused, not dropped: they reach into the server, or ignoring them would change the answer silently.
_REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("chat_template", "chat_template_kwargs", "documents"), "the template is the server's"),
    **dict.fromkeys(("mm_processor_kwargs", "media_io_kwargs"), "picture processing is the server's"),
    **dict.fromkeys(("mm_payload", "return_mm_kwargs", "prompt_embeds"), "inner tensors are not taken from clients"),
    **dict.fromkeys(("kv_transfer_params", "ec_transfer_params", "vllm_xargs"), "it is for the server's own use"),
    **dict.fromkeys(("request_id", "session_id", "cache_salt", "priority"), "it is for the server's own use"),
    "truncate_prompt_tokens": "it would cut the prompt without a word; send less instead",
    "logits_processors": "code is not taken from clients",
    "use_beam_search": "one request would compute many answers",
    "audio": "these models neither hear nor speak",
}
_CHAT_REFUSED = {"functions": "use tools", "function_call": "use tool_choice"}
_COMPLETION_REFUSED = {
    "suffix": "these models do not fill in",
    "best_of": "use n",
}
_STATELESS = "this service keeps no answers; send the earlier items in 'input'"
_RESPONSE_REFUSED = {
    **dict.fromkeys(("previous_response_id", "conversation"), _STATELESS),
    "previous_input_messages": _STATELESS,
    "background": "an answer is given to the request that asks for it",
    "prompt": "there are no stored prompts here; use 'instructions' and 'input'",
    "response_format": "use text.format",
    "n": "there is one answer to a request here",
}
_MESSAGE_REFUSED = {
    **dict.fromkeys(
        ("structured_outputs", "response_format", "output_format"),
        "use output_config.format",
    ),
    **dict.fromkeys(("guided_json", "guided_regex", "guided_choice", "guided_grammar"), "use output_config.format"),
    **dict.fromkeys(("mcp_servers", "container", "context_management"), "this service runs no tools"),
}
_MAX_TOKENS = dict.fromkeys(("max_tokens", "min_tokens"), "max_tokens")
_LOGPROBS = dict.fromkeys(("top_logprobs", "prompt_logprobs"), "max_top_logprobs")


def has_no_effect(name: str, value: Any) -> bool:
    """Whether a refused field asks for nothing (0 is False here), as clients send it that name every field."""
    return value in (None, False, "", []) or (value == 1 and name in ("n", "best_of"))


def _image_url(url: str | None, uuid: str | None) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "image_url", "image_url": None if url is None else {"url": url}}
    return part if uuid is None else part | {"uuid": uuid}


def video_url(url: str | None, uuid: str | None) -> dict[str, Any]:
    """How vLLM takes a video: in chat alone."""
    part: dict[str, Any] = {"type": "video_url", "video_url": None if url is None else {"url": url}}
    return part if uuid is None else part | {"uuid": uuid}


def _input_image(url: str | None, uuid: str | None) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "input_image", "image_url": url, "detail": "auto"}
    return part if uuid is None else part | {"uuid": uuid}


def _image(url: str | None, uuid: str | None) -> dict[str, Any]:  # noqa: ARG001  (Messages know no names)
    return {"type": "image", "source": {"type": "url", "url": url}}


@dataclass(frozen=True, kw_only=True, eq=False)
class Protocol:
    """One way to ask, here and at the engine."""

    path: str
    prompt: str
    """The field that holds what is asked."""
    fields: Set[str]
    refused: Mapping[str, str]
    """Field → why it is not taken, unless it asks for nothing (``has_no_effect``)."""
    values: Mapping[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)
    """Field → the only values that are taken, and why."""
    numbers: Mapping[str, str]
    """Field with a number that can cost much → the setting of ``request`` that bounds it."""
    lists: tuple[str, ...] = ("stop", "stop_token_ids", "bad_words")
    """Fields bounded by ``request.max_stop``."""
    find_media: Callable[[dict[str, Any]], Iterator[Media]]
    picture: Callable[[str | None, str | None], dict[str, Any]] = _image_url
    """(URL, name in the engine's cache) → how vLLM takes a picture."""
    text: str = "text"
    """The type of a part that is text."""
    count_path: str | None = "/tokenize"
    """Where vLLM counts a prompt's tokens; None: nowhere."""
    prompt_fields: tuple[str, ...] = ("messages", "prompt", "tools", "add_generation_prompt", "continue_final_message")
    """Fields that make the prompt."""
    max_tokens_fields: tuple[str, ...]
    """Fields with the answer's greatest length in tokens, the first that is given counts."""
    events: type[Events] = Events
    has_usage_option: bool = True
    """Streams tell their counts when ``stream_options.include_usage`` says so; else they always do."""
    supports_uuid: bool = True
    """A picture may go as a name alone (seen.py)."""
    needs_model: bool = False
    """vLLM insists on a model's name."""
    has_flat_tools: bool = False
    """A tool is what chat has inside of ``function``."""
    tool_choices: tuple[str, ...] = ()
    """Types that an object in ``tool_choice`` may have, where vLLM passes over others; none: it checks them."""


MESSAGES_PATH = "/v1/messages"
CHAT = Protocol(
    path="/v1/chat/completions",
    prompt="messages",
    fields=CHAT_FIELDS,
    refused={**_REFUSED, **_CHAT_REFUSED},
    numbers={"n": "max_n", **_LOGPROBS, **_MAX_TOKENS, "max_completion_tokens": "max_tokens"},
    find_media=chat.find_media,
    max_tokens_fields=("max_completion_tokens", "max_tokens"),
)
COMPLETIONS = Protocol(
    path="/v1/completions",
    prompt="prompt",
    fields=COMPLETION_FIELDS,
    refused={**_REFUSED, **_COMPLETION_REFUSED},
    numbers={"n": "max_n", **_LOGPROBS, **_MAX_TOKENS, "logprobs": "max_top_logprobs"},
    find_media=completions.find_media,
    max_tokens_fields=("max_tokens",),
)
RESPONSES = Protocol(
    path="/v1/responses",
    prompt="input",
    fields=RESPONSE_FIELDS,
    refused={**_REFUSED, **_RESPONSE_REFUSED},
    values={"truncation": (("disabled",), "a prompt is never cut without a word")},
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
    numbers={"max_tokens": "max_tokens"},
    lists=("stop_sequences",),
    find_media=messages.find_media,
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
# SDKs send the same body to be counted, so what is not needed for that is left out without a word.
MESSAGE_TOKENS = replace(
    MESSAGES, path=f"{MESSAGES_PATH}/count_tokens", fields=frozenset(MESSAGE_PROMPT_FIELDS), max_tokens_fields=()
)
