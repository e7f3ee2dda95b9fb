"""The tables of Anthropic's Messages in docs/api.md."""

from typing import Any

from tests.conftest import user
from tests.endpoints import tools
from tests.endpoints.asking import QUESTION, Ask
from tests.endpoints.common import MODEL, URL, is_too_long, looks_at
from tests.endpoints.rows import (
    COLOR,
    RED_OR_BLUE,
    Check,
    cuts,
    drops,
    gives_events,
    like_chat,
    limits,
    matches,
    refuses,
    routes,
    row,
    same,
)
from vlserve.protocols.protocol_definitions import MESSAGES


def _systems(ask: Ask) -> None:
    blocks = [{"type": "text", "text": "You are a cook.", "cache_control": {"type": "ephemeral"}}]
    counts = [ask(system=system).prompt_tokens for system in ("You are a cook.", blocks)]
    assert counts[0] == counts[1] != ask().prompt_tokens
    assert "system[0]" in ask.try_(system=[{"type": "image", "source": {"type": "url", "url": URL}}]).problem


def _takes_thoughts(ask: Ask) -> None:
    thoughts = [{"type": "thinking", "thinking": "Hm.", "signature": "x"}, {"type": "redacted_thinking", "data": "x"}]
    turns = [*user("Hello!"), {"role": "assistant", "content": [*thoughts, {"type": "text", "text": "Hello."}]}]
    ask(messages=[*turns, *user(QUESTION)])


def _reads_documents(ask: Ask) -> None:
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "The code is 42."}}
    plain = {"type": "text", "text": "The code is 42."}
    question = {"type": "text", "text": QUESTION}
    assert ask(messages=user(document, question)).prompt_tokens == ask(messages=user(plain, question)).prompt_tokens


def _takes_system_turns(ask: Ask) -> None:
    reminder = {"role": "system", "content": "Be short."}
    turns = [*user("Hello!"), {"role": "assistant", "content": "Hello."}, *user(QUESTION)]
    assert ask(messages=[*turns, reminder]).prompt_tokens > ask(messages=turns).prompt_tokens


def _calls(arguments: Any) -> list[dict[str, Any]]:
    call = {"type": "tool_use", "id": "c1", "name": "f", "input": arguments}
    result = {"type": "tool_result", "tool_use_id": "c1", "content": "x"}
    return [*user("Hello!"), {"role": "assistant", "content": [call]}, *user(result)]


def _tells_usage_at_the_end(ask: Ask) -> None:
    (delta,) = (tree for name, tree in ask.stream() if name == "message_delta")
    assert delta["usage"]["output_tokens"] == ask.plain.tokens


_IMAGES = (
    {"type": "image", "source": {"type": "url", "url": URL}},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": URL.partition(",")[2]}},
)
_MESSAGE_EVENTS = ("message_start", "content_block_start", "content_block_delta", "content_block_stop")
MESSAGE_ROWS = [
    MODEL,
    row(
        "`messages`",
        "Turns of `user`, `assistant` and `system` (text). Blocks: `text`; `image` (base64, url, or the id of an "
        "uploaded file), `document` (of text) and `tool_result` of the user; `tool_use`, `thinking`, "
        "`redacted_thinking` of the assistant. `cache_control` has no effect; blocks of hosted tools and "
        "`tool_reference` are ignored; other blocks, and PDFs, are a 400.",
        like_chat,
        same(messages=user({"type": "text", "text": QUESTION, "cache_control": {"type": "ephemeral"}})),
        looks_at(*_IMAGES),
        tools.takes_result,
        _takes_thoughts,
        refuses("messages[0].content[0]", messages=user({"type": "document", "source": {"type": "url", "url": "x"}})),
        _reads_documents,
        _takes_system_turns,
        refuses("messages[0].role", messages=[{"role": "tool", "content": "x"}]),
        refuses("messages[1].content[0].input", messages=_calls("Rome")),
    ),
    row("a prompt that is too long", "400 with the tokens of its text and how many fit.", is_too_long),
    row("`system`", "A string or text blocks.", _systems),
    row(
        "`max_tokens`",
        "Required. At the limit `stop_reason` is `max_tokens`. 0 is a 400.",
        limits("max_tokens"),
        refuses("max_tokens", max_tokens=None),
    ),
    row(
        "`temperature`, `top_p`, `top_k`",
        "As in Anthropic's API, `temperature` up to 2.",
        refuses("temperature", temperature=9),
        refuses("top_p", top_p=0),
        same(temperature=1, top_k=1),
        same(temperature=1, top_p=1e-6),
    ),
    row(
        "`stop_sequences`",
        "The answer ends before the first of these texts; `stop_sequence` names it.",
        cuts("stop_sequences", "stop_sequence"),
    ),
    row(
        "`stream`",
        "Events: " + ", ".join(f"`{name}`" for name in _MESSAGE_EVENTS) + ", `message_delta` (with the token counts), "
        "`message_stop`. No `ping`.",
        gives_events(*_MESSAGE_EVENTS, "message_delta", "message_stop"),
        _tells_usage_at_the_end,
    ),
    row(
        "`tools`, `tool_choice`",
        "Tools with an `input_schema`; Anthropic's own (`web_search_…`, `bash_…`) are ignored. `auto`, `any`, `none`, "
        "a named one; "
        "`disable_parallel_tool_use`: one call at most.",
        tools.calls_by_itself,
        tools.must_call,
        tools.calls_named,
        tools.calls_none,
        tools.leaves_out_hosted,
        refuses("tools", tool_choice={"type": "any"}),
        refuses("tool_choice", tool_choice={"type": "function", "name": "f"}),
    ),
    row(
        "`output_config`",
        "`format`: a JSON schema that the answer matches. `effort` has no effect.",
        matches(RED_OR_BLUE, output_config={"format": {"type": "json_schema", "schema": COLOR}}),
        same(output_config={"effort": "low"}),
    ),
    row("`metadata`", "Accepted without effect.", same(metadata={"user_id": "ana"})),
    row(
        "`thinking`, `context_management`, `mcp_servers`, `service_tier`, `seed`, `stop`, any other",
        "Ignored and listed in `x-vlserve-dropped`: these models have no thinking mode, and vLLM's Messages have "
        "no seed.",
        drops(thinking={"type": "enabled", "budget_tokens": 1024}, service_tier="auto", seed=1, stop=["a"]),
        drops(context_management={"edits": []}, mcp_servers=[{"type": "url", "url": "x", "name": "x"}]),
    ),
]


def _equals_usage(ask: Ask) -> None:
    messages = user({"type": "text", "text": "What is this?"}, _IMAGES[0])
    counted = ask(messages=messages)
    assert counted.headers["x-vlserve-engine"] == "vision"
    answer = ask.at(MESSAGES)(messages=messages, max_tokens=1)
    assert counted.prompt_tokens == answer.prompt_tokens > 100  # a hundred for the picture


def _adds(**fields: Any) -> Check:
    def check(ask: Ask) -> None:
        assert ask(**fields).prompt_tokens > ask().prompt_tokens

    return check


def _adds_nothing(ask: Ask) -> None:
    tools_alone = {"tools": [tools.MESSAGES_TOOL]}
    for fields in ({"tool_choice": {"type": "auto"}}, {"output_config": {"effort": "low"}}):
        answer = ask(**tools_alone, **fields)
        assert answer.prompt_tokens == ask(**tools_alone).prompt_tokens
        assert not set(answer.dropped) & set(fields)


COUNT_ROWS = [
    row(
        "`model`, `messages`, `system`",
        "As in messages; the answer is `input_tokens`, pictures included.",
        routes,
        _equals_usage,
        _systems,
    ),
    row("a prompt that is too long", "400 with the tokens of its text and how many fit.", is_too_long),
    row("`tools`", "Counted, too.", _adds(tools=[tools.MESSAGES_TOOL])),
    row(
        "`tool_choice`, `output_config`",
        "Accepted; no effect on the count.",
        _adds_nothing,
    ),
    row(
        "`max_tokens`, `stream`, `thinking`, any other",
        "Ignored and listed in `x-vlserve-dropped`: clients send the body of the request to be counted.",
        drops(max_tokens=9, stream=True, temperature=1, thinking={"type": "adaptive"}),
    ),
]
