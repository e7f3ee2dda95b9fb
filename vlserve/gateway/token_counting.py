"""Token counting by the engine, and prompts that exceed its limit."""

import asyncio
import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vlserve.engines.errors import from_engine
from vlserve.errors import EngineDied, EngineFailed, EngineTimeout, InvalidRequest, VlserveError
from vlserve.gateway.engine_connection import Body
from vlserve.gateway.request_context import RequestContext, RoutedRequest, write_body
from vlserve.protocols.media_reference import MediaReference
from vlserve.resource_errors import resource_error

_COUNT_TIMEOUT_S = 60.0
_TOKENIZE_PATH = "/tokenize"  # has no limit on tokens
_LONGEST_TOKEN_BYTES = 256  # twice the longest in Qwen2.5's vocabulary, because JSON may escape
_MAX_EXPLAINED_BYTES = 32  # per token of the limit; longer prompts are not counted for the error message
_HEAD_BYTES = 64 * 1024  # of an answer; after the number vLLM lists every token
_NUMBER = re.compile(rb'"(?:count|input_tokens)": ?(\d+)')
_ANSWER_TOKENS = 1024  # reserved for the answer if the request does not limit its length
_AROUND_TOKENS = 4  # per picture: vision_start, vision_end, and a margin
_TEXTS = ("text", "content", "input", "output", "arguments", "instructions", "system")


async def check_size(context: RequestContext, routed: RoutedRequest) -> None:
    """Raise InvalidRequest for text that is certainly too long, before an engine tokenizes all of it."""
    parsed, limit = routed.parsed, routed.engine.max_model_len or 0
    most = limit * _LONGEST_TOKEN_BYTES
    if not limit or context.size <= most or not isinstance(parsed.tree.get("prompt", ""), str):
        return
    size = sum(map(len, await write_body(context, lambda: parsed.prompt_body(routed.model, None))))
    if size > most:
        raise InvalidRequest(
            f"The prompt is too long: its text has {size:,} bytes, and {limit:,} tokens fit (max_model_len of the "
            f"{routed.route.engine} engine).",
            param=parsed.protocol.prompt,
            code="context_length_exceeded",
        )


async def fit(context: RequestContext, routed: RoutedRequest) -> RoutedRequest:
    """Make pictures smaller that do not fit into the prompt, or raise InvalidRequest."""
    runtime, limit, loaded, parsed = context.runtime, routed.engine.max_model_len or 0, routed.loaded, routed.parsed
    used = loaded.total_tokens
    problem = InvalidRequest(
        f"The prompt is too long: {loaded.describe()}; text and answer included, {limit:,} fit (max_model_len). Send "
        "fewer or smaller pictures, detail: low, or a shorter or smaller video.",
        param=parsed.protocol.prompt,
        code="context_length_exceeded",
    )
    if runtime.config.image.fit == "reject" or not parsed.protocol.count_path:
        if used >= limit:
            raise problem
        return routed
    length = parsed.max_tokens or min(_ANSWER_TOKENS, limit // 4)
    rest = limit - length - _AROUND_TOKENS * loaded.count
    question = await write_body(context, lambda: parsed.prompt_body(routed.model, None))
    if used + sum(map(len, question)) <= rest:  # no token is shorter than a byte
        return routed
    try:
        async with runtime.admission.permit(routed.route.engine, context.key):
            rest -= await count(context, routed, question)
    except InvalidRequest:  # the engine cannot count, or the request is invalid, which its answer will report
        return routed
    if used <= rest:
        return routed
    shrunk = loaded.shrink(rest) if rest > 0 else None
    if not shrunk:
        raise problem
    is_smaller = [now < before for now, before in zip(shrunk.tokens, loaded.tokens, strict=True)]
    return RoutedRequest(routed.route, routed.engine, parsed, shrunk, is_smaller, left_out=routed.left_out)


async def count(context: RequestContext, routed: RoutedRequest, body: Body, path: str | None = None) -> int:
    """Return the number of tokens of a prompt, as the engine counts them. The caller holds a permit of the engine.

    Raises InvalidRequest, EngineAway, EngineDied, EngineFailed, EngineTimeout, ServiceExhausted.
    """
    runtime, name = context.runtime, routed.route.engine
    posted = runtime.clients[name].post(path or routed.parsed.protocol.count_path or "", body)
    del body
    head = b""
    try:
        async with routed.engine.activity.request(), asyncio.timeout(_COUNT_TIMEOUT_S), posted as answer:
            while len(head) <= _HEAD_BYTES and (piece := await answer.receive()):
                head += piece
    except TimeoutError:
        raise EngineTimeout(f"The {name} engine did not count the tokens in {_COUNT_TIMEOUT_S:g} s.") from None
    except ConnectionError as fault:
        if shortage := resource_error(fault):
            raise shortage from fault
        routed.engine.activity.lost()
        raise EngineDied(
            f"The connection to the {name} engine was lost. Please send the request again.",
            retry_after_s=routed.engine.retry_after_s(),
        ) from fault
    if answer.status in (404, 405, 501):
        raise InvalidRequest(f"The server of the {name} engine cannot count tokens.", code="cannot_count_tokens")
    if answer.status != 200:
        error = from_engine(answer.status, head, name, routed.engine.retry_after_s())
        if isinstance(error, EngineDied):
            routed.engine.activity.lost()
        raise error
    if not (number := _NUMBER.search(head)):
        raise EngineFailed(f"The {name} engine returned no token count.")
    return int(number[1])


async def too_long(
    context: RequestContext, routed: RoutedRequest, sent: Sequence[MediaReference], error: VlserveError
) -> InvalidRequest:
    """Return the same error with the prompt's tokens and the limit. The caller holds a permit of the engine."""
    parsed, limit = routed.parsed, routed.engine.max_model_len
    pictures = f" Of the prompt, {routed.loaded.describe()}." if parsed.media else ""
    message = f"{error.message}{pictures}"
    if limit and context.size <= limit * _MAX_EXPLAINED_BYTES and isinstance(parsed.tree.get("prompt", ""), str):
        is_complete = parsed.protocol.count_path == _TOKENIZE_PATH
        question = await write_body(
            context, lambda: parsed.prompt_body(routed.model, sent) if is_complete else _text(routed)
        )
        with contextlib.suppress(VlserveError):
            total = await count(context, routed, question, _TOKENIZE_PATH)
            start = "The prompt is too long: it has" if is_complete else f"{error.message} Its text alone has"
            message = (
                f"{start} {total:,} tokens, and prompt and answer together can have {limit:,} "
                f"(max_model_len of the {routed.route.engine} engine).{pictures}"
            )
    return InvalidRequest(message, param=parsed.protocol.prompt, code="context_length_exceeded")


def _text(routed: RoutedRequest) -> Body:
    """Build a request that counts a request's texts alone, for protocols that the engine cannot count."""
    tree = routed.parsed.tree
    text = "\n".join(_texts({name: tree.get(name) for name in routed.parsed.protocol.prompt_fields}))
    return (json.dumps({"model": routed.model, "prompt": text, "add_special_tokens": False}).encode(),)


def _texts(tree: Any, name: str = "") -> Iterator[str]:
    if isinstance(tree, str):
        if name in _TEXTS:
            yield tree
        return
    for key, value in tree.items() if isinstance(tree, Mapping) else ((name, value) for value in tree or ()):
        if isinstance(value, str | list | dict):
            yield from _texts(value, key)
