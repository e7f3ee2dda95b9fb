"""Requests with an Upgrade header (Java's HttpClient, browsers' WebSockets) are answered over HTTP/1.1."""

import asyncio
import json
from typing import Any

import pytest

from tests.conftest import Gateway, data_url, image_part, picture, user

HEADERS = (
    *("host: localhost", "content-type: application/json", "connection: Upgrade, HTTP2-Settings", "upgrade: h2c"),
    "http2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
)


def head(*more: str, line: str = "POST /v1/chat/completions HTTP/1.1") -> bytes:
    return "\r\n".join([line, *HEADERS, *more, "", ""]).encode()


async def connect(gateway: Gateway) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = gateway.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, Any]:
    """Status and JSON of an answer with a Content-Length."""
    async with asyncio.timeout(60):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        (length,) = [int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")]
        return int(lines[0].split()[1]), json.loads(await reader.readexactly(length))


def body_of(size: int) -> bytes:
    """A chat request of at least ``size`` bytes."""
    return json.dumps({"messages": user("x" * size)}).encode()


@pytest.mark.parametrize("pieces", [1, 2, 50], ids=["at-once", "head-first", "small-pieces"])
@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
async def test_body_of_a_request_that_asks_for_h2c_is_kept(gateway: Gateway, pieces: int, is_chunked: bool) -> None:
    """Twice on one connection, as a client does that keeps it open."""
    body = body_of(2000)
    if is_chunked:
        start, rest = head("transfer-encoding: chunked"), b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    else:
        start, rest = head(f"content-length: {len(body)}"), body
    whole = start + rest
    step = len(whole) // pieces + 1
    cut = [start, rest] if pieces == 2 else [whole[at : at + step] for at in range(0, len(whole), step)]
    reader, writer = await connect(gateway)
    for _ in range(2):
        for piece in cut:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        status, tree = await read_answer(reader)
        assert (status, tree["choices"][0]["message"]["content"]) == (200, "one two three")
    writer.close()
    assert [seen["raw"] for seen in gateway.seen("text")] == [body] * 2


async def test_large_picture_of_such_a_request_arrives_whole(gateway: Gateway) -> None:
    url = data_url(picture(10, 10) + b"\0" * 2_000_000)
    body = json.dumps({"messages": user(image_part(url))}).encode()
    reader, writer = await connect(gateway)
    writer.write(head(f"content-length: {len(body)}") + body)
    assert (await read_answer(reader))[0] == 200
    writer.close()
    assert gateway.seen("vision")[0]["body"]["messages"][0]["content"][0]["image_url"] == {"url": url}


async def test_requests_without_a_body_and_websockets_get_an_ordinary_answer(gateway: Gateway) -> None:
    reader, writer = await connect(gateway)
    websocket = ("GET /v1/models HTTP/1.1", "host: localhost", "connection: Upgrade", "upgrade: websocket", "", "")
    for request in (head(line="GET /v1/models HTTP/1.1"), "\r\n".join(websocket).encode()):
        writer.write(request)
        status, tree = await read_answer(reader)
        assert (status, tree["object"]) == (200, "list")
    writer.close()


async def test_connect_and_ambiguous_lengths_stay_refused(gateway: Gateway) -> None:
    ambiguous = head("content-length: 4", "transfer-encoding: chunked") + b"0\r\n\r\n"
    for request in (b"CONNECT localhost:80 HTTP/1.1\r\nhost: localhost\r\n\r\nx", ambiguous):
        reader, writer = await connect(gateway)
        writer.write(request)
        async with asyncio.timeout(60):
            assert b" 400 " in await reader.readline() or not await reader.read()
        writer.close()
    assert gateway.seen("text") == []


async def test_head_with_an_upgrade_has_the_same_limit(gateway: Gateway) -> None:
    reader, writer = await connect(gateway)
    writer.write(head("x-long: " + "x" * 100_000)[:-4])
    async with asyncio.timeout(60):
        assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")
    writer.close()
