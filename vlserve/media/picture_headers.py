"""Reads the headers of JPEG, PNG, WebP and GIF files: format, size, EXIF orientation, completeness. Decodes no pixels.

Why not Pillow: it opens truncated files without an error, its ``getexif()`` decodes a whole PNG, it spends seconds on
thousands of ICC profile chunks, and it reports 2-bit gray as 8 bits. Here each reader walks a file's chunks to the end
of the picture, in time proportional to its bytes, and so refuses truncated and expensive files before any decoder runs.
Data after that end are ignored: phones append further pictures and videos there.
"""

import codecs
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Literal

Format = Literal["JPEG", "PNG", "WEBP", "GIF"]

# Limits far above what cameras and programs write: every chunk costs a decoder time, however small it is.
_MAX_CHUNKS, _MAX_GIF_BLOCKS, _MAX_SCANS, _MAX_COMPRESSED_CHUNKS = 20_000, 100_000, 100, 16
MAX_PARTS = max(_MAX_CHUNKS, _MAX_GIF_BLOCKS)
_WEBP_FRAME_HEADER_BYTES = 16
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # not stuffed zeros, restart markers or fill bytes
_TEM, _SOI, _EOI, _SOS = 0x01, 0xD8, 0xD9, 0xDA
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SUPPORTED_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_METADATA = {*range(0xE1, 0xF0), 0xFE} - {
    0xEE
}  # application segments and comments; Adobe's says how to read the colors
_PNG_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_GRAY, _RGB, _PALETTE = 0, 2, 3
_PNG_IMAGE_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
# Keywords of text chunks in which Pillow looks for an orientation.
_ORIENTATION_KEYWORDS = (b"exif", b"xmp", b"XML:com.adobe.xmp", b"Raw profile type exif")
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_ORIENTATION_TAG = 0x0112
_TIFF_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
# First bytes, and brands of ISO base media files, of formats that are named in refusals.
_OTHER_FORMATS = {
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"\0\0\1\0": "an ICO",
    b"8BPS": "a PSD",
    b"\xff\x0a": "a JPEG XL",
    b"\0\0\0\x0cJXL ": "a JPEG XL",
    b"\0\0\0\x0cjP  ": "a JPEG 2000",
    b"SIMPLE  =": "a FITS",
}
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "an AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"), "a HEIC"),
}
_HTML = re.compile(rb"<!doctype html|<html[ >]", re.IGNORECASE)
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0")


class TooManyParts(Exception):
    """A picture that has more parts than the caller wants to read."""


class InvalidPicture(ValueError):
    """A picture that cannot be shown to a model. The message gives the reason and is sent to the client."""


@dataclass(frozen=True)
class File:
    """``width`` × ``height`` stored pixels, before ``orientation`` (EXIF's values 1 to 8) is applied."""

    format: Format
    width: int
    height: int
    orientation: int = 1
    is_lossless: bool = True
    rewrite_reason: str = ""
    """Why an engine would show the model something else than this picture; empty if it would not."""
    bits: int = 8
    """Bits per stored value."""
    spans: tuple[tuple[int, int], ...] = ()
    """Start and end of the parts of the file that a decoder needs; the bytes between them are metadata."""


def read(raw: bytes, max_parts: int = MAX_PARTS) -> File:
    """Read the header of a picture's file.

    Raises InvalidPicture, and TooManyParts for more than ``max_parts`` chunks, segments or blocks.
    """
    if raw.startswith(b"\xff\xd8\xff"):
        found = _jpeg(raw, max_parts)
    elif raw.startswith(b"\x89PNG\r\n\x1a\n"):
        found = _png(raw, max_parts)
    elif raw.startswith(b"RIFF") and raw[8:12] == b"WEBP":
        found = _webp(raw, max_parts)
    elif raw.startswith((b"GIF87a", b"GIF89a")):
        found = _gif(raw, max_parts)
    else:
        raise InvalidPicture(_other_format(raw))
    if not found.width or not found.height:
        raise InvalidPicture(f"this {found.format} picture has no pixels: it is {found.width}×{found.height}.")
    return found


def _other_format(raw: bytes) -> str:
    """What a file is that is not read here, from its first bytes."""
    start = raw[:1024].removeprefix(codecs.BOM_UTF8).lstrip()
    if start.startswith(b"%PDF"):
        return "this is a PDF, and PDFs are not read. Send its pages as pictures: JPEG, PNG, WebP or GIF."
    brand = raw[8:12] if raw[4:8] == b"ftyp" else b""
    name = next((name for sign, name in _OTHER_FORMATS.items() if start.startswith(sign)), _BRANDS.get(brand))
    if name is None and _HTML.match(start):
        return "this is a web page (HTML), not a picture. Send the address of the picture itself."
    if name is None and start.startswith(b"<") and b"<svg" in start:
        name = "an SVG"
    if name is None:
        return "this is not a JPEG, PNG, WebP or GIF picture, or it is damaged."
    return f"this is {name} picture; JPEG, PNG, WebP and GIF are accepted."


def _jpeg(raw: bytes, max_parts: int) -> File:
    size: tuple[int, int] | None = None
    exif, xmp = list[bytes](), b""
    spans, kept_from, at, scans = [], 0, 2, 0
    for _ in range(min(max_parts, _MAX_CHUNKS)):
        found = _JPEG_MARKER.search(raw, at)
        if not found:
            raise _cut_off("JPEG")
        marker, start = raw[found.start() + 1], found.start()
        if start > at and not scans:  # stray bytes between segments
            spans.append((kept_from, at))
            kept_from = start
        at = found.end()
        if marker == _EOI:
            break
        if marker in (_TEM, _SOI):  # markers without a length
            continue
        end = at + int.from_bytes(raw[at : at + 2], "big")
        if end < at + 2 or end > len(raw):
            raise _cut_off("JPEG")
        data, at = raw[at + 2 : end], end
        if marker in _FRAME_HEADERS:
            is_supported = marker in _SUPPORTED_FRAMES and data[:1] == b"\x08" and data[5:6] in (b"\1", b"\3", b"\4")
            if size or not is_supported:
                raise InvalidPicture(
                    "this kind of JPEG picture is not supported; save it as a baseline or progressive JPEG."
                )
            size = int.from_bytes(data[3:5], "big"), int.from_bytes(data[1:3], "big")
        elif marker == _SOS:
            scans += 1
        elif marker in _METADATA:
            spans.append((kept_from, start))
            kept_from = end
            if marker == 0xE1 and data.startswith(b"Exif\0\0"):
                exif.append(data[6:])
            elif marker == 0xE1 and data.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
                xmp = data
            elif marker == 0xE2 and data.startswith(b"MPF\0"):
                _orientation(data[4:], b"")  # only its limits are checked
    else:
        raise _too_many_parts("JPEG", max_parts, _MAX_CHUNKS)
    if not size or not scans:
        raise _cut_off("JPEG")
    if scans > _MAX_SCANS:
        raise _malformed("JPEG")
    orientation, rewrite_reason = _orientation(b"".join(exif), xmp)
    spans.append((kept_from, at))
    return File("JPEG", *size, orientation, is_lossless=False, rewrite_reason=rewrite_reason, spans=tuple(spans))


def _png(raw: bytes, max_parts: int) -> File:
    exif = xmp = b""
    rewrite_reason, spans, at, compressed, kinds = "", [(0, 8)], 8, 0, set[bytes]()
    for _ in range(min(max_parts, _MAX_CHUNKS)):
        length, kind = int.from_bytes(raw[at : at + 4], "big"), raw[at + 4 : at + 8]
        start, at = at, at + 12 + length
        if at > len(raw):
            raise _cut_off("PNG")
        if not kind.isalpha() or (not kinds and (kind != b"IHDR" or length != 13)) or (kinds and kind == b"IHDR"):
            raise _malformed("PNG")
        kinds.add(kind)
        # Like Pillow, which ignores checksums after the first IDAT.
        checksum = int.from_bytes(raw[at - 4 : at], "big")
        if b"IDAT" not in kinds and zlib.crc32(memoryview(raw)[start + 4 : at - 4]) != checksum:
            raise InvalidPicture("this PNG picture is damaged: a checksum is wrong.")
        if kind in _PNG_IMAGE_CHUNKS:
            spans.append((start, at))
        if kind == b"IEND":
            break
        if kind == b"acTL":
            rewrite_reason = "it is animated"  # only its first picture is kept
        if kind == b"eXIf":
            exif = raw[start + 8 : at - 4]
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            key, _, text = raw[start + 8 : at - 4].partition(b"\0")
            compressed += kind == b"zTXt" or (kind == b"iTXt" and text[:1] != b"\0")
            if kind == b"iTXt" and key == b"XML:com.adobe.xmp" and text[:1] == b"\0":
                xmp = text
            elif key in _ORIENTATION_KEYWORDS:
                rewrite_reason = "its orientation is hidden in text"
        compressed += kind == b"iCCP"
        if compressed > _MAX_COMPRESSED_CHUNKS:
            raise InvalidPicture("this PNG picture has too many compressed texts or profiles; save it without them.")
    else:
        raise _too_many_parts("PNG", max_parts, _MAX_CHUNKS)
    width, height, bits, color, compression, filtering, interlace = struct.unpack(">IIBBBBB", raw[16:29])
    is_whole = b"IDAT" in kinds and (color != _PALETTE or b"PLTE" in kinds)
    if not is_whole or bits not in _PNG_BITS.get(color, ()) or compression or filtering or interlace > 1:
        raise _malformed("PNG")
    # vLLM 0.32 converts with Pillow, which makes the first white and loses the transparency of the second.
    if color == _GRAY and bits == 16:
        rewrite_reason = "it has 16 bits per pixel"
    elif b"tRNS" in kinds and (color == _RGB or (color == _GRAY and bits in (2, 4))):
        rewrite_reason = "one of its colors is transparent"
    orientation, damage = _orientation(exif, xmp)
    return File(
        "PNG", width, height, orientation, rewrite_reason=rewrite_reason or damage, bits=bits, spans=tuple(spans)
    )


def _webp(raw: bytes, max_parts: int) -> File:
    end = 8 + int.from_bytes(raw[4:8], "little")
    if end > len(raw):
        raise _cut_off("WebP")
    canvas = size = None
    exif = xmp = b""
    is_animated, frames = False, 0
    at, is_lossless = 12, False
    for _ in range(min(max_parts, _MAX_CHUNKS)):
        if at + 8 > end:
            break
        kind, start = raw[at : at + 4], at + 8
        length = int.from_bytes(raw[at + 4 : start], "little")
        at = start + length + length % 2
        if start + length > end:
            raise _cut_off("WebP")
        data = raw[start : start + 10]
        if kind == b"VP8X" and len(data) == 10:
            is_animated = bool(data[0] & 2)
            canvas = int.from_bytes(data[4:7], "little") + 1, int.from_bytes(data[7:10], "little") + 1
        frames += kind == b"ANMF" and length > _WEBP_FRAME_HEADER_BYTES
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
        raise _too_many_parts("WebP", max_parts, _MAX_CHUNKS)
    if is_animated and frames and not size:  # its first frame is drawn on the canvas
        size = canvas
    if not size or (canvas and canvas != size) or is_animated != bool(frames):
        raise _malformed("WebP")
    orientation, rewrite_reason = _orientation(exif, xmp)
    if is_animated:
        rewrite_reason = "it is animated"
    return File("WEBP", *size, orientation, is_lossless, rewrite_reason, spans=((0, end),))


def _gif(raw: bytes, max_parts: int) -> File:
    """Read up to the end of the first frame, the only one that the model gets."""
    if len(raw) < 13:
        raise _cut_off("GIF")
    width, height, flags = struct.unpack_from("<HHB", raw, 6)
    at, frame, is_in_blocks = 13 + _color_table_bytes(flags), None, False
    for _ in range(min(max_parts, _MAX_GIF_BLOCKS)):
        if at >= len(raw):
            raise _cut_off("GIF")
        first = raw[at]
        if is_in_blocks:
            at += 1 + first
            is_in_blocks = first > 0
            if frame and not is_in_blocks:
                break
        elif first == ord("!"):
            at, is_in_blocks = at + 2, True
        elif first == ord(",") and at + 10 <= len(raw):
            frame = struct.unpack_from("<HHHHB", raw, at + 1)
            at, is_in_blocks = at + 11 + _color_table_bytes(frame[4]), True
        elif first == 0:  # some programs write one terminator too many
            at += 1
        else:
            raise _cut_off("GIF")
    else:
        raise _too_many_parts("GIF", max_parts, _MAX_GIF_BLOCKS)
    if not frame or is_in_blocks or not frame[2] or not frame[3]:
        raise _malformed("GIF")
    # A frame may be larger than the screen; Pillow enlarges the screen then.
    width, height = max(width, frame[0] + frame[2]), max(height, frame[1] + frame[3])
    return File("GIF", width, height, spans=((0, at),))


def _color_table_bytes(flags: int) -> int:
    return 6 << (flags & 7) if flags & 0x80 else 0


def _orientation(exif: bytes, xmp: bytes) -> tuple[int, str]:
    """The orientation as Pillow finds it, and why an engine might find another one (empty if it would not).

    Versions of Pillow differ in how they continue after a damaged entry, so what follows one is uncertain.
    """
    if exif.startswith(b"Exif\0\0" * 3):  # Pillow copies the rest once for each
        raise InvalidPicture("the EXIF data of this picture are damaged.")
    exif = exif.removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0")
    orientation: int | None = None
    is_damaged, total = False, 0
    if exif[:4] in _TIFF_SIGNATURES:
        is_little = exif[:2] == b"II"
        order: Literal["little", "big"] = "little" if is_little else "big"
        at = int.from_bytes(exif[4:8], order)
        count = int.from_bytes(exif[at : at + 2], order)
        table = exif[at + 2 : at + 2 + 12 * count]
        is_damaged = not count or len(table) < 12 * count
        entries = struct.iter_unpack("<HHII" if is_little else ">HHII", table[: len(table) // 12 * 12])
        for tag, kind, number, value in entries:
            size = _TIFF_TYPE_BYTES.get(kind, 0) * number
            if size > 4 and value + size <= len(exif):  # larger values stand elsewhere: this is their offset
                total += size
            elif size > 4:
                is_damaged = True
            if tag == _ORIENTATION_TAG and orientation is None:
                if kind == 3 and number == 1:
                    orientation = value & 0xFFFF if is_little else value >> 16
                elif kind == 4 and number == 1:
                    orientation = value
                elif size:
                    is_damaged = True
    # Pillow before 13 copies what each entry points to.
    if total > 2 * len(exif) + 65536:
        raise InvalidPicture("the EXIF data of this picture point to the same bytes again and again.")
    if orientation is None and (found := _XMP_ORIENTATION.search(xmp)):
        orientation = int(found[1])
    return orientation if orientation and orientation <= 8 else 1, "its metadata are damaged" if is_damaged else ""


def _cut_off(name: str) -> InvalidPicture:
    return InvalidPicture(f"this {name} picture is cut off or damaged: its end is missing.")


def _malformed(name: str) -> InvalidPicture:
    return InvalidPicture(f"this {name} picture is damaged: its parts are not those of a {name} picture.")


def _too_many_parts(name: str, max_parts: int, limit: int) -> InvalidPicture | TooManyParts:
    return _malformed(name) if max_parts >= limit else TooManyParts()
