"""Translates error responses of vLLM and other servers into errors for clients."""

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

# Messages of vLLM 0.32, and the error code of OpenAI's API for each. For a prompt that is too long also the messages
# of TensorRT-LLM and SGLang.
_CODES = (
    (re.compile(r"greater than max_model_len"), "invalid_value"),  # max_tokens alone exceeds the context
    (
        # "got 0": the prompt alone fills the context (a request for max_tokens 0 is refused earlier).
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
# Internal details: paths, variables, flags, addresses. Otherwise vLLM's messages for bad requests are useful.
# A path with a line number starts after white space or a delimiter and contains none, so no text is scanned twice.
_INTERNALS = re.compile(
    r"(?:\[[\d:]+\] )?(?:(?<![^\s:()'\"\[=])/[^\s:()'\"\[=]+|<path>):\d+: "
    r"|\b(?:VLLM|CUDA|HF|NCCL)_[A-Z0-9_]+|--[a-z][a-z0-9-]+|(?:/[\w.@-]+){2,}"
    r"|0x[0-9a-fA-F]{6,}"
)
_LONGEST_MESSAGE, _LONGEST_READ = 600, 4000
# vLLM's front end outlives its core process for some seconds and then answers 500 with one of these names.
_DIED = re.compile(r"EngineCore|EngineDead")
# vLLM 0.32 reports a tool call of the model that it cannot convert to Anthropic's format as a bad request.
_BAD_CALL = re.compile(r"validation errors? for AnthropicContentBlock input\b")
# "1 validation error: {'type': …, 'loc': 'body.top_p', 'msg': 'Input should be …', …}": only the first is used.
# FastAPI's messages, which TensorRT-LLM passes on, have 'loc': ('body', 'top_p').
_INVALID_FIELD = re.compile(
    r"'loc': (?:'body\.(?P<field>[^']+)'|\('body', (?P<path>[^)]+)\)), "
    r"'msg': (?P<quote>['\"])(?P<problem>.+?)(?P=quote)"
)
# Names of vLLM's classes in the path to a field, and complete reports of Pydantic.
_CLASS_NAMES = re.compile(r"\.(?:ChatCompletion|Custom)\w+")
_PYDANTIC = re.compile(r"input_value=|input_type=|ValidatorIterator|For further information|_backend")
_PARAMETER = re.compile(r" ?\(parameter=[^)]*\)$")
_PARAMS = {"input_tokens": "messages", "input_text": "messages"}


def from_engine(
    status: int, body: bytes, engine: str, retry_after_s: float = 5.0, own_retry_after_s: float | None = None
) -> VlserveError:
    """Translate an engine's error response or error event into the client's error, without internal details.

    ``retry_after_s``: when the engine is expected back if it died. ``own_retry_after_s``: its Retry-After header.
    """
    message, param, engine_code = engine_message(body)
    if status >= 500 and _DIED.search(message):
        return EngineDied(
            f"The {engine} engine died while processing this request. Please send it again.",
            retry_after_s=retry_after_s,
        )
    if status in (401, 403):
        return EngineFailed(f"The {engine} engine refused the gateway's own credentials.")
    if status == 429:
        return TooManyRequests(f"The {engine} engine has too many requests.", retry_after_s=own_retry_after_s or 1)
    if status in (502, 503):
        return EngineAway(
            f"The {engine} engine cannot take requests now.", retry_after_s=own_retry_after_s or retry_after_s
        )
    if status == 504:
        return EngineTimeout(f"The {engine} engine reported a timeout.")
    if status in (
        404,
        405,
        501,
    ):  # remote servers only: our vLLM has all endpoints and models
        reason = f": {_without_internals(message)}" if message else "."
        return NotFound(f"The {engine} engine is a server that does not have this endpoint or model{reason}")
    if 400 <= status < 500 and _BAD_CALL.search(message):
        return EngineFailed(
            "The model called a tool with arguments that are not a JSON object. Please send the request again.",
            code="invalid_tool_call",
        )
    if 400 <= status < 500 and message:
        code = next((code for pattern, code in _CODES if pattern.search(message)), engine_code)
        if invalid := _INVALID_FIELD.search(message):
            field = invalid["field"] or ".".join(part.strip("' ") for part in invalid["path"].split(","))
            field = _CLASS_NAMES.sub("", field)
            message, param = f"{field}: {invalid['problem']}.", field
        if _PYDANTIC.search(message):
            message = "The request does not match the schema of this endpoint."
        return InvalidRequest(_without_internals(message), param=_PARAMS.get(param or "", param), code=code)
    if 400 <= status < 500:
        return InvalidRequest(f"The {engine} engine refused the request (status {status}).")
    return EngineFailed(f"The {engine} engine failed on this request.")


def engine_message(body: bytes) -> tuple[str, str | None, str | None]:
    """Message, param and code (if a string) of ``{"error": {...}}``, or of the same object without ``error`` (older
    vLLM, SGLang, TensorRT-LLM). TensorRT-LLM also sends ``{"error": "…"}``."""
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


def _without_internals(message: str) -> str:
    line = _INTERNALS.sub("…", _PARAMETER.sub("", message))
    return line if len(line) <= _LONGEST_MESSAGE else line[:_LONGEST_MESSAGE] + "…"
