"""Fields of vLLM's request classes, level by level, are accepted or listed in tests/endpoints/left_out.py."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.endpoints.asking import PROTOCOLS
from tests.endpoints.left_out import LEFT_OUT
from tests.protocols.test_structured import SUPPORTED_SCHEMAS, UNSUPPORTED_SCHEMAS
from vlserve.protocols import anthropic_messages, chat, fields, responses
from vlserve.protocols.json_schema import find_unsupported

pytestmark = [pytest.mark.full, pytest.mark.engine]

# Prints level → keys of vLLM's classes, and whether xgrammar supports each schema in stdin.
_REAL = """
import json, sys, typing
from openai.types.responses import ResponseTextConfig
from openai.types.shared import Reasoning
from vllm.entrypoints.anthropic import protocol as anthropic
from vllm.entrypoints.generate.base.protocol import FunctionDefinition, StreamOptions
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest, ChatCompletionToolsParam
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest, Tool
from vllm.renderers import chat_utils
from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.structured_output.backend_xgrammar import has_xgrammar_unsupported_json_features as lacks

def keys(*kinds):
    found = set()
    for kind in kinds:
        if hasattr(kind, "model_fields"):
            found |= {field.alias or name for name, field in kind.model_fields.items()}
        elif hasattr(kind, "__required_keys__"):
            found |= kind.__required_keys__ | kind.__optional_keys__
        else:
            found |= keys(*typing.get_args(kind))
    return found

tools = typing.get_args(typing.get_args(Tool)[0])
types = {one: {name for name in typing.get_args(one.model_fields["type"].annotation)} for one in tools}
include = typing.get_args(typing.get_args(ResponsesRequest.model_fields["include"].annotation)[0])
levels = {
    "/v1/chat/completions": keys(ChatCompletionRequest),
    "/v1/completions": keys(CompletionRequest),
    "/v1/responses": keys(ResponsesRequest),
    "/v1/messages": keys(anthropic.AnthropicMessagesRequest),
    "/v1/messages/count_tokens": keys(anthropic.AnthropicCountTokensRequest),
    "message": keys(chat_utils.ChatCompletionMessageParam),
    "part": keys(chat_utils.ChatCompletionContentPartParam),
    "tool": keys(ChatCompletionToolsParam, FunctionDefinition, anthropic.AnthropicTool)
    | keys(*(one for one, names in types.items() if names & {"function", "custom"})),
    "type of a tool": {min(names, key=len) for names in types.values()},
    "tool_choice": keys(anthropic.AnthropicToolChoice),
    "stream_options": keys(StreamOptions),
    "structured_outputs": {name for name in StructuredOutputsParams.__dataclass_fields__ if name[0] != "_"},
    "reasoning": keys(Reasoning),
    "text": keys(ResponseTextConfig),
    "output_config": keys(anthropic.AnthropicOutputConfig),
    "turn": keys(anthropic.AnthropicMessage),
    "block": keys(anthropic.AnthropicContentBlock),
    "include": set(typing.get_args(include[0] if isinstance(include, tuple) else include)),
}
levels = {level: sorted(map(str, names)) for level, names in levels.items()}
print("levels " + json.dumps([levels, [lacks(one) for one in json.load(sys.stdin)]]))
"""
SCHEMAS = [*UNSUPPORTED_SCHEMAS.values(), *SUPPORTED_SCHEMAS]


@pytest.fixture(scope="module")
def real() -> list[Any]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "vlserve" / "engines" / "compat")}
    command = [sys.executable, "-c", _REAL]
    done = subprocess.run(
        command, input=json.dumps(SCHEMAS), env=environment, capture_output=True, text=True, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("levels ")]
    assert len(lines) == 1, done.stderr[-4000:]
    return list(json.loads(lines[0].removeprefix("levels ")))


def _accepted() -> dict[str, set[str]]:
    parts = {name for _, names in chat._MEDIA_TYPES.values() for name in names}
    return {
        **{path: {*one.fields, *one.refused} for path, one in PROTOCOLS.items()},
        "message": set(fields.MESSAGE_KEYS),
        "part": {"type", *chat._TEXT_TYPES.values(), *parts},
        "tool": {*fields.TOOL_KEYS, *fields.FUNCTION_KEYS, *fields.FLAT_TOOL_KEYS},
        "type of a tool": {"function", "custom"},
        "tool_choice": set(fields.TOOL_CHOICE_KEYS),
        "stream_options": set(fields.STREAM_OPTION_KEYS),
        "structured_outputs": set(fields.STRUCTURED_OUTPUT_KEYS),
        "reasoning": set(fields.REASONING_KEYS),
        "text": set(fields.TEXT_KEYS),
        "output_config": set(fields.OUTPUT_CONFIG_KEYS),
        "turn": set(fields.TURN_KEYS),
        "block": {name for names in anthropic_messages._KEYS.values() for name in names},
        "include": set(responses._INCLUDE),
    }


def _in_table(level: str) -> set[str]:
    return {name for row in LEFT_OUT if row.level == level for name in row.names}


@pytest.mark.parametrize("level", _accepted())
def test_fields_of_vllm_are_accepted_or_listed_with_a_reason(real: list[Any], level: str) -> None:
    missing = set(real[0][level]) - _accepted()[level]
    table = _in_table("request" if level in PROTOCOLS else level)
    assert missing <= table
    if level not in PROTOCOLS:
        assert missing == table


def test_every_listed_field_exists_in_vllm(real: list[Any]) -> None:
    found = {name for path in PROTOCOLS for name in set(real[0][path]) - _accepted()[path]}
    assert found == _in_table("request")


def test_schemas_unsupported_by_xgrammar_are_refused_by_vllm(real: list[Any]) -> None:
    assert [find_unsupported(one, "schema") is not None for one in SCHEMAS] == real[1]
