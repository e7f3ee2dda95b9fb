"""All protocols through the gateway: routing, fields, pictures, answers and usage."""

import hashlib
import io
import json
import logging
import re
from typing import Any

import aiohttp
import pytest

from tests.conftest import Gateway, OpenGateway, picture, until, user
from tests.protocols.bodies import (
    ANSWERS,
    BODIES,
    COMPLETIONS,
    COUNT,
    ENCODED,
    IMAGE,
    INPUT_IMAGE,
    MESSAGES,
    RESPONSES,
    URL,
    WITH_PICTURE,
    sent,
)
from vlserve.config.keys import ApiKey
from vlserve.protocols.protocol_definitions import CHAT

SEEN_IMAGE = {"type": "image", "source": {"type": "url", "url": URL}}
SEEN_INPUT_IMAGE = {"type": "input_image", "image_url": URL, "detail": "auto"}


def without_name(part: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name != "uuid"}


@pytest.mark.parametrize("path", BODIES)
async def test_text_is_forwarded_to_the_text_engine_unchanged(gateway: Gateway, path: str) -> None:
    async with gateway.post(BODIES[path], path) as answer:
        assert answer.status == 200
        assert (answer.headers["x-vlserve-engine"], answer.headers["x-vlserve-reason"]) == ("text", "text_only")
    [seen] = sent(gateway, "text")
    assert seen["path"] == path
    named = {"model": "org/text-7b"} if path in (MESSAGES, COUNT) else {}  # vLLM requires a model there
    assert seen["body"] == BODIES[path] | named


@pytest.mark.parametrize("path", WITH_PICTURE)
async def test_picture_goes_to_vision_in_the_spelling_that_vllm_reads(gateway: Gateway, path: str) -> None:
    async with gateway.post(WITH_PICTURE[path], path) as answer:
        assert answer.status == 200
        assert (answer.headers["x-vlserve-engine"], answer.headers["x-vlserve-reason"]) == ("vision", "has_image")
        assert answer.headers["x-vlserve-images"].startswith("original=")
    body = sent(gateway, "vision")[0]["body"]
    content = (body.get("input") or body["messages"])[0]["content"]
    assert (SEEN_INPUT_IMAGE if path == RESPONSES else SEEN_IMAGE) in [without_name(part) for part in content]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (RESPONSES, {"input": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": URL}}]}]}),
        (RESPONSES, {"input": [{"type": "function_call_output", "call_id": "c", "output": [INPUT_IMAGE]}]}),
        (RESPONSES, {"input": [{"role": "developer", "content": [INPUT_IMAGE]}]}),
        (MESSAGES, {"messages": user({"type": "tool_result", "tool_use_id": "t", "content": [IMAGE]})}),
        (MESSAGES, {"messages": user(SEEN_IMAGE)}),
    ],
)
async def test_every_picture_is_found(gateway: Gateway, path: str, body: dict[str, Any]) -> None:
    async with gateway.post({"max_tokens": 9, **body} if path == MESSAGES else body, path) as answer:
        assert (answer.status, answer.headers["x-vlserve-engine"]) == (200, "vision")
    assert json.dumps(sent(gateway, "vision")[0]["body"]).count(ENCODED) == 1


async def test_uploaded_file_is_sent_as_a_picture(open_gateway: OpenGateway, tmp_path: Any) -> None:
    async with open_gateway(files={"folder": str(tmp_path)}) as gateway:
        form = aiohttp.FormData({"purpose": "vision"})
        form.add_field("file", io.BytesIO(picture()), filename="shot.png", content_type="image/png")
        async with gateway.session.post(f"{gateway.url}/v1/files", data=form) as answer:
            file = (await answer.json())["id"]
        bodies = {
            RESPONSES: {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": file}]}]},
            MESSAGES: {
                "messages": user({"type": "image", "source": {"type": "file", "file_id": file}}),
                "max_tokens": 9,
            },
        }
        for path, body in bodies.items():
            async with gateway.post(body, path) as answer:
                assert answer.status == 200
            assert ENCODED in json.dumps(sent(gateway, "vision")[-1]["body"])


async def test_counted_tokens_are_not_logged_as_computed(gateway: Gateway) -> None:
    async with gateway.post(BODIES[COUNT], COUNT) as answer:
        assert (await answer.json())["input_tokens"] == 7
    async with gateway.get("/metrics") as answer:
        assert re.findall(r"vlserve_prompt_tokens_total{.*} (\S+)", await answer.text()) in ([], ["0.0"])


async def test_key_may_come_as_anthropics_clients_send_it(open_gateway: OpenGateway) -> None:
    keys = (ApiKey("a", hashlib.sha256(b"k").digest()),)
    async with open_gateway(keys=keys) as gateway:
        for key, status, kind in (("k", 200, "message"), ("other", 401, "error")):
            async with gateway.post(BODIES[MESSAGES], MESSAGES, headers={"x-api-key": key}) as answer:
                reply = await answer.json()
                assert (answer.status, reply["type"]) == (status, kind)
        assert reply["error"]["type"] == "authentication_error"


@pytest.mark.parametrize("path", ANSWERS)
@pytest.mark.parametrize("is_stream", [False, True])
async def test_answer_is_complete_and_its_usage_is_logged(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, path: str, is_stream: bool
) -> None:
    caplog.set_level(logging.INFO, "vlserve.request")
    async with gateway.post({**BODIES[path], "stream": is_stream}, path) as answer:
        reply = await answer.text()
    if is_stream:
        said = [json.loads(line[6:]) for line in reply.splitlines() if line.startswith("data: {")]
        text = "".join(
            one.get("delta")
            if isinstance(one.get("delta"), str)
            else (one.get("delta") or {}).get("text", "") or "".join(c.get("text", "") for c in one.get("choices", []))
            for one in said
        )
        assert text == "one two three"
        last = {COMPLETIONS: "data: [DONE]", RESPONSES: "response.completed", MESSAGES: "message_stop"}[path]
        assert last in reply.strip().rpartition("\n\n")[2]
        assert ('"choices":[]' in reply) is False  # the client did not request usage
    else:
        assert "one two three" in reply
    await until(lambda: "vlserve.request" in [record.name for record in caplog.records])
    [record] = [record for record in caplog.records if record.name == "vlserve.request"]
    fields = vars(record)["fields"]
    assert (fields["engine"], fields["status"], fields["stream"]) == ("text", 200, is_stream)
    assert (fields["prompt_tokens"], fields["completion_tokens"]) == (7, 3)


async def test_items_of_an_earlier_answer_go_on_in_the_spelling_that_vllm_reads_whole(gateway: Gateway) -> None:
    parts = [
        {"type": "output_text", "text": "one ", "annotations": [], "logprobs": None},
        {"type": "refusal", "refusal": "two"},
    ]
    body = {
        "input": [
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": parts},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}", "status": "done"},
            {"type": "function_call_output", "call_id": "c", "output": "4"},
        ]
    }
    async with gateway.post(body, RESPONSES) as answer:
        assert answer.status == 200
    assert sent(gateway, "text")[0]["body"]["input"] == [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "message", "role": "assistant", "content": "one two"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "4"},
    ]


@pytest.mark.parametrize(
    ("path", "unknown"),
    [
        (COMPLETIONS, "messages"),
        (RESPONSES, "max_completion_tokens"),
        (MESSAGES, "seed"),
        (MESSAGES, "thinking"),
        (COUNT, "max_tokens"),
    ],
)
async def test_unknown_fields_are_dropped_and_named(gateway: Gateway, path: str, unknown: str) -> None:
    async with gateway.post({**BODIES[path], unknown: 5}, path) as answer:
        assert (answer.status, answer.headers["x-vlserve-dropped"]) == (200, unknown)
    assert unknown not in sent(gateway, "text")[0]["body"]


async def test_picture_of_a_turn_before_goes_as_a_name_in_responses_too(gateway: Gateway) -> None:
    for _ in range(2):
        async with gateway.post(WITH_PICTURE[RESPONSES], RESPONSES) as answer:
            assert answer.status == 200
    whole, named = (one["body"]["input"][0]["content"][1] for one in sent(gateway, "vision"))
    assert (whole["image_url"], named["image_url"]) == (URL, None)
    assert whole["uuid"] == named["uuid"]


USAGE = '"usage":{"prompt_tokens":7,"total_tokens":10,"completion_tokens":3%s}'


@pytest.mark.parametrize(
    ("given", "prompt", "completion"),
    [
        ("", None, 0),
        (',"prompt_tokens_details":null,"completion_tokens_details":null', None, 0),
        (', "prompt_tokens_details" : {"cached_tokens":4}, "completion_tokens_details" : null', 4, 0),
        (',"completion_tokens_details":{"reasoning_tokens":2}', None, 2),
    ],
)
def test_details_of_usage_are_objects(given: str, prompt: int | None, completion: int) -> None:
    raw = f'{{"choices":[{{"text":"\\"usage\\":{{null"}}],{USAGE % given}}}'.encode()
    before = json.loads(raw)

    after = json.loads(CHAT.events(wants_usage=True).add_usage_details(raw, before["usage"]))

    assert after["usage"].pop("prompt_tokens_details")["cached_tokens"] == prompt
    assert after["usage"].pop("completion_tokens_details")["reasoning_tokens"] == completion
    assert after == {**before, "usage": {name: before["usage"][name] for name in after["usage"]}}


@pytest.mark.parametrize("usage", ["null", "{}", "[]", '"usage"'])
def test_answer_without_usage_is_unchanged(usage: str) -> None:
    raw = f'{{"choices":[],"usage":{usage}}}'.encode()

    assert CHAT.events(wants_usage=True).add_usage_details(raw, json.loads(usage)) == raw


@pytest.mark.parametrize("stream", [False, True])
async def test_programs_can_read_into_the_details_of_usage(gateway: Gateway, stream: bool) -> None:
    body = {"messages": user("hi"), "stream": stream, "stream_options": {"include_usage": True} if stream else None}
    async with gateway.post(body) as answer:
        text = await answer.text()
    last = text.split("data: ")[-2] if stream else text
    usage = json.loads(last)["usage"]
    assert (usage["prompt_tokens_details"], usage["completion_tokens_details"]) == (
        {"cached_tokens": None},
        {"reasoning_tokens": 0},
    )
