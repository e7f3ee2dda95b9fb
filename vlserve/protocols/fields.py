"""The closed sets of fields that requests may have, each field with its JSON schema as vLLM takes it; plain data.

Requests are held against them, and the OpenAPI document shows them. Types and bounds are those of vLLM 0.32
(vllm/entrypoints/{openai/chat_completion,openai/completion,openai/responses,anthropic}/protocol.py,
sampling_params.py), which checks them.
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

_SHARED = (
    *("model", "stream", "stream_options", "n", "seed", "stop", "temperature", "top_p", "user", "frequency_penalty"),
    *("presence_penalty", "logit_bias", "response_format", "top_k", "min_p", "repetition_penalty", "length_penalty"),
    *("min_tokens", "stop_token_ids", "ignore_eos", "include_stop_str_in_output", "bad_words", "allowed_token_ids"),
    *("skip_special_tokens", "structured_outputs", "spaces_between_special_tokens", "prompt_logprobs"),
    "return_token_ids",
)
COMPLETION_FIELDS: Mapping[str, Schema] = {
    "prompt": {
        "anyOf": [
            TEXT,
            {"type": "array", "minItems": 1, "items": TEXT},
            {"type": "array", "minItems": 1, "items": INTEGER},
            {"type": "array", "minItems": 1, "items": {"type": "array", "minItems": 1, "items": INTEGER}},
        ]
    },
    **{name: CHAT_FIELDS[name] for name in _SHARED},
    "max_tokens": maybe("integer", minimum=1, description="16 where nothing is said, as OpenAI has it."),
    "echo": _SWITCH,
    "logprobs": maybe("integer", minimum=0),
    "add_special_tokens": _SWITCH,
}

_RESPONSE_TOOL = an_object(
    "type name",
    type={"enum": ["function", "custom"]},
    name=TEXT,
    description=maybe("string"),
    parameters=maybe("object"),
)
_TEXT_FORMATS = [
    an_object("type", type={"enum": ["text", "json_object"]}),
    an_object("type name schema", type={"const": "json_schema"}, name=TEXT, schema={"type": "object"}),
]
RESPONSE_FIELDS: Mapping[str, Schema] = {
    "input": {"anyOf": [TEXT, {"type": "array", "minItems": 1, "items": ref("InputItem")}]},
    **{name: CHAT_FIELDS[name] for name in ("model", "stream", "temperature", "top_p", "user", "logit_bias")},
    "instructions": maybe("string", description="The system prompt."),
    "max_output_tokens": maybe("integer", minimum=1),
    "text": maybe("object", properties={"format": {"anyOf": [*_TEXT_FORMATS, {"type": "null"}]}}),
    "tools": {"type": "array", "items": _RESPONSE_TOOL},
    "tool_choice": {
        "anyOf": [
            {"enum": ["none", "auto", "required"]},
            an_object("type name", type=_FUNCTION, name=TEXT),
        ]
    },
    "parallel_tool_calls": maybe("boolean"),
    "include": maybe("array", items={"enum": ["message.output_text.logprobs", "reasoning.encrypted_content"]}),
    "top_logprobs": maybe("integer", minimum=0),
    "reasoning": maybe("object", description="Taken; these models do not reason."),
    "metadata": maybe("object", description="Given back in the answer."),
    "store": maybe("boolean", description="Taken; nothing is stored."),
    "service_tier": maybe("string"),
    "truncation": {"enum": ["disabled", None], "description": "A prompt is never cut."},
    "max_tool_calls": maybe("integer", description="Taken and not used."),
    "prompt_cache_key": maybe("string", description="Taken and not used."),
    "safety_identifier": maybe("string", description="Taken and not used."),
    # vLLM's own
    **{name: CHAT_FIELDS[name] for name in ("top_k", "min_p", "repetition_penalty", "frequency_penalty")},
    **{name: CHAT_FIELDS[name] for name in ("presence_penalty", "seed", "stop", "stop_token_ids", "ignore_eos")},
    **{name: CHAT_FIELDS[name] for name in ("skip_special_tokens", "include_stop_str_in_output")},
    "structured_outputs": CHAT_FIELDS["structured_outputs"],
    "include_reasoning": _SWITCH,
}

_MESSAGE_TOOL = an_object("name input_schema", name=TEXT, description=maybe("string"), input_schema={"type": "object"})
_BLOCKS: Schema = {"type": "array", "items": {"type": "object"}}
# What makes the prompt, and so is all that counting needs.
MESSAGE_PROMPT_FIELDS: Mapping[str, Schema] = {
    "messages": {"type": "array", "minItems": 1, "items": ref("AnthropicMessage")},
    "model": CHAT_FIELDS["model"],
    "system": {"anyOf": [TEXT, _BLOCKS, {"type": "null"}]},
    "tools": maybe("array", items=_MESSAGE_TOOL),
    "tool_choice": maybe("object", properties={"type": {"enum": ["auto", "any", "tool", "none"]}, "name": TEXT}),
    "output_config": maybe("object", description="`format`: a JSON schema for the answer."),
}
MESSAGE_FIELDS: Mapping[str, Schema] = {
    **MESSAGE_PROMPT_FIELDS,
    "max_tokens": {"type": "integer", "minimum": 1},
    **{name: CHAT_FIELDS[name] for name in ("stream", "temperature", "top_p", "top_k")},
    "stop_sequences": maybe("array", items=TEXT),
    "metadata": maybe("object", description="Taken and not used."),
}
