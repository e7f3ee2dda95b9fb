"""The table of OpenAI's Responses in docs/api.md."""

from typing import Any

from tests.conftest import image_part, user
from tests.endpoints import tools
from tests.endpoints.asking import QUESTION, Ask
from tests.endpoints.common import (
    MODEL,
    SAMPLING,
    SCHEMA,
    STOPS,
    STRUCTURED,
    URL,
    is_too_long,
    knows_developer,
    looks_at,
    looks_in_roles,
)
from tests.endpoints.rows import (
    RED_OR_BLUE,
    Check,
    cuts,
    drops,
    gives_events,
    like_chat,
    limits,
    matches,
    refuses,
    row,
    same,
    says_json,
    shows_special_tokens,
)
from vlserve.protocols.protocol_definitions import CHAT


def _items(ask: Ask) -> None:
    earlier = {"type": "output_text", "text": "A city.", "annotations": []}
    items = [
        {"role": "user", "content": "What is Paris?"},
        {"type": "message", "role": "assistant", "content": [earlier, {"type": "refusal", "refusal": "No."}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        *user(QUESTION),
    ]
    turns = [items[0], {"role": "assistant", "content": "A city.No."}, items[3]]
    assert ask(input=items).prompt_tokens == ask.at(CHAT)(messages=turns).prompt_tokens


def _instructs(ask: Ask) -> None:
    system = [{"role": "system", "content": "You are a cook."}, *user(QUESTION)]
    assert ask(instructions="You are a cook.").prompt_tokens == ask.at(CHAT)(messages=system).prompt_tokens


def _scores_parts(ask: Ask) -> None:
    answer = ask(include=["message.output_text.logprobs"], top_logprobs=2)
    scores = answer.tree["output"][0]["content"][0]["logprobs"]
    assert "".join(token["token"] for token in scores).startswith(answer.text)
    assert all(len(token["top_logprobs"]) == 2 for token in scores)
    assert not ask(top_logprobs=2).tree["output"][0]["content"][0]["logprobs"]


def _leaves_out_includes(ask: Ask) -> None:
    name = "web_search_call.action.sources"
    assert ask(include=[name, "reasoning.encrypted_content"]).dropped == [f"include[0] ({name})"]


def _gives_back(**fields: Any) -> Check:
    def check(ask: Ask) -> None:
        answer = ask(**fields)
        assert answer.text == ask.plain.text
        assert all(answer.tree[name] == value for name, value in fields.items())

    return check


def _numbers_events(ask: Ask) -> None:
    events = [tree for _, tree in ask.stream()]
    assert [tree["sequence_number"] for tree in events] == list(range(len(events)))
    assert events[-1]["response"]["usage"]["output_tokens"] == ask.plain.tokens


def _keeps_nothing(ask: Ask) -> None:
    kept = ask.service.openai.with_options(max_retries=0)
    made = kept.responses.create(model="auto", input="hi", max_output_tokens=1, store=True)
    assert ask.get(f"/v1/responses/{made.id}").status_code == 404


_TEXT_EVENTS = (
    *("response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"),
    *("response.output_text.delta", "response.output_text.done", "response.content_part.done"),
    *("response.output_item.done", "response.completed"),
)
RESPONSE_ROWS = [
    MODEL,
    row(
        "`input`",
        "A text, or items: `message` (or a `role` with `content`), `function_call`, `function_call_output`, "
        "`custom_tool_call`, `custom_tool_call_output`; `reasoning` and items of hosted tools (`web_search_call` …) "
        "are ignored. Others are a 400.",
        like_chat,
        _items,
        tools.takes_result,
        refuses("unsupported_input_item", input=[{"type": "item_reference", "id": "x"}]),
    ),
    row(
        "`input`: roles, parts",
        "`user`, `system`, `developer` (the same) and `assistant`. Text, and pictures in all spellings "
        "([pictures.md](pictures.md)), also in a tool's output; the assistant's own turns are text.",
        knows_developer,
        looks_at({"type": "input_image", "image_url": URL}, image_part(URL)),
        looks_in_roles("system", "developer"),
        refuses("output_text or refusal", input=[{"role": "assistant", "content": [image_part(URL)]}]),
        refuses("input_file", input=user({"type": "input_file", "file_data": "x"})),
    ),
    row(
        "a prompt that is too long",
        "400 `context_length_exceeded` with the tokens of its text and how many fit.",
        is_too_long,
    ),
    row("`instructions`", "The system prompt.", _instructs),
    row(
        "`max_output_tokens`",
        "Maximum length of the answer. At the limit `status` is `incomplete`, with the reason "
        "`max_output_tokens`. 0 is a 400.",
        limits("max_output_tokens"),
    ),
    *SAMPLING,
    row(STOPS[0].what, "vLLM's here; as in chat.", cuts("stop", "completed")),
    STOPS[1],
    row("`skip_special_tokens`", "As in chat.", shows_special_tokens),
    row(
        "`include`, `top_logprobs`",
        "`message.output_text.logprobs` gives log-probabilities, and those of the `top_logprobs` most likely tokens. "
        "`reasoning.encrypted_content` has no effect; others are ignored.",
        _scores_parts,
        _leaves_out_includes,
        same(include=["reasoning.encrypted_content"]),
    ),
    row(
        "`stream`",
        "Numbered events with a type: "
        + ", ".join(f"`{name}`" for name in _TEXT_EVENTS)
        + ". The last one has the token counts; "
        "there is no `[DONE]`.",
        gives_events(*_TEXT_EVENTS),
        _numbers_events,
    ),
    row(
        "`text`",
        "`format`: `text`, `json_object`, `json_schema`. `verbosity` has no effect.",
        says_json(text={"format": {"type": "json_object"}}),
        matches(RED_OR_BLUE, text={"format": {"type": "json_schema", **SCHEMA, "strict": True}}),
        same(text={"format": {"type": "text"}, "verbosity": "low"}),
    ),
    *STRUCTURED,
    row(
        "`tools`, `tool_choice`",
        "Functions, and custom tools without a grammar; hosted tools (`web_search` …) and namespaces are ignored. "
        "`auto`, `none`, `required`, a named one; `allowed_tools` and other types are a 400.",
        tools.calls_by_itself,
        tools.must_call,
        tools.calls_named,
        tools.calls_none,
        tools.calls_custom,
        tools.leaves_out_hosted,
        refuses("tool_choice", tool_choice={"type": "allowed_tools", "mode": "auto", "tools": []}),
        refuses("tool_choice", tool_choice={"type": "any"}),
        refuses("tools", tool_choice="required"),
    ),
    row("`parallel_tool_calls`", "`false`: one call at most.", tools.calls_one),
    row(
        "`truncation`",
        "`disabled`; `auto` is ignored: no prompt is truncated, and one that is too long is a 400.",
        same(truncation="disabled"),
        same(truncation=None),
        drops(truncation="auto"),
    ),
    row(
        "`store`",
        "Accepted; nothing is stored. `GET /v1/responses/{id}` is a 404; send the earlier items in `input`.",
        same(store=True),
        _keeps_nothing,
    ),
    row(
        "`metadata`, `user`, `service_tier`",
        "Returned in the answer; no effect.",
        _gives_back(metadata={"a": "b"}, service_tier="flex", user="ana"),
    ),
    row(
        "`reasoning`, `include_reasoning`, `max_tool_calls`, `prompt_cache_key`, `safety_identifier`",
        "Accepted without effect.",
        same(reasoning={"effort": "high", "summary": "auto"}, include_reasoning=False),
        same(max_tool_calls=1, prompt_cache_key="a", safety_identifier="b"),
    ),
    row(
        "`max_tokens`, `stream_options`, `logprobs`, any other",
        "Ignored and listed in `x-vlserve-dropped`.",
        drops(max_tokens=2, stream_options={"include_usage": True}, logprobs=True),
    ),
]
