"""Errors of engines, translated for clients: what a status and a message of vLLM's (or of another server) mean."""

import json
import re

from vlserve.errors import (
    EngineAway,
    EngineDied,
    EngineFailed,
    EngineTimeout,
    InvalidRequest,
    NotFound,
    TooManyRequests,
    VlserveError,
)

# What vLLM says (read in 0.32), and the code OpenAI's clients know for it. Of a prompt that is too long also what
# TensorRT-LLM and SGLang say.
_CODES = (
    (re.compile(r"greater than max_model_len"), "invalid_value"),  # an answer longer than any can be
    (
        # The last: the prompt alone fills the context (a max_tokens of 0 is refused before).
        re.compile(
            r"maximum context length|longer than the maximum model length|max_model_len|"
            r"max_tokens must be at least 1, got 0|"
            r"not exceed max_(?:num_tokens|seq_len)|default_max_tokens.{0,200}must be greater than 0|"
            r"longer than the model's context length"
        ),
        "context_length_exceeded",
    ),
    (re.compile(r"At most \d+ image"), "too_many_images"),
    (re.compile(r"Failed to load image"), "invalid_image"),
    (re.compile(r"At most \d+ video"), "too_many_videos"),
    (re.compile(r"Could not open video stream|Failed to load video"), "invalid_video"),
    (re.compile(r"video item with \d+ embedding tokens"), "video_too_large"),
    (
        re.compile(r"(?i)regex|grammar|json schema|structured output|structural tag|^choice '"),
        "invalid_structured_output",
    ),
)
# Words that are about the inside of the server. vLLM's messages for bad requests are useful otherwise.
# A path with a line number starts after white space or a delimiter and holds none, so that no text is scanned twice.
_INNER_WORDS = re.compile(
    r"(?:\[[\d:]+\] )?(?:(?<![^\s:()'\"\[=])/[^\s:()'\"\[=]+|<path>):\d+: "
    r"|\b(?:VLLM|CUDA|HF|NCCL)_[A-Z0-9_]+|--[a-z][a-z0-9-]+|(?:/[\w.@-]+){2,}"
    r"|0x[0-9a-fA-F]{6,}"
)
_LONGEST_MESSAGE, _LONGEST_READ = 600, 4000
# vLLM's front end outlives its core process for some seconds and says this with status 500.
_DIED = re.compile(r"EngineCore|EngineDead")
# vLLM cannot write a model's tool call as a block of Anthropic's, and tells the client off for it (0.32).
_BAD_CALL = re.compile(r"validation errors? for AnthropicContentBlock input\b")
# "1 validation error: {'type': …, 'loc': 'body.top_p', 'msg': 'Input should be …', …}": the first one says enough.
# FastAPI's own words, which TensorRT-LLM passes on, have 'loc': ('body', 'top_p').
_INVALID_FIELD = re.compile(
    r"'loc': (?:'body\.(?P<field>[^']+)'|\('body', (?P<path>[^)]+)\)), "
    r"'msg': (?P<quote>['\"])(?P<problem>.+?)(?P=quote)"
)
# Names of vLLM's classes on the way to a field, and whole reports of a library that checks forms.
_CLASS_NAMES = re.compile(r"\.(?:ChatCompletion|Custom)\w+")
_PYDANTIC = re.compile(r"input_value=|input_type=|ValidatorIterator|For further information|_backend")
_PARAMETER = re.compile(r" ?\(parameter=[^)]*\)$")
_PARAMS = {"input_tokens": "messages", "input_text": "messages"}


def from_engine(
    status: int, body: bytes, engine: str, retry_after_s: float = 5.0, told_s: float | None = None
) -> VlserveError:
    """What an engine's non-2xx answer or error event means for the client, without the engine's inner words.

    ``retry_after_s``: when the engine may be back, should it have died. ``told_s``: what its own Retry-After says.
    """
    message, param, told_code = engine_message(body)
    if status >= 500 and _DIED.search(message):
        return EngineDied(
            f"The {engine} engine died while it worked on this request. Please send it again.",
            retry_after_s=retry_after_s,
        )
    if status in (401, 403):
        return EngineFailed(f"The {engine} engine refused the gateway's own credentials.")
    if status == 429:
        return TooManyRequests(f"The {engine} engine has more requests than it takes.", retry_after_s=told_s or 1)
    if status in (502, 503):
        return EngineAway(f"The {engine} engine cannot take requests now.", retry_after_s=told_s or retry_after_s)
    if status == 504:
        return EngineTimeout(f"The {engine} engine did not finish in its own time.")
    if status in (404, 405, 501):  # servers elsewhere: vLLM started here has every endpoint and model it is asked for
        told = f": {_without_inner_words(message)}" if message else "."
        return NotFound(f"The {engine} engine is a server that does not have this endpoint or model{told}")
    if 400 <= status < 500 and _BAD_CALL.search(message):
        return EngineFailed(
            "The model called a tool with arguments that are not a JSON object. Please send the request again.",
            code="invalid_tool_call",
        )
    if 400 <= status < 500 and message:
        code = next((code for pattern, code in _CODES if pattern.search(message)), told_code)
        if invalid := _INVALID_FIELD.search(message):
            field = invalid["field"] or ".".join(part.strip("' ") for part in invalid["path"].split(","))
            field = _CLASS_NAMES.sub("", field)
            message, param = f"{field}: {invalid['problem']}.", field
        if _PYDANTIC.search(message):
            message = "The request does not have the form that this endpoint takes."
        return InvalidRequest(_without_inner_words(message), param=_PARAMS.get(param or "", param), code=code)
    if 400 <= status < 500:
        return InvalidRequest(f"The {engine} engine refused the request (status {status}).")
    return EngineFailed(f"The {engine} engine failed on this request.")


def engine_message(body: bytes) -> tuple[str, str | None, str | None]:
    """Message, param and code (where it is a word) of ``{"error": {...}}`` or of the same without a frame (older vLLM,
    SGLang, TensorRT-LLM); TensorRT-LLM also has ``{"error": "…"}``."""
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError):
        return "", None, None
    if not isinstance(tree, dict):
        return "", None, None
    error = tree.get("error", tree)
    if not isinstance(error, dict):
        error = {"message": error}
    message, param, code = error.get("message"), error.get("param"), error.get("code")
    message = " ".join(message[:_LONGEST_READ].split()) if isinstance(message, str) else ""
    return message, param if isinstance(param, str) else None, code if isinstance(code, str) else None


def _without_inner_words(message: str) -> str:
    line = _INNER_WORDS.sub("…", _PARAMETER.sub("", message))
    return line if len(line) <= _LONGEST_MESSAGE else line[:_LONGEST_MESSAGE] + "…"
