"""OpenAI's Responses: checks and normalises the input items, finds every picture, reads and writes stream events.

vLLM validates an item against about sixty types. One that matches none blocks its event loop for 8 ms and takes a
megabyte: 40,000 items ``{}`` crashed the server (0.32). Of an assistant's message it reads only the first part.
Therefore items are rewritten into the one form that vLLM reads completely.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from vlserve.errors import InvalidRequest, VlserveError
from vlserve.protocols.chat import read_part, text_of
from vlserve.protocols.dropped_fields import Changes
from vlserve.protocols.fields import HOSTED_ITEMS, ITEM_KEYS
from vlserve.protocols.media_reference import Media
from vlserve.protocols.stream_events import Kind, TypedEvents, parse_object, write_event
from vlserve.protocols.tools import clean_arguments

Item = dict[str, Any]
_MAX_ITEMS = 2000
_ROLES = ("user", "system", "developer", "assistant")
# Entries of ``include`` that vLLM accepts; it refuses others.
_INCLUDE = (
    *("code_interpreter_call.outputs", "computer_call_output.output.image_url", "file_search_call.results"),
    *("message.input_image.image_url", "message.output_text.logprobs", "reasoning.encrypted_content"),
)
_ASSISTANT_TEXT_TYPES = {"output_text": "text", "text": "text", "input_text": "text", "refusal": "refusal"}


def find_media(tree: dict[str, Any], changes: Changes) -> Iterator[Media]:
    """Yield every picture of every item, and replace ``tree["input"]`` by normalised items. Raises InvalidRequest."""
    if isinstance(tree.get("include"), list):
        _clean_include(tree, changes)
    given = tree.get("input")
    if isinstance(given, str) and given:
        return
    if not isinstance(given, list) or not given:
        raise InvalidRequest("'input' must be a string or a list of items, and not empty.", param="input")
    if len(given) > _MAX_ITEMS:
        raise InvalidRequest(f"'input' has {len(given):,} items; {_MAX_ITEMS:,} are allowed.", param="input")
    items: list[Item] = []
    changes.is_rewritten = True
    for number, item in enumerate(given):
        where = f"input[{number}]"
        kind = _kind(item, where)
        if kind in HOSTED_ITEMS:
            changes.drop(f"{where} ({kind})")
            continue
        read = _READERS.get(kind)
        if read is None:
            raise InvalidRequest(
                f"{where} has a type that is not accepted here ({kind[:40]!r}). Accepted: {', '.join(_READERS)}.",
                param=where,
                code="unsupported_input_item",
            )
        new, place = read(item, where, changes)
        changes.keep(item, new.keys() | ITEM_KEYS, where, item.keys())
        if new:
            items.append(new)
        if place:
            yield from _pictures(new[place], f"{where}.{place}", changes)
    if not items:
        raise InvalidRequest("'input' has no item that the model reads.", param="input")
    tree["input"] = items


def _clean_include(tree: dict[str, Any], changes: Changes) -> None:
    unknown = [index for index, name in enumerate(tree["include"]) if isinstance(name, str) and name not in _INCLUDE]
    for index in reversed(unknown):
        changes.drop(f"include[{index}] ({tree['include'].pop(index)[:60]})")


def _kind(item: Any, where: str) -> str:
    if not isinstance(item, dict):
        raise InvalidRequest(f"{where} must be an object with a type, or with a role and content.", param=where)
    kind = item.get("type", "message" if "role" in item else None)
    if not isinstance(kind, str):
        raise InvalidRequest(f"{where} has no type and no role.", param=where)
    item["type"] = kind
    return kind


def _message(item: Item, where: str, changes: Changes) -> tuple[Item, str]:
    role, content = item.get("role"), item.get("content")
    if role not in _ROLES:
        raise InvalidRequest(f"{where}.role must be one of {', '.join(_ROLES)}.", param=f"{where}.role")
    if not isinstance(content, str | list):
        raise InvalidRequest(f"{where}.content must be a string or a list of parts.", param=f"{where}.content")
    if role == "assistant" and isinstance(content, list):
        content = "".join(
            _assistant_text(part, f"{where}.content[{index}]", changes) for index, part in enumerate(content)
        )
    new = {"type": "message", "role": role, "content": content}
    return new, "content" if isinstance(content, list) else ""


def _assistant_text(part: Any, where: str, changes: Changes) -> str:
    """The text of a part of an assistant's message."""
    if isinstance(part, str):
        return part
    name = _ASSISTANT_TEXT_TYPES.get(str(part.get("type"))) if isinstance(part, dict) else None
    if name is None or not isinstance(part.get(name), str):
        raise InvalidRequest(
            f"{where}: parts of an assistant's message must be output_text or refusal.",
            param=where,
            code="unsupported_content_part",
        )
    changes.keep(part, {"type", name, "annotations", "logprobs"}, where)
    return str(part[name])


def _call(item: Item, where: str, changes: Changes) -> tuple[Item, str]:
    clean_arguments(item, changes, where)
    return {name: _text(item, name, where) for name in ("type", "call_id", "name", "arguments")}, ""


def _custom_call(item: Item, where: str, changes: Changes) -> tuple[Item, str]:  # noqa: ARG001
    return {name: _text(item, name, where) for name in ("type", "call_id", "name", "input")}, ""


def _output(item: Item, where: str, changes: Changes) -> tuple[Item, str]:  # noqa: ARG001
    output = item.get("output")
    if not isinstance(output, str | list):
        raise InvalidRequest(f"{where}.output must be a string or a list of parts.", param=f"{where}.output")
    new = {"type": item["type"], "call_id": _text(item, "call_id", where), "output": output}
    return new, "output" if isinstance(output, list) else ""


def _reasoning(item: Item, where: str, changes: Changes) -> tuple[Item, str]:  # noqa: ARG001
    """Left out: the chat template of these models omits reasoning, too."""
    return {}, ""


def _text(item: Mapping[str, Any], name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"{where}.{name} must be a string.", param=f"{where}.{name}")
    return value


def _pictures(parts: list[Any], where: str, changes: Changes) -> Iterator[Media]:
    for index in range(len(parts)):
        media = read_part(parts, index, f"{where}[{index}]", changes)
        if media and media.kind == "image":
            yield media
        elif media:
            raise InvalidRequest(
                f"{media.param}: the Responses API does not accept videos.",
                param=media.param,
                code="unsupported_content_part",
            )
        else:
            parts[index] = {"type": "input_text", "text": text_of(parts[index])}


_READERS: Mapping[str, Callable[[Item, str, Changes], tuple[Item, str]]] = {
    "message": _message,
    "function_call": _call,
    "function_call_output": _output,
    "custom_tool_call": _custom_call,
    "custom_tool_call_output": _output,
    "reasoning": _reasoning,
}


class ResponseEvents(TypedEvents):
    """OpenAI's Responses: typed, numbered events. vLLM sends two before its engine checks the request, and closes the
    connection if the engine refuses it (0.32)."""

    _kinds: ClassVar = {
        "error": Kind.ERROR,
        **dict.fromkeys(("response.completed", "response.incomplete", "response.failed"), Kind.LAST),
        **dict.fromkeys(("response.created", "response.queued", "response.in_progress"), Kind.PREAMBLE),
    }

    def _usage(self, name: str, data: bytes) -> Any:
        response = parse_object(data).get("response") if self._kinds.get(name) is Kind.LAST else None
        return response.get("usage") if isinstance(response, dict) else None

    def failure(self, error: VlserveError, request_id: str, sent: int) -> bytes:  # noqa: ARG002
        tree = {"type": "error", "code": error.code, "message": error.message, "param": error.param}
        return write_event("error", tree | {"sequence_number": sent})
