"""Rows and checks shared by several tables of docs/api.md."""

import json
import re
from typing import Any

from tests.conftest import data_url, picture, user
from tests.endpoints.asking import Ask
from tests.endpoints.rows import (
    COLOR,
    RED_OR_BLUE,
    Check,
    chooses_from_tokens,
    cuts,
    forces_token,
    gives_token_ids,
    goes_on,
    is_as_long,
    keeps_stop,
    matches,
    never_says,
    refuses,
    routes,
    row,
    same,
    says_json,
    scores_prompt,
    seeded,
    shows_special_tokens,
    stops_at_token,
    varies,
)
from vlserve.protocols.protocol_definitions import COMPLETIONS, MESSAGES, RESPONSES

URL = data_url(picture(280, 280, "red"))
SCHEMA = {"name": "paint", "schema": COLOR}
_GRAMMAR = 'root ::= "SELECT " ("a" | "b")'
_WORDS = "word " * 5000
MODEL = row(
    "`model`",
    "`auto` or absent: the vision model if there is a picture, else the text model. A model's name selects it; "
    "any other "
    "is a 404 that lists the models.",
    routes,
)
SAMPLING = [
    row(
        "`temperature`, `top_p`",
        "As in OpenAI's API; 0 to 2, and above 0 to 1.",
        refuses("temperature", temperature=9),
        refuses("top_p", top_p=0),
        same(temperature=1, top_p=1e-6),
    ),
    row(
        "`top_k`, `min_p`",
        "vLLM's: only the `top_k` likeliest tokens, only those at least `min_p` times as likely as the likeliest.",
        same(temperature=1, top_k=1),
        same(temperature=1, min_p=1),
        refuses("min_p", min_p=2),
    ),
    row(
        "`seed`",
        "Requests with the same seed get the same text.",
        seeded,
    ),
    row(
        "`presence_penalty`, `frequency_penalty`, `repetition_penalty`",
        "-2 to 2; the last is vLLM's, above 0. Tokens that occurred before become less likely.",
        varies(presence_penalty=2),
        varies(frequency_penalty=2),
        varies(repetition_penalty=3),
        refuses("presence_penalty", presence_penalty=3),
        refuses("frequency_penalty", frequency_penalty=-3),
        refuses("repetition_penalty", repetition_penalty=0),
    ),
    row("`logit_bias`", "Token id → number that is added to its score; 100 forces the token.", forces_token),
]
STOPS = [
    row(
        "`stop`",
        "A string or a list. The answer ends before the first of these texts.",
        cuts("stop", "stop"),
    ),
    row(
        "`include_stop_str_in_output`, `stop_token_ids`, `ignore_eos`",
        "vLLM's: include the stop text in the answer; stop at these tokens; continue after the model's end token.",
        keeps_stop,
        stops_at_token,
        goes_on,
    ),
]


def scores_named_tokens(ask: Ask) -> None:
    scores = 1 if ask.protocol is COMPLETIONS else True
    answer = ask(logprobs=scores, logprob_token_ids=[5, 6], return_tokens_as_token_ids=True)
    assert all(f"token_id:{number}" in json.dumps(answer.tree["choices"][0]["logprobs"]) for number in (5, 6))


def streams_in_larger_chunks(ask: Ask) -> None:
    options = {ask.length: 16, "ignore_eos": True}
    assert len(ask.stream(**options, stream_interval=8)) < len(ask.stream(**options)) / 2


RARE = [
    row(
        "`min_tokens`, `bad_words`, `allowed_token_ids`",
        "vLLM's: the answer's minimum length; texts that may not occur; the only tokens that may occur.",
        is_as_long,
        never_says,
        chooses_from_tokens,
    ),
    row(
        "`prompt_logprobs`, `return_token_ids`",
        "vLLM's: log-probabilities of the prompt's tokens (not in a stream); ids of all tokens.",
        scores_prompt,
        refuses("prompt_logprobs", prompt_logprobs=1, stream=True),
        gives_token_ids,
    ),
    row(
        "`logprob_token_ids`, `return_tokens_as_token_ids`",
        "vLLM's: with `logprobs`, those of these tokens at each position; tokens as `token_id:…`.",
        scores_named_tokens,
    ),
    row("`stream_interval`", "vLLM's: tokens per chunk of a stream.", streams_in_larger_chunks),
    row("`add_special_tokens`", "vLLM's; no effect here.", same(add_special_tokens=False)),
    row("`skip_special_tokens`", "vLLM's: `false` shows tokens like `<\\|im_end\\|>`.", shows_special_tokens),
    row(
        "`length_penalty`, `spaces_between_special_tokens`",
        "vLLM's; no effect here.",
        same(length_penalty=2.0),
        same(spaces_between_special_tokens=False),
    ),
]
FORMATS = [
    row(
        "`response_format`",
        "`json_object`, `json_schema`, `text`. The answer matches it; `structured_outputs` in addition is a 400.",
        says_json(response_format={"type": "json_object"}),
        matches(RED_OR_BLUE, response_format={"type": "json_schema", "json_schema": SCHEMA}),
        same(response_format={"type": "text"}),
        refuses("structured_outputs", response_format={"type": "json_object"}, structured_outputs={"choice": ["a"]}),
    ),
]
_TENS = {"type": "integer", "multipleOf": 10}
STRUCTURED = [
    row(
        "`structured_outputs`",
        "vLLM's: exactly one of `json` (a schema), `regex`, `choice`, `grammar` (needs `request.allow_grammar`). What "
        "cannot be compiled is a 400 `invalid_structured_output`, which names keywords that are not supported "
        "(`multipleOf`, `uniqueItems` …) and their place.",
        matches(RED_OR_BLUE, structured_outputs={"json": COLOR}),
        matches("[ab]{3}", structured_outputs={"regex": "[ab]{3}"}),
        matches("red|blue", structured_outputs={"choice": ["red", "blue"]}),
        matches("SELECT [ab]", structured_outputs={"grammar": _GRAMMAR}),
        refuses("invalid_structured_output", structured_outputs={"regex": "(a"}),
        refuses("structured_outputs.json:", "multipleOf", structured_outputs={"json": _TENS}),
        refuses("exactly one", structured_outputs={"regex": "a", "choice": ["a"]}),
    ),
    row(
        "`guided_json`, `guided_regex`, `guided_choice`, `guided_grammar`, `guided_whitespace_pattern`",
        "vLLM's former names, translated into `structured_outputs`.",
        matches(RED_OR_BLUE, guided_json=COLOR, guided_whitespace_pattern="[ ]?"),
        matches("[ab]{3}", guided_regex="[ab]{3}"),
        matches("red|blue", guided_choice=["red", "blue"]),
        matches("SELECT [ab]", guided_grammar=_GRAMMAR),
        refuses("cannot be combined", guided_regex="a", guided_choice=["a"]),
    ),
]


def knows_developer(ask: Ask) -> None:
    """``developer`` has the effect of ``system``."""
    prompt = ask.protocol.prompt
    answers = [
        ask(**{prompt: [{"role": role, "content": "You are a cook."}, *user("Who are you?")]})
        for role in ("developer", "system")
    ]
    assert (answers[0].text, answers[0].prompt_tokens) == (answers[1].text, answers[1].prompt_tokens)
    assert answers[0].prompt_tokens != ask(**{prompt: user("Who are you?")}).prompt_tokens


def looks_at(*parts: dict[str, Any]) -> Check:
    def check(ask: Ask) -> None:
        text = {"type": "input_text" if ask.protocol is RESPONSES else "text", "text": "What is this?"}
        for part in parts:
            answer = ask(**{ask.protocol.prompt: user(part, text)})
            assert answer.headers["x-vlserve-reason"] == "has_image"
            assert "original=280x280" in answer.headers["x-vlserve-images"]

    return check


def looks_in_roles(*roles: str) -> Check:
    def check(ask: Ask) -> None:
        part = {"type": "input_image", "image_url": URL}
        for role in roles:
            message = {"role": role, "content": [part], "tool_call_id": "c"}
            answer = ask(**{ask.protocol.prompt: [message, *user("What is this?")]})
            assert answer.headers["x-vlserve-engine"] == "vision"

    return check


def is_too_long(ask: Ask) -> None:
    """The error has the prompt's tokens and the limit, and, except in messages, a code."""
    prompt = user(_WORDS) if ask.protocol.prompt == "messages" else _WORDS
    answer = ask.try_(**{ask.protocol.prompt: prompt})
    assert answer.status == 400
    numbers = {int(number) for number in re.findall(r"\d+", answer.problem.replace(",", ""))}
    assert 4096 in numbers
    assert any(5000 <= number < 5100 for number in numbers)
    if not ask.protocol.path.startswith(MESSAGES.path):
        assert "context_length_exceeded" in answer.problem
