"""Bounds on what a request may have an engine compile: JSON schemas, regular expressions, choices, grammars, tools.

vLLM compiles them in its only engine process and matches each token against them there. A chain of 5,000 ``$ref``
ended vLLM 0.32's server, ``((((a{1,100}){1,100}){1,100}){1,100})`` held up everyone for as long as its client waited,
20,000 properties blocked all other structured requests. The bounds are where that cost stays under a tenth of a second
per token or a second per request, measured on two CPU cores.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from vlserve.errors import InvalidRequest

_MOST_BYTES = 64 * 1024
_MOST_CONTAINERS, _MOST_ENTRIES, _MOST_BRANCHES, _MOST_TOOLS = 1000, 1000, 100, 128
_MOST_COUNTED_PROPERTIES = 16
_LONGEST_PATTERN = 1024
_DEEPEST_REPEATS, _MOST_REPEATS = 3, 1000
_LONGEST_GRAMMAR = 8 * 1024
_KINDS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
_QUANTIFIER = re.compile(r"[*+?]|\{(\d*)(?:,(\d*))?\}")


def check(tree: Mapping[str, Any], *, allow_grammar: bool) -> None:
    """Check ``structured_outputs``, ``response_format`` and ``tools`` of a parsed request. Raises InvalidRequest."""
    constraint, response_format = tree.get("structured_outputs"), tree.get("response_format")
    if constraint is not None:
        _check_kinds(constraint)
        _check_combination(tree)
        _Bounds("structured_outputs", allow_grammar=allow_grammar).check(constraint)
    if response_format is not None:
        if not isinstance(response_format, dict):
            raise _refuse("response_format", "must be an object")
        if response_format.get("type") != "text":
            _check_combination(tree)
        _Bounds("response_format", allow_grammar=allow_grammar).check(response_format)
    if tree.get("tools") is not None:
        _check_tools(tree["tools"])
    _check_tool_calls(tree["messages"])


def is_constrained(tree: Mapping[str, Any]) -> bool:
    """Whether an engine has to compile anything for this request."""
    return any(tree.get(field) for field in ("structured_outputs", "response_format", "tools"))


def _refuse(param: str, problem: str) -> InvalidRequest:
    return InvalidRequest(f"{param!r} {problem}.", param=param, code="invalid_structured_output")


def _check_kinds(constraint: Any) -> None:
    if not isinstance(constraint, dict):
        raise _refuse("structured_outputs", "must be an object")
    given = [kind for kind in _KINDS if constraint.get(kind) is not None]
    if len(given) != 1:
        raise _refuse("structured_outputs", f"must have exactly one of {', '.join(_KINDS)}; it has {len(given)}")


def _check_combination(tree: Mapping[str, Any]) -> None:
    """Both decide which tokens may come; where they leave none, vLLM fails."""
    for other in ("allowed_token_ids", "min_tokens"):
        if tree.get(other):
            raise _refuse(other, "cannot be combined with structured output")


def _check_tools(tools: Any) -> None:
    if not isinstance(tools, list) or len(tools) > _MOST_TOOLS:
        raise _refuse("tools", f"must be a list of {_MOST_TOOLS} tools at most")
    for number, tool in enumerate(tools):
        where = f"tools[{number}]"
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise _refuse(where, 'must be like {"type": "function", "function": {"name": …}}')
        _Bounds(where, allow_grammar=False).check(function)


def _check_tool_calls(messages: list[Any]) -> None:
    """vLLM parses the arguments of earlier calls for the chat template."""
    for number, message in enumerate(messages):
        calls, where = message.get("tool_calls"), f"messages[{number}].tool_calls"
        if calls is None:
            continue
        if not isinstance(calls, list):
            raise _refuse(where, "must be a list")
        for call in calls:
            function = call.get("function") if isinstance(call, dict) else None
            arguments = function.get("arguments") if isinstance(function, dict) else None
            try:
                if isinstance(arguments, str):
                    json.loads(arguments or "{}")
            except (ValueError, RecursionError):
                raise _refuse(where, "has arguments that are not JSON, or nested too deeply") from None


class _Bounds:
    """Counts over one field of a request, all levels of it."""

    def __init__(self, param: str, *, allow_grammar: bool) -> None:
        self._param = param
        self._allow_grammar = allow_grammar

    def check(self, field: dict[str, Any]) -> None:
        if len(json.dumps(field)) > _MOST_BYTES:
            raise _refuse(self._param, f"is larger than {_MOST_BYTES:,} bytes")
        count = 0
        for name, value in _walk(field):
            if isinstance(value, dict | list):
                count += 1
            self._check_one(name, value)
        if count > _MOST_CONTAINERS:
            raise _refuse(self._param, f"has {count} objects and lists; {_MOST_CONTAINERS} are allowed")

    def _check_one(self, name: str, value: Any) -> None:
        if isinstance(value, list) and len(value) > (most := _MOST_BRANCHES if name.endswith("Of") else _MOST_ENTRIES):
            raise _refuse(self._param, f"has {len(value)} entries in {name!r}; {most} are allowed")
        if name in ("minProperties", "maxProperties") and isinstance(value, int | float):
            if value > _MOST_COUNTED_PROPERTIES:
                raise _refuse(self._param, f"has {name} {value}; {_MOST_COUNTED_PROPERTIES} is allowed")
        elif name in ("regex", "pattern") and isinstance(value, str):
            self._check_pattern(value)
        elif name == "patternProperties" and isinstance(value, dict):
            for pattern in value:
                self._check_pattern(pattern)
        elif name == "grammar" and value is not None:
            self._check_grammar(value)

    def _check_pattern(self, pattern: str) -> None:
        if len(pattern) > _LONGEST_PATTERN:
            raise _refuse(self._param, f"has a pattern of {len(pattern)} characters; {_LONGEST_PATTERN} are allowed")
        depth, repeats = _repetitions(pattern)
        if depth > _DEEPEST_REPEATS or repeats > _MOST_REPEATS:
            raise _refuse(
                self._param,
                f"has a pattern with {depth} repetitions inside each other, {repeats} times in all; "
                f"{_DEEPEST_REPEATS} and {_MOST_REPEATS} are allowed",
            )

    def _check_grammar(self, grammar: Any) -> None:
        if not self._allow_grammar:
            raise _refuse(
                self._param, "has a grammar; the setting request.allow_grammar decides whether they are taken"
            )
        if not isinstance(grammar, str) or len(grammar) > _LONGEST_GRAMMAR:
            raise _refuse(self._param, f"must have a grammar of {_LONGEST_GRAMMAR:,} characters at most")


def _walk(field: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every value with its name (a list's entries: the list's name), also inside a schema given as a JSON string."""
    waiting: list[tuple[str, Any]] = [("", field)]
    while waiting:
        name, value = waiting.pop()
        if name in ("json", "structural_tag") and isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise InvalidRequest(
                    f"{name!r} is a string, but not JSON, or nested too deeply.", code="invalid_structured_output"
                ) from None
        yield name, value
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += ((name, entry) for entry in value)


def _repetitions(pattern: str) -> tuple[int, int]:
    """How many repetitions stand inside each other at most, and the product of their (finite) bounds."""
    outer: list[tuple[int, int]] = []
    most = last = (0, 1)  # of the group so far; of the atom just read
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if quantifier := _QUANTIFIER.match(pattern, position):
            bound = quantifier[2] or (quantifier[1] if quantifier[2] is None else "") or "1"
            times = max(1, int(bound[:6]))
            last = (last[0] + 1, last[1] * times) if quantifier[0] != "?" else last
            most = (max(most[0], last[0]), max(most[1], last[1]))
            position = quantifier.end()
            continue
        last = (0, 1)
        if character == "\\":
            position += 1
        elif character == "[":
            position = _end_of_class(pattern, position)
        elif character == "(":
            outer.append(most)
            most = (0, 1)
        elif character == ")" and outer:
            last, before = most, outer.pop()
            most = (max(most[0], before[0]), max(most[1], before[1]))
        position += 1
    for before in outer:
        most = (max(most[0], before[0]), max(most[1], before[1]))
    return most


def _end_of_class(pattern: str, start: int) -> int:
    position = start + 1
    while position < len(pattern) and pattern[position] != "]":
        position += 2 if pattern[position] == "\\" else 1
    return position
