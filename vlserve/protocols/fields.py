"""Accepted request fields of each protocol; others are dropped. vlserve/gateway/openapi.yaml describes the fields."""


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
    "return_token_ids",
)
CHAT_FIELDS = _COMPLETION | _names(
    "messages max_completion_tokens top_logprobs tools tool_choice parallel_tool_calls reasoning_effort",
    "include_reasoning add_generation_prompt continue_final_message",
)
COMPLETION_FIELDS = _COMPLETION | _names("prompt add_special_tokens")
RESPONSE_FIELDS = _SAMPLING | _names(
    "input instructions max_output_tokens text tools tool_choice parallel_tool_calls include top_logprobs reasoning",
    "metadata store service_tier truncation max_tool_calls prompt_cache_key safety_identifier include_reasoning",
)
MESSAGE_PROMPT_FIELDS = ("messages", "model", "system", "tools", "tool_choice", "output_config")
"""Fields that make up the prompt: all that token counting needs."""
MESSAGE_FIELDS = frozenset(MESSAGE_PROMPT_FIELDS) | _names(
    "max_tokens stream temperature top_p top_k stop_sequences metadata"
)
