"""Limits of fetching: bytes, deadlines, permits and connections."""

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from tests.conftest import until
from tests.media.fetching import RAW, UNREACHABLE, fetching, refusal
from tests.reliability.addresses import (
    PARAM,
    Handler,
    Site,
    http,
)
from vlserve.errors import TooManyRequests


async def drip_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(http(content_length="1000"))
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def drip_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An endless body."""
    writer.write(http(content_length=""))
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


async def stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def stay_after_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(http(content_length="5"))
    await reader.read()


async def test_a_picture_may_be_as_large_as_the_limit_and_no_larger() -> None:
    until_close = http(b"x" * 1001, content_length="")
    answers: dict[str, bytes | Handler] = {"/1000": http(b"x" * 1000), "/1001": http(b"x" * 1001)}
    answers |= {"/open": until_close, "/flood": flood}
    async with Site(answers).running() as site, fetching(site, max_bytes=1000) as fetcher:
        # Refused by the header alone: the body is never sent.
        site.answers["/claimed"] = http(content_length="1001")
        assert await fetcher.fetch(site.url("/1000"), PARAM) == b"x" * 1000
        for path in ("/1001", "/open", "/flood", "/claimed"):
            message, code = await refusal(fetcher, site.url(path))
            assert "1,000 bytes" in message
            assert "image.max_image_bytes" in message
            assert code == "image_too_large"


@pytest.mark.parametrize(
    ("handler", "deadline"),
    [
        *((handler, {"read_timeout_s": 0.2}) for handler in (stay, stay_after_head)),
        *((handler, {"total_timeout_s": 1}) for handler in (stay, stay_after_head, drip_head, drip_body)),
    ],
)
async def test_slow_sites_are_cut_off(handler: Handler, deadline: dict[str, Any]) -> None:
    long = {"read_timeout_s": 300, "total_timeout_s": 300, **deadline}
    async with Site({"/": handler}).running() as site, fetching(site, **long) as fetcher, asyncio.timeout(60):
        message, code = await refusal(fetcher, site.url())
        assert code == "image_fetch_timeout"
        assert "fetch.total_timeout_s" in message


async def test_hanging_name_servers_delay_nothing_else() -> None:
    released, asked = threading.Event(), list[str]()

    def names(host: str) -> Sequence[str]:
        asked.append(host)
        released.wait(300)
        return []

    async with Site(other=http(RAW)).running() as site, fetching(site, names) as fetcher:
        hanging = [asyncio.create_task(fetcher.fetch("http://slow.example/", PARAM)) for _ in range(60)]
        await until(lambda: bool(asked))
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 60) == 1
        assert await asyncio.wait_for(fetcher.fetch(site.url(), PARAM), 60) == RAW
        released.set()
        refusals = await asyncio.gather(*hanging, return_exceptions=True)
        assert {str(one) for one in refusals} == {UNREACHABLE[0]}


async def test_fetches_at_once_are_limited() -> None:
    running = most = 0
    are_three = asyncio.Event()

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            are_three.set()
        await are_three.wait()
        await asyncio.sleep(0.02)  # so that a fourth would be seen
        running -= 1
        writer.write(http(RAW))

    async with Site({"/": count}).running() as site, fetching(site, max_in_flight=3) as fetcher:
        assert await asyncio.gather(*(fetcher.fetch(site.url(), PARAM) for _ in range(10))) == [RAW] * 10
        assert most == 3


async def test_the_wait_for_a_permit_ends_and_permits_are_released() -> None:
    async with Site({"/": stay, "/a": http(RAW)}).running() as site:
        async with fetching(site, max_in_flight=1, queue_timeout_s=0.2, total_timeout_s=60) as fetcher:
            staying = asyncio.create_task(fetcher.fetch(site.url(), PARAM))
            await until(lambda: site.connections == 1)
            with pytest.raises(TooManyRequests, match=r"fetch\.max_in_flight.*queue_timeout_s"):
                await fetcher.fetch(site.url("/a"), PARAM)
            assert site.connections == 1
            staying.cancel()
            await asyncio.wait((staying,))
            assert await fetcher.fetch(site.url("/a"), PARAM) == RAW
        async with fetching(
            site, max_in_flight=1, queue_timeout_s=300, read_timeout_s=300, total_timeout_s=300
        ) as fetcher:
            before = site.connections
            leaving = asyncio.create_task(fetcher.fetch(site.url(), PARAM))
            await until(lambda: site.connections == before + 1)
            waiting = asyncio.create_task(fetcher.fetch(site.url("/a"), PARAM))
            leaving.cancel()
            assert await asyncio.wait_for(waiting, 60) == RAW


@pytest.mark.parametrize("head", [b"", http(content_length="1000") + b"x"])
async def test_cancelling_closes_the_connection(head: bytes) -> None:
    closed = asyncio.Event()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        closed.set()

    async with Site({"/": watch}).running() as site, fetching(site) as fetcher:
        task = asyncio.create_task(fetcher.fetch(site.url(), PARAM))
        await until(lambda: len(site.heads) == 1)
        await asyncio.sleep(0.05)
        assert not closed.is_set()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), 60)


async def test_no_connection_is_kept() -> None:
    closed = asyncio.Event()

    async def keep_alive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http(RAW, connection="keep-alive"))
        await reader.read()
        closed.set()

    async with Site({"/": keep_alive}).running() as site, fetching(site) as fetcher:
        assert await fetcher.fetch(site.url(), PARAM) == RAW
        await asyncio.wait_for(closed.wait(), 60)
