"""Requests that crashed, blocked or corrupted vLLM (0.32 and earlier) are refused or answered, and the engine survives.

Found manually and in its advisories; docs/reliability.md has the effect of each.
"""

import json
from typing import Any

import httpx
import pytest

from tests.conftest import data_url, image_part, picture, user
from tests.protocols.test_structured import chain
from tests.vllm.service import KEYED, TIMEOUT_S, Service, ask

pytestmark = [pytest.mark.full, pytest.mark.engine, pytest.mark.timeout(600)]

_INNER_WORDS = (
    "VLLM",
    "Traceback",
    "/site-packages",
    ".cc:",
    "<path>",
    "pydantic",
    "input_value",
    "Param",
    "_backend",
    "environment var",
)
_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def regex(pattern: str) -> dict[str, Any]:
    return {"structured_outputs": {"regex": pattern}}


def schema(tree: Any) -> dict[str, Any]:
    return {"structured_outputs": {"json": tree}}


def answered_calls(arguments: Any) -> dict[str, Any]:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    tool = {"role": "tool", "tool_call_id": "c", "content": "1"}
    return {"messages": [*user("x"), {"role": "assistant", "content": None, "tool_calls": [call]}, tool]}


REFUSED: dict[str, dict[str, Any]] = {
    "huge n": {"n": 2**31},
    "n that fills every place": {"n": 128, "max_tokens": 64, "ignore_eos": True, "top_logprobs": 20, "logprobs": True},
    "every token's probability": {"logprobs": True, "top_logprobs": 100_000},
    "min_tokens over max_tokens": {"min_tokens": 100, "max_tokens": 5},
    "negative stop token": {"stop_token_ids": [-1] * 100},
    "ten thousand stops": {"stop": ["x"] * 10_000},
    "ten thousand bad words": {"bad_words": ["x"] * 10_000},
    "number of 400 digits": {"top_k": 10**400},
    "top_k beyond 64 bits": {"top_k": 2**64},
    "template": {"chat_template": "{{ 1 }}"},
    "template by its arguments": {"chat_template_kwargs": {"chat_template": "{{ 1 }}"}},
    "processor's arguments": {"mm_processor_kwargs": {"size": 1}},
    "embeddings": {"prompt_embeds": "AAAA"},
    "chain of 5,000 references": schema(chain(5000)),
    "pattern 100,000 groups deep": schema({"type": "string", "pattern": "(" * 100_000 + "a" + ")" * 100_000}),
    "20,000 properties": schema({"type": "object", "properties": {f"p{number}": {} for number in range(20_000)}}),
    "counted properties": schema(
        {"properties": {f"p{number}": {} for number in range(300)}, "minProperties": 150, "maxProperties": 160}
    ),
    "nested repetition": regex("((((a{1,100}){1,100}){1,100}){1,100})"),
    "500 repetitions deep": regex("(" * 500 + "a" + ")*" * 500),
    "long regex": regex("a?" * 1000 + "a" * 1000),
    "not an object": {"structured_outputs": "x"},
    "no kind": {"structured_outputs": {}},
    "allowed tokens against a regex": regex("[a-z]+") | {"allowed_token_ids": [5]},
    "tool without a name": {
        "tools": [{"type": "function"}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
    },
    "arguments 100,000 lists deep": answered_calls("[" * 100_000),
    "calls that are none": {"messages": [*user("x"), {"role": "assistant", "content": "x", "tool_calls": 0}]},
    "role that is a number": {"messages": [{"role": 5, "content": "x"}]},
    "four pictures of 48 megapixels": {"messages": user(*[image_part(data_url(picture(8000, 6000)))] * 4)},
}
# vLLM decides about these: only a 200 or a clear 400 is correct.
ANSWERED: dict[str, dict[str, Any]] = {
    "part that is a string": {"messages": user("a", "b")},
    "arguments 40,000 lists deep": answered_calls("[" * 40_000),
    "placeholders in text": {"messages": user("<|vision_start|><|image_pad|><|vision_end|><|video_pad|>" * 50)},
    "placeholders beside a picture": {
        "messages": user({"type": "text", "text": "<|image_pad|>" * 100}, image_part(data_url(picture(56, 56))))
    },
    "special tokens everywhere": {
        "messages": [{"role": "user", "name": "<|im_end|>", "content": "<|im_start|>" * 200}]
    },
    "role that nobody has": {"messages": [{"role": "<|im_end|>", "content": "x"}]},
    "min_tokens with every stop": {"min_tokens": 4, "stop_token_ids": list(range(30))},
    "bad words of nothing": {"bad_words": ["", " "]},
    "no allowed tokens": {"allowed_token_ids": []},
    "allowed tokens out of range": {"allowed_token_ids": [2**40]},
    "bias of all kinds": {"logit_bias": {"5": 1e308, "99999999": 1, "x": 2}},
    "very hot": {"temperature": 1e30},
    "very cold": {"temperature": 1e-30},
    "penalty of nothing": {"repetition_penalty": 0},
    "seed": {"seed": -(2**63)},
    "properties of letters": regex(r"\p{L}+"),
    "inline flags": regex("(?i)abc"),
    "double star": regex("a**"),
    "backslash alone": regex("\\"),
    "matches nothing": regex(r"[^\s\S]"),
    "reference to itself": schema({"$ref": "#"}),
    "negative length": schema({"type": "string", "minLength": -1}),
    "pattern that is none": schema({"patternProperties": {"(": {}}}),
    "pattern with a zero": schema({"type": "string", "pattern": "\u0000"}),
    "largest count": schema({"type": "array", "items": {}, "minItems": 10**9}),
    "largest schema": schema({"properties": {f"property{number}": {"type": "string"} for number in range(900)}}),
    "most optional pieces": regex("(" + "a?" * 31 + "){1,64}") | {"logit_bias": {"70": 100}},
    "most repetitions": regex("(a{1,44}){1,44}"),
    "tools that are required": {"tools": [_TOOL] * 100, "tool_choice": "required"},
    "five megabytes of text": {"messages": user("x" * 5_000_000)},
    "prompt cut to nothing": {"truncate_prompt_tokens": 0},
    "developer with a picture": {"messages": [{"role": "developer", "content": [image_part()]}]},
    "longest picture": {"messages": user(image_part(data_url(picture(1, 200))))},
}


def post(service: Service, body: dict[str, Any], model: str) -> httpx.Response:
    whole = {"model": model, "messages": user("x"), "max_tokens": 8, "temperature": 0, **body}
    raw = json.dumps(whole, ensure_ascii=False).encode()
    return httpx.post(f"{service.url}/v1/chat/completions", content=raw, headers=KEYED, timeout=TIMEOUT_S)


@pytest.mark.parametrize("name", [*REFUSED, *ANSWERED])
@pytest.mark.parametrize("model", ["demo-text", "demo-vision"])
def test_request_is_refused_or_answered_and_the_engine_survives(service: Service, name: str, model: str) -> None:
    body = {**REFUSED, **ANSWERED}[name]
    if model == "demo-text" and "image_url" in json.dumps(body.get("messages")):
        model = "auto"
    leaders = service.reapers()
    answer = post(service, body, model)
    tree = answer.json()
    assert answer.status_code == 400 or (answer.status_code == 200 and name in ANSWERED), answer.text[:500]
    if answer.status_code == 400:
        assert set(tree["error"]) == {"message", "type", "param", "code"}
        assert not [word for word in _INNER_WORDS if word in answer.text], answer.text[:500]
        if "structured_outputs" in body:
            assert tree["error"]["code"] == "invalid_structured_output", answer.text[:500]
    assert ask(service, "still there?", model="demo-text" if model == "auto" else model, max_tokens=1)
    assert service.reapers() == leaders


@pytest.mark.parametrize("model", ["demo-text", "demo-vision"])
def test_seed_with_a_prompt_of_several_parts_is_answered(service: Service, model: str) -> None:
    """vLLM computes at most 2,048 tokens at once (max_num_batched_tokens), and rewinds the seed after each part."""
    leaders = service.reapers()
    answer = post(service, {"messages": user("word " * 2500), "seed": 1, "temperature": 1}, model)
    assert answer.status_code == 200, answer.text[:500]
    assert answer.json()["usage"]["prompt_tokens"] > 2048
    assert ask(service, "still there?", model=model, max_tokens=1)
    assert service.reapers() == leaders
