"""Accepted keys of each protocol, at every level; others are dropped.

vlserve/gateway/openapi.yaml describes the fields. They are those of vLLM 0.32's request classes;
tests/vllm/test_fields.py compares them, and has the reason for each one that is missing here.
"""


def _names(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


_SAMPLING = _names(
    "model stream temperature top_p user logit_bias",
    "top_k min_p repetition_penalty frequency_penalty presence_penalty seed stop stop_token_ids ignore_eos",
    "skip_special_tokens include_stop_str_in_output structured_outputs",
)
_COMPLETION = _SAMPLING | _names(
    "stream_options n max_tokens logprobs response_format echo",
    "length_penalty min_tokens bad_words allowed_token_ids spaces_between_special_tokens prompt_logprobs",
    "return_token_ids return_tokens_as_token_ids logprob_token_ids stream_interval add_special_tokens",
)
CHAT_FIELDS = _COMPLETION | _names(
    "messages max_completion_tokens top_logprobs tools tool_choice parallel_tool_calls reasoning_effort",
    "include_reasoning add_generation_prompt continue_final_message return_prompt_text",
)
COMPLETION_FIELDS = _COMPLETION | _names("prompt")
RESPONSE_FIELDS = _SAMPLING | _names(
    "input instructions max_output_tokens text tools tool_choice parallel_tool_calls include top_logprobs reasoning",
    "metadata store service_tier truncation max_tool_calls prompt_cache_key safety_identifier include_reasoning",
)
MESSAGE_PROMPT_FIELDS = ("messages", "model", "system", "tools", "tool_choice", "output_config")
"""Fields that make up the prompt: all that token counting needs."""
MESSAGE_FIELDS = frozenset(MESSAGE_PROMPT_FIELDS) | _names(
    "max_tokens stream temperature top_p top_k stop_sequences metadata"
)

MESSAGE_KEYS = _names("role content name tool_calls tool_call_id reasoning reasoning_content refusal")
"""Keys of a chat message."""
CALL_KEYS = _names("id type function")
"""Keys of an earlier tool call in chat."""
CALL_FUNCTION_KEYS = _names("name arguments")
TOOL_KEYS = _names("type function defer_loading")
FUNCTION_KEYS = _names("name description parameters strict defer_loading")
FLAT_TOOL_KEYS = _names("type name description parameters input_schema strict defer_loading format cache_control")
"""Keys of a tool in responses and messages."""
TOOL_CHOICE_KEYS = _names("type function name disable_parallel_tool_use mode tools")
STREAM_OPTION_KEYS = _names("include_usage continuous_usage_stats")
STRUCTURED_OUTPUT_KEYS = _names(
    "json regex choice grammar json_object structural_tag",
    "disable_any_whitespace disable_additional_properties whitespace_pattern",
)
OUTPUT_CONFIG_KEYS = _names("effort format")
REASONING_KEYS = _names("effort summary generate_summary context mode")
TEXT_KEYS = _names("format verbosity")
TURN_KEYS = _names("role content")
"""Keys of a turn of Anthropic's Messages."""

HOSTED_BLOCKS = _names(
    "server_tool_use mcp_tool_use container_upload compaction tool_reference tool_addition tool_removal"
)
"""Blocks of tools that Anthropic runs, and changes of the list of tools: left out, as every ``…_tool_result`` is."""
HOSTED_ITEMS = _names(
    "web_search_call file_search_call code_interpreter_call image_generation_call computer_call computer_call_output",
    "local_shell_call local_shell_call_output shell_call shell_call_output apply_patch_call apply_patch_call_output",
    "mcp_call mcp_list_tools mcp_approval_request mcp_approval_response tool_search_call tool_search_output",
    "additional_tools compaction",
)
"""Items of tools that OpenAI runs: left out, as the tools are."""
ITEM_KEYS = _names("type role id status phase call_id name content output summary encrypted_content created_by caller")
"""Keys of items in a client's history that have no effect, or are read."""
