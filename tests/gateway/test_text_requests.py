"""Text requests: no work for pictures is done for them, and slow work for others does not delay them."""

import asyncio
import io
import os
import threading
from typing import Any

import pytest
from PIL import Image

from tests.conftest import Gateway, data_url, image_part, until, user
from tests.fakes.fake_engine import ANSWER
from tests.reliability.busy_readers import TEXT_REQUESTS
from vlserve.gateway import handler
from vlserve.media import picture_checks
from vlserve.media.load import Pictures
from vlserve.protocols import request

_GIVE_UP_S = 60.0
_THREADS = 4


async def statuses(gateway: Gateway) -> list[int]:
    """Of one request of each kind; they are sent at once."""

    async def status(path: str, body: dict[str, Any]) -> int:
        async with gateway.post(body, path) as answer:
            await answer.read()
            return int(answer.status)

    async with asyncio.timeout(_GIVE_UP_S):
        return await asyncio.gather(*(status(*one) for one in TEXT_REQUESTS))


async def test_text_requests_call_no_picture_code(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    for name in ("load", "prepare"):
        monkeypatch.setattr(Pictures, name, lambda *_, name=name: called.append(name))
    assert await statuses(gateway) == [200] * len(TEXT_REQUESTS)
    assert called == []


async def test_text_is_answered_while_all_readers_and_decoders_are_busy(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, busy = threading.Event(), list[str]()

    def block(name: str, work: Any) -> Any:
        def blocked(*given: Any) -> Any:
            busy.append(name)
            free.wait()
            return work(*given)

        return blocked

    async def ask(url: str) -> int:
        async with gateway.post({"messages": user(image_part(url))}) as answer:
            return int(answer.status)

    file = io.BytesIO()
    Image.new("I;16", (56, 56), 30_000).save(file, "PNG")
    deep = data_url(file.getvalue())  # 16 bits per pixel, so it is decoded
    file = io.BytesIO()
    Image.frombytes("RGB", (300, 300), os.urandom(300 * 300 * 3)).save(file, "PNG")
    large = data_url(file.getvalue())  # headers of small pictures are read without a thread
    monkeypatch.setattr(picture_checks, "prepare", block("prepare", picture_checks.prepare))
    asked = [asyncio.create_task(ask(deep)) for _ in range(_THREADS)]
    try:
        await until(lambda: len(busy) == _THREADS, _GIVE_UP_S)
        monkeypatch.setattr(picture_checks, "read_header", block("read", picture_checks.read_header))
        asked += [asyncio.create_task(ask(large)) for _ in range(_THREADS)]
        await until(lambda: busy.count("read") == _THREADS, _GIVE_UP_S)
        assert await statuses(gateway) == [200] * len(TEXT_REQUESTS)
        assert not any(task.done() for task in asked)
    finally:
        free.set()
        await asyncio.wait(asked)
    assert [task.result() for task in asked] == [200] * len(asked)


async def test_large_text_large_answers_and_metrics_do_not_need_the_threads_of_slow_disks(gateway: Gateway) -> None:
    """All of asyncio's default threads are busy, as with file and name server access."""
    gateway.engines["text"][ANSWER][0] = "word " * 40_000
    free, loop = threading.Event(), asyncio.get_running_loop()
    blocked = [loop.run_in_executor(None, free.wait) for _ in range((os.cpu_count() or 1) + 40)]
    try:
        assert await statuses(gateway) == [200] * len(TEXT_REQUESTS)
        async with asyncio.timeout(_GIVE_UP_S), gateway.get("/metrics") as answer:
            assert answer.status == 200
    finally:
        free.set()
        await asyncio.wait(blocked)


@pytest.mark.parametrize(
    ("content", "is_in_thread"),
    [
        (image_part(data_url(os.urandom(300_000))), False),
        (image_part(data_url(os.urandom(600_000))), True),
        ({"type": "text", "text": "word " * 20_000}, True),
        ({"type": "text", "text": data_url(os.urandom(600_000))}, True),
        ({"type": "text", "text": "word"}, False),
    ],
    ids=["picture", "large picture", "text", "picture as text", "small text"],
)
async def test_large_bodies_are_parsed_in_threads(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, content: Any, is_in_thread: bool
) -> None:
    threads: list[threading.Thread] = []

    def parse(*arguments: Any) -> Any:
        threads.append(threading.current_thread())
        return request.parse(*arguments)

    monkeypatch.setattr(handler, "parse", parse)
    async with gateway.post({"messages": user(content)}) as answer:
        await answer.read()
    assert [one is not threading.main_thread() for one in threads] == [is_in_thread]
