"""Limits on structured output and tools: JSON schemas, regular expressions, choices and grammars of a request.

vLLM compiles them in its only engine process and matches each token against them there. A chain of 5,000 ``$ref``
crashed vLLM 0.32, ``((((a{1,100}){1,100}){1,100}){1,100})`` blocked all requests until its client disconnected, and
20,000 properties blocked all other structured requests. Within these limits a request costs less than a tenth of a
second per token and a second in all, measured on two CPU cores.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from vlserve.errors import InvalidRequest
from vlserve.protocols import json_schema
from vlserve.protocols.protocol_definitions import Protocol

_MAX_BYTES = 64 * 1024
_MAX_TOOL_BYTES = 256 * 1024
_MAX_CONTAINERS, _MAX_VALUES, _MAX_ENTRIES, _MAX_BRANCHES, _MAX_TOOLS = 1000, 4000, 1000, 100, 128
_MAX_COUNTED_PROPERTIES = 16
_MAX_PATTERN_CHARACTERS = 1024
_MAX_REPEAT_DEPTH, _MAX_REPEATS, _MAX_QUANTIFIERS = 3, 2000, 64
_MAX_GRAMMAR_CHARACTERS = 8 * 1024
_KINDS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
# Fields that contain a schema, in which keys such as "regex" have no meaning for vLLM.
_SCHEMAS = ("json", "json_schema", "schema", "parameters", "input_schema")
# The fields for the answer's format in chat and completions, responses, and messages.
_FORMATS = ("response_format", "text", "output_config")
_SCHEMA_PATHS = (
    ("structured_outputs", "json"),
    ("response_format", "json_schema", "schema"),
    ("text", "format", "schema"),
    ("output_config", "format", "schema"),
)
_QUANTIFIER = re.compile(r"[*+?]|\{(\d*)(?:,(\d*))?\}")


def check(tree: Mapping[str, Any], protocol: Protocol, *, allow_grammar: bool) -> None:
    """Check the structured output and tools of a parsed request. Raises InvalidRequest."""
    constraint = tree.get("structured_outputs")
    if constraint is not None:
        _check_kinds(constraint)
        _check_combination(tree)
        _Limits("structured_outputs", allow_grammar=allow_grammar).check(constraint)
    for field in _FORMATS:
        if tree.get(field) is None or field not in protocol.fields:
            continue
        value = tree[field]
        if not isinstance(value, dict):
            raise _refuse(field, "must be an object")
        if _is_constraint(field, value):
            _check_combination(tree)
            if constraint is not None:
                raise _refuse("structured_outputs", f"cannot be combined with {field!r}: both set the answer's format")
        _Limits(field, allow_grammar=allow_grammar).check(value)
    if tree.get("tools") is not None and "tools" in protocol.fields:
        _check_tools(tree["tools"], has_flat_tools=protocol.has_flat_tools)
    if protocol.tool_choices:
        _check_tool_choice(tree, protocol.tool_choices)


def check_backend(tree: Mapping[str, Any]) -> None:
    """Raise InvalidRequest for a schema with keywords that xgrammar does not support, and name them with their place.

    A tool's schema counts only if ``tool_choice`` forces a call: otherwise it is not compiled.
    """
    for where, schema in _schemas(tree):
        found = json_schema.find_unsupported(schema, where)
        if found:
            place, keywords = found
            raise InvalidRequest(
                f"{place}: the structured output backend (xgrammar) does not support {keywords}. Leave it out of the "
                "schema and check it in the answer.",
                param=where.partition(".")[0],
                code="invalid_structured_output",
            )


def _schemas(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas that an answer must match, each with its path."""
    for path in _SCHEMA_PATHS:
        value: Any = tree
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, str) and path[-1] == "json":  # check() has parsed it once
            value = json.loads(value)
        if value is not None:
            yield ".".join(path), value
    choice = tree.get("tool_choice")
    kind = choice.get("type") if isinstance(choice, dict) else choice
    if kind not in ("required", "any", "function", "tool"):
        return
    for number, tool in enumerate(tree.get("tools") or ()):
        function, inner = (tool["function"], ".function") if isinstance(tool.get("function"), dict) else (tool, "")
        if isinstance(choice, dict) and kind != "any":
            named = choice.get("function")
            if function.get("name") != (named.get("name") if isinstance(named, dict) else choice.get("name")):
                continue
        for name in ("parameters", "input_schema"):
            yield f"tools[{number}]{inner}.{name}", function.get(name)


def is_constrained(tree: Mapping[str, Any]) -> bool:
    """Whether an engine has to compile anything for this request."""
    return any(tree.get(field) for field in ("structured_outputs", "tools", *_FORMATS))


def _refuse(param: str, problem: str) -> InvalidRequest:
    return InvalidRequest(f"{param!r} {problem}.", param=param, code="invalid_structured_output")


def _check_kinds(constraint: Any) -> None:
    if not isinstance(constraint, dict):
        raise _refuse("structured_outputs", "must be an object")
    given = [kind for kind in _KINDS if constraint.get(kind) is not None]
    if len(given) != 1:
        raise _refuse("structured_outputs", f"must have exactly one of {', '.join(_KINDS)}; it has {len(given)}")


def _check_combination(tree: Mapping[str, Any]) -> None:
    """Refuse other fields that restrict tokens: if together they allow no token, vLLM fails."""
    for other in ("allowed_token_ids", "min_tokens"):
        if tree.get(other):
            raise _refuse(other, "cannot be combined with structured output")


def _is_constraint(field: str, value: Mapping[str, Any]) -> bool:
    """Whether a format field allows less than any text."""
    form = value if field == "response_format" else value.get("format")
    return form is not None and not (isinstance(form, dict) and form.get("type") == "text")


def _check_tool_choice(tree: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """vLLM ignores a choice that it does not know, or for which there are no tools (0.32)."""
    choice = tree.get("tool_choice")
    if isinstance(choice, dict):
        kind = choice.get("type")
        if kind not in known:
            raise InvalidRequest(f"The type of 'tool_choice' must be one of {', '.join(known)}.", param="tool_choice")
        if kind not in ("auto", "none") and not tree.get("tools"):
            raise InvalidRequest("'tool_choice' names tools, but 'tools' has none.", param="tool_choice")


def _check_tools(tools: Any, *, has_flat_tools: bool) -> None:
    if not isinstance(tools, list) or len(tools) > _MAX_TOOLS:
        raise _refuse("tools", f"must be a list of {_MAX_TOOLS} tools at most")
    for number, tool in enumerate(tools):
        where = f"tools[{number}]"
        function = tool.get("function") if isinstance(tool, dict) and not has_flat_tools else tool
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            wanted = '{"name": ...}' if has_flat_tools else '{"type": "function", "function": {"name": ...}}'
            raise _refuse(where, f"must be like {wanted}")
    # All together: with tool_choice "required" vLLM makes one schema of them.
    _Limits("tools", allow_grammar=False, max_bytes=_MAX_TOOL_BYTES).check({"tools": tools})


class _Limits:
    """Checks one field of a request, at all levels, against the limits."""

    def __init__(self, param: str, *, allow_grammar: bool, max_bytes: int = _MAX_BYTES) -> None:
        self._param = param
        self._allow_grammar = allow_grammar
        self._max_bytes = max_bytes

    def check(self, field: dict[str, Any]) -> None:
        if len(json.dumps(field)) > self._max_bytes:
            raise _refuse(self._param, f"is larger than {self._max_bytes:,} bytes")
        containers = values = 0
        for name, value, is_in_schema in _walk(field):
            containers += isinstance(value, dict | list)
            values += 1
            self._check_one(name, value, is_in_schema=is_in_schema)
        if containers > _MAX_CONTAINERS or values > _MAX_VALUES:
            raise _refuse(
                self._param,
                f"has {containers} objects and lists and {values} values; {_MAX_CONTAINERS} and {_MAX_VALUES} are "
                "allowed",
            )

    def _check_one(self, name: str, value: Any, *, is_in_schema: bool) -> None:
        if isinstance(value, dict | list):
            most = _MAX_BRANCHES if isinstance(value, list) and name.endswith("Of") else _MAX_ENTRIES
            if len(value) > most:
                raise _refuse(self._param, f"has {len(value)} entries in {name!r}; {most} are allowed")
        if name in ("minProperties", "maxProperties") and isinstance(value, int | float):
            if value > _MAX_COUNTED_PROPERTIES:
                raise _refuse(self._param, f"has {name} {value}; {_MAX_COUNTED_PROPERTIES} is allowed")
        elif name == "patternProperties" and isinstance(value, dict):
            for pattern in value:
                self._check_pattern(pattern)
        elif isinstance(value, str) and (name == "pattern" or (name == "regex" and not is_in_schema)):
            self._check_pattern(value)
        elif name == "grammar" and not is_in_schema and value is not None:
            self._check_grammar(value)

    def _check_pattern(self, pattern: str) -> None:
        if len(pattern) > _MAX_PATTERN_CHARACTERS:
            raise _refuse(
                self._param, f"has a pattern of {len(pattern)} characters; {_MAX_PATTERN_CHARACTERS} are allowed"
            )
        quantifiers, depth, repeats = _repetitions(pattern)
        if quantifiers > _MAX_QUANTIFIERS or depth > _MAX_REPEAT_DEPTH or repeats > _MAX_REPEATS:
            raise _refuse(
                self._param,
                f"has a pattern with {quantifiers} quantifiers, {depth} nested, {repeats} repetitions in all; "
                f"{_MAX_QUANTIFIERS}, {_MAX_REPEAT_DEPTH} and {_MAX_REPEATS} are allowed",
            )

    def _check_grammar(self, grammar: Any) -> None:
        if not self._allow_grammar:
            raise _refuse(
                self._param, "has a grammar; the setting request.allow_grammar decides whether grammars are accepted"
            )
        if not isinstance(grammar, str) or len(grammar) > _MAX_GRAMMAR_CHARACTERS:
            raise _refuse(self._param, f"must have a grammar of {_MAX_GRAMMAR_CHARACTERS:,} characters at most")


def _walk(field: dict[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    """Yield every value, its name (for a list's entries: the list's name) and whether it is inside a schema. Parses
    schemas that are JSON strings."""
    waiting: list[tuple[str, Any, bool]] = [("", field, False)]
    while waiting:
        name, value, is_in_schema = waiting.pop()
        if name in ("json", "structural_tag") and isinstance(value, str) and not is_in_schema:
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise InvalidRequest(
                    f"{name!r} is a string that is not JSON, or is nested too deeply.", code="invalid_structured_output"
                ) from None
        yield name, value, is_in_schema
        is_in_schema = is_in_schema or name in _SCHEMAS
        if isinstance(value, dict):
            waiting += ((key, inner, is_in_schema) for key, inner in value.items())
        elif isinstance(value, list):
            waiting += ((name, entry, is_in_schema) for entry in value)


def _repetitions(pattern: str) -> tuple[int, int, int]:
    """The number of quantifiers in a pattern, their depth of nesting, and the number of repeated pieces if all finite
    bounds are expanded: 5 for a{1,5}, 18 for (a{1,5}b?){3}."""
    outer: list[tuple[int, int]] = []
    group, last = (0, 0), (0, 0)  # depth and pieces: of the group so far, of the atom just read
    quantifiers = position = 0
    while position < len(pattern):
        character = pattern[position]
        if quantifier := _QUANTIFIER.match(pattern, position):
            quantifiers += 1
            bound = quantifier[2] or (quantifier[1] if quantifier[2] is None else "") or "1"
            times = max(1, int(bound.lstrip("0")[:6] or 0))
            repeated = (last[0] + (quantifier[0] != "?"), max(1, last[1]) * times)
            group = (max(group[0], repeated[0]), group[1] - last[1] + repeated[1])
            last = repeated
            position = quantifier.end()
            continue
        last = (0, 0)
        if character == "\\":
            position += 1
        elif character == "[":
            position = _end_of_class(pattern, position)
        elif character == "(":
            outer.append(group)
            group = (0, 0)
        elif character == ")" and outer:
            last, before = group, outer.pop()
            group = (max(last[0], before[0]), last[1] + before[1])
        position += 1
    for before in outer:
        group = (max(group[0], before[0]), group[1] + before[1])
    return quantifiers, *group


def _end_of_class(pattern: str, start: int) -> int:
    position = start + 1
    while position < len(pattern) and pattern[position] != "]":
        position += 2 if pattern[position] == "\\" else 1
    return position
