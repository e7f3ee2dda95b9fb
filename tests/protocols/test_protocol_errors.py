"""Errors in the form of each protocol."""

import json
import logging
from typing import Any

import pytest

from tests.conftest import Gateway, OpenGateway, until, user
from tests.protocols.bodies import (
    ANSWERS,
    BODIES,
    COMPLETIONS,
    COUNT,
    IMAGE,
    INPUT_IMAGE,
    MESSAGES,
    RESPONSES,
    WITH_PICTURE,
    sent,
)


def wishing(path: str, wish: str, **more: Any) -> dict[str, Any]:
    return {**BODIES[path], **({"metadata": {"user_id": wish}} if path == MESSAGES else {"user": wish}), **more}


def message(error: dict[str, Any]) -> str:
    return str(error["error"]["message"])


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        (COMPLETIONS, {"prompt": "hi", "model": "nobody"}, 404, "nobody"),
        (COMPLETIONS, {"prompt": []}, 400, "'prompt' must be"),
        (COMPLETIONS, {"prompt": ["a", ""]}, 400, "'prompt' must be"),
        (COMPLETIONS, {"prompt": [["a"]]}, 400, "'prompt' must be"),
        (COMPLETIONS, {"prompt": ["a"] * 3, "n": 3}, 400, "9 answers"),
        (COMPLETIONS, {"prompt": "hi", "suffix": "x"}, 400, "'suffix'"),
        (COMPLETIONS, {"prompt": "hi", "use_beam_search": True}, 400, "'use_beam_search'"),
        (COMPLETIONS, {"prompt": "hi", "logprobs": 1000}, 400, "'logprobs'"),
        (RESPONSES, {"input": []}, 400, "'input' must be"),
        (RESPONSES, {"input": [{}]}, 400, "input[0]"),
        (RESPONSES, {"input": [{"role": "user", "content": "a"}] * 2001}, 400, "2,000 are allowed"),
        (RESPONSES, {"input": [{"type": "item_reference", "id": "x"}]}, 400, "input[0] has a type"),
        (RESPONSES, {"input": [{"role": "tool", "content": "x"}]}, 400, "input[0].role"),
        (RESPONSES, {"input": [{"role": "assistant", "content": [INPUT_IMAGE]}]}, 400, "input[0].content[0]"),
        (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, 400, "input[0].content[0]"),
        (RESPONSES, {"input": "hi", "previous_response_id": "r"}, 400, "does not store responses"),
        (RESPONSES, {"input": "hi", "background": True}, 400, "'background'"),
        (RESPONSES, {"input": "hi", "n": 2}, 400, "'n'"),
        (RESPONSES, {"input": "hi", "tool_choice": {"type": "allowed_tools"}}, 400, "'tool_choice'"),
        (RESPONSES, {"input": "hi", "tool_choice": {"type": "function", "name": "f"}}, 400, "'tools' has none"),
        (
            RESPONSES,
            {"input": "hi", "structured_outputs": {"choice": ["a"]}, "text": {"format": {"type": "json_object"}}},
            400,
            "cannot be combined with 'text'",
        ),
        (RESPONSES, {"input": "hi", "tool_choice": {"type": "any"}}, 400, "'tool_choice'"),
        (MESSAGES, {"messages": user("x"), "tool_choice": {"type": "any"}}, 400, "'tools' has none"),
        (MESSAGES, {"messages": user("x"), "tool_choice": {"type": "custom"}}, 400, "'tool_choice'"),
        (
            MESSAGES,
            {
                "messages": [
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": "x"}]}
                ]
            },
            400,
            "messages[0].content[0].input must be an object",
        ),
        (RESPONSES, {"input": "hi", "tools": [{"type": "web_search"}]}, 400, "runs no hosted tools"),
        (
            RESPONSES,
            {
                "input": "hi",
                "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}],
                "tool_choice": {"type": "web_search"},
            },
            400,
            "'tool_choice' forces a hosted tool ('web_search')",
        ),
        (RESPONSES, {"input": [{"type": "web_search_call", "id": "w"}]}, 400, "no item that the model reads"),
        (RESPONSES, {"input": "hi", "max_output_tokens": 0}, 400, "'max_output_tokens' must be at least 1"),
        (RESPONSES, {**WITH_PICTURE[RESPONSES], "model": "org/text-7b"}, 400, "input[0].content[1] is a picture"),
        (MESSAGES, {"messages": []}, 400, "'messages' must be"),
        (MESSAGES, {"messages": [{"role": "tool", "content": "x"}]}, 400, "messages[0].role"),
        (MESSAGES, {"messages": [{"role": "system", "content": [IMAGE]}]}, 400, "messages[0].content[0]"),
        (
            MESSAGES,
            {"messages": user({"type": "document", "source": {"type": "base64", "media_type": "application/pdf"}})},
            400,
            "PDFs and documents at a URL are not read; send their pages as pictures",
        ),
        (MESSAGES, {"messages": user("x"), "system": [IMAGE]}, 400, "system[0]"),
        (MESSAGES, {"messages": [{"role": "assistant", "content": [IMAGE]}]}, 400, "messages[0].content[0]"),
        (MESSAGES, {"messages": user({"type": "document"})}, 400, "messages[0].content[0]"),
        (MESSAGES, {"messages": user({**IMAGE, "uuid": "x"})}, 400, "uuid"),
        (MESSAGES, {"messages": user({"type": "image", "source": {"type": "file"}})}, 400, "file_id"),
        (MESSAGES, {"messages": user("x"), "guided_json": {"type": "object"}}, 400, "use output_config.format"),
        (
            MESSAGES,
            {"messages": user("x"), "tools": [{"type": "bash_20250124", "name": "bash"}]},
            400,
            "runs no hosted tools",
        ),
        (MESSAGES, {"messages": user("x"), "stop_sequences": ["x"] * 33}, 400, "'stop_sequences'"),
        (MESSAGES, {"messages": user(*[IMAGE] * 3)}, 400, "limit_mm_per_prompt.image"),
        (COUNT, {"messages": user("x"), "model": "nobody"}, 404, "nobody"),
    ],
)
async def test_invalid_requests_are_refused_before_any_engine(
    open_gateway: OpenGateway, path: str, body: dict[str, Any], status: int, said: str
) -> None:
    engines = {
        "text": {"model": "org/text-7b"},
        "vision": {"model": "org/vision-7b", "limit_mm_per_prompt": {"image": 2}},
    }
    async with open_gateway(engines) as gateway, gateway.post(body, path) as answer:
        reply = await answer.json()
        assert (answer.status, said in json.dumps(reply)) == (status, True), reply
        assert not sent(gateway, "text")
        assert not sent(gateway, "vision")


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        (MESSAGES, 400, "invalid_request_error"),
        (COUNT, 400, "invalid_request_error"),
        (f"{MESSAGES}/batches", 404, "not_found_error"),
    ],
)
async def test_errors_of_messages_have_anthropics_form(gateway: Gateway, path: str, status: int, kind: str) -> None:
    async with gateway.post(b"{", path) as answer:
        reply = await answer.json()
        assert (answer.status, reply["type"], reply["error"]["type"]) == (status, "error", kind)
        assert reply["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ANSWERS)
@pytest.mark.parametrize("is_stream", [False, True])
async def test_engine_refusal_is_a_400_with_its_reason(gateway: Gateway, path: str, is_stream: bool) -> None:
    async with gateway.post(wishing(path, "refuse", stream=is_stream), path) as answer:
        reply = await answer.json()
        assert (answer.status, message(reply)) == (400, "top_p must be in (0, 1]")
    assert len(sent(gateway, "text")) == 1


@pytest.mark.parametrize(("path", "status"), [(RESPONSES, 500), (MESSAGES, 400)])
async def test_engine_refusal_inside_a_stream_is_an_error_status(gateway: Gateway, path: str, status: int) -> None:
    async with gateway.post(wishing(path, "refuse-late", stream=True), path) as answer:
        assert answer.status == status
        assert "gave no reason" in message(await answer.json())
    assert len(sent(gateway, "text")) == 1


@pytest.mark.parametrize(
    ("path", "last"),
    [
        (RESPONSES, {"type": "error", "code": "engine_unavailable", "param": None, "sequence_number": 4}),
        (MESSAGES, {"type": "error"}),
    ],
)
async def test_engine_exit_inside_a_stream_is_an_error_event_of_the_protocol(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, path: str, last: dict[str, Any]
) -> None:
    caplog.set_level(logging.INFO, "vlserve.request")
    async with gateway.post(wishing(path, "core-dies", stream=True), path) as answer:
        assert answer.status == 200
        reply = await answer.text()
    *_, event = reply.strip().split("\n\n")
    name, _, data = event.partition("\n")
    error = json.loads(data.removeprefix("data: "))
    assert name == "event: error"
    assert last.items() <= error.items()
    if path == MESSAGES:
        assert (error["error"]["type"], "engine" in message(error)) == ("api_error", True)
    await until(lambda: "vlserve.request" in [record.name for record in caplog.records])
    [record] = [record for record in caplog.records if record.name == "vlserve.request"]
    assert vars(record)["fields"]["completion_tokens"] > 0  # after a disconnect, events are counted
    assert "input_value" not in reply
    assert "message_stop" not in reply
    assert "response.completed" not in reply


@pytest.mark.parametrize(
    ("path", "idle"),
    [
        (COMPLETIONS, {"best_of": 1, "use_beam_search": False, "suffix": ""}),
        (RESPONSES, {"n": 1, "background": False, "previous_response_id": None}),
        (MESSAGES, {"mcp_servers": [], "container": None}),
    ],
)
async def test_refused_field_with_its_default_value_is_dropped(
    gateway: Gateway, path: str, idle: dict[str, Any]
) -> None:
    async with gateway.post({**BODIES[path], **idle}, path) as answer:
        assert answer.status == 200
        assert answer.headers["x-vlserve-dropped"].split(", ") == list(idle)
    assert not idle.keys() & sent(gateway, "text")[0]["body"].keys()


async def test_invalid_tool_call_of_the_model_is_not_a_client_error(gateway: Gateway) -> None:
    tool = {"name": "look", "input_schema": {"type": "object"}}
    async with gateway.post(wishing(MESSAGES, "bad-call", tools=[tool]), MESSAGES) as answer:
        reply = await answer.json()
    assert (answer.status, reply["error"]["type"]) == (500, "api_error")
    assert "called a tool" in message(reply)


async def test_error_for_a_long_prompt_has_both_numbers(gateway: Gateway) -> None:
    async with gateway.post({"messages": user("a b c"), "user": "too-long"}) as answer:
        reply = await answer.json()
    assert (answer.status, reply["error"]["code"]) == (400, "context_length_exceeded")
    assert message(reply) == (
        "The prompt is too long: it has 3 tokens, and prompt and answer together can have 8,192 (max_model_len of the "
        "text engine)."
    )
    async with gateway.post(wishing(RESPONSES, "too-long"), RESPONSES) as answer:
        reply = await answer.json()
    assert (answer.status, reply["error"]["code"], reply["error"]["param"]) == (400, "context_length_exceeded", "input")
    assert "4491" in message(reply)
    assert "Its text alone has 1 tokens, and prompt and answer together can have 8,192" in message(reply)


async def test_caps_apply_only_to_supported_fields(gateway: Gateway) -> None:
    for path, left_out in ((RESPONSES, {"prompt_logprobs": 50, "bad_words": ["a"] * 40}), (COUNT, {"max_tokens": 0})):
        async with gateway.post({**BODIES[path], **left_out}, path) as answer:
            assert (answer.status, answer.headers["x-vlserve-dropped"]) == (200, ", ".join(left_out))


@pytest.mark.parametrize("path", [COMPLETIONS, RESPONSES, MESSAGES, COUNT])
async def test_text_that_cannot_fit_is_refused_before_an_engine_reads_it(gateway: Gateway, path: str) -> None:
    body = json.loads(json.dumps(BODIES[path]))
    field = next(name for name in ("messages", "prompt", "input") if name in body)
    long = "long " * (8192 * 256 // 5 + 1)
    body[field] = user(long) if field == "messages" else long
    async with gateway.post(body, path) as answer:
        reply = await answer.json()
    assert (answer.status, "its text has 2,097," in message(reply)) == (400, True), reply
    assert "8,192 tokens fit (max_model_len of the text engine)" in message(reply)
    assert sent(gateway, "text") == []
