"""Coverage-guided fuzzing of what reads a client's bytes: the body, its caps, its route, its pictures.

python -m tests.fuzz_parsers --seconds 3600        (needs `pip install -e '.[fuzz]'`)

The only exceptions allowed are the errors for clients. Exit code 0: none other was found, and no input took
longer than ten seconds or two gigabytes.
"""

import argparse
import base64
import contextlib
import json
import pathlib
import struct
import sys
import tempfile
import zlib

import atheris

with atheris.instrument_imports():
    from vlserve.config.engine_settings import LimitMmPerPrompt
    from vlserve.config.settings import Image, Request
    from vlserve.errors import VlserveError
    from vlserve.media import picture_checks
    from vlserve.media.pixels import Grid
    from vlserve.protocols import request, routing, structured

from tests.conftest import data_url, image_part, picture, user
from tests.reliability.pictures import hostile

_SERVED = {"text": "t", "vision": "v"}
_LIMIT, _IMAGE, _CAPS = LimitMmPerPrompt(image=4), Image(), Request(max_tokens=100)
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_SMALL, _LONGEST = 100_000, 16_384


def one_input(raw: bytes) -> None:
    """The first byte says what the others are: a body, a picture inside one, or a picture."""
    kind, body = raw[:1], raw[1:]
    with contextlib.suppress(VlserveError):
        if kind >= b"\xc0":
            one_picture(body)
        elif kind >= b"\x80":
            url = "data:image/png;base64," + base64.b64encode(body).decode()
            one_body(json.dumps({"messages": user(image_part(url))}).encode())
        else:
            one_body(body)


def one_body(raw: bytes) -> None:
    parsed = request.parse(raw)
    b"".join(parsed.body("m", cache_salt="s"))
    request.check_caps(parsed, _CAPS)
    structured.check(parsed.tree, parsed.protocol, allow_grammar=True)
    routing.choose(parsed.model, parsed.media, _SERVED)  # type: ignore[arg-type]
    picture_checks.check_count(parsed.media, _LIMIT, "vision")
    for media in parsed.media:
        decode = picture_checks.decode_data_url
        one_picture(media.upload or decode(media.url, media.param, "image", _IMAGE.max_image_bytes)[0])


def one_picture(raw: bytes) -> None:
    """Its header; of a small one also the pixels, which have to be decoded to be made smaller."""
    raw = with_checksums(raw)
    header = picture_checks.read_header(raw, "x", _IMAGE)
    if header.width * header.height < _SMALL:
        picture_checks.prepare(raw, header, "x", header.size, Grid(), max_pixels=1)


def with_checksums(raw: bytes) -> bytes:
    """A PNG's made right: chance would not find them, and would end at the first chunk that it changed."""
    if not raw.startswith(b"\x89PNG\r\n\x1a\n"):
        return raw
    parts, at = [raw[:8]], 8
    while at + 12 <= len(raw):
        end = at + 8 + int.from_bytes(raw[at : at + 4], "big")
        parts += [raw[at:end], struct.pack(">I", zlib.crc32(raw[at + 4 : end]))]
        at = end + 4
    return b"".join([*parts, raw[at:]])


def seeds() -> list[bytes]:
    """Inputs to begin with."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    trees = [
        {"messages": user("hi"), "model": "auto", "stream": True, "stream_options": {"include_usage": True}},
        {
            "messages": user(
                {"type": "text", "text": "é"}, image_part(), {"type": "input_image", "image_url": data_url()}
            )
        },
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}], "n": 3, "stop": ["a"], "seed": -1},
    ]
    pictures = [picture(9, 7, kind=kind) for kind in _FORMATS] + [one.raw for one in hostile()]
    small = [raw for raw in pictures if len(raw) < _LONGEST]
    bodies = [b"\x00" + json.dumps(tree).encode() for tree in trees]
    return bodies + [b"\xff" + raw for raw in small] + [b"\x80" + raw for raw in small[: len(_FORMATS)]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds()):
            (pathlib.Path(folder) / str(number)).write_bytes(seed)
        limits = [f"-max_total_time={options.seconds}", "-timeout=10", "-rss_limit_mb=2048", f"-max_len={_LONGEST}"]
        atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", folder], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
