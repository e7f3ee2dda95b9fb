"""Row 10: hostile and broken pictures. Each is refused quickly, with little memory, before it reaches an engine."""

import base64
import io
import json
import pathlib
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, PngImagePlugin

from tests.conftest import data_url, image_part, picture, user
from tests.reliability.service import MIB, Figure, fakes, serve


@dataclass(frozen=True)
class Hostile:
    """A picture to send. ``may_enter``: it can be decoded nevertheless, so both 200 and 400 are correct."""

    name: str
    raw: bytes
    type: str = "image/png"
    url: str = ""
    may_enter: bool = False

    @property
    def sent(self) -> str:
        return self.url or f"data:{self.type};base64,{base64.b64encode(self.raw).decode()}"


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *extra: bytes, bits: int = 8, color: int = 2, data: bytes | None = None) -> bytes:
    """Return a PNG file with extra chunks before its pixels, which are black unless ``data`` is given."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
    values = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(color, 1)
    if data is None:
        data = bytes(height * (1 + -(-width * values * bits // 8)))
    pixels = chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + pixels + chunk(b"IEND")


def segment(marker: int, data: bytes) -> bytes:
    """Return a segment of a JPEG file."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


def jpeg(*segments: bytes, width: int = 56, height: int = 56) -> bytes:
    """Return a JPEG file with extra segments at its beginning."""
    raw = picture(width, height, kind="JPEG")
    return raw[:2] + b"".join(segments) + raw[2:]


def exif(*entries: tuple[int, int, int, int], order: str = ">", head: bytes | None = None, rest: bytes = b"") -> bytes:
    """Return EXIF data with entries (tag, type, number, value or offset)."""
    first = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(f"{order}I", 8) if head is None else head
    packed = b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries)
    return b"Exif\0\0" + first + struct.pack(f"{order}H", len(entries)) + packed + struct.pack(">I", 0) + rest


def orientation(value: int) -> tuple[int, int, int, int]:
    """Return the EXIF entry (big-endian) for the orientation."""
    return 0x0112, 3, 1, value << 16


def riff(*parts: tuple[bytes, bytes]) -> bytes:
    """Return a WebP file with these chunks."""
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in parts
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def vp8l(width: int, height: int) -> bytes:
    """Return the header of a lossless WebP picture, without its pixels."""
    return b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes(20)


def gif(width: int, height: int, frame: tuple[int, int, int, int], blocks: bytes) -> bytes:
    """Return a GIF file with one frame (x, y, width, height) and the data ``blocks``."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return screen + b"," + struct.pack("<HHHHB", *frame, 0) + b"\x02" + blocks + b";"


def frames(kind: str) -> bytes:
    """Return an animated picture."""
    file = io.BytesIO()
    pictures = [Image.new("RGB", (40, 40), color) for color in ("red", "green", "blue")]
    pictures[0].save(file, kind, save_all=True, append_images=pictures[1:])
    return file.getvalue()


def saved(kind: str) -> bytes:
    """Return a valid picture of an unsupported format."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, kind)
    return file.getvalue()


def hostile() -> Iterator[Hostile]:
    """Yield all pictures, each small enough for one request."""
    yield from _too_large()
    yield from _bombs()
    yield from _other_formats()
    yield from _broken()
    yield from _disguised()
    yield from _lying()


def _too_large() -> Iterator[Hostile]:
    yield Hostile("PNG that says 30,000×30,000", png(30_000, 30_000, data=b""))
    yield Hostile("PNG that says 2^31-1 each way", png(2**31 - 1, 2**31 - 1, data=b""))
    yield Hostile("PNG of 60,000×1,000, small and whole", png(60_000, 1_000, bits=1, color=0))
    yield Hostile("JPEG that says 65,500×65,500", jpeg().replace(b"\0\x38\0\x38", b"\xff\xdc\xff\xdc"), "image/jpeg")
    yield Hostile("WebP that says 16,384×16,384", riff((b"VP8L", vp8l(16384, 16384))), "image/webp")
    yield Hostile("GIF with a screen of 65,535×65,535", gif(65535, 65535, (0, 0, 1, 1), b"\x02\x4c\x01\0"), "image/gif")
    yield Hostile("GIF with a frame beyond its screen", gif(8, 8, (65000, 65000, 1, 1), b"\x02\x4c\x01\0"), "image/gif")
    yield Hostile("PNG 300 times as wide as high", png(3000, 10))


def _bombs() -> Iterator[Hostile]:
    zeros = zlib.compress(bytes(50 * MIB), 9)
    yield Hostile("PNG of 20,000×20,000, 50 KB", png(20_000, 20_000, bits=1, color=0, data=bytes(50 * MIB)))
    yield Hostile("PNG with 40 zTXt of 50 MB each", png(8, 8, *[chunk(b"zTXt", b"a\0\0" + zeros)] * 40))
    yield Hostile("PNG with 40 iTXt of 50 MB each", png(8, 8, *[chunk(b"iTXt", b"a\0\1\0\0\0" + zeros)] * 40))
    yield Hostile("PNG with 40 iCCP of 50 MB each", png(8, 8, *[chunk(b"iCCP", b"a\0\0" + zeros)] * 40))
    yield Hostile("PNG with 100,000 chunks", png(8, 8, chunk(b"teXt") * 100_000))
    yield Hostile("JPEG with 100,000 segments", jpeg(segment(0xFE, b"") * 100_000), "image/jpeg")
    scan = b"\xff\xda\0\x08\1\1\0\0\x3f\0"
    whole = picture(kind="JPEG")
    yield Hostile("JPEG with 10,000 scans", whole[:-2] + scan * 10_000 + whole[-2:], "image/jpeg")
    tiny = gif(64, 64, (0, 0, 64, 64), b"\1a" * 1_000_000 + b"\0")
    yield Hostile("GIF in blocks of one byte", tiny, "image/gif")
    comment = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0) + b"!\xfe" + b"\1a" * 500_000 + b"\0;"
    yield Hostile("GIF with a comment of 500,000 blocks", comment, "image/gif")
    everything = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 5000)
    overlapping = everything + b"".join(struct.pack(">HHII", 1000 + n, 7, 60_000, 0) for n in range(5000))
    yield Hostile("EXIF whose 5,000 entries are all of it", jpeg(segment(0xE1, overlapping)), "image/jpeg")
    yield Hostile("EXIF that begins 100,000 times", png(8, 8, chunk(b"eXIf", b"Exif\0\0" * 100_000)))
    yield Hostile(
        "MPF whose 5,000 entries are all of it", jpeg(segment(0xE2, b"MPF\0" + overlapping[6:])), "image/jpeg"
    )


def _other_formats() -> Iterator[Hostile]:
    for kind in ("TIFF", "BMP", "ICO", "PCX", "EPS", "PPM", "TGA", "JPEG2000", "PDF"):
        yield Hostile(kind, saved(kind), f"image/{kind.lower()}")
    yield Hostile("TIFF that claims to be JPEG", saved("TIFF"), "image/jpeg")
    fits = b"".join(
        line.ljust(80) for line in (b"SIMPLE  =                    T", b"BITPIX  =                    8", b"END")
    )
    yield Hostile("FITS", fits.ljust(2880), "image/fits")
    yield Hostile("MSP", b"DanM" + struct.pack("<HH", 64, 64) + bytes(600), "image/msp")
    yield Hostile("PSD", b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 64, 64, 8, 3) + bytes(100), "image/psd")
    yield Hostile("HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), "image/heic")
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    yield Hostile("SVG", svg, "image/svg+xml")
    yield Hostile("SVG that claims to be PNG", svg)
    yield Hostile("APNG", frames("PNG"), may_enter=True)
    yield Hostile("animated WebP", frames("WEBP"), "image/webp", may_enter=True)
    yield Hostile("animation of one frame in WebP", riff((b"VP8X", b"\2\0\0\0\x07\0\0\x07\0\0"), (b"VP8L", vp8l(8, 8))))


def _broken() -> Iterator[Hostile]:
    for kind in ("PNG", "JPEG", "WEBP", "GIF"):
        whole = picture(200, 200, kind=kind)
        for name, cut in (("after 10 bytes", whole[:10]), ("in the middle", whole[: len(whole) // 2])):
            yield Hostile(f"{kind} cut off {name}", cut, f"image/{kind.lower()}")
        yield Hostile(f"{kind} without its last 5 bytes", whole[:-5], f"image/{kind.lower()}")
    yield Hostile("nothing", b"")
    yield Hostile("text", b"This is no picture. " * 100)
    yield Hostile("a zero byte", b"\0")
    yield Hostile("zeros", bytes(10_000))
    yield Hostile("PNG of no width", png(0, 10, data=b""))
    yield Hostile("PNG of negative size", png(2**32 - 10, 2**32 - 10, data=b""))
    yield Hostile("JPEG of no height", jpeg().replace(b"\0\x38\0\x38", b"\0\0\0\x38"), "image/jpeg")
    yield Hostile("GIF frame of no width", gif(0, 0, (0, 0, 0, 0), b"\x02\x4c\x01\0"), "image/gif")
    yield Hostile("PNG with a wrong checksum", picture()[:29] + b"\0\0\0\0" + picture()[33:])
    yield Hostile("PNG with a chunk of 2^32-1 bytes", png(8, 8, b"\xff\xff\xff\xfftEXt"))
    yield Hostile("PNG without pixels", png(8, 8)[:33] + chunk(b"IEND"))
    yield Hostile("PNG with two heads", png(8, 8, chunk(b"IHDR", struct.pack(">IIBBBBB", 9999, 9999, 8, 2, 0, 0, 0))))
    yield Hostile("PNG of 7 bits", png(8, 8, bits=7))
    yield Hostile("PNG without its palette", png(8, 8, color=3))
    yield Hostile("JPEG of 12 bits", jpeg().replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), "image/jpeg")
    frame = jpeg()[jpeg().index(b"\xff\xc0") :][:19]
    yield Hostile("JPEG with two sizes", jpeg(frame), "image/jpeg")
    yield Hostile("WebP whose picture is not its canvas", riff((b"VP8X", bytes(10)), (b"VP8L", vp8l(99, 99))))
    yield Hostile("random bytes after a PNG's head", picture()[:8] + bytes(range(256)) * 8)


def _disguised() -> Iterator[Hostile]:
    page = b"<html><script>alert(1)</script></html>"
    yield Hostile("HTML after a GIF's magic", b"GIF89a/*" + page + b"*/")
    yield Hostile("JPEG after a PNG's magic", b"\x89PNG\r\n\x1a\n" + picture(kind="JPEG"))
    yield Hostile("PNG after a JPEG's magic", b"\xff\xd8\xff" + picture())
    yield Hostile("ZIP that ends in a PNG", b"PK\3\4" + bytes(60) + picture())
    yield Hostile("RIFF that is a sound", b"RIFF\x24\0\0\0WAVEfmt " + bytes(32), "image/webp")
    yield Hostile("base64 rubbish", b"", url="data:image/png;base64,@@@@not*base64@@@@")
    yield Hostile("base64 cut in the middle", b"", url=data_url()[:-3])
    yield Hostile("no base64", b"", url="data:image/png,AAAA")
    yield Hostile("HTML by its own type", b"", url="data:text/html;base64," + base64.b64encode(page).decode())
    yield Hostile("a file of the server", b"", url="file:///etc/passwd")
    yield Hostile("PNG with a ZIP behind it", picture() + b"PK\3\4" + bytes(5000), may_enter=True)
    yield Hostile("JPEG with a page behind it", picture(kind="JPEG") + page, "image/jpeg", may_enter=True)


def _lying() -> Iterator[Hostile]:
    """Yield valid pictures with false EXIF data."""
    lies = {
        "orientation 99": exif(orientation(99)),
        "orientation 0": exif(orientation(0)),
        "the orientation twice": exif(orientation(6), orientation(3)),
        "an orientation far away": exif((0x0112, 3, 2**30, 2**31)),
        "entries beyond the end": exif((0x010E, 2, 2**32 - 1, 2**32 - 1), orientation(6)),
        "65,535 entries of which there are none": b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        "a directory beyond the end": b"Exif\0\0MM\0*\xff\xff\xff\xff",
        "a directory that is its own head": b"Exif\0\0II*\0\0\0\0\0",
        "an unknown type": exif((0x0112, 99, 1, 6)),
        "other dimensions": exif((0x0100, 4, 1, 99_999), (0x0101, 4, 1, 99_999), orientation(1)),
        "nothing": b"Exif\0\0",
        "rubbish": b"Exif\0\0" + bytes(range(256)),
        "a whole picture": b"Exif\0\0" + picture(kind="JPEG"),
    }
    for name, data in lies.items():
        yield Hostile(f"EXIF with {name}, JPEG", jpeg(segment(0xE1, data)), "image/jpeg", may_enter=True)
        yield Hostile(f"EXIF with {name}, PNG", png(56, 56, chunk(b"eXIf", data[6:])), may_enter=True)
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n  -1\nzz")
    file = io.BytesIO()
    Image.new("RGB", (56, 56)).save(file, "PNG", pnginfo=text)
    yield Hostile("EXIF in text that is no EXIF, PNG", file.getvalue(), may_enter=True)


async def hostile_pictures(folder: pathlib.Path) -> list[Figure]:
    """Row 10. Sent one by one to the running service; the limits of time and memory also apply to accepted pictures."""
    wrong: list[str] = []
    slowest, most_memory = (0.0, ""), 0
    corpus = list(hostile())
    async with serve(folder, fakes()) as service:
        async with service.ask(vision=True) as answer:
            assert answer.status == 200
        for one in corpus:
            body = json.dumps({"messages": user("what is it?", image_part(one.sent))}).encode()
            service.reset_peak()
            memory, started = service.rss(), time.perf_counter()
            headers = {"content-type": "application/json"}
            async with service.session.post(
                f"{service.url}/v1/chat/completions", data=io.BytesIO(body), headers=headers
            ) as answer:
                tree = json.loads(await answer.read())
            took_s = time.perf_counter() - started
            is_refused = 400 <= answer.status < 500 and set(tree) == {"error"}
            if not is_refused and not (one.may_enter and answer.status == 200):
                wrong.append(f"{one.name}: {answer.status}")
            slowest = max(slowest, (took_s, one.name))
            most_memory = max(most_memory, service.peak() - memory)
        async with service.ask(vision=True) as answer:
            assert answer.status == 200
    print(*wrong, f"the slowest: {slowest[1]}", sep="\n")
    refused = sum(not one.may_enter for one in corpus)
    return [
        Figure(10, f"hostile pictures that got in (of {refused}; {len(corpus) - refused} more may)", len(wrong), 0),
        Figure(10, "hostile pictures, slowest answer", 1000 * slowest[0], 200, "ms"),
        Figure(10, "memory that hostile pictures took", most_memory / MIB, 64, "MiB"),
    ]
