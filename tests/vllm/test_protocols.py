"""Completions, responses and messages with real vLLM: the same answers and rules as in chat."""

import io
import json
import re
import time
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.conftest import data_url, image_part, picture, user
from tests.vllm.service import KEYED, LOGIN, TIMEOUT_S, Service, ask, login_url

pytestmark = [pytest.mark.full, pytest.mark.engine, pytest.mark.timeout(600)]

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGES = "/v1/messages"
QUESTION = "What is on this screenshot?"
LENGTHS = {CHAT: "max_tokens", COMPLETIONS: "max_tokens", RESPONSES: "max_output_tokens", MESSAGES: "max_tokens"}
IMPOSSIBLE = {"type": "object", "properties": {"a": {"type": "nosuch"}}, "required": ["a"]}
COLOR = {"type": "string", "enum": ["red", "green", "blue"]}
PAINT = {"type": "object", "properties": {"color": COLOR}, "required": ["color"], "additionalProperties": False}


def body(path: str, text: str, /, **more: Any) -> dict[str, Any]:
    """Return a request for a short, greedy answer to a text."""
    prompt: dict[str, Any] = {"messages": user(text)}
    if path == COMPLETIONS:
        prompt = {"prompt": text}
    elif path == RESPONSES:
        prompt = {"input": text}
    return {**prompt, LENGTHS[path]: 24, "temperature": 0, **more}


def post(service: Service, path: str, tree: dict[str, Any]) -> httpx.Response:
    return httpx.post(service.url + path, json=tree, headers=KEYED, timeout=TIMEOUT_S)


def asked_of_responses(service: Service, *content: Any, **options: Any) -> Any:
    options = {"model": "auto", "temperature": 0, "max_output_tokens": 24, **options}
    return service.openai.responses.create(input=[{"role": "user", "content": list(content)}], **options)


def asked_of_messages(service: Service, *content: Any, **options: Any) -> Any:
    options = {"model": "auto", "max_tokens": 24, "extra_body": {"temperature": 0}, **options}
    return service.anthropic.messages.create(messages=[{"role": "user", "content": list(content)}], **options)


def test_completion_stream_has_the_text_of_the_response(service: Service) -> None:
    # The demo model was trained on chats only, so the prompts have the format of the chat template.
    questions = ("What is the capital of France?", "What is 2 + 3?")
    prompts = [f"<|im_start|>user\n{one}<|im_end|>\n<|im_start|>assistant\n" for one in questions]
    options = {"model": "auto", "prompt": prompts, "temperature": 0, "max_tokens": 16}
    whole = service.openai.completions.create(**options)
    texts = ["", ""]
    for chunk in service.openai.completions.create(**options, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [choice.text for choice in whole.choices]
    assert "Paris" in texts[0]
    assert "5" in texts[1]
    assert whole.usage.completion_tokens <= 32
    assert whole.model == "demo-text"


def test_text_is_answered_as_in_chat(service: Service) -> None:
    said = ask(service, "What is the capital of France?")
    assert (
        asked_of_responses(service, {"type": "input_text", "text": "What is the capital of France?"}).output_text
        == said
    )
    answer = asked_of_messages(service, {"type": "text", "text": "What is the capital of France?"})
    assert (answer.content[0].text, answer.model) == (said, "demo-text")


def test_picture_is_answered_as_in_chat_for_every_source(service: Service) -> None:
    url = login_url()
    said = ask(service, image_part(url), {"type": "text", "text": QUESTION})
    other = ask(service, image_part(data_url(picture(280, 280, "red"))), {"type": "text", "text": QUESTION})
    assert said != other
    file = service.openai.files.create(file=("login.png", io.BytesIO(LOGIN.read_bytes())), purpose="vision").id
    for image in ({"image_url": url}, {"file_id": file}):
        content = ({"type": "input_image", **image}, {"type": "input_text", "text": QUESTION})
        for _ in range(2):  # the second time the picture is in the engine's cache
            answer = asked_of_responses(service, *content)
            assert (answer.output_text, answer.model) == (said, "demo-vision")
    encoded = {"type": "base64", "media_type": "image/png", "data": url.partition(",")[2]}
    for source in (encoded, {"type": "url", "url": url}, {"type": "file", "file_id": file}):
        answer = asked_of_messages(service, {"type": "image", "source": source}, {"type": "text", "text": QUESTION})
        assert (answer.content[0].text, answer.model) == (said, "demo-vision")


def test_picture_in_a_tool_result_is_used(service: Service) -> None:
    def look(url: str) -> Any:
        call = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
        output = [{"type": "input_image", "image_url": url}]
        items: list[Any] = [{"role": "user", "content": "Look at the picture."}, call]
        items += [{"type": "function_call_output", "call_id": "c1", "output": output}]
        items += [{"role": "user", "content": "What colour is the picture?"}]
        return service.openai.responses.create(model="auto", input=items, temperature=0, max_output_tokens=24)

    red, blue = (look(data_url(picture(280, 280, color))) for color in ("red", "blue"))
    assert red.model == blue.model == "demo-vision"
    assert red.usage.input_tokens > 100  # a hundred for the picture
    assert (red.output_text, blue.output_text) == ("It is red.", "It is blue.")


def test_streams_have_the_protocols_events_and_the_text_of_the_response(service: Service) -> None:
    content = [{"type": "input_image", "image_url": login_url()}, {"type": "input_text", "text": QUESTION}]
    whole = asked_of_responses(service, *content)
    events = list(asked_of_responses(service, *content, stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert events[-1].response.usage.output_tokens == whole.usage.output_tokens

    image = {"type": "image", "source": {"type": "url", "url": login_url()}}
    with service.anthropic.messages.stream(
        model="auto",
        messages=user(image, {"type": "text", "text": QUESTION}),
        max_tokens=24,
        extra_body={"temperature": 0},
    ) as stream:
        assert "".join(stream.text_stream) == whole.output_text
        assert stream.get_final_message().usage.output_tokens == whole.usage.output_tokens


def test_tokens_of_a_message_are_those_of_its_answer(service: Service) -> None:
    image = {"type": "image", "source": {"type": "url", "url": login_url()}}
    content = [image, {"type": "text", "text": QUESTION}]
    counted = service.anthropic.messages.count_tokens(model="auto", messages=user(*content))
    assert counted.input_tokens == asked_of_messages(service, *content).usage.input_tokens


@pytest.mark.parametrize(
    ("path", "constraint", "pattern"),
    [
        (CHAT, {"structured_outputs": {"choice": ["red", "blue"]}}, "red|blue"),
        (CHAT, {"guided_choice": ["red", "blue"]}, "red|blue"),
        (CHAT, {"guided_regex": "[ab]{3}"}, "[ab]{3}"),
        (CHAT, {"structured_outputs": {"grammar": 'root ::= "SELECT " ("a" | "b")'}}, "SELECT [ab]"),
        (CHAT, {"guided_grammar": 'root ::= "SELECT " ("a" | "b")'}, "SELECT [ab]"),
        (CHAT, {"guided_json": PAINT}, r'\{\s*"color":\s*"(red|green|blue)"\s*\}'),
        (
            CHAT,
            {"response_format": {"type": "json_schema", "json_schema": {"name": "paint", "schema": PAINT}}},
            r'\{\s*"color":\s*"(red|green|blue)"\s*\}',
        ),
        (COMPLETIONS, {"structured_outputs": {"regex": "[ab]{3}"}}, "[ab]{3}"),
        (COMPLETIONS, {"guided_regex": "[ab]{3}"}, "[ab]{3}"),
        (RESPONSES, {"structured_outputs": {"choice": ["red", "blue"]}}, "red|blue"),
        (
            RESPONSES,
            {"text": {"format": {"type": "json_schema", "name": "paint", "schema": PAINT, "strict": True}}},
            r'\{\s*"color":\s*"(red|green|blue)"\s*\}',
        ),
        (
            MESSAGES,
            {"output_config": {"format": {"type": "json_schema", "schema": PAINT}}},
            r'\{\s*"color":\s*"(red|green|blue)"\s*\}',
        ),
    ],
)
def test_structured_output_matches_the_constraint(
    service: Service, path: str, constraint: dict[str, Any], pattern: str
) -> None:
    tree = post(service, path, body(path, "Name a colour.", **constraint)).json()
    if path == RESPONSES:
        text = tree["output"][0]["content"][0]["text"]
    elif path == MESSAGES:
        text = tree["content"][0]["text"]
    else:
        text = tree["choices"][0].get("text") or tree["choices"][0]["message"]["content"]
    assert re.fullmatch(pattern, text), text


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("path", "constraint"),
    [
        (CHAT, {"structured_outputs": {"json": IMPOSSIBLE}}),
        (CHAT, {"guided_regex": "(a"}),
        (CHAT, {"structured_outputs": {"choice": []}}),
        (CHAT, {"structured_outputs": {"grammar": "root ::= "}}),
        (COMPLETIONS, {"structured_outputs": {"regex": "(a"}}),
        (RESPONSES, {"structured_outputs": {"regex": "(a"}}),
        (RESPONSES, {"text": {"format": {"type": "json_schema", "name": "x", "schema": IMPOSSIBLE}}}),
        (MESSAGES, {"output_config": {"format": {"type": "json_schema", "schema": IMPOSSIBLE}}}),
    ],
)
def test_impossible_structured_output_is_a_quick_400(
    service: Service, path: str, constraint: dict[str, Any], is_stream: bool
) -> None:
    began = time.monotonic()
    answer = post(service, path, body(path, "Hi", stream=is_stream, **constraint))
    assert answer.status_code == 400, answer.text
    assert time.monotonic() - began < 60
    error = answer.json()["error"]
    assert len(error["message"]) > 20
    assert "pydantic" not in error["message"]
    if path != MESSAGES:
        assert error["code"] == "invalid_structured_output"
    assert service.ready("all")


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("path", LENGTHS)
def test_prompt_that_is_too_long_is_a_400_with_both_numbers(service: Service, path: str, is_stream: bool) -> None:
    answer = post(service, path, body(path, "word " * 5000, stream=is_stream))
    assert answer.status_code == 400
    error = answer.json()["error"]
    numbers = [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\d", error["message"])]
    assert 4096 in numbers
    assert any(5000 <= number < 5100 for number in numbers)
    assert "max_model_len" in error["message"]
    if path != MESSAGES:
        assert error["code"] == "context_length_exceeded"


def test_errors_have_the_clients_own_types(service: Service) -> None:
    with pytest.raises(openai.NotFoundError, match="nobody"):
        service.openai.responses.create(model="nobody", input="hi")
    with pytest.raises(anthropic.NotFoundError, match="nobody"):
        asked_of_messages(service, {"type": "text", "text": "hi"}, model="nobody")
    with pytest.raises(anthropic.BadRequestError, match="temperature"):
        asked_of_messages(service, {"type": "text", "text": "hi"}, extra_body={"temperature": 9})
    with anthropic.Anthropic(base_url=service.url, api_key="wrong", max_retries=0) as stranger:
        with pytest.raises(anthropic.AuthenticationError) as refused:
            stranger.messages.create(model="auto", max_tokens=5, messages=[{"role": "user", "content": "hi"}])
        assert refused.value.request_id


def test_named_tool_is_called_in_every_protocol(service: Service) -> None:
    chat_tool = {
        "type": "function",
        "function": {"name": "paint", "description": "Paint", "parameters": PAINT, "strict": True},
    }
    message = (
        service.openai.chat.completions.create(
            model="auto",
            messages=user("Paint the wall blue."),
            tools=[chat_tool],
            tool_choice={"type": "function", "function": {"name": "paint"}},
            temperature=0,
            max_tokens=60,
        )
        .choices[0]
        .message
    )
    given = [message.tool_calls[0].function.arguments]
    flat = {"type": "function", "name": "paint", "description": "Paint", "parameters": PAINT, "strict": True}
    answer = service.openai.responses.create(
        model="auto",
        input="Paint the wall blue.",
        tools=[flat],
        tool_choice={"type": "function", "name": "paint"},
        temperature=0,
        max_output_tokens=60,
    )
    [call] = [item for item in answer.output if item.type == "function_call"]
    assert call.name == "paint"
    given.append(call.arguments)
    for arguments in given:
        assert json.loads(arguments)["color"] in COLOR["enum"]
    tool = {"name": "paint", "description": "Paint", "input_schema": PAINT}
    answer = service.anthropic.messages.create(
        model="auto",
        messages=user("Paint the wall blue."),
        tools=[tool],
        tool_choice={"type": "tool", "name": "paint"},
        extra_body={"temperature": 0},
        max_tokens=60,
    )
    [block] = [block for block in answer.content if block.type == "tool_use"]
    assert (block.name, block.input["color"] in COLOR["enum"]) == ("paint", True)
    assert answer.stop_reason == "tool_use"
