"""Request handlers for answers in all protocols and for token counts.

Each request is admitted, parsed and routed; its pictures are prepared; then it is relayed to the engine.
"""

import asyncio
import functools
import re
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse

from vlserve.config.engine_settings import EngineSettings
from vlserve.config.settings import Video as VideoSettings
from vlserve.engines.view import EngineView
from vlserve.errors import shutdown_error
from vlserve.gateway import analyze_form, request_body, token_counting
from vlserve.gateway.access_log import Account, client_of
from vlserve.gateway.app_state import Runtime, check_ready
from vlserve.gateway.disconnect import CancelOnDisconnect
from vlserve.gateway.engine_connection import Body
from vlserve.gateway.relay import Callbacks, Outcome, PassThrough, Upstream, UpstreamRequest
from vlserve.gateway.request_context import RequestContext, RoutedRequest, in_thread, write_body
from vlserve.media import picture_checks, pixels
from vlserve.media.load import NO_PICTURES, FrameLimits
from vlserve.media.picture_cache import PictureCache
from vlserve.media.picture_checks import Picture
from vlserve.media.pixels import Grid
from vlserve.protocols import routing, structured
from vlserve.protocols.control_tokens import control_tokens
from vlserve.protocols.media_reference import MediaReference
from vlserve.protocols.payloads import Cut, cut
from vlserve.protocols.protocol_definitions import CHAT, Protocol
from vlserve.protocols.request import ModelRequest, check_caps, parse
from vlserve.protocols.strict_json import LARGE_JSON_BYTES, size_of

T = TypeVar("T")
_LARGE_PICTURES_BYTES = 512 * 1024  # decoded in a thread, as large JSON is parsed: base64 takes a hundredth of its time
_MOST_DROPPED_NAMED = 20


def answer(protocol: Protocol) -> Callable[[Request], Awaitable[PassThrough]]:
    """Create the handler of a protocol's endpoint."""

    async def handle(request: Request) -> PassThrough:
        with ExitStack() as resources:
            context = _admit(request, resources)
            return await _answer(context, await _read(context, protocol))

    return handle


async def analyze(request: Request) -> PassThrough:
    """``POST /v1/analyze``: a form with pictures and a question, answered as a chat completion."""
    with ExitStack() as resources:
        context = _admit(request, resources)
        form = await analyze_form.read(context.request, context.runtime, context.memory.charge)
        return await _answer(context, await in_thread(context, lambda: _checked(form, context.runtime)))


async def count_tokens(request: Request) -> JSONResponse:
    """``POST /v1/chat/completions/input_tokens``: count the tokens of a chat request's text and pictures."""
    with ExitStack() as resources:
        context = _admit(request, resources)
        routed, pictures, total = await _run_while_connected(context, _count(context, await _read(context, CHAT)))
        account = context.account
        account.route, account.image_count, account.outcome.status = routed.route, len(pictures), 200
        context.account.video_count = len(routed.loaded.clips)
        context.account.close()
        image_tokens, video_tokens = sum(picture.tokens for picture in pictures), routed.loaded.clip_tokens
        counts = {
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
        return JSONResponse(counts, headers=_headers(routed, pictures))


async def _count(context: RequestContext, parsed: ModelRequest) -> tuple[RoutedRequest, list[Picture], int]:
    routed = await _route(context, parsed)
    routed, pictures, sent = await _prepare(context, routed, None)
    question = await write_body(context, lambda: routed.parsed.prompt_body(routed.model, sent))
    async with context.runtime.admission.permit(routed.route.engine, context.key):
        return routed, pictures, await token_counting.count(context, routed, question)


async def _run_while_connected(context: RequestContext, work: Coroutine[Any, Any, T]) -> T:
    """Do the work for a request whose body was read.

    Raises ClientDisconnect if the client disconnects, and EngineAway during shutdown.
    """
    try:
        async with CancelOnDisconnect(context.request.receive):
            return await work
    except asyncio.CancelledError:
        raise shutdown_error() from None


async def _prepare(
    context: RequestContext, routed: RoutedRequest, cache: PictureCache | None
) -> tuple[RoutedRequest, list[Picture], list[MediaReference]]:
    if not routed.parsed.media:
        return routed, [], []
    decoding = context.runtime.admission.decoding(context.key)
    prepare = context.runtime.pictures.prepare
    pictures, sent = await prepare(routed.loaded, cache, context.key, context.memory.charge, decoding)
    return routed.without_bytes(), pictures, sent


def _admit(request: Request, resources: ExitStack) -> RequestContext:
    """Authenticate, and count the request against its key's limits. Raises Unauthorized, TooManyRequests."""
    runtime: Runtime = request.app.state.runtime
    key = request.state.key = runtime.admission.authenticate(request.headers)
    trace = request.state.trace = runtime.tracing.begin(f"POST {request.scope['path']}", request.headers)
    resources.enter_context(runtime.admission.request(key))
    memory = resources.enter_context(runtime.admission.request_memory(key))
    scope = request.scope
    account = Account(runtime.metrics, trace, request.state.request_id, key, Outcome(), client_of(scope), scope["path"])
    return RequestContext(request, runtime, key, account, resources, memory)


async def _read(context: RequestContext, protocol: Protocol) -> ModelRequest:
    body = await request_body.whole(context.request, context.runtime, context.memory.charge)
    context.size = len(body)
    found = cut(body) if len(body) < _LARGE_PICTURES_BYTES else None
    parse_body = functools.partial(_parse, context, body, protocol, found)
    is_small = found is not None and len(found.rest) < LARGE_JSON_BYTES
    parsed, size = parse_body() if is_small else await in_thread(context, parse_body)
    cut_out = [one for one in parsed.media if one.payload is not None]
    context.tree_size = size - sum(len(one.url) for one in parsed.media if one.payload is None)
    received = len(body) if cut_out else len(parsed.raw)
    context.memory.resize(received + size + sum(len(one.upload or b"") for one in cut_out))
    return parsed


def _parse(context: RequestContext, body: bytes, protocol: Protocol, found: Cut | None) -> tuple[ModelRequest, int]:
    """Return the request and the bytes in memory of its parsed body. Raises InvalidRequest."""
    parsed = _checked(parse(body, protocol, found), context.runtime)
    context.is_large = len(parsed.text) >= LARGE_JSON_BYTES
    # The size of a small tree is estimated: measuring it would take too long.
    size = size_of(parsed.tree) if context.is_large else len(parsed.text)
    return (replace(parsed, raw=b"", text=b"") if parsed.media else parsed), size


def _checked(parsed: ModelRequest, runtime: Runtime) -> ModelRequest:
    """The request with its limits checked, and control tokens in its text neutralized. Raises InvalidRequest."""
    caps = runtime.config.request
    check_caps(parsed, caps)
    structured.check(parsed.tree, parsed.protocol, allow_grammar=caps.allow_grammar)
    tokens = _union(tuple(view.special_tokens for view in runtime.engines.values()))
    return control_tokens(tokens, caps.control_tokens).apply(parsed)


@functools.lru_cache(maxsize=8)
def _union(sets: tuple[frozenset[str], ...]) -> frozenset[str]:
    """The union of sets, once for all requests: their hashes are cached, and that of a new set is not."""
    return frozenset().union(*sets)


async def _route(context: RequestContext, parsed: ModelRequest) -> RoutedRequest:
    """Choose the engine, and load the pictures. Raises NotFound, InvalidRequest, EngineAway, TooManyRequests."""
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
    """Return the limits for videos. Remote engines do not have our settings (engines/vllm_arguments.py)."""
    if not engine.settings.is_vllm:
        return FrameLimits(engine.grid, pixels.MOST_FRAMES)
    grid = Grid(engine.grid.factor, pixels.VIDEO_MIN_PIXELS, settings.max_pixels)
    return FrameLimits(grid, settings.max_frames)


async def _answer(context: RequestContext, parsed: ModelRequest) -> PassThrough:
    runtime = context.runtime
    loading = _route_and_prepare(context, parsed)
    routed, pictures, references = await (_run_while_connected(context, loading) if parsed.media else loading)
    _note_route(context, routed, pictures)
    engine, parsed = routed.engine, routed.parsed
    additions = _additions(runtime, engine.settings, parsed, context.key)
    make_body = functools.partial(_make_body, context, parsed, _model_field(engine.settings, parsed), additions)
    cache = runtime.picture_caches.get(routed.route.engine) if parsed.protocol.supports_uuid else None
    named = [MediaReference(None, one.uuid) if cache and one.uuid and one.uuid in cache else one for one in references]
    body = await make_body(named)
    routed = routed.without_bytes()
    # Pictures that are sent by name stay in memory: the engine may have dropped them.
    kept = [piece for one, other in zip(references, named, strict=True) if one is not other for piece in one.url or ()]
    context.memory.resize(context.tree_size + _bytes_held((*kept, *body)))
    account = context.account
    request = UpstreamRequest(
        request_id=account.request_id,
        # vLLM derives its own id from this one, so it must be unique whatever the client sends.
        headers={"x-request-id": f"{account.request_id[:80]}-{secrets.token_hex(8)}", **account.trace.headers},
        body=body,
        full_body=functools.partial(make_body, references) if named != references else None,
        is_stream=parsed.is_stream,
        events=parsed.protocol.events(wants_usage=parsed.wants_usage),
        is_constrained=structured.is_constrained(parsed.tree),
        has_logit_bias="logit_bias" in parsed.protocol.fields and bool(parsed.tree.get("logit_bias")),
    )
    callbacks = Callbacks(
        on_answer=functools.partial(_add_pictures, cache, [one.uuid for one in references if one.uuid]),
        on_release=functools.partial(context.memory.resize, 0),
        explain_too_long=functools.partial(token_counting.too_long, context, routed, references),
    )
    upstream = _upstream(runtime, routed)
    permit = runtime.admission.permit(upstream.engine, context.key)
    headers = _headers(routed, pictures)
    return PassThrough(upstream, request, callbacks, headers, account.outcome, permit, context.resources.pop_all())


def _bytes_held(pieces: Sequence[bytes | bytearray | memoryview]) -> int:
    """Bytes in memory of pieces of bodies: a view keeps all of the received body."""
    owners: list[Any] = [piece.obj if isinstance(piece, memoryview) else piece for piece in pieces]
    sizes: dict[int, int] = {id(owner): len(owner) for owner in owners}
    return sum(sizes.values())


def _note_route(context: RequestContext, routed: RoutedRequest, pictures: Sequence[Picture]) -> None:
    """From here on the account logs the request, however it ends."""
    account = context.account
    account.route, account.is_stream, account.image_count = routed.route, routed.parsed.is_stream, len(pictures)
    account.video_count = len(routed.loaded.clips)
    account.images_dropped, account.images_shrunk = routed.left_out, sum(routed.shrunk)
    context.request.state.account = account
    context.resources.enter_context(account)


def _model_field(settings: EngineSettings, parsed: ModelRequest) -> str | None:
    """Return the model's name to write into the body, or None to leave it as it is."""
    if settings.forwarded_model is None and parsed.model is None and parsed.protocol.needs_model:
        return settings.model_id
    return settings.forwarded_model


async def _make_body(
    context: RequestContext,
    parsed: ModelRequest,
    model: str | None,
    additions: Mapping[str, Any],
    references: Sequence[MediaReference],
) -> Body:
    return await write_body(context, lambda: parsed.body(model, references, **additions))


def _upstream(runtime: Runtime, routed: RoutedRequest) -> Upstream:
    engine, server = routed.engine, runtime.config.server
    return Upstream(
        engine=routed.route.engine,
        activity=engine.activity,
        client=runtime.clients[routed.route.engine],
        path=routed.parsed.protocol.path,
        retry_after_s=engine.retry_after_s,
        timeout_s=server.request_timeout_s,
        keep_alive_s=server.sse_keep_alive_s,
        threads=runtime.threads,
    )


async def _route_and_prepare(
    context: RequestContext, parsed: ModelRequest
) -> tuple[RoutedRequest, list[Picture], list[MediaReference]]:
    routed = await _route(context, parsed)
    cache = context.runtime.picture_caches.get(routed.route.engine) if parsed.protocol.supports_uuid else None
    return await _prepare(context, routed, cache)


def _add_pictures(cache: PictureCache | None, names: Sequence[str]) -> None:
    for name in names:
        if cache is not None:
            cache.add(name)


def _additions(runtime: Runtime, settings: EngineSettings, parsed: ModelRequest, key: str) -> dict[str, Any]:
    """Return the fields that only the gateway may set."""
    if not settings.is_vllm:
        most, lengths = runtime.config.request.max_tokens, parsed.protocol.max_tokens_fields
        return {lengths[-1]: most} if most and lengths and parsed.max_tokens is None else {}
    return {"cache_salt": runtime.salts[key]} if key in runtime.salts else {}


def _headers(routed: RoutedRequest, pictures: Sequence[Picture]) -> dict[str, str]:
    headers = routing.headers(routed.route)
    if routed.parsed.dropped:
        headers["x-vlserve-dropped"] = _printable(routed.parsed.dropped)
    if routed.parsed.neutralized:
        headers["x-vlserve-control-tokens"] = str(routed.parsed.neutralized)
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
    """Join paths of fields for a header, with unsafe characters replaced."""
    shown = [re.sub(r"[^A-Za-z0-9_.\[\]() -]", "?", name[:96]) for name in names[:_MOST_DROPPED_NAMED]]
    return ", ".join(shown)
