"""Small videos, valid and with false headers."""

import base64
import functools
import pathlib
import struct
import tempfile
from typing import Any

import cv2
import numpy


@functools.cache
def film(
    width: int = 280, height: int = 280, frames: int = 8, fps: float = 2, kind: str = "mp4", codec: str = ""
) -> bytes:
    """A video with changing colors."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / f"film.{kind}"
        codec = codec or {"mp4": "mp4v", "webm": "VP80", "avi": "MJPG"}[kind]
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (width, height))
        for number in range(frames):
            shade = number * 255 // frames
            writer.write(numpy.full((height, width, 3), (shade, 80, 255 - shade), numpy.uint8))
        writer.release()
        return path.read_bytes()


def lying(frames: int) -> bytes:
    """A video of eight frames with many more in its tables."""
    raw = bytearray(film())
    sizes, times, chunks = (raw.index(name) for name in (b"stsz", b"stts", b"stsc"))
    raw[sizes + 8 : sizes + 16] = struct.pack(">II", 100, frames)
    raw[times + 12 : times + 16] = struct.pack(">I", frames)
    raw[chunks + 16 : chunks + 20] = struct.pack(">I", frames)
    return bytes(raw)


def wide(width: int) -> bytes:
    """A video with too large a width in its header."""
    raw = bytearray(film())
    entry = raw.index(b"mp4v", raw.index(b"stsd"))
    raw[entry + 28 : entry + 30] = struct.pack(">H", width)
    return bytes(raw)


def growing(frames: int, side: int) -> bytes:
    """A video of 280×280 in which all frames but the first are ``side`` pixels wide and high."""
    small, large = bytearray(film(frames=frames, codec="vp09")), film(side, side, 1, codec="vp09")
    sizes, places, chunks = (small.index(name) for name in (b"stsz", b"stco", b"stsc"))
    shown = _first_frame(small), *[_first_frame(large)] * (frames - 1)
    small[sizes + 16 : sizes + 16 + 4 * frames] = struct.pack(f">{frames}I", *map(len, shown))
    small[chunks + 8 : chunks + 20] = struct.pack(">III", 1, 1, frames)
    small[places + 8 : places + 16] = struct.pack(">II", 1, len(small) + 8)
    media = b"".join(shown)
    return bytes(small) + struct.pack(">I", len(media) + 8) + b"mdat" + media


def _first_frame(raw: bytes | bytearray) -> bytes:
    sizes, places = raw.index(b"stsz"), raw.index(b"stco")
    said, _, first = struct.unpack(">III", raw[sizes + 8 : sizes + 20])
    (at,) = struct.unpack(">I", raw[places + 12 : places + 16])
    return bytes(raw[at : at + (said or first)])


def video_url(raw: bytes, kind: str = "mp4") -> str:
    return f"data:video/{kind};base64,{base64.b64encode(raw).decode()}"


def part(raw: bytes | None = None, kind: str = "mp4") -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": video_url(film() if raw is None else raw, kind)}}
