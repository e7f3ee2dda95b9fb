"""openai for Python: chat, responses but for tools, sync and async, `parse()`, the helpers for streams."""

import asyncio
from typing import Any

import checks
import openai
from pydantic import BaseModel

client: Any = openai.OpenAI(base_url=f"{checks.URL}/v1", api_key=checks.KEY, max_retries=0)
AUTO: dict[str, Any] = {"model": "auto", "temperature": 0, "max_tokens": 60}


class Person(BaseModel):
    name: str
    city: str


def user(content: Any) -> list[Any]:
    return [{"role": "user", "content": content}]


def chat(content: Any, **more: Any) -> Any:
    return client.chat.completions.create(messages=user(content), **{**AUTO, **more}).choices[0].message


def text() -> None:
    checks.expect_word(chat(checks.TEXT_QUESTION).content, "Paris")
    said = client.responses.create(model="auto", input=checks.TEXT_QUESTION, temperature=0, max_output_tokens=60)
    checks.expect_word(said.output_text, "Paris")


def picture() -> None:
    checks.expect_word(chat(checks.picture_parts()).content, "red")
    parts = [
        {"type": "input_text", "text": checks.PICTURE_QUESTION},
        {"type": "input_image", "image_url": checks.PICTURE},
    ]
    said = client.responses.create(model="auto", input=user(parts), temperature=0, max_output_tokens=60)
    checks.expect_word(said.output_text, "red")


def stream() -> None:
    whole = chat(checks.TEXT_QUESTION).content
    with client.chat.completions.stream(messages=user(checks.TEXT_QUESTION), **AUTO) as events:
        said = "".join(event.delta for event in events if event.type == "content.delta")
        checks.expect(said, whole)
        checks.expect(events.get_final_completion().choices[0].message.content, whole)
    with client.responses.stream(model="auto", input=checks.TEXT_QUESTION, temperature=0) as events:
        said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        checks.expect(said, events.get_final_response().output_text)
        checks.expect_word(said, "Paris")

    async def asked() -> str:
        async with openai.AsyncOpenAI(base_url=f"{checks.URL}/v1", api_key=checks.KEY) as other:
            asking: Any = other.chat.completions.create
            chunks = await asking(messages=user(checks.TEXT_QUESTION), stream=True, **AUTO)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    checks.expect(asyncio.run(asked()), whole)


def tool() -> None:
    tools = [{"type": "function", "function": checks.WEATHER}]
    [call] = chat(checks.TOOL_QUESTION, tools=tools).tool_calls
    checks.expect((call.function.name, call.function.arguments), ("get_weather", '{"city": "Berlin"}'))


def structured() -> None:
    options = {"messages": user(checks.FORM_QUESTION), **AUTO}
    said = client.chat.completions.parse(response_format=Person, **options).choices[0].message.parsed
    checks.expect_person(said.model_dump())
    options = {"model": "auto", "input": checks.FORM_QUESTION, "temperature": 0, "max_output_tokens": 60}
    checks.expect_person(client.responses.parse(text_format=Person, **options).output_parsed.model_dump())


def error() -> None:
    checks.expect_error(lambda: chat("hi", model="nobody"), openai.NotFoundError)
    checks.expect_error(lambda: client.responses.create(model="nobody", input="hi"), openai.NotFoundError)


checks.run(text=text, picture=picture, stream=stream, tool=tool, structured=structured, error=error)
