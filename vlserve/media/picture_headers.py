"""What a picture's file says about itself: format, size, orientation. No pixel is decoded, nothing is inflated.

Each reader walks the parts of its format to the end of the picture, so that a file that was cut off, or that would cost
a decoder much, is known before anything decodes it. The walk takes time in proportion to the bytes. What comes after
the end is left alone: phones put more pictures and videos there.
"""

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Literal

Format = Literal["JPEG", "PNG", "WEBP", "GIF"]

# Far more than any camera or program writes; each costs a decoder time, however small it is.
_MOST_PARTS, _MOST_GIF_BLOCKS, _MOST_SCANS, _MOST_INFLATED = 20_000, 100_000, 100, 16
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # what is no marker: stuffed zeros, restarts, padding
_EOI, _SOS, _COMMENT, _ADOBE = 0xD9, 0xDA, 0xFE, 0xEE
_SIZES_IN = range(0xC0, 0xD0)
_NO_SIZES_IN = (0xC4, 0xC8, 0xCC)
_DECODABLE = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_METADATA = (*range(0xE1, 0xF0), _COMMENT)
_PNG_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_GRAY, _RGB, _PALETTE = 0, 2, 3
_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
# Text in which Pillow looks for an orientation.
_ORIENTING_TEXT = (b"exif", b"xmp", b"XML:com.adobe.xmp", b"Raw profile type exif")
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_ORIENTATION = 0x0112
_TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0")


class InvalidPicture(ValueError):
    """It cannot be shown to a model; the message says why, for the client."""


@dataclass(frozen=True)
class File:
    """``width`` and ``height`` are those of the stored pixels, before ``orientation`` (EXIF's, 1 to 8) is applied."""

    format: Format
    width: int
    height: int
    orientation: int = 1
    is_lossless: bool = True
    rewrite_reason: str = ""
    """Why an engine would not see this picture as it is; empty where it would."""
    bits: int = 8
    """Of each value that is stored."""
    spans: tuple[tuple[int, int], ...] = ()
    """Where in the file its pixels are; what lies between is metadata."""


def read(raw: bytes) -> File:
    """Raises InvalidPicture."""
    if raw.startswith(b"\xff\xd8\xff"):
        found = _jpeg(raw)
    elif raw.startswith(b"\x89PNG\r\n\x1a\n"):
        found = _png(raw)
    elif raw.startswith(b"RIFF") and raw[8:12] == b"WEBP":
        found = _webp(raw)
    elif raw.startswith((b"GIF87a", b"GIF89a")):
        found = _gif(raw)
    else:
        raise InvalidPicture("this is not a JPEG, PNG, WebP or GIF picture, or it is damaged.")
    if not found.width or not found.height:
        raise InvalidPicture(f"this {found.format} picture has no pixels: it is {found.width}×{found.height}.")
    return found


def _jpeg(raw: bytes) -> File:
    size: tuple[int, int] | None = None
    exif, xmp = list[bytes](), b""
    spans, kept_from, at, scans = [], 0, 2, 0
    for _ in range(_MOST_PARTS):
        found = _JPEG_MARKER.search(raw, at)
        if not found:
            raise _cut_off("JPEG")
        marker, start = raw[found.start() + 1], found.start()
        if start > at and not scans:  # rubbish between segments
            spans.append((kept_from, at))
            kept_from = start
        at = found.end()
        if marker == _EOI:
            break
        if marker in (0x01, 0xD8):  # they stand alone
            continue
        end = at + int.from_bytes(raw[at : at + 2], "big")
        if end < at + 2 or end > len(raw):
            raise _cut_off("JPEG")
        data, at = raw[at + 2 : end], end
        if marker in _SIZES_IN and marker not in _NO_SIZES_IN:
            layers = data[5] if len(data) > 5 else 0
            if size or marker not in _DECODABLE or layers not in (1, 3, 4) or data[0] != 8:
                raise InvalidPicture("this kind of JPEG picture is not supported; save it as an ordinary one.")
            size = int.from_bytes(data[3:5], "big"), int.from_bytes(data[1:3], "big")
        elif marker == _SOS:
            scans += 1
        elif marker in _METADATA and marker != _ADOBE:
            spans.append((kept_from, start))
            kept_from = end
            if marker == 0xE1 and data.startswith(b"Exif\0\0"):
                exif.append(data[6:])
            elif marker == 0xE1 and data.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
                xmp = data
            elif marker == 0xE2 and data.startswith(b"MPF\0"):
                _orientation(data[4:], b"")  # only for its bounds
    else:
        raise _odd("JPEG")
    if not size or not scans:
        raise _cut_off("JPEG")
    if scans > _MOST_SCANS:
        raise _odd("JPEG")
    orientation, rewrite_reason = _orientation(b"".join(exif), xmp)
    spans.append((kept_from, at))
    return File("JPEG", *size, orientation, is_lossless=False, rewrite_reason=rewrite_reason, spans=tuple(spans))


def _png(raw: bytes) -> File:
    head = raw[16:29]
    exif = xmp = b""
    rewrite_reason, spans, at, inflated, kinds = "", [(0, 8)], 8, 0, set[bytes]()
    for _ in range(_MOST_PARTS):
        length, kind = int.from_bytes(raw[at : at + 4], "big"), raw[at + 4 : at + 8]
        start, at = at, at + 12 + length
        if at > len(raw):
            raise _cut_off("PNG")
        if not kind.isalpha() or (not kinds and (kind != b"IHDR" or length != 13)) or (kinds and kind == b"IHDR"):
            raise _odd("PNG")
        kinds.add(kind)
        # After the first IDAT Pillow looks at no checksum either.
        checksum = int.from_bytes(raw[at - 4 : at], "big")
        if b"IDAT" not in kinds and zlib.crc32(memoryview(raw)[start + 4 : at - 4]) != checksum:
            raise InvalidPicture("this PNG picture is damaged: a checksum is wrong.")
        if kind in _PNG_PIXELS:
            spans.append((start, at))
        if kind == b"IEND":
            break
        if kind == b"acTL":
            raise InvalidPicture("animated PNG pictures are not taken; send one frame as a picture of its own.")
        if kind == b"eXIf":
            exif = raw[start + 8 : at - 4]
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            key, _, text = raw[start + 8 : at - 4].partition(b"\0")
            inflated += kind == b"zTXt" or (kind == b"iTXt" and text[:1] != b"\0")
            if kind == b"iTXt" and key == b"XML:com.adobe.xmp" and text[:1] == b"\0":
                xmp = text
            elif key in _ORIENTING_TEXT:
                rewrite_reason = "its orientation is hidden in text"
        inflated += kind == b"iCCP"
        if inflated > _MOST_INFLATED:
            raise InvalidPicture("this PNG picture has too many compressed texts or profiles; save it without them.")
    else:
        raise _odd("PNG")
    bits, color = head[8], head[9]
    is_whole = b"IDAT" in kinds and (color != _PALETTE or b"PLTE" in kinds)
    if not is_whole or bits not in _PNG_BITS.get(color, ()) or head[10] or head[11] or head[12] > 1:
        raise _odd("PNG")
    # Of these vLLM 0.32 makes white or loses the transparency (it converts with Pillow as they are).
    if color == _GRAY and bits == 16:
        rewrite_reason = "it has 16 bits per pixel"
    elif b"tRNS" in kinds and (color == _RGB or (color == _GRAY and bits in (2, 4))):
        rewrite_reason = "one of its colors is transparent"
    orientation, lie = _orientation(exif, xmp)
    width, height = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
    return File("PNG", width, height, orientation, rewrite_reason=rewrite_reason or lie, bits=bits, spans=tuple(spans))


def _webp(raw: bytes) -> File:
    end = 8 + int.from_bytes(raw[4:8], "little")
    if end > len(raw):
        raise _cut_off("WebP")
    canvas = size = None
    exif = xmp = b""
    at, is_lossless = 12, False
    for _ in range(_MOST_PARTS):
        if at + 8 > end:
            break
        kind, start = raw[at : at + 4], at + 8
        length = int.from_bytes(raw[at + 4 : start], "little")
        at = start + length + length % 2
        if start + length > end:
            raise _cut_off("WebP")
        data = raw[start : start + 10]
        if kind == b"VP8X" and len(data) == 10:
            canvas = int.from_bytes(data[4:7], "little") + 1, int.from_bytes(data[7:10], "little") + 1
        if kind in (b"ANIM", b"ANMF") or (kind == b"VP8X" and data[:1] and data[0] & 2):
            raise InvalidPicture("animated WebP pictures are not taken; send one frame as a picture of its own.")
        if kind == b"VP8 " and length >= 10 and not data[0] & 1 and data[3:6] == b"\x9d\x01\x2a":
            size = int.from_bytes(data[6:8], "little") & 0x3FFF, int.from_bytes(data[8:10], "little") & 0x3FFF
        elif kind == b"VP8L" and length >= 5 and data[0] == 0x2F:
            packed = int.from_bytes(data[1:5], "little")
            size, is_lossless = ((packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1), True
        elif kind == b"EXIF":
            exif = raw[start : start + length]
        elif kind == b"XMP ":
            xmp = raw[start : start + length]
    else:
        raise _odd("WebP")
    if not size or (canvas and canvas != size):
        raise _odd("WebP")
    orientation, rewrite_reason = _orientation(exif, xmp)
    return File("WEBP", *size, orientation, is_lossless, rewrite_reason, spans=((0, end),))


def _gif(raw: bytes) -> File:
    """Up to the end of the first frame, the only one that is looked at."""
    if len(raw) < 13:
        raise _cut_off("GIF")
    width, height = int.from_bytes(raw[6:8], "little"), int.from_bytes(raw[8:10], "little")
    at = 13 + (6 << (raw[10] & 7) if raw[10] & 0x80 else 0)
    left = _MOST_GIF_BLOCKS
    while left:
        left -= 1
        kind = raw[at : at + 1]
        if kind == b"!":
            at, left = _gif_blocks(raw, at + 2, left)
        elif kind == b",":
            x, y, wide, high = (int.from_bytes(raw[at + n : at + n + 2], "little") for n in (1, 3, 5, 7))
            flags = raw[at + 9] if len(raw) > at + 9 else 0
            at, left = _gif_blocks(raw, at + 11 + (6 << (flags & 7) if flags & 0x80 else 0), left)
            if not wide or not high:
                raise _odd("GIF")
            # A frame may be larger than the screen; Pillow enlarges the screen then.
            return File("GIF", max(width, x + wide), max(height, y + high), spans=((0, at),))
        elif kind and kind in b"\0":  # some programs write one too many
            at += 1
        else:
            raise _cut_off("GIF")
    raise _odd("GIF")


def _gif_blocks(raw: bytes, at: int, left: int) -> tuple[int, int]:
    """Where the blocks that begin at ``at`` end, and how many more may come."""
    while left and at < len(raw):
        left -= 1
        if not raw[at]:
            return at + 1, left
        at += 1 + raw[at]
    if left:
        raise _cut_off("GIF")
    raise _odd("GIF")


def _orientation(exif: bytes, xmp: bytes) -> tuple[int, str]:
    """As Pillow finds it, and why an engine might find another one.

    Versions of Pillow go on differently after an entry that is no good, so behind one nothing is sure.
    """
    if exif.startswith(b"Exif\0\0" * 3):  # Pillow takes each away by a copy of the rest
        raise InvalidPicture("the EXIF data of this picture are damaged.")
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    orientation: int | None = None
    lie, total = "", 0
    if exif[:4] in _TIFF_HEADS:
        order: Literal["little", "big"] = "little" if exif[:2] == b"II" else "big"
        at = int.from_bytes(exif[4:8], order)
        count = int.from_bytes(exif[at : at + 2], order)
        table = exif[at + 2 : at + 2 + 12 * count]
        if not count or len(table) < 12 * count:
            lie = "its metadata are damaged"
        entries = struct.iter_unpack("<HHII" if order == "little" else ">HHII", table[: len(table) // 12 * 12])
        for tag, kind, number, value in entries:
            size = _TIFF_BYTES.get(kind, 0) * number
            if size > 4 and value + size <= len(exif):
                total += size
            elif size > 4:
                lie = "its metadata are damaged"
            if tag == _ORIENTATION and orientation is None:
                if kind == 3 and number == 1:
                    orientation = value & 0xFFFF if order == "little" else value >> 16
                elif kind == 4 and number == 1:
                    orientation = value
                elif size:
                    lie = "its metadata are damaged"
    # Pillow before 13 copies what each entry points to.
    if total > 2 * len(exif) + 65536:
        raise InvalidPicture("the EXIF data of this picture point to the same bytes again and again.")
    if orientation is None and (found := _XMP_ORIENTATION.search(xmp)):
        orientation = int(found[1])
    return orientation if orientation and orientation <= 8 else 1, lie


def _cut_off(name: str) -> InvalidPicture:
    return InvalidPicture(f"this {name} picture is cut off or damaged: its end is missing.")


def _odd(name: str) -> InvalidPicture:
    return InvalidPicture(f"this {name} picture is damaged: its parts are not those of a {name} picture.")
