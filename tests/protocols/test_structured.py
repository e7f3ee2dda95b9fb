"""Limits on structured output and tools."""

import json
from typing import Any

import pytest

from tests.conftest import user
from vlserve.errors import InvalidRequest
from vlserve.protocols import structured
from vlserve.protocols.protocol_definitions import CHAT


def check(allow_grammar: bool = False, **fields: Any) -> None:
    structured.check({"messages": user("x"), **fields}, CHAT, allow_grammar=allow_grammar)


EMAIL = r"^[a-zA-Z0-9._%+-]+@[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*\.[a-zA-Z]{2,10}$"
CAR = {
    "type": "object",
    "properties": {"brand": {"type": "string"}, "type": {"enum": ["sedan", "SUV"]}, "plate": {"pattern": "[A-Z]{1,3}"}},
    "required": ["brand"],
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": CAR}}


@pytest.mark.parametrize(
    "fields",
    [
        {"structured_outputs": {"regex": EMAIL}},
        {"structured_outputs": {"regex": r"(\d{1,3}\.){3}\d{1,3}( (GET|POST) /[a-z/]*){1,20}"}},
        {"structured_outputs": {"regex": r"[{(*+]{1,900}\{3000\}\(\(\("}},
        {"structured_outputs": {"choice": ["positive", "negative"]}},
        {"structured_outputs": {"json": CAR, "whitespace_pattern": None}},
        {"structured_outputs": {"json": json.dumps(CAR)}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "car", "schema": CAR}}},
        {"response_format": {"type": "json_object"}},
        {
            "structured_outputs": {
                "json": {"properties": {"grammar": {"type": "string"}, "regex": {"default": "((a*)*)*"}}}
            }
        },
        {
            "tools": [
                {
                    "type": "function",
                    "function": {"name": "f", "parameters": {"examples": [{"json": "{", "grammar": "x"}]}},
                }
            ]
        },
        {"response_format": {"type": "text"}, "min_tokens": 3},
        {"tools": [TOOL] * 100, "tool_choice": "auto"},
        {"tools": None, "structured_outputs": None, "response_format": None, "min_tokens": 5},
        {"structured_outputs": {"grammar": 'root ::= "SELECT " [a-z]+'}, "allow_grammar": True},
    ],
)
def test_common_schemas_are_accepted(fields: dict[str, Any]) -> None:
    check(**fields)


def chain(links: int) -> dict[str, Any]:
    definitions = {f"d{number}": {"properties": {"n": {"$ref": f"#/$defs/d{number + 1}"}}} for number in range(links)}
    return {"$ref": "#/$defs/d0", "$defs": definitions | {f"d{links}": {"type": "string"}}}


def nested(levels: int) -> dict[str, Any]:
    return {"type": "array", "items": nested(levels - 1)} if levels else {"type": "string"}


@pytest.mark.parametrize(
    "schema",
    [
        chain(2000),
        {"properties": {f"p{number}": {"type": "string"} for number in range(2000)}},
        {"enum": list(range(1001))},
        {"anyOf": [{"const": number} for number in range(101)]},
        {"type": "object", "minProperties": 150},
        {"type": "object", "maxProperties": 160.0},
        {"const": "x" * 300_000},
        {"type": "string", "pattern": "(" * 1000 + "a" + ")" * 1000},
        {"type": "string", "pattern": "((((a{1,100}){1,100}){1,100}){1,100})"},
        {"patternProperties": {"(((((a+)+)+)+)+)": {}}},
        {"type": "object", "properties": {"a": {"items": {"pattern": "(a{1,50}){1,50}"}}}},
    ],
    ids=lambda schema: json.dumps(schema)[:50],
)
def test_expensive_schemas_are_refused_at_any_depth(schema: dict[str, Any]) -> None:
    for fields in (
        {"structured_outputs": {"json": schema}},
        {"structured_outputs": {"json": json.dumps(schema)}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}},
        {"response_format": {"type": "structural_tag", "format": {"type": "json_schema", "json_schema": schema}}},
        {"tools": [TOOL, {"type": "function", "function": {"name": "g", "parameters": schema}}]},
    ):
        with pytest.raises(InvalidRequest) as error:
            check(**fields)
        assert error.value.code == "invalid_structured_output"
        assert len(error.value.message) < 300


@pytest.mark.parametrize(
    "fields",
    [
        {"structured_outputs": {"regex": "(" + "a?" * 40 + "){1,1000}"}},
        {"structured_outputs": {"regex": "(" + "a?" * 500 + ")*"}},
        {"structured_outputs": {"regex": "(a{1,0000001000}){3}"}},
        {"structured_outputs": {"json": {"properties": dict.fromkeys(map(str, range(1100)), True)}}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"p": [{}] * 300}}}] * 10},
        {"structured_outputs": {"regex": "a" * 1025}},
        {"structured_outputs": {"regex": "(" * 500 + "a" + ")*" * 500}},
        {"structured_outputs": {"regex": "(a{100}){,100}"}},
        {"structured_outputs": {"regex": "(?:[)a]{50}b){41}"}},
        {"structured_outputs": {"regex": "((a{2001}"}},
        {"structured_outputs": {"choice": ["x"] * 1001}},
        {"structured_outputs": {"grammar": 'root ::= "a"'}},
        {"structured_outputs": {"grammar": "x" * 9000}, "allow_grammar": True},
        {"structured_outputs": {"structural_tag": '{"format": {"type": "regex", "pattern": "(a{99}){99}"}}'}},
        {"structured_outputs": {"json": "{"}},
        {"structured_outputs": {"json": "[" * 100_000}},
        {"structured_outputs": {}},
        {"structured_outputs": {"json": {}, "regex": "a"}},
        {"structured_outputs": []},
        {"structured_outputs": "x"},
        {"structured_outputs": {"regex": "a"}, "allowed_token_ids": [5]},
        {"response_format": {"type": "json_object"}, "min_tokens": 5},
        {"response_format": "json"},
        {"tools": {}},
        {"tools": [TOOL] * 129},
        {"tools": [{"type": "function"}]},
        {"tools": [None]},
    ],
    ids=lambda fields: json.dumps(fields)[:60],
)
def test_other_harmful_constraints_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        check(**fields)


# What a 400 has to name → a schema with it, in a property.
UNSUPPORTED_SCHEMAS: dict[str, dict[str, Any]] = {
    name: {"type": "object", "properties": {"a": inner}}
    for name, inner in {
        "multipleOf": {"type": ["number", "null"], "multipleOf": 5},
        "uniqueItems": {"type": "array", "uniqueItems": True},
        "contains": {"type": "array", "contains": {"const": 1}},
        "minContains": {"type": "array", "minContains": 1},
        "maxContains": {"type": "array", "maxContains": 1},
        "format 'regex'": {"type": "string", "format": "regex"},
        "pattern or format together with minLength or maxLength": {"type": "string", "pattern": "a", "minLength": 1},
        "propertyNames with a pattern": {"type": "object", "propertyNames": {"pattern": "a", "maxLength": 1}},
        "propertyNames together with patternProperties": {
            "type": "object",
            "propertyNames": {},
            "patternProperties": {"a": {}},
        },
        "propertyNames together with properties": {"type": "object", "propertyNames": {}, "properties": {}},
        "propertyNames together with unevaluatedProperties": {
            "type": "object",
            "propertyNames": {},
            "unevaluatedProperties": False,
        },
        "patternProperties together with properties": {"type": "object", "patternProperties": {}, "properties": {}},
        "more than one entry in patternProperties": {"type": "object", "patternProperties": {"a": {}, "b": {}}},
        "allOf with more than one schema": {"allOf": [{}, {}]},
    }.items()
}
SUPPORTED_SCHEMAS: list[dict[str, Any]] = [
    CAR,
    {"multipleOf": 5},
    {"type": "string", "format": "email"},
    {"type": "string", "minLength": 1},
    {"type": "object", "propertyNames": {"pattern": "a"}},
    {"allOf": [{"type": "string"}]},
    {"prefixItems": [[{"type": "number", "multipleOf": 5}]]},
    {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1},
]


@pytest.mark.parametrize("keywords", UNSUPPORTED_SCHEMAS)
@pytest.mark.parametrize(
    ("place", "make"),
    [
        ("structured_outputs.json", lambda schema: {"structured_outputs": {"json": schema}}),
        ("structured_outputs.json", lambda schema: {"structured_outputs": {"json": json.dumps(schema)}}),
        ("text.format.schema", lambda schema: {"text": {"format": {"type": "json_schema", "schema": schema}}}),
        ("output_config.format.schema", lambda schema: {"output_config": {"format": {"schema": schema}}}),
        (
            "response_format.json_schema.schema",
            lambda schema: {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}},
        ),
        (
            "tools[1].function.parameters",
            lambda schema: {
                "tools": [TOOL, {"type": "function", "function": {"name": "g", "parameters": schema}}],
                "tool_choice": {"type": "function", "function": {"name": "g"}},
            },
        ),
        (
            "tools[0].parameters",
            lambda schema: {"tools": [{"name": "g", "parameters": schema}], "tool_choice": "required"},
        ),
        (
            "tools[0].input_schema",
            lambda schema: {"tools": [{"name": "g", "input_schema": schema}], "tool_choice": {"type": "any"}},
        ),
    ],
)
def test_keywords_that_the_backend_does_not_support_are_named_with_their_place(
    keywords: str, place: str, make: Any
) -> None:
    with pytest.raises(InvalidRequest) as error:
        structured.check_backend(make(UNSUPPORTED_SCHEMAS[keywords]))
    assert error.value.message.startswith(f"{place}.properties.a: ")
    assert f"does not support {keywords}" in error.value.message


@pytest.mark.parametrize(
    "fields",
    [
        *({"structured_outputs": {"json": schema}} for schema in SUPPORTED_SCHEMAS),
        {"response_format": {"type": "json_schema", "json_schema": {"name": "", "schema": "AAA"}}},  # vLLM refuses it
        {"tools": [{"type": "function", "function": {"name": "g", "parameters": {"allOf": [{}, {}]}}}]},
        {
            "tools": [TOOL, {"type": "function", "function": {"name": "g", "parameters": {"allOf": [{}, {}]}}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
        },
    ],
)
def test_supported_or_uncompiled_schemas_are_accepted(fields: dict[str, Any]) -> None:
    structured.check_backend(fields)
