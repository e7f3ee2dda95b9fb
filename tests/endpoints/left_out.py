"""Fields that vLLM 0.32 accepts and this service does not, level by level: a table of docs/api.md."""

from dataclasses import dataclass

DROPPED, REFUSED, USED = "ignored", "400", "read here"
NO_PART = "400; ignored beside a text"


@dataclass(frozen=True)
class LeftOut:
    level: str
    names: tuple[str, ...]
    outcome: str
    reason: str


_NO_EFFECT = "without effect on these models"
LEFT_OUT = (
    LeftOut("request", ("chat_template_kwargs",), DROPPED, "about thinking; other keys in it are a 400"),
    LeftOut(
        "request",
        ("mm_processor_kwargs",),
        USED,
        "`min_pixels`, `max_pixels`, `resized_height`, `resized_width` for all pictures; other keys in it are a 400",
    ),
    LeftOut("request", ("thinking", "thinking_token_budget"), DROPPED, "these models have no thinking mode"),
    LeftOut("request", ("watermarking", "routed_experts_prompt_start"), DROPPED, _NO_EFFECT),
    LeftOut("request", ("truncation_side",), DROPPED, "prompts are not truncated"),
    LeftOut("request", ("return_token_offsets",), DROPPED, "vLLM ignores it at these paths"),
    LeftOut("request", ("enable_response_messages",), DROPPED, "for other models (gpt-oss)"),
    LeftOut("request", ("repetition_detection",), DROPPED, "its cost per token has no limit"),
    LeftOut("message", ("audio", "function_call", "task", "tools"), DROPPED, "vLLM or the chat template ignores it"),
    LeftOut("message", ("author", "channel", "content_type", "recipient"), DROPPED, "for other models (gpt-oss)"),
    LeftOut("part", ("prompt_cache_breakpoint", "closed"), DROPPED, _NO_EFFECT),
    LeftOut("part", ("input_audio", "audio_url"), NO_PART, "these models do not support audio"),
    LeftOut(
        "part",
        ("image_embeds", "video_embeds", "audio_embeds", "data", "image_pil"),
        NO_PART,
        "tensors are not accepted from clients",
    ),
    LeftOut("part", ("name",), NO_PART, "references to tools are not in the chat template"),
    LeftOut("part", ("uuid",), REFUSED, "it names a picture in a cache that all clients share"),
    LeftOut("tool", ("allowed_callers", "async", "output_schema"), DROPPED, "vLLM does not show it to the model"),
    LeftOut(
        "type of a tool",
        (
            *("file_search", "computer", "computer_use_preview", "web_search", "mcp", "code_interpreter"),
            *("programmatic_tool_calling", "image_generation", "local_shell", "shell", "namespace", "tool_search"),
            *("web_search_preview", "apply_patch"),
        ),
        DROPPED,
        "this service runs no hosted tools; a 400 where no other tool is given, or `tool_choice` forces it",
    ),
    LeftOut("block", ("tool_name", "tool"), DROPPED, "the tools of a request are those in `tools`"),
)
