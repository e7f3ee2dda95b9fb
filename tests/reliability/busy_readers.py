"""Row 20: text requests are answered while all threads that read pictures are busy.

The threads wait for the disk: an uploaded picture's file is replaced by a named pipe to which nothing is written.
"""

import asyncio
import contextlib
import os
import pathlib
from typing import Any

import aiohttp

from tests.conftest import picture, until, user
from tests.reliability.service import Figure, Service, fakes, serve

CHAT = "/v1/chat/completions"
READERS = 4
_GIVE_UP_S, _PICTURES_GIVE_UP_S = 60.0, 300.0  # reached only if a request is never answered
_LARGE = "word " * 40_000
TEXT_REQUESTS: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"messages": user("hi")}),
    (CHAT, {"messages": user("hi"), "stream": True}),
    (CHAT, {"messages": user(_LARGE)}),
    ("/v1/completions", {"prompt": "hi"}),
    ("/v1/completions", {"prompt": "hi", "stream": True}),
    ("/v1/responses", {"input": "hi"}),
    ("/v1/responses", {"input": "hi", "stream": True}),
    ("/v1/messages", {"messages": user("hi"), "max_tokens": 9}),
    ("/v1/messages", {"messages": user("hi"), "max_tokens": 9, "stream": True}),
    ("/v1/messages/count_tokens", {"messages": user("hi")}),
    ("/v1/chat/completions/input_tokens", {"messages": user("hi")}),
]
"""Return path and body of text requests: every protocol, with and without streaming, and both token counts."""


async def busy_readers(folder: pathlib.Path, rounds: int) -> list[Figure]:
    """Send every text request ``rounds`` times while all readers are busy."""
    pictures = [picture(color=color) for color in ("red", "green", "blue", "white")]
    async with serve(folder, fakes()) as service:
        files = [await _upload(service, raw) for raw in pictures]
        pipes = [_replace_by_pipe(folder, file) for file in files]
        writers = [os.open(pipe, os.O_RDWR) for pipe in pipes]
        asked = [asyncio.create_task(_ask_about(service, file)) for file in files]
        try:
            await until(lambda: all(_is_reading(service.process.pid, pipe) for pipe in pipes))
            statuses = []
            for _ in range(rounds):
                statuses += await asyncio.gather(*(_status(service, *one) for one in TEXT_REQUESTS))
            still_busy = sum(not task.done() for task in asked)
        finally:
            for writer, raw in zip(writers, pictures, strict=True):
                os.write(writer, raw)
                os.close(writer)
        answered = await asyncio.gather(*asked)
    text = f"text requests not answered while {READERS} picture readers are busy (of {len(statuses):,})"
    return [
        Figure(20, text, sum(status != 200 for status in statuses), 0),
        Figure(20, "picture readers free before the last of those answers", READERS - still_busy, 0),
        Figure(20, "picture requests not answered afterwards", sum(status != 200 for status in answered), 0),
    ]


async def _ask_about(service: Service, file_id: str) -> int:
    part = {"type": "image_file", "image_file": {"file_id": file_id}}
    return await _status(service, CHAT, {"messages": user(part)}, _PICTURES_GIVE_UP_S)


async def _status(service: Service, path: str, body: dict[str, Any], timeout_s: float = _GIVE_UP_S) -> int:
    """Return the status of a complete response; 0 on a timeout."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s), service.session.post(service.url + path, json=body) as answer:
            await answer.read()
            return answer.status
    return 0


async def _upload(service: Service, raw: bytes) -> str:
    form = aiohttp.FormData({"purpose": "vision"})
    form.add_field("file", raw, filename="shot.png", content_type="image/png")
    async with service.session.post(f"{service.url}/v1/files", data=form) as answer:
        return str((await answer.json())["id"])


def _replace_by_pipe(folder: pathlib.Path, file_id: str) -> pathlib.Path:
    """Replace the file of an upload by a named pipe, so that reading it blocks until something is written."""
    [path] = folder.rglob(file_id)
    path.unlink()
    os.mkfifo(path)
    return path


def _is_reading(pid: int, path: pathlib.Path) -> bool:
    """Whether a process has this file open."""
    opened = []
    for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed in the meantime
            opened.append(link.readlink())
    return path in opened
