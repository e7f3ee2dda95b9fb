"""The table of chat completions in docs/api.md."""

from tests.conftest import image_part, user
from tests.endpoints import tools
from tests.endpoints.asking import QUESTION, Ask
from tests.endpoints.common import (
    FORMATS,
    MODEL,
    RARE,
    SAMPLING,
    STOPS,
    STRUCTURED,
    URL,
    is_too_long,
    knows_developer,
    looks_at,
    looks_in_roles,
)
from tests.endpoints.rows import (
    answers_twice,
    drops,
    gives_events,
    limits,
    refuses,
    row,
    same,
    tells_usage_on_the_way,
    tells_usage_when_asked,
)


def _continues(ask: Ask) -> None:
    turns = [*user(QUESTION), {"role": "assistant", "content": "The capital"}]
    options = {"add_generation_prompt": False, "continue_final_message": True}
    answer, echoed = (ask(messages=turns, **options, echo=echo) for echo in (False, True))
    assert echoed.text == f"The capital{answer.text}"
    assert answer.prompt_tokens < ask(messages=turns).prompt_tokens


def _scores(ask: Ask) -> None:
    tokens = ask.long(logprobs=True, top_logprobs=2).tree["choices"][0]["logprobs"]["content"]
    assert [len(token["top_logprobs"]) for token in tokens] == [2] * 32
    assert all(token["top_logprobs"][0]["token"] == token["token"] for token in tokens)  # greedy


def _first_counts(ask: Ask) -> None:
    assert ask(max_completion_tokens=2, max_tokens=5, ignore_eos=True).tokens == 2


def _goes_on(ask: Ask) -> None:
    for arguments in ('{"city": ', "", None):
        call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}
        spoken = {"role": "assistant", "content": None, "tool_calls": [call]}
        result = {"role": "tool", "tool_call_id": "c1", "content": "x"}
        answer = ask(messages=[*user("Hello!"), spoken, result, *user(QUESTION)])
        assert answer.dropped == ["messages[1].tool_calls[0].function.arguments"]


def _gives_prompt(ask: Ask) -> None:
    assert QUESTION in ask(return_prompt_text=True).tree["prompt_text"]


CHAT_ROWS = [
    MODEL,
    row(
        "`messages`: roles",
        "`system`, `user`, `assistant`, `tool`; `developer` is the same as `system`.",
        knows_developer,
        tools.takes_result,
    ),
    row(
        "`messages`: parts",
        "A string, or parts: `text` (also `input_text`, `output_text`, `refusal`) and pictures in all spellings "
        "([pictures.md](pictures.md)) in every role; a `video_url` if [videos](pictures.md#videos) are enabled; a "
        "string among the parts is a text. Parts of other types are a 400.",
        same(messages=[{"role": "user", "content": [QUESTION]}]),
        same(messages=user({"type": "input_text", "text": QUESTION})),
        same(messages=user({"type": "output_text", "text": QUESTION})),
        same(messages=user({"type": "refusal", "refusal": QUESTION})),
        looks_at(image_part(URL), {"type": "input_image", "image_url": URL}, {"image_url": URL}),
        looks_at({"type": "image", "image": URL}),
        looks_in_roles("system", "developer", "assistant", "tool"),
        refuses("input_audio", messages=user({"type": "input_audio", "input_audio": {"data": "", "format": "mp3"}})),
    ),
    row(
        "`messages`: earlier tool calls",
        "Arguments that are not a JSON object, such as truncated ones, are replaced by `{}`; "
        "`x-vlserve-dropped` lists them.",
        _goes_on,
    ),
    row(
        "a prompt that is too long",
        "400 `context_length_exceeded` with the prompt's tokens and how many fit.",
        is_too_long,
    ),
    row(
        "`max_completion_tokens`, `max_tokens`",
        "Maximum length of the answer; the first applies if both are given. At the limit `finish_reason` is "
        "`length`. 0 is a 400.",
        limits("length"),
        _first_counts,
    ),
    row(
        "`n`",
        "Number of answers to one prompt; more than one needs a `temperature` above 0.",
        answers_twice,
        refuses("greedy", n=2),
    ),
    *SAMPLING,
    *STOPS,
    row(
        "`logprobs`, `top_logprobs`",
        "`true`, and the number of most likely tokens to report at each position.",
        _scores,
        refuses("top_logprobs", top_logprobs=2),
    ),
    row(
        "`stream`, `stream_options`",
        "Chunks, then `[DONE]`. `include_usage`: one more chunk with token counts; `continuous_usage_stats`: "
        "in each chunk (vLLM's). Other options, and all of them without `stream`, are ignored.",
        gives_events("", "[DONE]"),
        tells_usage_when_asked,
        tells_usage_on_the_way,
        drops(stream_options={"include_usage": True}),
    ),
    *FORMATS,
    *STRUCTURED,
    row(
        "`tools`, `tool_choice`",
        "Functions. `auto`, `required` (at least one call), a named one; with `none` nothing is parsed as a call, "
        "though the prompt still contains the tools. An empty list is the same as none. Hosted tools are ignored.",
        tools.calls_by_itself,
        tools.must_call,
        tools.calls_named,
        tools.calls_none,
        refuses("tools", tool_choice="required"),
        same(tools=[], tool_choice="auto"),
        tools.leaves_out_hosted,
    ),
    row("`parallel_tool_calls`", "`false`: one call at most.", tools.calls_one),
    row(
        "`user`, `reasoning_effort`, `include_reasoning`",
        "Accepted without effect: these models do not reason.",
        same(user="ana"),
        same(reasoning_effort="high"),
        same(include_reasoning=False),
    ),
    row(
        "`add_generation_prompt`, `continue_final_message`, `echo`",
        "vLLM's: `false` with `true` continues the assistant's last message; `echo` puts that message before the "
        "answer.",
        _continues,
        refuses("continue_final_message", continue_final_message=True),
    ),
    row("`return_prompt_text`", "vLLM's: the text of the prompt, in `prompt_text`.", _gives_prompt),
    *RARE,
    row(
        "`metadata`, `store`, `service_tier`, `prediction`, `verbosity`, `modalities`, `web_search_options`, any other",
        "Ignored and listed in `x-vlserve-dropped`.",
        drops(metadata={"a": "b"}, store=True, service_tier="auto"),
        drops(verbosity="low", modalities=["text"], prediction={"type": "content", "content": "x"}),
        drops(web_search_options={}, guided_decoding_backend="xgrammar", max_output_tokens=3),
    ),
]
