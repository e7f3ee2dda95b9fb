"""instructor, with JSON schemas and with tools."""

from typing import Any, Literal

import checks
import instructor
import openai
from pydantic import BaseModel


class Person(BaseModel):
    name: str
    city: str


class Weather(BaseModel):
    """Get the current weather in a given location"""

    city: str


class Color(BaseModel):
    color: Literal["red", "green", "blue"]


PLAIN = openai.OpenAI(base_url=f"{checks.URL}/v1", api_key=checks.KEY, max_retries=0)
AUTO: dict[str, Any] = {"model": "auto", "temperature": 0, "max_tokens": 60, "max_retries": 0}


def ask(content: Any, form: type[BaseModel], mode: Any = instructor.Mode.JSON_SCHEMA, **more: Any) -> Any:
    client: Any = instructor.from_openai(PLAIN, mode=mode)
    messages = [{"role": "user", "content": content}]
    return client.chat.completions.create(response_model=form, messages=messages, **{**AUTO, **more})


def text() -> None:
    checks.expect(ask("Write this as JSON: city: Paris", Weather).city, "Paris")


def picture() -> None:
    checks.expect(ask(checks.picture_parts(), Color).color, "red")


def stream() -> None:
    client: Any = instructor.from_openai(PLAIN, mode=instructor.Mode.JSON_SCHEMA)
    messages = [{"role": "user", "content": checks.FORM_QUESTION}]
    *_, last = client.chat.completions.create_partial(response_model=Person, messages=messages, **AUTO)
    checks.expect_person(last.model_dump())


def tool() -> None:
    checks.expect(ask(checks.TOOL_QUESTION, Weather, instructor.Mode.TOOLS).city, "Berlin")


def structured() -> None:
    checks.expect_person(ask(checks.FORM_QUESTION, Person).model_dump())


def error() -> None:
    checks.expect_error(lambda: ask("hi", Person, model="nobody"), Exception)


checks.run(text=text, picture=picture, stream=stream, tool=tool, structured=structured, error=error)
