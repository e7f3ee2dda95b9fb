"""Uploads: requests without files while the disk of uploaded files does not respond."""

import asyncio
import os
import pathlib
import sys
import traceback

import aiohttp

from tests.conftest import Gateway, image_part, picture, until, user

THREADS = 4
"""Of the file store."""


async def upload(gateway: Gateway) -> str:
    form = aiohttp.FormData({"purpose": "vision"})
    form.add_field("file", picture(), filename="shot.png", content_type="image/png")
    async with gateway.session.post(f"{gateway.url}/v1/files", data=form) as answer:
        return str((await answer.json())["id"])


async def download(gateway: Gateway, file_id: str) -> int:
    async with gateway.get(f"/v1/files/{file_id}/content") as answer:
        await answer.read()
        return int(answer.status)


def threads_in(function: str) -> int:
    """How many threads of this process are in a call of a function."""
    stacks = [traceback.extract_stack(frame) for frame in sys._current_frames().values()]
    return sum(any(frame.name == function for frame in stack) for stack in stacks)


async def test_disk_that_does_not_respond_blocks_no_request_without_files(
    gateway: Gateway, short_folder: pathlib.Path
) -> None:
    path, pipe = short_folder / "files" / "contents" / (file_id := await upload(gateway)), short_folder / "pipe"
    raw = path.read_bytes()
    path.unlink()
    os.mkfifo(pipe)  # opening it blocks until somebody writes
    path.symlink_to(pipe)
    downloads = [asyncio.create_task(download(gateway, file_id)) for _ in range(THREADS + 2)]
    await until(lambda: threads_in("open_content") == THREADS)
    try:
        async with asyncio.timeout(60):
            for content in ("hi", image_part()):
                async with gateway.post({"messages": user(content)}) as answer:
                    assert answer.status == 200
            for other in ("/health", "/metrics", "/v1/models"):
                async with gateway.get(other) as answer:
                    assert answer.status == 200
        assert not any(task.done() for task in downloads)
    finally:
        path.unlink()
        path.write_bytes(raw)
        os.close(os.open(pipe, os.O_RDWR))
    results = await asyncio.gather(*downloads, return_exceptions=True)
    assert results.count(200) == 2  # of the downloads that waited for a thread
