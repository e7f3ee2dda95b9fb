"""LangChain's ChatOpenAI."""

from typing import Any

import checks
import openai
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Person(BaseModel):
    name: str
    city: str


def get_weather(city: str) -> str:
    """Get the current weather in a given location"""
    return f"fine in {city}"


def model(name: str = "auto") -> Any:
    options: dict[str, Any] = {"base_url": f"{checks.URL}/v1", "api_key": checks.KEY, "max_retries": 0}
    return ChatOpenAI(model=name, temperature=0, max_tokens=60, **options)


def text() -> None:
    checks.expect_word(model().invoke(checks.TEXT_QUESTION).content, "Paris")


def picture() -> None:
    message: Any = HumanMessage(content=checks.picture_parts())
    checks.expect_word(model().invoke([message]).content, "red")


def stream() -> None:
    said = "".join(chunk.content for chunk in model().stream(checks.TEXT_QUESTION))
    checks.expect(said, model().invoke(checks.TEXT_QUESTION).content)


def tool() -> None:
    [call] = model().bind_tools([get_weather]).invoke(checks.TOOL_QUESTION).tool_calls
    checks.expect((call["name"], call["args"]), ("get_weather", {"city": "Berlin"}))


def structured() -> None:
    asked = model().with_structured_output(Person, method="json_schema")
    checks.expect_person(asked.invoke(checks.FORM_QUESTION).model_dump())


def error() -> None:
    checks.expect_error(lambda: model("nobody").invoke("hi"), openai.NotFoundError)


checks.run(text=text, picture=picture, stream=stream, tool=tool, structured=structured, error=error)
