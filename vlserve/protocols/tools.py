"""Tools of a request: hosted tools are left out, as are keys that vLLM does not read; repairs earlier tool calls."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vlserve.errors import InvalidRequest
from vlserve.protocols.dropped_fields import Changes
from vlserve.protocols.fields import (
    CALL_FUNCTION_KEYS,
    CALL_KEYS,
    FLAT_TOOL_KEYS,
    FUNCTION_KEYS,
    TOOL_CHOICE_KEYS,
    TOOL_KEYS,
)

_CLIENT_TYPES = ("function", "custom")


def clean(tree: dict[str, Any], changes: Changes, *, is_flat: bool) -> None:
    """Leave out hosted tools and unknown keys of tools.

    ``is_flat``: name and schema are at a tool's top level, not in ``function``. Raises InvalidRequest if only hosted
    tools are given, or if ``tool_choice`` forces one of them. Malformed tools stay; ``structured.check`` refuses them.
    """
    tools = tree.get("tools")
    if isinstance(tools, list) and tools:
        _clean_tools(tree, tools, changes, is_flat=is_flat)
    elif tools == [] and not is_flat:  # vLLM refuses an empty list in chat
        del tree["tools"]
        changes.is_rewritten = True
    choice = tree.get("tool_choice")
    if isinstance(choice, dict):
        changes.keep(choice, TOOL_CHOICE_KEYS, "tool_choice")
    elif choice == "auto" and not is_flat and not tree.get("tools"):  # vLLM refuses it in chat
        del tree["tool_choice"]
        changes.is_rewritten = True


def _clean_tools(tree: dict[str, Any], tools: list[Any], changes: Changes, *, is_flat: bool) -> None:
    kept: list[Any] = []
    hosted: list[dict[str, Any]] = []
    for number, tool in enumerate(tools):
        where = f"tools[{number}]"
        if _is_hosted(tool):
            hosted.append(tool)
            changes.drop(f"{where} ({tool['type'][:40]})")
            continue
        kept.append(tool)
        if isinstance(tool, dict):
            changes.keep(tool, FLAT_TOOL_KEYS if is_flat else TOOL_KEYS, where)
            if not is_flat and isinstance(tool.get("function"), dict):
                changes.keep(tool["function"], FUNCTION_KEYS, f"{where}.function")
    if not hosted:
        return
    names = ", ".join(dict.fromkeys(repr(tool["type"][:40]) for tool in hosted))
    if not kept:
        raise InvalidRequest(
            f"'tools' has hosted tools only ({names}), and this service runs no hosted tools: no web search, file "
            "search, code interpreter, image generation or MCP. Send functions that the client runs.",
            param="tools",
            code="unsupported_tool",
        )
    if _chooses(tree.get("tool_choice"), hosted):
        raise InvalidRequest(
            f"'tool_choice' forces a hosted tool ({names}), and this service runs no hosted tools.",
            param="tool_choice",
            code="unsupported_tool",
        )
    tree["tools"] = kept


def _is_hosted(tool: Any) -> bool:
    """Whether the service would have to run the tool, or the model would have to know it without a schema."""
    kind = tool.get("type") if isinstance(tool, dict) else None
    return isinstance(kind, str) and kind not in _CLIENT_TYPES


def _chooses(choice: Any, hosted: Sequence[Mapping[str, Any]]) -> bool:
    if not isinstance(choice, dict):
        return False
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) else choice.get("name")
    names = {tool.get("name") for tool in hosted if isinstance(tool.get("name"), str)}
    inner = [one for tool in hosted if isinstance(tool.get("tools"), list) for one in tool["tools"]]
    names |= {one["name"] for one in inner if isinstance(one, dict) and isinstance(one.get("name"), str)}
    return choice.get("type") in {tool["type"] for tool in hosted} or (isinstance(name, str) and name in names)


def clean_calls(calls: Any, changes: Changes, where: str) -> None:
    """Clean a message's ``tool_calls``. Arguments that are no JSON object, such as those of an answer that was cut off,
    are replaced by ``{}``: the conversation can continue. Raises InvalidRequest if it is not a list of objects."""
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise InvalidRequest(f"{where} must be a list of objects.", param=where, code="invalid_structured_output")
    for number, call in enumerate(calls):
        changes.keep(call, CALL_KEYS, f"{where}[{number}]")
        function = call.get("function")
        if isinstance(function, dict):
            place = f"{where}[{number}].function"
            clean_arguments(function, changes, place)
            changes.keep(function, CALL_FUNCTION_KEYS, place)


def clean_arguments(function: dict[str, Any], changes: Changes, where: str) -> None:
    """Replace ``arguments`` that are no JSON object by ``{}``, and an object by its JSON text."""
    arguments = function.get("arguments")
    if isinstance(arguments, dict):
        function["arguments"] = json.dumps(arguments, ensure_ascii=False)
        changes.is_rewritten = True
    elif not _is_object(arguments):
        function["arguments"] = "{}"
        changes.drop(f"{where}.arguments")


def _is_object(text: Any) -> bool:
    try:
        return isinstance(text, str) and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
