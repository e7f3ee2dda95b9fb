"""The closed set of a chat request's fields, each with its JSON schema as vLLM takes it; plain data.

Requests are held against it, and the OpenAPI document shows it. Types and bounds are those of vLLM 0.32
(vllm/entrypoints/openai/chat_completion/protocol.py, sampling_params.py), which checks them.
"""

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

INT64 = 2**63


def maybe(kind: str, **more: Any) -> Schema:
    """A field that may also be null, which is the same as leaving it out."""
    return {"type": [kind, "null"], **more}


def an_object(required: str = "", /, **properties: Schema) -> Schema:
    """An object; ``required`` names the properties that must be there."""
    return {"type": "object", "properties": properties, "required": required.split()}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
_SWITCH: Schema = {"type": "boolean"}
_TOKEN_IDS = maybe("array", items=INTEGER)
_FUNCTION: Schema = {"const": "function"}
_TOOL = an_object(
    "function",
    type=_FUNCTION,
    function=an_object(
        "name",
        name=TEXT,
        description=maybe("string"),
        parameters=maybe("object", description="JSON schema of the arguments."),
        strict=maybe("boolean"),
    ),
)
_JSON_SCHEMA = an_object(
    "name", name=TEXT, description=maybe("string"), schema=maybe("object"), strict=maybe("boolean")
)
_RESPONSE_FORMATS = [
    an_object("type", type={"enum": ["text", "json_object"]}),
    an_object("type json_schema", type={"const": "json_schema"}, json_schema=_JSON_SCHEMA),
    an_object("type", type={"const": "structural_tag"})
    | {"description": "vLLM's structural tags: `format`, or the older `structures` and `triggers`."},
]

CHAT_FIELDS: Mapping[str, Schema] = {
    "messages": {"type": "array", "minItems": 1, "items": ref("Message")},
    "model": maybe(
        "string", description="A name from `/v1/models`. `auto`, or none: pictures go to `vision`, else `text`."
    ),
    "stream": maybe("boolean", description="Answer with server-sent events."),
    "stream_options": maybe(
        "object",
        description="With `stream` only.",
        properties={"include_usage": maybe("boolean"), "continuous_usage_stats": maybe("boolean")},
    ),
    "n": maybe("integer", minimum=1, description="Answers to make."),
    "seed": maybe("integer", minimum=-INT64, maximum=INT64 - 1),
    "stop": {"type": ["string", "array", "null"], "items": {"type": "string"}},
    "temperature": maybe("number", minimum=0, maximum=2),
    "top_p": maybe("number", exclusiveMinimum=0, maximum=1),
    "user": maybe("string", description="Taken and not used."),
    "max_tokens": maybe("integer", minimum=1, description="The older name of `max_completion_tokens`."),
    "max_completion_tokens": maybe("integer", minimum=1),
    "frequency_penalty": maybe("number", minimum=-2, maximum=2),
    "presence_penalty": maybe("number", minimum=-2, maximum=2),
    "logit_bias": maybe("object", description="Token id → bias.", additionalProperties={"type": "number"}),
    "logprobs": maybe("boolean"),
    "top_logprobs": maybe("integer", minimum=0, description="With `logprobs`."),
    "response_format": {"anyOf": [*_RESPONSE_FORMATS, {"type": "null"}]},
    "tools": maybe("array", minItems=1, items=_TOOL),
    "tool_choice": {
        "anyOf": [
            {"enum": ["none", "auto", "required", None]},
            an_object("function", type=_FUNCTION, function=an_object("name", name=TEXT)),
        ]
    },
    "parallel_tool_calls": maybe("boolean"),
    "reasoning_effort": {"enum": ["none", "minimal", "low", "medium", "high", "xhigh", "max", None]},
    # vLLM's own
    "top_k": maybe("integer", minimum=-1, description="0 or -1: all."),
    "min_p": maybe("number", minimum=0, maximum=1),
    "repetition_penalty": maybe("number", exclusiveMinimum=0),
    "length_penalty": {"type": "number"},
    "min_tokens": {"type": "integer", "minimum": 0},
    "stop_token_ids": _TOKEN_IDS,
    "ignore_eos": _SWITCH,
    "include_stop_str_in_output": _SWITCH,
    "bad_words": {"type": "array", "items": {"type": "string"}},
    "allowed_token_ids": _TOKEN_IDS,
    "skip_special_tokens": _SWITCH,
    "structured_outputs": maybe(
        "object",
        description="Exactly one of `json`, `regex`, `choice`, `grammar`, `json_object`, `structural_tag`.",
        properties={
            "json": {"type": ["object", "string", "null"]},
            "regex": maybe("string"),
            "choice": maybe("array", items={"type": "string"}),
            "grammar": maybe("string"),
            "json_object": maybe("boolean"),
            "structural_tag": maybe("string"),
            "whitespace_pattern": maybe("string"),
            "disable_any_whitespace": _SWITCH,
            "disable_additional_properties": _SWITCH,
        },
    ),
    "spaces_between_special_tokens": _SWITCH,
    "prompt_logprobs": maybe("integer", minimum=-1, description="Without `stream` only."),
    "include_reasoning": _SWITCH,
    "echo": _SWITCH,
    "add_generation_prompt": _SWITCH,
    "continue_final_message": _SWITCH,
    "return_token_ids": maybe("boolean"),
}
