"""The body of a request as it comes in: under its caps of bytes and time, and counted against all bodies' memory."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing

from fastapi import Request

from vlserve.errors import EngineAway, PayloadTooLarge, RequestTimeout
from vlserve.runtime import Runtime
from vlserve.upstream import ENDING

ENDING_RETRY_S = 5.0  # whoever comes next will answer then, or not; nobody here knows
_BYTES_PER_S = 64 * 1024


async def pieces(request: Request, runtime: Runtime, limit: int, setting: str) -> AsyncGenerator[bytes, None]:
    """The body in pieces; ``setting`` names what decides about ``limit`` (bytes).

    Raises PayloadTooLarge, RequestTimeout, and EngineAway when the service ends meanwhile.
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
            raise EngineAway(ENDING, retry_after_s=ENDING_RETRY_S) from None
        except TimeoutError:
            raise RequestTimeout("The body of the request did not come in time (server.body_timeout_s).") from None
        if piece is None:
            return
        size += len(piece)
        if size > limit:
            raise too_large
        yield piece


async def whole(request: Request, runtime: Runtime, held: ExitStack) -> bytearray:
    """The whole body in memory, counted there until ``held`` is closed. Raises TooManyRequests, too."""
    body = bytearray()
    held.callback(lambda: runtime.admission.hold(-len(body)))
    limit = runtime.config.server.max_body_bytes
    async with aclosing(pieces(request, runtime, limit, "server.max_body_bytes")) as stream:
        async for piece in stream:
            runtime.admission.hold(len(piece))
            body += piece
    return body
