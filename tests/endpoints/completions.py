"""The table of completions in docs/api.md."""

from tests.endpoints.asking import QUESTION, Ask
from tests.endpoints.common import FORMATS, MODEL, RARE, SAMPLING, STOPS, STRUCTURED, is_too_long
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


def _prompts(ask: Ask) -> None:
    answer = ask(prompt=["1, 2, 3,", "one two"], n=2, temperature=1)
    assert [choice["index"] for choice in answer.tree["choices"]] == [0, 1, 2, 3]
    ids = ask(return_token_ids=True).tree["choices"][0]["prompt_token_ids"]
    for prompt in (ids, [ids]):
        assert ask(prompt=prompt).text == ask.plain.text
    assert "'prompt' must be" in ask.try_(prompt=["a", ""]).problem
    assert "9 answers" in ask.try_(prompt=["a"] * 9).problem


def _echoes(ask: Ask) -> None:
    assert ask(prompt=QUESTION, echo=True).text == QUESTION + ask(prompt=QUESTION).text


def _scores_tokens(ask: Ask) -> None:
    scores = ask.long(logprobs=2).tree["choices"][0]["logprobs"]
    assert len(scores["tokens"]) == len(scores["token_logprobs"]) == 32
    assert all(len(others) >= 2 for others in scores["top_logprobs"])


def _ends_after_16(ask: Ask) -> None:
    assert ask(max_tokens=None, ignore_eos=True).tokens == 16


COMPLETION_ROWS = [
    MODEL,
    row(
        "`prompt`",
        "A string, a list of strings, token ids, or a list of such lists; without chat template and pictures. "
        "`request.max_n` bounds prompts × `n`. One that is too long is a 400 with both numbers.",
        _prompts,
        is_too_long,
    ),
    row(
        "`max_tokens`",
        "Maximum length of the answer, 16 by default. At the limit `finish_reason` is `length`. 0 is a 400.",
        limits("length"),
        _ends_after_16,
    ),
    row(
        "`n`",
        "Number of answers to each prompt; more than one needs a `temperature` above 0.",
        answers_twice,
        refuses("greedy", n=2),
    ),
    *SAMPLING,
    *STOPS,
    row(
        "`logprobs`", "A number: the log-probability of each token, and of this many most likely ones.", _scores_tokens
    ),
    row("`echo`", "The answer begins with the prompt.", _echoes),
    row(
        "`stream`, `stream_options`",
        "As in chat.",
        gives_events("", "[DONE]"),
        tells_usage_when_asked,
        tells_usage_on_the_way,
        drops(stream_options={"include_usage": True}),
    ),
    *FORMATS,
    *STRUCTURED,
    row(
        "`user`",
        "Accepted without effect.",
        same(user="ana"),
    ),
    *RARE,
    row(
        "`metadata`, `store`, `messages`, any other",
        "Ignored and listed in `x-vlserve-dropped`.",
        drops(metadata={"a": "b"}, store=True, messages=[], tools=[]),
    ),
]
