"""anthropic for Python, over /v1/messages."""

from typing import Any

import anthropic
import checks

client: Any = anthropic.Anthropic(base_url=checks.URL, api_key=checks.KEY, max_retries=0)
AUTO: dict[str, Any] = {"model": "auto", "max_tokens": 60, "extra_body": {"temperature": 0}}


def ask(content: Any, **more: Any) -> Any:
    return client.messages.create(messages=[{"role": "user", "content": content}], **{**AUTO, **more})


def text() -> None:
    checks.expect_word(ask(checks.TEXT_QUESTION).content[0].text, "Paris")


def picture() -> None:
    media_type, _, data = checks.PICTURE.removeprefix("data:").partition(";base64,")
    image = {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
    checks.expect_word(ask([image, {"type": "text", "text": checks.PICTURE_QUESTION}]).content[0].text, "red")


def stream() -> None:
    whole = ask(checks.TEXT_QUESTION).content[0].text
    with client.messages.stream(messages=[{"role": "user", "content": checks.TEXT_QUESTION}], **AUTO) as events:
        checks.expect("".join(events.text_stream), whole)
        checks.expect(events.get_final_message().stop_reason, "end_turn")


def tool() -> None:
    weather = {**checks.WEATHER, "input_schema": checks.WEATHER["parameters"]}
    del weather["parameters"]
    said = ask(checks.TOOL_QUESTION, tools=[weather])
    [call] = [block for block in said.content if block.type == "tool_use"]
    checks.expect((call.name, call.input, said.stop_reason), ("get_weather", {"city": "Berlin"}, "tool_use"))


def structured() -> None:
    output = {"format": {"type": "json_schema", "schema": checks.PERSON}}
    checks.expect_person(ask(checks.FORM_QUESTION, output_config=output).content[0].text)


def error() -> None:
    checks.expect_error(lambda: ask("hi", model="nobody"), anthropic.NotFoundError)


checks.run(text=text, picture=picture, stream=stream, tool=tool, structured=structured, error=error)
