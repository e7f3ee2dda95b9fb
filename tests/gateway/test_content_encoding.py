"""Compressed request bodies: gzip and deflate, within the limits of uncompressed ones."""

import asyncio
import gzip
import hashlib
import json
import random
import zlib
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from tests.conftest import Gateway, OpenGateway, data_url, image_part, picture, user
from tests.gateway.test_origins import send
from vlserve.config.keys import ApiKey
from vlserve.errors import InvalidRequest
from vlserve.gateway import content_encoding

BODY = json.dumps({"messages": user("compressed")}).encode()
MANY = BODY + b" " * 3_000_000


def raw_deflate(data: bytes) -> bytes:
    """Deflate without zlib's header, which some clients send."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


ENCODINGS = [("gzip", gzip.compress), ("X-GZip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw_deflate)]


async def inflate(encoding: str, *pieces: bytes) -> tuple[list[bytes], int]:
    """The decompressed pieces, and how many of them a thread made."""
    in_thread = 0

    async def source() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def run(read: Callable[[], bytes]) -> bytes:
        nonlocal in_thread
        in_thread += 1
        return await asyncio.to_thread(read)

    return [piece async for piece in content_encoding.decompress(source(), encoding, run)], in_thread


@pytest.mark.parametrize(("encoding", "compress"), ENCODINGS)
async def test_compressed_bodies_reach_the_engine_uncompressed(
    gateway: Gateway, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    async with gateway.post(compress(BODY), headers={"content-encoding": encoding}) as answer:
        assert answer.status == 200
    (seen,) = gateway.seen("text")
    assert seen["raw"] == BODY
    assert "content-encoding" not in seen["headers"]


async def test_large_picture_in_gzip_arrives_whole(gateway: Gateway) -> None:
    url = data_url(picture(10, 10) + random.Random(1).randbytes(2_000_000))
    body = gzip.compress(json.dumps({"messages": user(image_part(url))}).encode(), 1)
    async with gateway.post(body, headers={"content-encoding": "gzip"}) as answer:
        assert answer.status == 200
    assert gateway.seen("vision")[0]["body"]["messages"][0]["content"][0]["image_url"] == {"url": url}


async def test_compressed_forms_and_files_are_read(gateway: Gateway) -> None:
    for path, fields, name in (
        ("/v1/analyze", {"prompt": "What is this?"}, "image"),
        ("/v1/files", {"purpose": "vision"}, "file"),
    ):
        form = aiohttp.FormData(fields)
        form.add_field(name, picture(), filename="shot.png", content_type="image/png")
        payload = form()
        body = gzip.compress(await payload.as_bytes())
        headers = {"content-type": payload.headers["content-type"], "content-encoding": "gzip"}
        async with gateway.post(body, path, headers=headers) as answer:
            assert answer.status == 200, await answer.text()


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress", "\xff"])
async def test_other_encodings_are_a_415_that_names_those_accepted(open_gateway: OpenGateway, encoding: str) -> None:
    """Also with API keys, where other content types are accepted."""
    key = ApiKey("ci", hashlib.sha256(b"sk-secret").digest())
    for keys in ((), (key,)):
        async with open_gateway(keys=keys) as gateway:
            headers = {"content-encoding": encoding, "authorization": "Bearer sk-secret"}
            async with gateway.post(BODY, headers=headers) as answer:
                error = (await answer.json())["error"]
                assert (answer.status, error["code"]) == (415, "unsupported_content_encoding")
                assert answer.headers["accept-encoding"] == "gzip, deflate"
            assert "gzip, deflate" in error["message"]
            assert gateway.seen("text") == []


async def test_repeated_header_is_one_list(gateway: Gateway) -> None:
    headers = [("host", "localhost"), ("content-encoding", "gzip"), ("content-encoding", "br")]
    status, tree = await send(gateway, "/v1/chat/completions", headers, "POST", gzip.compress(BODY))
    assert (status, tree["error"]["code"]) == (415, "unsupported_content_encoding")


async def test_identity_is_no_encoding(gateway: Gateway) -> None:
    for encoding in ("identity", ""):
        async with gateway.post(BODY, headers={"content-encoding": encoding}) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(("encoding", "compress"), ENCODINGS)
async def test_decompressed_bodies_have_the_same_limit(
    open_gateway: OpenGateway, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    async with open_gateway(server={"max_body_bytes": len(MANY)}) as gateway:
        for body, status in ((MANY, 200), (MANY + b" ", 413), (MANY + b" " * 30_000_000, 413)):
            async with gateway.post(compress(body), headers={"content-encoding": encoding}) as answer:
                assert answer.status == status, len(body)
                if status == 413:
                    assert "server.max_body_bytes" in (await answer.json())["error"]["message"]
        assert len(gateway.seen("text")) == 1


async def test_decompressed_bytes_count_as_memory_of_the_request(open_gateway: OpenGateway) -> None:
    async with open_gateway(server={"max_bodies_bytes": 1_000_000}) as gateway:
        async with gateway.post(gzip.compress(MANY), headers={"content-encoding": "gzip"}) as answer:
            assert answer.status == 429
        async with gateway.post(gzip.compress(BODY), headers={"content-encoding": "gzip"}) as answer:
            assert answer.status == 200


DAMAGED = {
    "one byte": b"x",
    "begin of a header": b"\x1f\x8b",
    "not compressed": BODY,
    "without its last byte": gzip.compress(BODY)[:-1],
    "cut off": gzip.compress(BODY)[:20],
    "a byte more": gzip.compress(BODY) + b"x",
    "twice": gzip.compress(BODY) * 2,
    "wrong checksum": gzip.compress(BODY)[:-8] + bytes(8),
}


@pytest.mark.parametrize("body", DAMAGED.values(), ids=DAMAGED)
async def test_damaged_incomplete_and_further_data_are_a_400(gateway: Gateway, body: bytes) -> None:
    async with gateway.post(body, headers={"content-encoding": "gzip"}) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, "invalid_content_encoding")
    assert gateway.seen("text") == []


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), *ENCODINGS[2:]])
@pytest.mark.parametrize("size", [0, 1, 1000, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 3_000_000])
async def test_any_cut_gives_the_same_bytes_in_bounded_pieces(
    encoding: str, compress: Callable[[bytes], bytes], size: int
) -> None:
    for data in (bytes(size), random.Random(size).randbytes(size)):
        packed = compress(data)
        for step in (1 if len(packed) < 5000 else 4099, 65536, len(packed)):
            pieces, _ = await inflate(encoding, *(packed[at : at + step] for at in range(0, len(packed), step)))
            assert b"".join(pieces) == data
            assert max(map(len, pieces), default=0) <= 256 * 1024


async def test_large_bodies_and_those_that_grow_are_decompressed_in_threads() -> None:
    assert (await inflate("gzip", gzip.compress(BODY)))[1] == 0
    noise = random.Random(1).randbytes(100_000)
    assert (await inflate("gzip", gzip.compress(noise)))[1] > 0
    bomb = gzip.compress(bytes(8_000_000))
    assert len(bomb) < 8192
    pieces, in_thread = await inflate("gzip", bomb)
    assert len(pieces) - in_thread <= 1


async def test_damage_is_found_at_any_byte() -> None:
    packed = gzip.compress(BODY)
    for at in range(len(packed)):
        damaged = packed[:at] + bytes([packed[at] ^ 0x40]) + packed[at + 1 :]
        try:
            pieces, _ = await inflate("gzip", damaged)
        except InvalidRequest:
            continue
        assert b"".join(pieces) == BODY, at  # a time or an operating system in gzip's header
