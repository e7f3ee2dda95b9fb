"""Request bodies: reading them with limits on bytes and time."""

import asyncio
import io
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from fastapi import Request

from vlserve.errors import PayloadTooLarge, RequestTimeout, service_ends
from vlserve.gateway.runtime import Runtime

_MIN_BYTES_PER_S = 64 * 1024


async def pieces(
    request: Request, runtime: Runtime, limit: int, setting: str, charge: Callable[[int], None] | None = None
) -> AsyncGenerator[bytes, None]:
    """Yield the body in chunks. ``limit`` (bytes) is the setting ``setting``; ``charge`` is called with each size.

    Raises PayloadTooLarge, RequestTimeout, TooManyRequests, and EngineAway during shutdown.
    """
    too_large = PayloadTooLarge(f"The body is larger than {limit:,} bytes (setting {setting}).")
    if int(request.headers.get("content-length") or 0) > limit:
        raise too_large
    loop = asyncio.get_running_loop()
    end, size = loop.time() + runtime.config.server.body_timeout_s, 0
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout_at(end + size / _MIN_BYTES_PER_S):
                piece = await anext(stream, None)
        except asyncio.CancelledError:  # shutdown after the grace period
            raise service_ends() from None
        except TimeoutError:
            raise RequestTimeout("The body of the request did not arrive in time (server.body_timeout_s).") from None
        if piece is None:
            return
        size += len(piece)
        if size > limit:
            raise too_large
        if charge:
            charge(len(piece))
        yield piece


async def whole(request: Request, runtime: Runtime, charge: Callable[[int], None]) -> bytes:
    """Read the whole body into memory. Raises what ``pieces`` raises."""
    body = io.BytesIO()  # unlike a bytearray it returns bytes without spare capacity and without a copy
    limit = runtime.config.server.max_body_bytes
    async with aclosing(pieces(request, runtime, limit, "server.max_body_bytes", charge)) as stream:
        async for piece in stream:
            body.write(piece)
    return body.getvalue()
