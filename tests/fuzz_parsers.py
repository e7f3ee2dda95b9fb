"""Coverage-guided fuzzing of what reads a client's bytes: the body, its caps, its route, the headers of its pictures.

python -m tests.fuzz_parsers --seconds 3600        (needs `pip install -e '.[fuzz]'`)

The only exceptions allowed are the errors that a client is told. Exit code 0: none other was found, and no input took
longer than ten seconds or two gigabytes.
"""

import argparse
import base64
import contextlib
import json
import pathlib
import sys
import tempfile

import atheris

with atheris.instrument_imports():
    from vlserve import images, requests, routing, structured
    from vlserve.config import Image, LimitMmPerPrompt, Request
    from vlserve.errors import VlserveError

from tests.conftest import data_url, image_part, picture, user

_SERVED = {"text": "t", "vision": "v"}
_LIMIT, _IMAGE, _CAPS = LimitMmPerPrompt(image=4), Image(), Request(max_tokens=100)
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")


def one_input(raw: bytes) -> None:
    """The first byte says what the others are: a body, or a picture inside one."""
    body = raw[1:]
    if raw[:1] >= b"\x80":
        url = "data:image/png;base64," + base64.b64encode(body).decode()
        body = json.dumps({"messages": user(image_part(url))}).encode()
    with contextlib.suppress(VlserveError):
        parsed = requests.parse_chat(body)
        b"".join(parsed.body("m", cache_salt="s"))
        requests.check_caps(parsed.tree, _CAPS)
        structured.check(parsed.tree, allow_grammar=True)
        routing.choose(parsed.model, parsed.media, _SERVED)  # type: ignore[arg-type]
        images.check_count(parsed.media, _LIMIT, "vision")
        for media in parsed.media:
            images.check_one(media, _IMAGE)


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
    pictures = [picture(9, 7, kind=kind) for kind in _FORMATS]
    return [b"\x00" + json.dumps(tree).encode() for tree in trees] + [b"\xff" + raw for raw in pictures]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds()):
            (pathlib.Path(folder) / str(number)).write_bytes(seed)
        limits = [f"-max_total_time={options.seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=16384"]
        atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", folder], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
