"""Requests that every client sends. A script prints a line per check: `check ok`, or `check: ` and the error."""

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

URL = os.environ["VLSERVE_URL"]
KEY = os.environ["VLSERVE_API_KEY"]
PICTURE = os.environ["PICTURE"]
"""A red picture as a data: URL."""
TEXT_QUESTION = "What is the capital of France?"
PICTURE_QUESTION = "What colour is this picture?"
TOOL_QUESTION = "What is the weather in Berlin?"
FORM_QUESTION = "Write this as JSON: name: Ana, city: Berlin"
WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "Get the current weather in a given location",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "city": {"type": "string"}},
    "required": ["name", "city"],
    "additionalProperties": False,
}


def picture_parts() -> list[Any]:
    return [
        {"type": "text", "text": PICTURE_QUESTION},
        {"type": "image_url", "image_url": {"url": PICTURE}},
    ]


def expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"{found!r} is not {wanted!r}")


def expect_word(text: object, word: str) -> None:
    if word not in str(text):
        raise AssertionError(f"{word!r} is not in {text!r}")


def expect_person(found: object) -> None:
    tree = json.loads(found) if isinstance(found, str) else found
    expect(tree, {"name": "Ana", "city": "Berlin"})


def expect_error(ask: Callable[[], object], kind: type[Exception]) -> None:
    """The client's own exception for a model that is not there, with the service's words."""
    try:
        ask()
    except kind as error:
        expect_word(error, "nobody")
    else:
        raise AssertionError("no error")


def run(**checks: Callable[[], None]) -> None:
    for name, check in checks.items():
        try:
            check()
        except Exception as error:  # noqa: BLE001  (any: it is the result to report)
            traceback.print_exc()
            print(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)
        else:
            print(f"{name} ok", flush=True)
    sys.stdout.flush()
