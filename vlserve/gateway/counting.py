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
from vlserve.gateway.calls import Aim, Call, written
from vlserve.gateway.relay import Body, in_pieces
from vlserve.protocols.body import Sent

_COUNT_TIMEOUT_S = 60.0
_COUNTS_ANY = "/tokenize"  # which knows no limit
_LONGEST_TOKEN_BYTES = 256  # twice that of Qwen2.5's vocabulary, since JSON may escape
_COUNTED_BYTES = 32  # for each token that fits: what is counted only to tell how much too long it is
_HEAD_BYTES = 64 * 1024  # of an answer; behind the number vLLM lists every token
_NUMBER = re.compile(rb'"(?:count|input_tokens)": ?(\d+)')
_ANSWER_TOKENS = 1024  # room for an answer whose request does not say how long it may be
_AROUND_TOKENS = 4  # vision_start and vision_end around each picture, and some
_TEXTS = ("text", "content", "input", "output", "arguments", "instructions", "system")


async def check_size(call: Call, aim: Aim) -> None:
    """Text that cannot fit is refused before an engine turns all of it into tokens. Raises InvalidRequest."""
    parsed, limit = aim.parsed, aim.engine.max_model_len or 0
    most = limit * _LONGEST_TOKEN_BYTES
    if not limit or call.size <= most or not isinstance(parsed.tree.get("prompt", ""), str):
        return
    size = sum(map(len, await written(call, lambda: parsed.question(aim.model, None))))
    if size > most:
        raise InvalidRequest(
            f"The prompt is too long: its text has {size:,} bytes, and {limit:,} tokens fit (max_model_len of the "
            f"{aim.route.engine} engine).",
            param=parsed.protocol.prompt,
            code="context_length_exceeded",
        )


async def fit(call: Call, aim: Aim) -> Aim:
    """Pictures that cannot fit into the prompt are told, or made smaller. Raises InvalidRequest."""
    runtime, limit, loaded, parsed = call.runtime, aim.engine.max_model_len or 0, aim.loaded, aim.parsed
    taken = loaded.taken
    problem = InvalidRequest(
        f"The prompt is too long: {loaded.told()}; text and answer included, {limit:,} fit (max_model_len). Send "
        "fewer or smaller pictures, detail: low, or a shorter or smaller video.",
        param=parsed.protocol.prompt,
        code="context_length_exceeded",
    )
    if runtime.config.image.fit == "reject" or not parsed.protocol.counts_at:
        if taken >= limit:
            raise problem
        return aim
    length = parsed.length or min(_ANSWER_TOKENS, limit // 4)
    rest = limit - length - _AROUND_TOKENS * loaded.count
    question = await written(call, lambda: parsed.question(aim.model, None))
    if taken + sum(map(len, question)) <= rest:  # no token is shorter than a byte
        return aim
    try:
        async with runtime.admission.permit(aim.route.engine, call.key):
            rest -= await count(call, aim, question)
    except InvalidRequest:  # it does not count, or the request is wrong, which its answer will tell
        return aim
    if taken <= rest:
        return aim
    shrunk = loaded.shrunk(rest) if rest > 0 else None
    if not shrunk:
        raise problem
    is_less = [now < before for now, before in zip(shrunk.tokens, loaded.tokens, strict=True)]
    return Aim(aim.route, aim.engine, parsed, shrunk, is_less, left_out=aim.left_out)


async def count(call: Call, aim: Aim, body: Body, path: str | None = None) -> int:
    """Tokens of a prompt, counted by the engine, in which the request has a place. Raises what a request raises."""
    runtime, name = call.runtime, aim.route.engine
    url = f"{aim.engine.address.base_url}{path or aim.parsed.protocol.counts_at}"
    headers = {"content-type": "application/json", "content-length": str(sum(map(len, body)))}
    head = b""
    try:
        async with (
            aim.engine.activity.request(),
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
        aim.engine.activity.lost()
        raise EngineDied(
            f"The {name} engine went away. Please send the request again.", retry_after_s=aim.engine.retry_after_s()
        ) from fault
    if answer.status in (404, 405, 501):
        raise InvalidRequest(f"The {name} engine is a server that cannot count tokens.", code="cannot_count_tokens")
    if answer.status != 200:
        error = from_engine(answer.status, head, name, aim.engine.retry_after_s())
        if isinstance(error, EngineDied):
            aim.engine.activity.lost()
        raise error
    if not (number := _NUMBER.search(head)):
        raise EngineFailed(f"The {name} engine cannot count tokens.")
    return int(number[1])


async def too_long(call: Call, aim: Aim, sent: Sequence[Sent], error: VlserveError) -> InvalidRequest:
    """The same error with both numbers: what the prompt takes and what fits. Called while the request has its place."""
    parsed, limit = aim.parsed, aim.engine.max_model_len
    pictures = f" Of the prompt, {aim.loaded.told()}." if parsed.media else ""
    told = f"{error.message}{pictures}"
    if limit and call.size <= limit * _COUNTED_BYTES and isinstance(parsed.tree.get("prompt", ""), str):
        is_whole = parsed.protocol.counts_at == _COUNTS_ANY
        question = await written(call, lambda: parsed.question(aim.model, sent) if is_whole else _text(aim))
        with contextlib.suppress(VlserveError):
            total = await count(call, aim, question, _COUNTS_ANY)
            start = "The prompt is too long: it has" if is_whole else f"{error.message} Its text alone has"
            told = (
                f"{start} {total:,} tokens, and {limit:,} fit, with at least one of the answer "
                f"(max_model_len of the {aim.route.engine} engine).{pictures}"
            )
    return InvalidRequest(told, param=parsed.protocol.prompt, code="context_length_exceeded")


def _text(aim: Aim) -> Body:
    """What has an engine count the texts of a request whose form it does not count."""
    tree = aim.parsed.tree
    text = "\n".join(_texts({name: tree.get(name) for name in aim.parsed.protocol.counted}))
    return (json.dumps({"model": aim.model, "prompt": text, "add_special_tokens": False}).encode(),)


def _texts(tree: Any, name: str = "") -> Iterator[str]:
    if isinstance(tree, str):
        if name in _TEXTS:
            yield tree
        return
    for key, value in tree.items() if isinstance(tree, Mapping) else ((name, value) for value in tree or ()):
        if isinstance(value, str | list | dict):
            yield from _texts(value, key)
