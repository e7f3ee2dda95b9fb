"""LiteLLM's SDK, with its `openai/` provider."""

from typing import Any

import checks
import litellm

OPTIONS: dict[str, Any] = {"api_base": f"{checks.URL}/v1", "api_key": checks.KEY, "temperature": 0, "max_tokens": 60}


def ask(content: Any, name: str = "auto", **more: Any) -> Any:
    messages = [{"role": "user", "content": content}]
    return litellm.completion(model=f"openai/{name}", messages=messages, **OPTIONS, **more)


def text() -> None:
    checks.expect_word(ask(checks.TEXT_QUESTION).choices[0].message.content, "Paris")


def picture() -> None:
    checks.expect_word(ask(checks.picture_parts()).choices[0].message.content, "red")


def stream() -> None:
    chunks = ask(checks.TEXT_QUESTION, stream=True)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    checks.expect(said, ask(checks.TEXT_QUESTION).choices[0].message.content)


def tool() -> None:
    tools = [{"type": "function", "function": checks.WEATHER}]
    [call] = ask(checks.TOOL_QUESTION, tools=tools).choices[0].message.tool_calls
    checks.expect((call.function.name, call.function.arguments), ("get_weather", '{"city": "Berlin"}'))


def structured() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": checks.PERSON, "strict": True}}
    checks.expect_person(ask(checks.FORM_QUESTION, response_format=schema).choices[0].message.content)


def error() -> None:
    checks.expect_error(lambda: ask("hi", "nobody"), litellm.NotFoundError)


checks.run(text=text, picture=picture, stream=stream, tool=tool, structured=structured, error=error)
