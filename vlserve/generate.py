"""Requests for an answer, in any protocol, and for what a prompt costs: one way through the gateway.

Admit, read, route, bring the pictures, hand to the engine.
"""

import asyncio
import contextlib
import functools
import json
import re
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from vlserve import bodies, forms, images, pixels, routing, structured
from vlserve.accounting import Account
from vlserve.config import EngineSettings
from vlserve.config import Request as RequestCaps
from vlserve.config import Video as VideoSettings
from vlserve.errors import (
    EngineAway,
    EngineFailed,
    EngineTimeout,
    InvalidRequest,
    VlserveError,
    from_engine,
    service_ends,
)
from vlserve.images import Picture
from vlserve.pictures import Frames, Loaded
from vlserve.pixels import Grid
from vlserve.protocols import CHAT, Protocol
from vlserve.requests import ModelRequest, Sent, check_caps, parse
from vlserve.routing import Route
from vlserve.runtime import EngineView, Runtime
from vlserve.seen import Seen
from vlserve.upstream import Body, Outcome, PassThrough, Upstream, in_pieces, until_disconnect

T = TypeVar("T")
_LARGE_BODY_BYTES = 64 * 1024  # reading one may take longer than others should wait
_MOST_DROPPED_NAMED = 20
_COUNT_TIMEOUT_S = 60.0
_COUNTS_ANY = "/tokenize"  # which knows no limit
_ANSWER_TOKENS = 1024  # room for an answer whose request does not say how long it may be
_AROUND_TOKENS = 4  # vision_start and vision_end around each picture, and some


@dataclass
class _Call:
    """One admitted request."""

    request: Request
    runtime: Runtime
    key: str
    account: Account
    held: ExitStack
    hold: Callable[[int], None]
    """Counts bytes of this request that are in memory."""
    is_large: bool = True


@dataclass(frozen=True)
class _Aim:
    """Where a request goes, and with what."""

    route: Route
    engine: EngineView
    parsed: ModelRequest
    loaded: Loaded
    shrunk: Sequence[bool]
    """Which pictures were made smaller to fit the prompt."""
    left_out: int
    """Pictures that ``image_overflow: keep_latest`` took out."""

    @property
    def model(self) -> str:
        """A name that the engine knows."""
        return self.engine.settings.forwarded_model or self.engine.settings.model_id


def answer(protocol: Protocol) -> Callable[[Request], Awaitable[PassThrough]]:
    """The handler of a protocol's endpoint."""

    async def handle(request: Request) -> PassThrough:
        with ExitStack() as held:
            call = _begin(request, held)
            return await _answer(call, await _read(call, protocol))

    return handle


async def analyze(request: Request) -> PassThrough:
    """``POST /v1/analyze``: a form with pictures and a question, answered as a chat completion."""
    with ExitStack() as held:
        call = _begin(request, held)
        form = await forms.read(call.request, call.runtime, call.hold, held)
        understood = functools.partial(_checked, form, call.runtime.config.request)
        return await _answer(call, await asyncio.to_thread(understood))


async def count_tokens(request: Request) -> JSONResponse:
    """``POST /v1/chat/completions/input_tokens``: what the prompt of a chat request costs, text and pictures apart."""
    with ExitStack() as held:
        call = _begin(request, held)
        aim, pictures, total = await _unless_left(call, _counted(call, await _read(call, CHAT)))
        call.account.route, call.account.image_count, call.account.outcome.status = aim.route, len(pictures), 200
        call.account.video_count = len(aim.loaded.clips)
        call.account.close()
        image_tokens, video_tokens = sum(picture.tokens for picture in pictures), aim.loaded.clip_tokens
        told = {
            "object": "chat.completion.input_tokens",
            "model": aim.engine.settings.model_id,
            "input_tokens": total,
            "input_tokens_details": {
                "text_tokens": total - image_tokens - video_tokens,
                "image_tokens": image_tokens,
                "video_tokens": video_tokens,
            },
            "images": [
                {
                    "param": media.param,
                    "width": picture.width,
                    "height": picture.height,
                    "model_width": picture.model_width,
                    "model_height": picture.model_height,
                    "tokens": picture.tokens,
                }
                for media, picture in zip(aim.loaded.media, pictures, strict=True)
            ],
            "videos": [
                {
                    "param": clip.media.param,
                    "width": clip.header.width,
                    "height": clip.header.height,
                    "frames": clip.header.frames,
                    "model_width": clip.model_width,
                    "model_height": clip.model_height,
                    "model_frames": clip.seen,
                    "tokens": clip.tokens,
                }
                for clip in aim.loaded.clips
            ],
            "max_model_len": aim.engine.max_model_len,
        }
        return JSONResponse(told, headers=_headers(aim, pictures))


async def _counted(call: _Call, parsed: ModelRequest) -> tuple[_Aim, list[Picture], int]:
    aim = await _aim(call, parsed)
    pictures, sent = await _prepare(call, aim, None)
    question = await _written(call, lambda: aim.parsed.question(aim.model, sent))
    async with call.runtime.admission.permit(aim.route.engine, call.key):
        return aim, pictures, await _count(call, aim, question)


async def _unless_left(call: _Call, work: Coroutine[Any, Any, T]) -> T:
    """Do the work, whose body is here already, unless its client leaves meanwhile (ClientDisconnect) or the service
    ends (EngineAway)."""
    task = asyncio.create_task(work)
    leaving = asyncio.create_task(until_disconnect(call.request.receive))
    try:
        await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    except asyncio.CancelledError:
        raise service_ends() from None
    finally:
        for one in (task, leaving):
            one.cancel()
        await asyncio.wait((task, leaving))


async def _written(call: _Call, write: Callable[[], Body]) -> Body:
    """Large bodies are written in a thread."""
    return await asyncio.to_thread(write) if call.is_large else write()


async def _prepare(call: _Call, aim: _Aim, seen: Seen | None) -> tuple[list[Picture], list[Sent]]:
    if not aim.parsed.media:
        return [], []
    decoding = call.runtime.admission.decoding(call.key)
    return await call.runtime.pictures.prepare(aim.loaded, seen, call.key, call.hold, decoding)


def _begin(request: Request, held: ExitStack) -> _Call:
    """Authenticate, and count the request against its key's limits. Raises Unauthorized, TooManyRequests."""
    runtime: Runtime = request.app.state.runtime
    key = request.state.key = runtime.admission.authenticate(request.headers)
    trace = request.state.trace = runtime.tracing.begin(f"POST {request.scope['path']}", request.headers)
    held.enter_context(runtime.admission.request(key))
    hold = held.enter_context(runtime.admission.holding())
    account = Account(runtime.metrics, trace, request.state.request_id, key, Outcome())
    return _Call(request, runtime, key, account, held, hold)


async def _read(call: _Call, protocol: Protocol) -> ModelRequest:
    body = await bodies.whole(call.request, call.runtime, call.hold)
    call.is_large = len(body) >= _LARGE_BODY_BYTES
    understood = functools.partial(_understand, body, protocol, call.runtime.config.request)
    return await asyncio.to_thread(understood) if call.is_large else understood()


def _understand(body: bytearray, protocol: Protocol, caps: RequestCaps) -> ModelRequest:
    """Raises InvalidRequest."""
    return _checked(parse(body, protocol), caps)


def _checked(parsed: ModelRequest, caps: RequestCaps) -> ModelRequest:
    check_caps(parsed, caps)
    structured.check(parsed.tree, parsed.protocol, allow_grammar=caps.allow_grammar)
    return parsed


async def _aim(call: _Call, parsed: ModelRequest) -> _Aim:
    """Raises NotFound, InvalidRequest, EngineAway."""
    runtime, config = call.runtime, call.runtime.config
    route = routing.choose(
        parsed.model,
        parsed.media,
        runtime.served,
        auto_aliases=config.auto_aliases,
        away=[name for name, view in runtime.engines.items() if not view.is_ready],
        fallback=config.fallback,
    )
    call.request.state.route = route
    engine = runtime.engines[route.engine]
    limit = engine.settings.limit_mm_per_prompt
    before = len(parsed.media)
    if config.image_overflow == "keep_latest" and limit.image:
        parsed = parsed.keep_latest(limit.image)
    images.check_count(parsed.media, limit, route.engine)
    if not engine.is_ready:
        if engine.state in ("draining", "stopped"):
            raise service_ends()
        raise EngineAway(
            f"The {route.engine} engine is not ready (state: {engine.state}). Please try again later.",
            retry_after_s=engine.retry_after_s(),
        )
    runtime.admission.check_room(route.engine, call.key)
    frames = _frames(engine, config.video)
    reading = runtime.admission.reading_video(call.key)
    loaded = await runtime.pictures.load(parsed.media, call.key, engine.grid, call.hold, frames, reading)
    aim = _Aim(route, engine, parsed, loaded, shrunk=[False] * len(loaded.media), left_out=before - len(parsed.media))
    return await _fit(call, aim) if parsed.media and engine.max_model_len else aim


def _frames(engine: EngineView, settings: VideoSettings) -> Frames:
    """Only our own engines are told how to take videos (plan.py)."""
    if not engine.settings.is_vllm:
        return Frames(engine.grid, pixels.MOST_FRAMES)
    grid = Grid(engine.grid.factor, pixels.VIDEO_MIN_PIXELS, settings.max_pixels)
    return Frames(grid, settings.max_frames)


async def _fit(call: _Call, aim: _Aim) -> _Aim:
    """Pictures that cannot fit into the prompt are told, or made smaller. Raises InvalidRequest."""
    runtime, limit, loaded, parsed = call.runtime, aim.engine.max_model_len or 0, aim.loaded, aim.parsed
    taken = loaded.taken
    too_long = InvalidRequest(
        f"The prompt is too long: {loaded.told()}; text and answer included, {limit:,} fit (max_model_len). Send "
        "fewer or smaller pictures, detail: low, or a shorter or smaller video.",
        param=parsed.protocol.prompt,
        code="context_length_exceeded",
    )
    if runtime.config.image.fit == "reject":
        if taken >= limit:
            raise too_long
        return aim
    length = parsed.length or min(_ANSWER_TOKENS, limit // 4)
    rest = limit - length - _AROUND_TOKENS * loaded.count
    if not parsed.protocol.counts_at:
        return aim
    question = await _written(call, lambda: parsed.question(aim.model, None))
    if taken + sum(map(len, question)) <= rest:  # no token is shorter than a byte
        return aim
    try:
        async with runtime.admission.permit(aim.route.engine, call.key):
            rest -= await _count(call, aim, question)
    except InvalidRequest:  # it does not count, or the request is wrong, which its answer will tell
        return aim
    if taken <= rest:
        return aim
    shrunk = loaded.shrunk(rest) if rest > 0 else None
    if not shrunk:
        raise too_long
    is_less = [now < before for now, before in zip(shrunk.tokens, loaded.tokens, strict=True)]
    return _Aim(aim.route, aim.engine, parsed, shrunk, is_less, left_out=aim.left_out)


async def _count(call: _Call, aim: _Aim, body: Body) -> int:
    """Tokens of a prompt, counted by the engine, in which the request has a place. Raises what a request raises."""
    runtime, name = call.runtime, aim.route.engine
    url = f"{aim.engine.address.base_url}{aim.parsed.protocol.counts_at}"
    headers = {"content-type": "application/json", "content-length": str(sum(map(len, body)))}
    try:
        async with (
            asyncio.timeout(_COUNT_TIMEOUT_S),
            runtime.sessions[name].post(url, data=in_pieces(body), headers=headers) as answer,
        ):
            raw, status = await answer.read(), answer.status
    except TimeoutError:
        raise EngineTimeout(f"The {name} engine did not count in {_COUNT_TIMEOUT_S:g} s.") from None
    except (aiohttp.ClientError, ConnectionError) as fault:
        raise EngineAway(
            f"The {name} engine went away. Please send the request again.", retry_after_s=aim.engine.retry_after_s()
        ) from fault
    if status in (404, 405, 501):
        raise InvalidRequest(f"The {name} engine is a server that cannot count tokens.", code="cannot_count_tokens")
    if status != 200:
        raise from_engine(status, raw, name, aim.engine.retry_after_s())
    try:
        told = json.loads(raw)
        return int(told["count"] if "count" in told else told["input_tokens"])
    except (ValueError, KeyError, TypeError):
        raise EngineFailed(f"The {name} engine cannot count tokens.") from None


async def _answer(call: _Call, parsed: ModelRequest) -> PassThrough:
    runtime = call.runtime
    loading = _loaded(call, parsed)
    aim, pictures, sent = await (_unless_left(call, loading) if parsed.media else loading)
    route, engine, parsed = aim.route, aim.engine, aim.parsed
    seen = runtime.seen.get(route.engine) if parsed.protocol.keeps_names else None
    account = call.account
    account.route, account.is_stream, account.image_count = route, parsed.is_stream, len(pictures)
    account.video_count = len(aim.loaded.clips)
    account.images_dropped, account.images_shrunk = aim.left_out, sum(aim.shrunk)
    call.request.state.account = account
    call.held.callback(account.close)
    additions = _additions(runtime, engine.settings, parsed, call.key)

    model = engine.settings.forwarded_model
    if model is None and parsed.model is None and parsed.protocol.needs_model:
        model = engine.settings.model_id

    async def make_body(sent: Sequence[Sent], *, is_trial: bool = False) -> Body:
        return await _written(call, lambda: parsed.body(model, sent, is_trial=is_trial, **additions))

    named = [Sent(None, one.uuid) if seen and one.uuid and one.uuid in seen else one for one in sent]
    events = parsed.protocol.events(wants_usage=parsed.wants_usage)
    upstream = Upstream(
        engine=route.engine,
        activity=engine.activity,
        session=runtime.sessions[route.engine],
        url=f"{engine.address.base_url}{parsed.protocol.path}",
        body=await make_body(named),
        whole_body=functools.partial(make_body, sent) if named != sent else None,
        trial_body=functools.partial(make_body, sent, is_trial=True) if events.is_told_late else None,
        accepted=functools.partial(_remember, seen, sent),
        is_stream=parsed.is_stream,
        events=events,
        is_constrained=structured.is_constrained(parsed.tree),
        too_long=functools.partial(_too_long, call, aim, sent),
        request_id=account.request_id,
        # vLLM's own id is made of it: unique, whatever the client sends.
        headers={"x-request-id": f"{account.request_id[:80]}-{uuid.uuid4().hex[:16]}", **account.trace.headers},
        timeout_s=runtime.config.server.request_timeout_s,
        keep_alive_s=runtime.config.server.sse_keep_alive_s,
        retry_after_s=engine.retry_after_s,
    )
    permit = runtime.admission.permit(route.engine, call.key)
    return PassThrough(upstream, _headers(aim, pictures), account.outcome, permit, call.held.pop_all())


async def _loaded(call: _Call, parsed: ModelRequest) -> tuple[_Aim, list[Picture], list[Sent]]:
    aim = await _aim(call, parsed)
    seen = call.runtime.seen.get(aim.route.engine) if parsed.protocol.keeps_names else None
    return aim, *await _prepare(call, aim, seen)


async def _too_long(call: _Call, aim: _Aim, sent: Sequence[Sent], error: VlserveError) -> InvalidRequest:
    """The same error with both numbers: what the prompt takes and what fits. Called while the request has its place."""
    parsed, limit = aim.parsed, aim.engine.max_model_len
    pictures = f" Of the prompt, {aim.loaded.told()}." if parsed.media else ""
    told = f"{error.message}{pictures}"
    if limit and parsed.protocol.counts_at == _COUNTS_ANY and isinstance(parsed.tree.get("prompt", ""), str):
        question = await _written(call, lambda: parsed.question(aim.model, sent))
        with contextlib.suppress(VlserveError):
            total = await _count(call, aim, question)
            told = (
                f"The prompt is too long: it has {total:,} tokens, and {limit:,} fit, with at least one of the answer "
                f"(max_model_len of the {aim.route.engine} engine).{pictures}"
            )
    return InvalidRequest(told, param=parsed.protocol.prompt, code="context_length_exceeded")


def _remember(seen: Seen | None, sent: Sequence[Sent]) -> None:
    for one in sent:
        if seen is not None and one.uuid:
            seen.add(one.uuid)


def _additions(runtime: Runtime, settings: EngineSettings, parsed: ModelRequest, key: str) -> dict[str, Any]:
    """Fields that only the gateway may set."""
    if not settings.is_vllm:
        most, lengths = runtime.config.request.max_tokens, parsed.protocol.lengths
        return {lengths[-1]: most} if most and lengths and parsed.length is None else {}
    return {"cache_salt": runtime.salts[key]} if key in runtime.salts else {}


def _headers(aim: _Aim, pictures: Sequence[Picture]) -> dict[str, str]:
    headers = routing.headers(aim.route)
    if aim.parsed.dropped:
        headers["x-vlserve-dropped"] = _printable(aim.parsed.dropped)
    if aim.left_out:
        headers["x-vlserve-images-dropped"] = str(aim.left_out)
    if pictures:
        headers["x-vlserve-images"] = ", ".join(
            f"original={one.width}x{one.height}; model={one.model_width}x{one.model_height}; tokens={one.tokens}"
            + ("; fit=shrink" if is_shrunk else "")
            for one, is_shrunk in zip(pictures, aim.shrunk, strict=True)
        )
    if aim.loaded.clips:
        headers["x-vlserve-videos"] = ", ".join(
            f"original={clip.header.width}x{clip.header.height}; frames={clip.header.frames}; "
            f"model={clip.model_width}x{clip.model_height}; model_frames={clip.seen}; tokens={clip.tokens}"
            for clip in aim.loaded.clips
        )
    return headers


def _printable(names: tuple[str, ...]) -> str:
    """Field names for a header: a client may have sent anything as one."""
    shown = [re.sub(r"[^A-Za-z0-9_.-]", "?", name[:64]) for name in names[:_MOST_DROPPED_NAMED]]
    return ", ".join(shown)
