"""Requests that gateways are measured with: a short text, a stream of 64 chunks, pictures of three sizes."""

import base64
import io
import json
import os
import pathlib
from dataclasses import dataclass
from typing import Any

from PIL import Image

# Side of a square of random pixels, whose PNG is as large as the case's name says in base64.
_SIDES = {"200 KB": 223, "1.3 MB": 570, "8.5 MB": 1457}


@dataclass(frozen=True)
class Case:
    """One body for /v1/chat/completions."""

    name: str
    body: bytes
    is_stream: bool = False

    def write_script(self, folder: pathlib.Path, headers: dict[str, str]) -> pathlib.Path:
        """A script for wrk that posts the body."""
        stem = self.name.replace(" ", "_").replace(".", "_")
        body = folder / f"{stem}.json"
        body.write_bytes(self.body)
        lines = [
            'wrk.method = "POST"',
            *(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()),
            f'local file = io.open("{body}", "rb")',
            'wrk.body = file:read("*a")',
            "file:close()",
        ]
        script = folder / f"{stem}.lua"
        script.write_text("\n".join(lines) + "\n")
        return script


def make_cases(names: tuple[str, ...] = ()) -> list[Case]:
    """All cases, or those that are named."""
    cases = [
        Case("small", _body("Say hello in one short sentence, please.")),
        Case("stream", _body("Say hello in one short sentence, please.", stream=True), is_stream=True),
    ]
    cases += [Case(name, _picture(side)) for name, side in _SIDES.items() if not names or name in names]
    return [case for case in cases if not names or case.name in names]


def _body(content: Any, **more: Any) -> bytes:
    return json.dumps({"model": "mock", "messages": [{"role": "user", "content": content}], **more}).encode()


def _picture(side: int) -> bytes:
    file = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(file, "PNG", compress_level=1)
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return _body([{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}])
