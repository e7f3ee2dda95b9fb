"""Request bodies: reading and decompressing them with limits on bytes and time."""

import asyncio
import codecs
import io
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from fastapi import Request
from starlette.requests import ClientDisconnect

from vlserve.errors import PayloadTooLarge, RequestTimeout, shutdown_error
from vlserve.gateway import content_encoding
from vlserve.gateway.app_state import Runtime

_MIN_BYTES_PER_S = 64 * 1024


def pieces(
    request: Request, runtime: Runtime, limit: int, setting: str, charge: Callable[[int], None] | None = None
) -> AsyncGenerator[bytes, None]:
    """Return a generator of the body's chunks, decompressed.

    ``limit`` (bytes, the setting ``setting``) applies to the body as it was sent and to the decompressed body.
    ``charge`` is called with the size of each chunk.

    Raises UnsupportedEncoding. The generator raises PayloadTooLarge, RequestTimeout, TooManyRequests, InvalidRequest
    for damaged compressed data, and EngineAway during shutdown.
    """
    encoding = content_encoding.check(", ".join(request.headers.getlist("content-encoding")))
    if encoding:
        return _decompressed(request, runtime, limit, setting, encoding, charge)
    return _received(request, runtime, limit, setting, charge)


async def _received(
    request: Request, runtime: Runtime, limit: int, setting: str, charge: Callable[[int], None] | None = None
) -> AsyncGenerator[bytes, None]:
    """Yield the body as the client sent it."""
    _check_length(request, limit, setting)
    loop = asyncio.get_running_loop()
    end, size = loop.time() + runtime.config.server.body_timeout_s, 0
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout_at(end + size / _MIN_BYTES_PER_S):
                piece = await anext(stream, None)
        except asyncio.CancelledError:  # shutdown after the grace period
            raise shutdown_error() from None
        except TimeoutError:
            raise _timed_out() from None
        if piece is None:
            return
        size += len(piece)
        if size > limit:
            raise _too_large(limit, setting)
        if charge:
            charge(len(piece))
        yield piece


async def _decompressed(
    request: Request,
    runtime: Runtime,
    limit: int,
    setting: str,
    encoding: str,
    charge: Callable[[int], None] | None,
) -> AsyncGenerator[bytes, None]:
    async def run(read: Callable[[], bytes]) -> bytes:
        try:
            return await asyncio.get_running_loop().run_in_executor(runtime.threads, read)
        except asyncio.CancelledError:  # shutdown after the grace period
            raise shutdown_error() from None

    size = 0
    received = _received(request, runtime, limit, setting)
    async with aclosing(received), aclosing(content_encoding.decompress(received, encoding, run)) as stream:
        async for piece in stream:
            size += len(piece)
            if size > limit:
                raise _too_large(limit, setting)
            if charge:
                charge(len(piece))
            yield piece


def _check_length(request: Request, limit: int, setting: str) -> None:
    if int(request.headers.get("content-length") or 0) > limit:
        raise _too_large(limit, setting)


def _timed_out() -> RequestTimeout:
    return RequestTimeout("The body of the request did not arrive in time (server.body_timeout_s).")


def _too_large(limit: int, setting: str) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {limit:,} bytes (setting {setting}).")


async def whole(request: Request, runtime: Runtime, charge: Callable[[int], None]) -> bytes:
    """Read the whole body into memory, without a byte order mark. Raises what ``pieces`` raises."""
    body = io.BytesIO()  # unlike a bytearray it returns bytes without spare capacity and without a copy
    limit, setting = runtime.config.server.max_body_bytes, "server.max_body_bytes"
    if "content-encoding" in request.headers:
        async with aclosing(pieces(request, runtime, limit, setting, charge)) as stream:
            async for piece in stream:
                body.write(piece)
    else:
        await _read_plain(request, runtime, limit, setting, charge, body)
    return body.getvalue().removeprefix(codecs.BOM_UTF8)


async def _read_plain(
    request: Request, runtime: Runtime, limit: int, setting: str, charge: Callable[[int], None], body: io.BytesIO
) -> None:
    """Read a body as ``_received`` does, with one timer for all of it: pictures arrive in hundreds of chunks."""
    _check_length(request, limit, setting)
    end, size = asyncio.get_running_loop().time() + runtime.config.server.body_timeout_s, 0
    try:
        async with asyncio.timeout_at(end) as deadline:
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                piece = message.get("body", b"")  # both are optional in ASGI
                size += len(piece)
                if size > limit:
                    raise _too_large(limit, setting)
                charge(len(piece))
                body.write(piece)
                if not message.get("more_body", False):
                    return
                deadline.reschedule(end + size / _MIN_BYTES_PER_S)
    except asyncio.CancelledError:  # shutdown after the grace period
        raise shutdown_error() from None
    except TimeoutError:
        raise _timed_out() from None
