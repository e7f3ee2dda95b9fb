"""Decompresses request bodies (Content-Encoding: gzip or deflate) in steps of limited size."""

import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from vlserve.errors import InvalidRequest, UnsupportedMediaType

_STEP_BYTES = 256 * 1024
_SMALL_BYTES = 8 * 1024  # more, or more than a step of output, is decompressed in a thread
_GZIP = zlib.MAX_WBITS | 16
_NAMES = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}

RunInThread = Callable[[Callable[[], bytes]], Awaitable[bytes]]


class UnsupportedEncoding(UnsupportedMediaType):
    """The response names the encodings that are accepted (RFC 9110, section 12.5.3)."""

    code = "unsupported_content_encoding"

    def headers(self) -> dict[str, str]:
        return {"accept-encoding": "gzip, deflate"}


def check(header: str) -> str | None:
    """Return the encoding of a body, gzip or deflate, by its Content-Encoding header; None: it has none.

    Raises UnsupportedEncoding.
    """
    encoding = header.strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding not in _NAMES:
        raise UnsupportedEncoding(
            f"The content-encoding {encoding[:64]!r} is not supported. Send the body with gzip, deflate, or none."
        )
    return _NAMES[encoding]


class Decoder:
    """Decompresses one body: ``feed`` it, then ``read`` while ``has_more``."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._input = b""
        self._is_full = False
        """Whether the last step had the largest size, so that zlib may keep more."""
        self._zlib = zlib.decompressobj(_GZIP) if encoding == "gzip" else None

    @property
    def has_more(self) -> bool:
        return self._is_full or len(self._input) > (1 if self._zlib is None else 0)

    @property
    def is_complete(self) -> bool:
        """Whether the end of the compressed data was read."""
        return self._zlib is not None and self._zlib.eof

    def feed(self, data: bytes) -> None:
        self._input += data

    def read(self) -> bytes:
        """Decompress at most 256 KiB. Raises InvalidRequest for damaged data, and for data after its end."""
        if self._zlib is None:
            self._zlib = zlib.decompressobj(_deflate_bits(self._input))
        if self._zlib.eof:
            raise _damaged(self._encoding)
        try:
            data = self._zlib.decompress(self._input, _STEP_BYTES)
        except zlib.error:
            raise _damaged(self._encoding) from None
        self._input = self._zlib.unconsumed_tail or self._zlib.unused_data
        self._is_full = len(data) == _STEP_BYTES and not self._zlib.eof
        return data


def _deflate_bits(start: bytes) -> int:
    """Window bits of data in zlib's format (RFC 1950), which the name deflate means, or without its header, as some
    clients send it."""
    is_zlib = start[0] & 15 == zlib.DEFLATED and int.from_bytes(start[:2], "big") % 31 == 0
    return zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS


async def decompress(pieces: AsyncIterator[bytes], encoding: str, run: RunInThread) -> AsyncGenerator[bytes, None]:
    """Yield the decompressed body in pieces of at most 256 KiB. ``run`` calls a function in a thread.

    Raises InvalidRequest for damaged or incomplete data.
    """
    decoder, fed, read = Decoder(encoding), 0, 0
    async for piece in pieces:
        fed += len(piece)
        decoder.feed(piece)
        while decoder.has_more:
            is_small = fed <= _SMALL_BYTES and read < _STEP_BYTES
            data = decoder.read() if is_small else await run(decoder.read)
            read += len(data)
            if data:
                yield data
    if fed and not decoder.is_complete:
        raise _damaged(encoding)


def _damaged(encoding: str) -> InvalidRequest:
    return InvalidRequest(
        f"The body is not valid {encoding} data, or it is incomplete (content-encoding: {encoding}).",
        code="invalid_content_encoding",
    )
