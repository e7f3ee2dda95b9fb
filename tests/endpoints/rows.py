"""Rows of the tables in docs/api.md, and the checks for them."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.conftest import REPOSITORY
from tests.endpoints.asking import Ask
from vlserve.protocols.protocol_definitions import CHAT

Check = Callable[[Ask], None]
COLOR = {
    "type": "object",
    "properties": {"color": {"enum": ["red", "blue"]}},
    "required": ["color"],
    "additionalProperties": False,
}
RED_OR_BLUE = r'\{\s*"color"\s*:\s*"(red|blue)"\s*\}'
# At temperature 0 a small model may repeat line breaks, which JSON allows.
SAMPLED = {"temperature": 1}
_TOKENIZER = json.loads((REPOSITORY / "samples" / "demo-models" / "training" / "tokenizer.json").read_text())
_END = next(str(token["id"]) for token in _TOKENIZER["added_tokens"] if token["content"] == "<|im_end|>")
ENDS = {"logit_bias": {_END: 100}}
"""Makes the end of the answer the most likely token at each step."""


@dataclass(frozen=True)
class Row:
    what: str
    """Fields, values, roles or parts, in Markdown. Names at the beginning of backticks are fields."""
    happens: str
    checks: tuple[Check, ...]

    @property
    def fields(self) -> set[str]:
        return set(re.findall(r"`(\w+)", self.what))


def row(what: str, happens: str, *checks: Check) -> Row:
    return Row(what, happens, checks)


def same(**fields: Any) -> Check:
    """The fields are accepted and do not change the answer."""

    def check(ask: Ask) -> None:
        answer = ask(**fields)
        assert answer.text == ask.plain.text
        assert not set(answer.dropped) & set(fields)

    return check


def varies(**fields: Any) -> Check:
    """The fields change sampled texts."""

    def check(ask: Ask) -> None:
        sampled = {"temperature": 2, "seed": 1}
        assert ask.letters(**sampled, **fields) != ask.letters(**sampled)

    return check


def refuses(*words: str, **fields: Any) -> Check:
    """The answer is a 400 whose error contains all of ``words``."""

    def check(ask: Ask) -> None:
        answer = ask.try_(**fields)
        assert answer.status == 400, answer.tree
        assert all(word in answer.problem for word in words), answer.problem

    return check


def drops(**fields: Any) -> Check:
    """The fields are ignored, and listed in a header."""

    def check(ask: Ask) -> None:
        answer = ask(**fields)
        assert set(fields) <= set(answer.dropped)
        if ask.protocol.max_tokens_fields:
            assert answer.text == ask.plain.text

    return check


def matches(pattern: str, **fields: Any) -> Check:
    """The whole answer matches ``pattern``."""

    def check(ask: Ask) -> None:
        said = ask(**{**SAMPLED, ask.length: 100, **fields}).text
        assert re.fullmatch(pattern, said), said

    return check


def says_json(**fields: Any) -> Check:
    def check(ask: Ask) -> None:
        answer = ask(**{**SAMPLED, ask.length: 200, **fields})
        assert answer.text.lstrip().startswith("{")
        if answer.tokens < 200:
            assert isinstance(json.loads(answer.text), dict)

    return check


def cuts(field: str, finish: str) -> Check:
    """The answer ends before the text in ``field``, given as a string (if allowed) or in a list."""

    def check(ask: Ask) -> None:
        whole = ask.plain_long.text if "ignore_eos" in ask.protocol.fields else ask.plain.text
        word = whole[len(whole) // 2 :][:4]
        options = {"ignore_eos": True, ask.length: 32} if "ignore_eos" in ask.protocol.fields else {}
        for value in ([word, "§"], word) if field == "stop" else ([word, "§"],):
            answer = ask(**options, **{field: value})
            assert answer.text == whole[: whole.index(word)]
            assert answer.finish == finish
            assert answer.tree.get("stop_sequence", word) == word  # messages report it

    return check


def keeps_stop(ask: Ask) -> None:
    whole = ask.plain_long.text
    word = whole[len(whole) // 2 :][:4]
    assert ask.long(stop=word, include_stop_str_in_output=True).text == whole[: whole.index(word)] + word


def seeded(ask: Ask) -> None:
    texts = [ask.letters(temperature=2, seed=seed) for seed in (1, 1, 2, 3)]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


def limits(finish: str) -> Check:
    """Check each field that limits the answer's length."""

    def check(ask: Ask) -> None:
        for name in ask.protocol.max_tokens_fields:
            answer = ask(**{**dict.fromkeys(ask.protocol.max_tokens_fields), name: 1})
            assert (answer.tokens, answer.finish) == (1, finish)
            assert ask.try_(**{name: 0}).status == 400
            assert "4096" in ask.try_(**{name: 100_000}).problem

    return check


def forces_token(ask: Ask) -> None:
    assert set(ask.long(logit_bias={"40": 100}).text) == {"I"}


def chooses_from_tokens(ask: Ask) -> None:
    assert re.fullmatch("[IJ]{32}", ask.long(allowed_token_ids=[40, 41]).text)


def never_says(ask: Ask) -> None:
    for word, other in ("IJ", "JI"):
        assert ask.long(allowed_token_ids=[40, 41], bad_words=[word]).text == other * 32


def stops_at_token(ask: Ask) -> None:
    """The third token of the plain answer; a response has the same prompt as the chat."""
    other = ask.at(CHAT) if "return_token_ids" not in ask.protocol.fields else ask
    ids = other.long(return_token_ids=True).tree["choices"][0]["token_ids"]
    assert ask.long(stop_token_ids=[ids[2]]).tokens == ids.index(ids[2]) + 1


def goes_on(ask: Ask) -> None:
    assert ask(**ENDS).tokens == 1
    assert ask.long(**ENDS).tokens == 32


def is_as_long(ask: Ask) -> None:
    assert ask(**ENDS, min_tokens=8).tokens == 9  # the end is the ninth token


def shows_special_tokens(ask: Ask) -> None:
    for is_hidden, text in ((True, ""), (False, "<|im_end|>" * 32)):
        assert ask.long(**ENDS, skip_special_tokens=is_hidden).text == text


def gives_token_ids(ask: Ask) -> None:
    answer = ask(return_token_ids=True)
    assert len(answer.tree["choices"][0]["token_ids"]) == answer.tokens


def scores_prompt(ask: Ask) -> None:
    answer = ask(prompt_logprobs=1)
    scores = answer.tree.get("prompt_logprobs") or answer.tree["choices"][0]["prompt_logprobs"]
    assert len(scores) == answer.prompt_tokens


def answers_twice(ask: Ask) -> None:
    answer = ask(n=2, temperature=1)
    assert [choice["index"] for choice in answer.tree["choices"]] == [0, 1]


def routes(ask: Ask) -> None:
    for model, engine in ((None, "text"), ("auto", "text"), ("demo-text", "text"), ("demo-vision", "vision")):
        answer = ask(model=model)
        assert answer.headers["x-vlserve-engine"] == engine
        assert answer.tree.get("model", f"demo-{engine}") == f"demo-{engine}"
    refused = ask.try_(model="nobody")
    assert (refused.status, "demo-text" in refused.problem) == (404, True)


def tells_usage_when_asked(ask: Ask) -> None:
    for options, times in ((None, 0), ({"include_usage": False}, 0), ({"include_usage": True}, 1)):
        events = ask.stream(stream_options=options)
        assert events[-1][0] == "[DONE]"
        assert len([tree for _, tree in events if tree.get("usage")]) == times


def tells_usage_on_the_way(ask: Ask) -> None:
    *chunks, _ = ask.stream(stream_options={"include_usage": True, "continuous_usage_stats": True})
    assert all(tree.get("usage") for _, tree in chunks)


def gives_events(*names: str) -> Check:
    """A stream has these events in this order, and the answer's text."""

    def check(ask: Ask) -> None:
        events = ask.stream()
        assert list(dict.fromkeys(name for name, _ in events)) == list(names)
        deltas = [tree.get("delta") or tree for _, tree in events]
        texts = [one if isinstance(one, str) else _said(one) for one in deltas]
        assert "".join(texts) == ask.plain.text

    return check


def _said(delta: dict[str, Any]) -> str:
    choices = "".join(one.get("text") or one.get("delta", {}).get("content") or "" for one in delta.get("choices", []))
    return choices or str(delta.get("text", "") if delta.get("type") == "text_delta" else "")


def like_chat(ask: Ask) -> None:
    assert ask.plain.text == ask.at(CHAT).plain.text
