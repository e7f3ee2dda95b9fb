"""Events of a stream."""

import json
from typing import Any


def events(raw: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in raw.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def text_of(chunks: list[Any]) -> str:
    return "".join(
        chunk["choices"][0]["delta"]["content"] for chunk in chunks if chunk != "[DONE]" and chunk["choices"]
    )
