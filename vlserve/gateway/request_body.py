"""The body of a request as it comes in, under its caps of bytes and time."""

import asyncio
import io
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from fastapi import Request

from vlserve.errors import PayloadTooLarge, RequestTimeout, service_ends
from vlserve.gateway.runtime import Runtime

_BYTES_PER_S = 64 * 1024


async def pieces(
    request: Request, runtime: Runtime, limit: int, setting: str, hold: Callable[[int], None] | None = None
) -> AsyncGenerator[bytes, None]:
    """The body in pieces; ``setting`` names what decides about ``limit`` (bytes), ``hold`` counts them.

    Raises PayloadTooLarge, RequestTimeout, TooManyRequests, and EngineAway when the service ends meanwhile.
    """
    too_large = PayloadTooLarge(f"The body is larger than {limit:,} bytes; the setting {setting} decides.")
    if int(request.headers.get("content-length") or 0) > limit:
        raise too_large
    loop = asyncio.get_running_loop()
    end, size = loop.time() + runtime.config.server.body_timeout_s, 0
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout_at(end + size / _BYTES_PER_S):
                piece = await anext(stream, None)
        except asyncio.CancelledError:  # the service ends, and its grace is over
            raise service_ends() from None
        except TimeoutError:
            raise RequestTimeout("The body of the request did not come in time (server.body_timeout_s).") from None
        if piece is None:
            return
        size += len(piece)
        if size > limit:
            raise too_large
        if hold:
            hold(len(piece))
        yield piece


async def whole(request: Request, runtime: Runtime, hold: Callable[[int], None]) -> bytes:
    """The whole body in memory. Raises what ``pieces`` raises."""
    body = io.BytesIO()  # unlike a bytearray it ends without spare room, and without a copy
    limit = runtime.config.server.max_body_bytes
    async with aclosing(pieces(request, runtime, limit, "server.max_body_bytes", hold)) as stream:
        async for piece in stream:
            body.write(piece)
    return body.getvalue()
