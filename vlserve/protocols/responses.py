"""The input items of OpenAI's Responses: brought into one spelling, every picture found.

vLLM checks an item against some sixty forms at once, which takes its only event loop 8 ms and a megabyte for one that
fits none: 40,000 times ``{}`` ended the server (0.32). Of an assistant's message it reads the first part alone. So
only items that it takes, in the spelling that it reads whole, are handed on.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vlserve.errors import InvalidRequest
from vlserve.protocols.chat import read_part, text_of
from vlserve.protocols.media_reference import Media

Item = dict[str, Any]
_MOST_ITEMS = 2000
_ROLES = ("user", "system", "developer", "assistant")
_WRITTEN = {"output_text": "text", "text": "text", "input_text": "text", "refusal": "refusal"}


def find_media(tree: dict[str, Any]) -> Iterator[Media]:
    """Every picture of every item; ``tree["input"]`` is written anew. Raises InvalidRequest."""
    given = tree.get("input")
    if isinstance(given, str) and given:
        return
    if not isinstance(given, list) or not given:
        raise InvalidRequest("'input' must be a text or a list of items, and not empty.", param="input")
    if len(given) > _MOST_ITEMS:
        raise InvalidRequest(f"'input' has {len(given):,} items; {_MOST_ITEMS:,} are allowed.", param="input")
    items: list[Item] = []
    for number, item in enumerate(given):
        where = f"input[{number}]"
        read = _READERS.get(_kind(item, where))
        if read is None:
            raise InvalidRequest(
                f"{where} has a type that is not accepted here ({str(item['type'])[:40]!r}). "
                f"Accepted: {', '.join(_READERS)}.",
                param=where,
                code="unsupported_input_item",
            )
        new, place = read(item, where)
        if new:
            items.append(new)
        if place:
            yield from _pictures(new[place], f"{where}.{place}")
    tree["input"] = items


def _kind(item: Any, where: str) -> str:
    if not isinstance(item, dict):
        raise InvalidRequest(f"{where} must be an object with a type, or with a role and content.", param=where)
    kind = item.get("type", "message" if "role" in item else None)
    if not isinstance(kind, str):
        raise InvalidRequest(f"{where} has no type and no role.", param=where)
    item["type"] = kind
    return kind


def _message(item: Item, where: str) -> tuple[Item, str]:
    role, content = item.get("role"), item.get("content")
    if role not in _ROLES:
        raise InvalidRequest(f"{where}.role must be one of {', '.join(_ROLES)}.", param=f"{where}.role")
    if not isinstance(content, str | list):
        raise InvalidRequest(f"{where}.content must be a text or a list of parts.", param=f"{where}.content")
    if role == "assistant" and isinstance(content, list):
        content = "".join(_written(part, f"{where}.content[{index}]") for index, part in enumerate(content))
    new = {"type": "message", "role": role, "content": content}
    return new, "content" if isinstance(content, list) else ""


def _written(part: Any, where: str) -> str:
    """What an assistant's part says."""
    name = _WRITTEN.get(str(part.get("type"))) if isinstance(part, dict) else None
    if name is None or not isinstance(part.get(name), str):
        raise InvalidRequest(
            f"{where}: an assistant's message may have parts of output_text and refusal.",
            param=where,
            code="unsupported_content_part",
        )
    return str(part[name])


def _call(item: Item, where: str) -> tuple[Item, str]:
    new = {name: _text(item, name, where) for name in ("type", "call_id", "name", "arguments")}
    try:
        json.loads(new["arguments"] or "{}")  # vLLM reads them for the chat template
    except (ValueError, RecursionError):
        raise InvalidRequest(
            f"{where}.arguments are not JSON, or nested too deeply.", param=f"{where}.arguments"
        ) from None
    return new, ""


def _custom_call(item: Item, where: str) -> tuple[Item, str]:
    return {name: _text(item, name, where) for name in ("type", "call_id", "name", "input")}, ""


def _output(item: Item, where: str) -> tuple[Item, str]:
    output = item.get("output")
    if not isinstance(output, str | list):
        raise InvalidRequest(f"{where}.output must be a text or a list of parts.", param=f"{where}.output")
    new = {"type": item["type"], "call_id": _text(item, "call_id", where), "output": output}
    return new, "output" if isinstance(output, list) else ""


def _reasoning(item: Item, where: str) -> tuple[Item, str]:  # noqa: ARG001
    """Another model's thoughts: the chat template of these models would leave them out, too."""
    return {}, ""


def _text(item: Mapping[str, Any], name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"{where}.{name} must be a text.", param=f"{where}.{name}")
    return value


def _pictures(parts: list[Any], where: str) -> Iterator[Media]:
    for index, part in enumerate(parts):
        media = read_part(parts, index, f"{where}[{index}]")
        if media and media.kind == "image":
            yield media
        elif media:
            raise InvalidRequest(
                f"{media.param}: the Responses API has no videos.", param=media.param, code="unsupported_content_part"
            )
        else:
            parts[index] = {"type": "input_text", "text": text_of(part)}


_READERS: Mapping[str, Callable[[Item, str], tuple[Item, str]]] = {
    "message": _message,
    "function_call": _call,
    "function_call_output": _output,
    "custom_tool_call": _custom_call,
    "custom_tool_call_output": _output,
    "reasoning": _reasoning,
}
