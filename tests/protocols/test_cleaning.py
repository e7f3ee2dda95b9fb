"""What is left out of requests, at every level, and how it is named; nulls; limits on a picture's pixels."""

import json
from typing import Any

import pytest

from tests.conftest import data_url, image_part, user
from vlserve.errors import InvalidRequest
from vlserve.protocols.media_reference import PixelLimits
from vlserve.protocols.protocol_definitions import CHAT, COMPLETIONS, MESSAGE_TOKENS, MESSAGES, RESPONSES, Protocol
from vlserve.protocols.request import ModelRequest, parse

PROMPTS: dict[str, dict[str, Any]] = {
    CHAT.path: {"messages": user("hi")},
    COMPLETIONS.path: {"prompt": "hi"},
    RESPONSES.path: {"input": "hi"},
    MESSAGES.path: {"messages": user("hi"), "max_tokens": 9},
    MESSAGE_TOKENS.path: {"messages": user("hi")},
}
PROTOCOLS = [CHAT, COMPLETIONS, RESPONSES, MESSAGES, MESSAGE_TOKENS]
URL = data_url()
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
FLAT_TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}
CUSTOM_TOOL = {"name": "f", "input_schema": {"type": "object"}}
INPUT_IMAGE = {"type": "input_image", "image_url": URL}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": URL.partition(",")[2]}}


def _name(value: Any) -> str:
    """A test's id. Workers of pytest-xdist must agree on it, and sets are printed in any order."""
    return value.path if isinstance(value, Protocol) else str(value)


def read(protocol: Protocol = CHAT, **fields: Any) -> ModelRequest:
    return parse(json.dumps({**PROMPTS[protocol.path], **fields}).encode(), protocol)


def sent(request: ModelRequest) -> dict[str, Any]:
    return dict(json.loads(b"".join(request.body())))


def turn(**keys: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "hi", **keys}]


def call(**keys: Any) -> list[dict[str, Any]]:
    made = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}, **keys}
    return [*user("hi"), {"role": "assistant", "content": None, "tool_calls": [made]}]


@pytest.mark.parametrize(
    ("protocol", "fields", "name"),
    [
        *((protocol, {"foo": 1}, "foo") for protocol in PROTOCOLS),
        (CHAT, {"messages": turn(foo=1)}, "messages[0].foo"),
        (CHAT, {"messages": user({"type": "text", "text": "x", "foo": 1})}, "messages[0].content[0].foo"),
        (CHAT, {"messages": user({**image_part(), "foo": 1})}, "messages[0].content[0].foo"),
        (
            CHAT,
            {"messages": user({"type": "image_url", "image_url": {"url": URL, "foo": 1}})},
            "messages[0].content[0].image_url.foo",
        ),
        (CHAT, {"messages": call(index=0)}, "messages[1].tool_calls[0].index"),
        (
            CHAT,
            {"messages": call(function={"name": "f", "arguments": "{}", "foo": 1})},
            "messages[1].tool_calls[0].function.foo",
        ),
        (CHAT, {"tools": [{**TOOL, "foo": 1}]}, "tools[0].foo"),
        (CHAT, {"tools": [{**TOOL, "function": {**TOOL["function"], "foo": 1}}]}, "tools[0].function.foo"),  # type: ignore[dict-item]
        (CHAT, {"tools": [TOOL, {"type": "web_search"}]}, "tools[1] (web_search)"),
        (
            CHAT,
            {"stream": True, "stream_options": {"include_obfuscation": False}},
            "stream_options.include_obfuscation",
        ),
        (CHAT, {"stream_options": {"include_usage": True}}, "stream_options"),
        (CHAT, {"reasoning_effort": "default"}, "reasoning_effort"),
        (CHAT, {"structured_outputs": {"choice": ["a"], "foo": 1}}, "structured_outputs.foo"),
        (COMPLETIONS, {"stream": True, "stream_options": {"foo": 1}}, "stream_options.foo"),
        (RESPONSES, {"input": [{"role": "user", "content": "x", "foo": 1}]}, "input[0].foo"),
        (RESPONSES, {"input": [{"role": "user", "content": [{**INPUT_IMAGE, "foo": 1}]}]}, "input[0].content[0].foo"),
        (
            RESPONSES,
            {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{"}, *user("x")]},
            "input[0].arguments",
        ),
        (
            RESPONSES,
            {"input": [*user("x"), {"role": "assistant", "content": [{"type": "output_text", "text": "x", "foo": 1}]}]},
            "input[1].content[0].foo",
        ),
        (RESPONSES, {"input": [*user("x"), {"type": "web_search_call", "id": "w"}]}, "input[1] (web_search_call)"),
        (RESPONSES, {"tools": [{**FLAT_TOOL, "foo": 1}]}, "tools[0].foo"),
        (RESPONSES, {"tools": [FLAT_TOOL, {"type": "mcp", "server_url": "x"}]}, "tools[1] (mcp)"),
        (RESPONSES, {"include": ["web_search_call.action.sources"]}, "include[0] (web_search_call.action.sources)"),
        (RESPONSES, {"reasoning": {"effort": "low", "foo": 1}}, "reasoning.foo"),
        (RESPONSES, {"text": {"verbosity": "low", "foo": 1}}, "text.foo"),
        (RESPONSES, {"service_tier": "fast"}, "service_tier"),
        (RESPONSES, {"truncation": "auto"}, "truncation"),
        *(
            (protocol, fields, name)
            for protocol in (MESSAGES, MESSAGE_TOKENS)
            for fields, name in (
                ({"context_management": {"edits": []}}, "context_management"),
                ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking"),
                ({"betas": ["x"]}, "betas"),
                ({"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
                ({"messages": turn(foo=1)}, "messages[0].foo"),
                ({"messages": user({"type": "text", "text": "x", "foo": 1})}, "messages[0].content[0].foo"),
                ({"messages": user({**IMAGE, "foo": 1})}, "messages[0].content[0].foo"),
                (
                    {"messages": user({"type": "image", "source": {"type": "url", "url": URL, "foo": 1}})},
                    "messages[0].content[0].source.foo",
                ),
                ({"system": [{"type": "text", "text": "x", "foo": 1}]}, "system[0].foo"),
                ({"output_config": {"effort": "low", "foo": 1}}, "output_config.foo"),
                ({"tools": [{**CUSTOM_TOOL, "foo": 1}]}, "tools[0].foo"),
                (
                    {"tools": [CUSTOM_TOOL, {"type": "web_search_20250305", "name": "web_search"}]},
                    "tools[1] (web_search_20250305)",
                ),
                (
                    {
                        "messages": user(
                            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "tool_reference"}]}
                        )
                    },
                    "messages[0].content[0].content[0] (tool_reference)",
                ),
                (
                    {"messages": [*user("x"), {"role": "assistant", "content": [{"type": "server_tool_use"}]}]},
                    "messages[1].content[0] (server_tool_use)",
                ),
            )
        ),
    ],
    ids=_name,
)
def test_unsupported_optional_fields_are_dropped_and_named(
    protocol: Protocol, fields: dict[str, Any], name: str
) -> None:
    request = read(protocol, **fields)
    assert request.dropped == (name,)
    assert "foo" not in json.dumps(sent(request))


@pytest.mark.parametrize(
    ("protocol", "fields"),
    [
        (CHAT, {"messages": turn(name=None, tool_calls=None, refusal=None)}),
        (CHAT, {"messages": user({"type": "text", "text": "hi", "cache_control": None})}),
        (CHAT, {"tools": None, "tool_choice": None, "n": None, "stop": None, "stream_options": None}),
        (CHAT, {"tools": [], "tool_choice": "auto"}),
        (CHAT, {"chat_template": None, "cache_salt": None, "mm_processor_kwargs": None}),
        (COMPLETIONS, {"n": None, "max_tokens": None, "logprobs": None}),
        (RESPONSES, {"truncation": None, "service_tier": None, "tools": None, "include": None, "stream": None}),
        (MESSAGES, {"system": None, "tools": None, "thinking": None, "stream": None}),
    ],
    ids=_name,
)
def test_null_means_the_default(protocol: Protocol, fields: dict[str, Any]) -> None:
    request = read(protocol, **fields)
    assert "null" not in json.dumps(sent(request))
    known = {name for name in fields if name in protocol.fields}
    assert not known & set(request.dropped)


def test_null_content_of_an_assistant_is_kept() -> None:
    assert sent(read(messages=call()))["messages"] == call()


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": call(), "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"messages": user({"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}})},
        {"logprobs": True, "logprob_token_ids": [1], "return_tokens_as_token_ids": True, "stream_interval": 2},
        {"stream": True, "stream_options": {"include_usage": True}},
    ],
)
def test_request_without_dropped_fields_is_forwarded_unchanged(fields: dict[str, Any]) -> None:
    raw = json.dumps({**PROMPTS[CHAT.path], **fields}).encode() if "messages" not in fields else b""
    raw = raw or json.dumps(fields, indent=1).encode()
    (part,) = parse(raw).body()
    assert part is raw


def test_each_kind_is_named_once() -> None:
    messages = [*turn(foo=1), *turn(foo=2, bar=1), *turn(foo=3)]
    assert read(messages=messages).dropped == ("messages[0].foo", "messages[1].bar")


def test_number_and_length_of_names_are_bounded() -> None:
    request = read(CHAT, **{f"{number}-{'x' * 500}": 1 for number in range(500)})
    assert len(request.dropped) == 64
    assert max(map(len, request.dropped)) == 40
    assert set(sent(request)) == {"messages"}


@pytest.mark.parametrize("arguments", ['{"a": ', " \n", "", None, "[1]", "5", "[" * 50_000])
def test_arguments_that_are_no_object_become_one(arguments: Any) -> None:
    request = read(messages=call(function={"name": "f", "arguments": arguments}))
    assert sent(request)["messages"] == call()
    assert request.dropped == ("messages[1].tool_calls[0].function.arguments",)


def test_arguments_that_are_an_object_become_its_text() -> None:
    request = read(messages=call(function={"name": "f", "arguments": {"a": "é"}}))
    [made] = sent(request)["messages"][1]["tool_calls"]
    assert json.loads(made["function"]["arguments"]) == {"a": "é"}
    assert request.dropped == ()


@pytest.mark.parametrize("calls", [0, "x", [1], {}])
def test_tool_calls_of_an_unknown_form_are_refused(calls: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"messages\[0\].tool_calls must be"):
        read(messages=[{"role": "assistant", "content": "", "tool_calls": calls}])


def test_strings_among_parts_are_text() -> None:
    assert sent(read(messages=user("a", image_part())))["messages"][0]["content"][0] == {"type": "text", "text": "a"}


@pytest.mark.parametrize("given", [{}, None, {"enable_thinking": True}, {"thinking": False, "other": None}])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_template_arguments_about_thinking_are_left_out(protocol: Protocol, given: Any) -> None:
    assert read(protocol, chat_template_kwargs=given).dropped == ("chat_template_kwargs",)


@pytest.mark.parametrize("name", ["add_vision_id", "chat_template", "tokenize"])
def test_other_template_arguments_are_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"'chat_template_kwargs.{name}' is not accepted"):
        read(chat_template_kwargs={"enable_thinking": False, name: True})


LIMITS = PixelLimits(min_pixels=3136, max_pixels=12544)
KEYS = {"min_pixels": 3136, "max_pixels": 12544}
SIZE = {"resized_height": 280, "resized_width": 560}


@pytest.mark.parametrize(
    ("protocol", "fields", "limits"),
    [
        (CHAT, {"messages": user({**image_part(), **KEYS})}, LIMITS),
        (CHAT, {"messages": user({"type": "image", "image": URL, **SIZE})}, PixelLimits(None, None, 280, 560)),
        (CHAT, {"messages": user(image_part()), "mm_processor_kwargs": KEYS}, LIMITS),
        (
            CHAT,
            {"messages": user({**image_part(), "max_pixels": 9000}), "mm_processor_kwargs": KEYS},
            PixelLimits(3136, 9000),
        ),
        (
            CHAT,
            {"messages": user({**image_part(), **SIZE}), "mm_processor_kwargs": KEYS},
            PixelLimits(None, None, 280, 560),
        ),
        (CHAT, {"messages": user({**image_part(), "min_pixels": None}), "mm_processor_kwargs": {}}, None),
        (RESPONSES, {"input": [{"role": "user", "content": [{**INPUT_IMAGE, **KEYS}]}]}, LIMITS),
        (MESSAGES, {"messages": user({**IMAGE, **KEYS})}, LIMITS),
        (MESSAGE_TOKENS, {"messages": user(IMAGE), "mm_processor_kwargs": KEYS}, LIMITS),
    ],
    ids=_name,
)
def test_limits_on_a_pictures_pixels_are_read_and_not_forwarded(
    protocol: Protocol, fields: dict[str, Any], limits: PixelLimits | None
) -> None:
    request = read(protocol, **fields)
    [media] = request.media
    assert media.pixel_limits == limits
    assert request.dropped == ()
    assert not any(name in json.dumps(sent(request)) for name in ("pixels", "resized", "mm_processor"))


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"max_pixels": "12544"}, "max_pixels must be an integer from 1 to 2147483647"),
        ({"max_pixels": 1.5}, "max_pixels must be an integer"),
        ({"max_pixels": True}, "max_pixels must be an integer"),
        ({"min_pixels": 0}, "min_pixels must be an integer"),
        ({"min_pixels": 2**31}, "min_pixels must be an integer"),
        ({"resized_height": 280}, "'resized_height' and 'resized_width' must be given together"),
        ({"resized_height": 100_001, "resized_width": 1}, "resized_height must be an integer from 1 to 100000"),
        ({"min_pixels": 2, "max_pixels": 1}, r"'min_pixels' \(2\) may not exceed 'max_pixels' \(1\)"),
    ],
)
def test_invalid_limits_are_refused_with_their_place(keys: dict[str, Any], problem: str) -> None:
    for place, fields in (
        ("messages[0].content[0]", {"messages": user({**image_part(), **keys})}),
        ("mm_processor_kwargs", {"mm_processor_kwargs": keys}),
    ):
        with pytest.raises(InvalidRequest, match=problem) as error:
            read(**fields)
        assert error.value.param == place


def test_other_processor_arguments_are_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match=r"'mm_processor_kwargs.use_fast' is not accepted"):
        read(mm_processor_kwargs={"max_pixels": 9000, "use_fast": False})
