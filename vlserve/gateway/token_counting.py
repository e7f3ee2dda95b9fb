"""How many tokens a prompt has, as its engine counts them, and what to do with one that does not fit."""

import asyncio
import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import aiohttp

from vlserve.engines.errors import from_engine
from vlserve.errors import EngineDied, EngineFailed, EngineTimeout, InvalidRequest, VlserveError
from vlserve.exhaustion import exhausted
from vlserve.gateway.context import RequestContext, RoutedRequest, written
from vlserve.gateway.relay import Body, in_pieces
from vlserve.protocols.media_reference import MediaReference

_COUNT_TIMEOUT_S = 60.0
_COUNTS_ANY = "/tokenize"  # which knows no limit
_LONGEST_TOKEN_BYTES = 256  # twice that of Qwen2.5's vocabulary, since JSON may escape
_COUNTED_BYTES = 32  # for each token that fits: what is counted only to tell how much too long it is
_HEAD_BYTES = 64 * 1024  # of an answer; behind the number vLLM lists every token
_NUMBER = re.compile(rb'"(?:count|input_tokens)": ?(\d+)')
_ANSWER_TOKENS = 1024  # room for an answer whose request does not say how long it may be
_AROUND_TOKENS = 4  # vision_start and vision_end around each picture, and some
_TEXTS = ("text", "content", "input", "output", "arguments", "instructions", "system")


async def check_size(context: RequestContext, routed: RoutedRequest) -> None:
    """Text that cannot fit is refused before an engine turns all of it into tokens. Raises InvalidRequest."""
    parsed, limit = routed.parsed, routed.engine.max_model_len or 0
    most = limit * _LONGEST_TOKEN_BYTES
    if not limit or context.size <= most or not isinstance(parsed.tree.get("prompt", ""), str):
        return
    size = sum(map(len, await written(context, lambda: parsed.prompt_body(routed.model, None))))
    if size > most:
        raise InvalidRequest(
            f"The prompt is too long: its text has {size:,} bytes, and {limit:,} tokens fit (max_model_len of the "
            f"{routed.route.engine} engine).",
            param=parsed.protocol.prompt,
            code="context_length_exceeded",
        )


async def fit(context: RequestContext, routed: RoutedRequest) -> RoutedRequest:
    """Pictures that cannot fit into the prompt are told, or made smaller. Raises InvalidRequest."""
    runtime, limit, loaded, parsed = context.runtime, routed.engine.max_model_len or 0, routed.loaded, routed.parsed
    taken = loaded.total_tokens
    problem = InvalidRequest(
        f"The prompt is too long: {loaded.describe()}; text and answer included, {limit:,} fit (max_model_len). Send "
        "fewer or smaller pictures, detail: low, or a shorter or smaller video.",
        param=parsed.protocol.prompt,
        code="context_length_exceeded",
    )
    if runtime.config.image.fit == "reject" or not parsed.protocol.count_path:
        if taken >= limit:
            raise problem
        return routed
    length = parsed.max_tokens or min(_ANSWER_TOKENS, limit // 4)
    rest = limit - length - _AROUND_TOKENS * loaded.count
    question = await written(context, lambda: parsed.prompt_body(routed.model, None))
    if taken + sum(map(len, question)) <= rest:  # no token is shorter than a byte
        return routed
    try:
        async with runtime.admission.permit(routed.route.engine, context.key):
            rest -= await count(context, routed, question)
    except InvalidRequest:  # it does not count, or the request is wrong, which its answer will tell
        return routed
    if taken <= rest:
        return routed
    shrunk = loaded.shrink(rest) if rest > 0 else None
    if not shrunk:
        raise problem
    is_less = [now < before for now, before in zip(shrunk.tokens, loaded.tokens, strict=True)]
    return RoutedRequest(routed.route, routed.engine, parsed, shrunk, is_less, left_out=routed.left_out)


async def count(context: RequestContext, routed: RoutedRequest, body: Body, path: str | None = None) -> int:
    """Tokens of a prompt, counted by the engine, in which the request has a place. Raises what a request raises."""
    runtime, name = context.runtime, routed.route.engine
    url = f"{routed.engine.address.base_url}{path or routed.parsed.protocol.count_path}"
    headers = {"content-type": "application/json", "content-length": str(sum(map(len, body)))}
    head = b""
    try:
        async with (
            routed.engine.activity.request(),
            asyncio.timeout(_COUNT_TIMEOUT_S),
            runtime.sessions[name].post(url, data=in_pieces(body), headers=headers) as answer,
        ):
            async for piece in answer.content.iter_any():
                head += piece
                if len(head) > _HEAD_BYTES:
                    break
    except TimeoutError:
        raise EngineTimeout(f"The {name} engine did not count in {_COUNT_TIMEOUT_S:g} s.") from None
    except (aiohttp.ClientError, ConnectionError) as fault:
        if shortage := exhausted(fault):
            raise shortage from fault
        routed.engine.activity.lost()
        raise EngineDied(
            f"The {name} engine went away. Please send the request again.", retry_after_s=routed.engine.retry_after_s()
        ) from fault
    if answer.status in (404, 405, 501):
        raise InvalidRequest(f"The {name} engine is a server that cannot count tokens.", code="cannot_count_tokens")
    if answer.status != 200:
        error = from_engine(answer.status, head, name, routed.engine.retry_after_s())
        if isinstance(error, EngineDied):
            routed.engine.activity.lost()
        raise error
    if not (number := _NUMBER.search(head)):
        raise EngineFailed(f"The {name} engine cannot count tokens.")
    return int(number[1])


async def too_long(
    context: RequestContext, routed: RoutedRequest, sent: Sequence[MediaReference], error: VlserveError
) -> InvalidRequest:
    """The same error with both numbers: what the prompt takes and what fits. Called while the request has its place."""
    parsed, limit = routed.parsed, routed.engine.max_model_len
    pictures = f" Of the prompt, {routed.loaded.describe()}." if parsed.media else ""
    told = f"{error.message}{pictures}"
    if limit and context.size <= limit * _COUNTED_BYTES and isinstance(parsed.tree.get("prompt", ""), str):
        is_whole = parsed.protocol.count_path == _COUNTS_ANY
        question = await written(context, lambda: parsed.prompt_body(routed.model, sent) if is_whole else _text(routed))
        with contextlib.suppress(VlserveError):
            total = await count(context, routed, question, _COUNTS_ANY)
            start = "The prompt is too long: it has" if is_whole else f"{error.message} Its text alone has"
            told = (
                f"{start} {total:,} tokens, and {limit:,} fit, with at least one of the answer "
                f"(max_model_len of the {routed.route.engine} engine).{pictures}"
            )
    return InvalidRequest(told, param=parsed.protocol.prompt, code="context_length_exceeded")


def _text(routed: RoutedRequest) -> Body:
    """What has an engine count the texts of a request whose form it does not count."""
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
