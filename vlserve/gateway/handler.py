"""Requests for an answer, in any protocol, and for what a prompt costs: one way through the gateway.

Admit, read, route, bring the pictures, hand to the engine.
"""

import asyncio
import functools
import re
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from vlserve.config.engine_settings import EngineSettings
from vlserve.config.settings import Request as RequestCaps
from vlserve.config.settings import Video as VideoSettings
from vlserve.engines.view import EngineView
from vlserve.errors import service_ends
from vlserve.gateway import analyze_form, request_body, token_counting
from vlserve.gateway.accounting import Account, client_of
from vlserve.gateway.context import RequestContext, RoutedRequest, in_thread, written
from vlserve.gateway.relay import Body, Outcome, PassThrough, Upstream, until_disconnect
from vlserve.gateway.runtime import Runtime, check_ready
from vlserve.media import picture_checks, pixels
from vlserve.media.load import NO_PICTURES, FrameLimits
from vlserve.media.picture_cache import PictureCache
from vlserve.media.picture_checks import Picture
from vlserve.media.pixels import Grid
from vlserve.protocols import routing, structured
from vlserve.protocols.definitions import CHAT, Protocol
from vlserve.protocols.media_reference import MediaReference
from vlserve.protocols.request import ModelRequest, check_caps, parse
from vlserve.protocols.strict_json import size_of

T = TypeVar("T")
_LARGE_BODY_BYTES = 64 * 1024  # reading one may take longer than others should wait
_MOST_DROPPED_NAMED = 20


def answer(protocol: Protocol) -> Callable[[Request], Awaitable[PassThrough]]:
    """The handler of a protocol's endpoint."""

    async def handle(request: Request) -> PassThrough:
        with ExitStack() as held:
            context = _begin(request, held)
            return await _answer(context, await _read(context, protocol))

    return handle


async def analyze(request: Request) -> PassThrough:
    """``POST /v1/analyze``: a form with pictures and a question, answered as a chat completion."""
    with ExitStack() as held:
        context = _begin(request, held)
        form = await analyze_form.read(context.request, context.runtime, context.memory.charge)
        return await _answer(context, await in_thread(context, lambda: _checked(form, context.runtime.config.request)))


async def count_tokens(request: Request) -> JSONResponse:
    """``POST /v1/chat/completions/input_tokens``: what the prompt of a chat request costs, text and pictures apart."""
    with ExitStack() as held:
        context = _begin(request, held)
        routed, pictures, total = await _unless_left(context, _counted(context, await _read(context, CHAT)))
        account = context.account
        account.route, account.image_count, account.outcome.status = routed.route, len(pictures), 200
        context.account.video_count = len(routed.loaded.clips)
        context.account.close()
        image_tokens, video_tokens = sum(picture.tokens for picture in pictures), routed.loaded.clip_tokens
        told = {
            "object": "chat.completion.input_tokens",
            "model": routed.engine.settings.model_id,
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
                for media, picture in zip(routed.loaded.media, pictures, strict=True)
            ],
            "videos": [
                {
                    "param": clip.media.param,
                    "width": clip.header.width,
                    "height": clip.header.height,
                    "frames": clip.header.frames,
                    "model_width": clip.model_width,
                    "model_height": clip.model_height,
                    "model_frames": clip.sampled_frames,
                    "tokens": clip.tokens,
                }
                for clip in routed.loaded.clips
            ],
            "max_model_len": routed.engine.max_model_len,
        }
        return JSONResponse(told, headers=_headers(routed, pictures))


async def _counted(context: RequestContext, parsed: ModelRequest) -> tuple[RoutedRequest, list[Picture], int]:
    routed = await _route(context, parsed)
    routed, pictures, sent = await _prepare(context, routed, None)
    question = await written(context, lambda: routed.parsed.prompt_body(routed.model, sent))
    async with context.runtime.admission.permit(routed.route.engine, context.key):
        return routed, pictures, await token_counting.count(context, routed, question)


async def _unless_left(context: RequestContext, work: Coroutine[Any, Any, T]) -> T:
    """Do the work, whose body is here already, unless its client leaves meanwhile (ClientDisconnect) or the service
    ends (EngineAway)."""
    task = asyncio.create_task(work)
    leaving = asyncio.create_task(until_disconnect(context.request.receive))
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


async def _prepare(
    context: RequestContext, routed: RoutedRequest, seen: PictureCache | None
) -> tuple[RoutedRequest, list[Picture], list[MediaReference]]:
    if not routed.parsed.media:
        return routed, [], []
    decoding = context.runtime.admission.decoding(context.key)
    prepare = context.runtime.pictures.prepare
    pictures, sent = await prepare(routed.loaded, seen, context.key, context.memory.charge, decoding)
    return routed.without_bytes(), pictures, sent


def _begin(request: Request, held: ExitStack) -> RequestContext:
    """Authenticate, and count the request against its key's limits. Raises Unauthorized, TooManyRequests."""
    runtime: Runtime = request.app.state.runtime
    key = request.state.key = runtime.admission.authenticate(request.headers)
    trace = request.state.trace = runtime.tracing.begin(f"POST {request.scope['path']}", request.headers)
    held.enter_context(runtime.admission.request(key))
    memory = held.enter_context(runtime.admission.holding(key))
    scope = request.scope
    account = Account(runtime.metrics, trace, request.state.request_id, key, Outcome(), client_of(scope), scope["path"])
    return RequestContext(request, runtime, key, account, held, memory)


async def _read(context: RequestContext, protocol: Protocol) -> ModelRequest:
    body = await request_body.whole(context.request, context.runtime, context.memory.charge)
    context.size, context.is_large = len(body), len(body) >= _LARGE_BODY_BYTES
    understood = functools.partial(_understand, body, protocol, context.runtime.config.request)
    parsed, size = await in_thread(context, understood) if context.is_large else understood()
    pictures_size = sum(len(one.url) for one in parsed.media)
    context.tree_size = size - pictures_size
    context.memory.resize(len(parsed.raw) + size)
    return parsed


def _understand(body: bytes, protocol: Protocol, caps: RequestCaps) -> tuple[ModelRequest, int]:
    """The request, and the bytes in memory of its tree. Raises InvalidRequest."""
    parsed = _checked(parse(body, protocol), caps)
    # A small tree is not measured, which would take longer than it is worth: most of it is text.
    size = size_of(parsed.tree) if len(body) >= _LARGE_BODY_BYTES else len(body)
    return (replace(parsed, raw=b"") if parsed.media else parsed), size


def _checked(parsed: ModelRequest, caps: RequestCaps) -> ModelRequest:
    check_caps(parsed, caps)
    structured.check(parsed.tree, parsed.protocol, allow_grammar=caps.allow_grammar)
    return parsed


async def _route(context: RequestContext, parsed: ModelRequest) -> RoutedRequest:
    """Raises NotFound, InvalidRequest, EngineAway."""
    runtime, config = context.runtime, context.runtime.config
    context.account.model = context.request.state.model = parsed.model
    route = routing.choose(
        parsed.model,
        parsed.media,
        runtime.served,
        auto_aliases=config.auto_aliases,
        away=[name for name, view in runtime.engines.items() if not view.is_ready],
        fallback=config.fallback,
    )
    context.request.state.route = route
    engine = runtime.engines[route.engine]
    limit = engine.settings.limit_mm_per_prompt
    before = len(parsed.media)
    if before:
        if config.image_overflow == "keep_latest" and limit.image:
            parsed = parsed.keep_latest(limit.image)
        picture_checks.check_count(parsed.media, limit, route.engine)
    if engine.settings.uses_xgrammar:
        structured.check_backend(parsed.tree)
    check_ready(route.engine, engine)
    runtime.admission.check_room(route.engine, context.key)
    if not parsed.media:
        routed = RoutedRequest(route, engine, parsed, NO_PICTURES, shrunk=(), left_out=0)
        await token_counting.check_size(context, routed)
        return routed
    frames = _frames(engine, config.video)
    reading = runtime.admission.reading_video(context.key)
    loaded = await runtime.pictures.load(parsed.media, context.key, engine.grid, context.memory.charge, frames, reading)
    routed = RoutedRequest(
        route, engine, parsed, loaded, shrunk=[False] * len(loaded.media), left_out=before - len(parsed.media)
    )
    await token_counting.check_size(context, routed)
    return await token_counting.fit(context, routed) if engine.max_model_len else routed


def _frames(engine: EngineView, settings: VideoSettings) -> FrameLimits:
    """Only our own engines are told how to take videos (plan.py)."""
    if not engine.settings.is_vllm:
        return FrameLimits(engine.grid, pixels.MOST_FRAMES)
    grid = Grid(engine.grid.factor, pixels.VIDEO_MIN_PIXELS, settings.max_pixels)
    return FrameLimits(grid, settings.max_frames)


async def _answer(context: RequestContext, parsed: ModelRequest) -> PassThrough:
    runtime = context.runtime
    loading = _loaded(context, parsed)
    routed, pictures, sent = await (_unless_left(context, loading) if parsed.media else loading)
    route, engine, parsed = routed.route, routed.engine, routed.parsed
    seen = runtime.seen.get(route.engine) if parsed.protocol.supports_uuid else None
    account = context.account
    account.route, account.is_stream, account.image_count = route, parsed.is_stream, len(pictures)
    account.video_count = len(routed.loaded.clips)
    account.images_dropped, account.images_shrunk = routed.left_out, sum(routed.shrunk)
    context.request.state.account = account
    context.held.enter_context(account)
    additions = _additions(runtime, engine.settings, parsed, context.key)

    model = engine.settings.forwarded_model
    if model is None and parsed.model is None and parsed.protocol.needs_model:
        model = engine.settings.model_id

    async def make_body(sent: Sequence[MediaReference]) -> Body:
        return await written(context, lambda: parsed.body(model, sent, **additions))

    named = [MediaReference(None, one.uuid) if seen and one.uuid and one.uuid in seen else one for one in sent]
    body = await make_body(named)
    routed = routed.without_bytes()
    parsed = routed.parsed
    # Of a named picture the whole is kept, too: the engine may have dropped it.
    kept = sum(len(one.url or b"") for one, other in zip(sent, named, strict=True) if one is not other)
    context.memory.resize(context.tree_size + kept + sum(map(len, body)))
    upstream = Upstream(
        engine=route.engine,
        activity=engine.activity,
        session=runtime.sessions[route.engine],
        url=f"{engine.address.base_url}{parsed.protocol.path}",
        body=body,
        whole_body=functools.partial(make_body, sent) if named != sent else None,
        accepted=functools.partial(_remember, seen, [one.uuid for one in sent if one.uuid]),
        released=functools.partial(context.memory.resize, 0),
        threads=runtime.threads,
        is_stream=parsed.is_stream,
        events=parsed.protocol.events(wants_usage=parsed.wants_usage),
        is_constrained=structured.is_constrained(parsed.tree),
        has_logit_bias="logit_bias" in parsed.protocol.fields and bool(parsed.tree.get("logit_bias")),
        too_long=functools.partial(token_counting.too_long, context, routed, sent),
        request_id=account.request_id,
        # vLLM's own id is made of it: unique, whatever the client sends.
        headers={"x-request-id": f"{account.request_id[:80]}-{uuid.uuid4().hex[:16]}", **account.trace.headers},
        timeout_s=runtime.config.server.request_timeout_s,
        keep_alive_s=runtime.config.server.sse_keep_alive_s,
        retry_after_s=engine.retry_after_s,
    )
    permit = runtime.admission.permit(route.engine, context.key)
    return PassThrough(upstream, _headers(routed, pictures), account.outcome, permit, context.held.pop_all())


async def _loaded(
    context: RequestContext, parsed: ModelRequest
) -> tuple[RoutedRequest, list[Picture], list[MediaReference]]:
    routed = await _route(context, parsed)
    seen = context.runtime.seen.get(routed.route.engine) if parsed.protocol.supports_uuid else None
    return await _prepare(context, routed, seen)


def _remember(seen: PictureCache | None, names: Sequence[str]) -> None:
    for name in names:
        if seen is not None:
            seen.add(name)


def _additions(runtime: Runtime, settings: EngineSettings, parsed: ModelRequest, key: str) -> dict[str, Any]:
    """Fields that only the gateway may set."""
    if not settings.is_vllm:
        most, lengths = runtime.config.request.max_tokens, parsed.protocol.max_tokens_fields
        return {lengths[-1]: most} if most and lengths and parsed.max_tokens is None else {}
    return {"cache_salt": runtime.salts[key]} if key in runtime.salts else {}


def _headers(routed: RoutedRequest, pictures: Sequence[Picture]) -> dict[str, str]:
    headers = routing.headers(routed.route)
    if routed.parsed.dropped:
        headers["x-vlserve-dropped"] = _printable(routed.parsed.dropped)
    if routed.left_out:
        headers["x-vlserve-images-dropped"] = str(routed.left_out)
    if pictures:
        headers["x-vlserve-images"] = ", ".join(
            f"original={one.width}x{one.height}; model={one.model_width}x{one.model_height}; tokens={one.tokens}"
            + ("; fit=shrink" if is_shrunk else "")
            for one, is_shrunk in zip(pictures, routed.shrunk, strict=True)
        )
    if routed.loaded.clips:
        headers["x-vlserve-videos"] = ", ".join(
            f"original={clip.header.width}x{clip.header.height}; frames={clip.header.frames}; "
            f"model={clip.model_width}x{clip.model_height}; model_frames={clip.sampled_frames}; tokens={clip.tokens}"
            for clip in routed.loaded.clips
        )
    return headers


def _printable(names: tuple[str, ...]) -> str:
    """Paths of fields for a header: a client may have sent anything as a name."""
    shown = [re.sub(r"[^A-Za-z0-9_.\[\]() -]", "?", name[:96]) for name in names[:_MOST_DROPPED_NAMED]]
    return ", ".join(shown)
