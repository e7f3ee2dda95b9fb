"""Finds what xgrammar, the structured output backend of vLLM, does not support in a JSON schema, and where.

The rules are those of ``has_xgrammar_unsupported_json_features`` (vllm/v1/structured_output/backend_xgrammar.py, 0.32),
which does not name what it found.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_STRING_FORMATS = frozenset(
    {
        *("email", "date", "time", "date-time", "duration", "ipv4", "ipv6", "hostname", "uuid", "uri"),
        *("uri-reference", "uri-template", "json-pointer", "relative-json-pointer"),
    }
)
_ARRAY_KEYWORDS = ("uniqueItems", "contains", "minContains", "maxContains")


def find_unsupported(schema: Any, where: str) -> tuple[str, str] | None:
    """The place of the first part that is not supported, and the keywords; None: all of it is supported.

    ``where``: the path of ``schema`` in the request.
    """
    waiting = [(where, schema)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, list):
            # Only lists directly in an object are searched, as vLLM does.
            waiting += [(f"{place}[{number}]", one) for number, one in enumerate(value) if isinstance(one, dict)][::-1]
        elif isinstance(value, dict):
            keywords = next(_unsupported(value), None)
            if keywords:
                return place, keywords
            waiting += [(f"{place}.{name}", inner) for name, inner in value.items()][::-1]
    return None


def _unsupported(schema: Mapping[str, Any]) -> Iterator[str]:
    """The keywords of one level that are not supported, or not in this combination."""
    kind = schema.get("type")
    types = {one for one in (kind if isinstance(kind, list) else [kind]) if isinstance(one, str)}
    if types & {"integer", "number"} and "multipleOf" in schema:
        yield "multipleOf"
    if "array" in types:
        yield from (name for name in _ARRAY_KEYWORDS if name in schema)
    if "string" in types:
        form = schema.get("format")
        if "format" in schema and not (isinstance(form, str) and form in _STRING_FORMATS):
            yield f"format {str(form)[:40]!r}"
        if _bounds_a_pattern(schema):
            yield "pattern or format together with minLength or maxLength"
    if "object" in types:
        yield from _unsupported_in_object(schema)
    branches = schema.get("allOf")
    if isinstance(branches, list) and len(branches) > 1:
        yield "allOf with more than one schema"


def _unsupported_in_object(schema: Mapping[str, Any]) -> Iterator[str]:
    if "propertyNames" in schema:
        names = schema["propertyNames"]
        if isinstance(names, dict) and _bounds_a_pattern(names):
            yield "propertyNames with a pattern or format together with minLength or maxLength"
        yield from (
            f"propertyNames together with {name}" for name in ("patternProperties", "properties") if name in schema
        )
        if schema.get("unevaluatedProperties", True) is not True:
            yield "propertyNames together with unevaluatedProperties"
    patterns = schema.get("patternProperties")
    if isinstance(patterns, dict):
        if "properties" in schema:
            yield "patternProperties together with properties"
        if len(patterns) > 1:
            yield "more than one entry in patternProperties"


def _bounds_a_pattern(schema: Mapping[str, Any]) -> bool:
    return ("pattern" in schema or "format" in schema) and ("minLength" in schema or "maxLength" in schema)
