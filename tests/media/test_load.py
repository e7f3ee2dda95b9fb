"""Pictures from all sources, through the whole gateway with fake engines."""

import asyncio
import base64
import hashlib
import io
import pathlib
import re
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import openai
import pytest
from aiohttp import web
from PIL import Image

from tests.conftest import REPOSITORY, Gateway, OpenGateway, data_url, image_part, picture, until, user
from tests.fakes.fake_engine import ANSWER, FAULTS, PICTURES
from vlserve.config.keys import ApiKey
from vlserve.media.pixels import Grid

LOOPBACK = {"allowed_networks": ["127.0.0.0/8"]}
ANA, BO = (ApiKey(name, hashlib.sha256(name.encode()).digest()) for name in ("ana", "bo"))
RED, BLUE = picture(color="red"), picture(color="blue")
LARGE = RED + b"\0" * 100_000
"""Its base64 is not parsed as text."""


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


async def form(gateway: Gateway, path: str, key: str | None = None, **fields: Any) -> Any:
    """Send a form; bytes become files. Returns status, headers, JSON."""
    data = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, bytes):
                data.add_field(name, io.BytesIO(one), filename="shot.png", content_type="image/png")
            else:
                data.add_field(name, one)
    headers = bearer(key) if key else {}
    async with gateway.session.post(gateway.url + path, data=data, headers=headers) as answer:
        return answer.status, answer.headers, await answer.json()


async def receive(request: Any) -> tuple[int, Any, Any]:
    async with request as answer:
        return answer.status, answer.headers, await answer.json()


async def receive_text(request: Any) -> str:
    async with request as answer:
        text: str = await answer.text()
        return text


def urls(gateway: Gateway) -> list[str]:
    """The last request to the vision engine."""
    parts = [part for message in gateway.seen("vision")[-1]["body"]["messages"] for part in message["content"]]
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url" and part["image_url"]]


@pytest.fixture
async def site() -> AsyncIterator[str]:
    """A web server with /red.png, /blue.png, /page.html, /none."""
    app = web.Application()
    for name, raw in (("red.png", RED), ("blue.png", BLUE), ("page.html", b"<html>")):

        async def serve(request: web.Request, raw: bytes = raw) -> web.Response:
            return web.Response(body=raw, content_type="application/octet-stream")

        app.router.add_get(f"/{name}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server
    yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    await runner.cleanup()


async def test_addresses_are_fetched_and_sent_as_data(open_gateway: OpenGateway, site: str) -> None:
    async with open_gateway(fetch=LOOPBACK) as gateway:
        status, headers, _ = await receive(
            gateway.post({"messages": user(image_part(f"{site}/red.png"), image_part(f"{site}/blue.png"))})
        )
        assert (status, headers["x-vlserve-engine"]) == (200, "vision")
        assert urls(gateway) == [data_url(RED), data_url(BLUE)]


@pytest.mark.parametrize("path", ["page.html", "none"])
async def test_error_for_a_url_without_a_picture_names_its_part(
    open_gateway: OpenGateway, site: str, path: str
) -> None:
    async with open_gateway(fetch=LOOPBACK) as gateway:
        parts = image_part(f"{site}/red.png"), image_part(f"{site}/{path}")
        status, _, tree = await receive(gateway.post({"messages": user(*parts)}))
        assert (status, tree["error"]["param"]) == (400, "messages[0].content[1]")
        assert "127.0.0.1" not in tree["error"]["message"]
        assert not gateway.seen("vision")


async def test_inner_addresses_are_not_fetched(gateway: Gateway, site: str) -> None:
    status, _, tree = await receive(gateway.post({"messages": user(image_part(f"{site}/red.png"))}))
    assert (status, tree["error"]["param"]) == (400, "messages[0].content[0]")


SPELLINGS: dict[str, Callable[[str], dict[str, Any]]] = {
    "image_file": lambda file_id: {"type": "image_file", "image_file": {"file_id": file_id, "detail": "low"}},
    "input_image": lambda file_id: {"type": "input_image", "file_id": file_id, "detail": "auto"},
    "file": lambda file_id: {"type": "file", "file": {"file_id": file_id}},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_uploaded_file_is_a_picture_in_every_spelling(gateway: Gateway, spelling: str) -> None:
    status, _, file = await form(gateway, "/v1/files", file=RED, purpose="vision")
    assert (status, file["object"], file["bytes"], file["filename"]) == (200, "file", len(RED), "shot.png")
    status, headers, _ = await receive(gateway.post({"messages": user(SPELLINGS[spelling](file["id"]))}))
    assert (status, headers["x-vlserve-reason"]) == (200, "has_image")
    assert urls(gateway) == [data_url(RED)]


async def test_file_data_is_a_picture(gateway: Gateway) -> None:
    part = {"type": "file", "file": {"filename": "shot.png", "file_data": data_url(BLUE)}}
    status, _, _ = await receive(gateway.post({"messages": user(part)}))
    assert (status, urls(gateway)) == (200, [data_url(BLUE)])


async def test_files_can_be_listed_fetched_and_deleted(gateway: Gateway) -> None:
    ids = [(await form(gateway, "/v1/files", file=raw, purpose="vision"))[2]["id"] for raw in (RED, BLUE)]
    _, _, listed = await receive(gateway.get("/v1/files", params={"order": "asc", "limit": "1"}))
    assert ([file["id"] for file in listed["data"]], listed["has_more"]) == (ids[:1], True)
    async with gateway.get(f"/v1/files/{ids[0]}/content") as answer:
        assert (await answer.read(), answer.headers["content-disposition"]) == (RED, "attachment")
    url = f"{gateway.url}/v1/files/{ids[0]}"
    assert (await receive(gateway.session.delete(url)))[2] == {"id": ids[0], "object": "file", "deleted": True}
    for request in (gateway.get(f"/v1/files/{ids[0]}"), gateway.session.delete(url)):
        status, _, tree = await receive(request)
        assert (status, tree["error"]["code"]) == (404, "file_not_found")


async def test_files_belong_to_their_key(open_gateway: OpenGateway) -> None:
    async with open_gateway(keys=(ANA, BO)) as gateway:
        _, _, file = await form(gateway, "/v1/files", key="ana", file=RED, purpose="vision")
        part = SPELLINGS["file"](file["id"])
        for request in (
            gateway.get(f"/v1/files/{file['id']}", headers=bearer("bo")),
            gateway.get(f"/v1/files/{file['id']}/content", headers=bearer("bo")),
            gateway.session.delete(f"{gateway.url}/v1/files/{file['id']}", headers=bearer("bo")),
            gateway.post({"messages": user(part)}, headers=bearer("bo")),
        ):
            assert (await receive(request))[0] == 404
        assert (await receive(gateway.get("/v1/files", headers=bearer("bo"))))[2]["data"] == []
        assert (await receive(gateway.get("/v1/files")))[0] == 401
        assert (await receive(gateway.post({"messages": user(part)}, headers=bearer("ana"))))[0] == 200


async def test_file_that_is_too_large_is_refused(open_gateway: OpenGateway) -> None:
    async with open_gateway(files={"max_file_bytes": 1000}) as gateway:
        status, _, tree = await form(gateway, "/v1/files", file=b"x" * 1001, purpose="user_data")
        assert status == 413
        assert "files.max_file_bytes" in tree["error"]["message"]


async def test_file_for_vision_must_be_a_picture(gateway: Gateway) -> None:
    status, _, tree = await form(gateway, "/v1/files", file=b"%PDF-1.7", purpose="vision")
    assert (status, tree["error"]["code"]) == (400, "invalid_image")
    assert (await form(gateway, "/v1/files", file=b"%PDF-1.7", purpose="user_data"))[0] == 200


async def test_form_with_pictures_is_answered_as_a_chat(gateway: Gateway) -> None:
    asked: dict[str, Any] = {
        "image": [RED, BLUE],
        "prompt": "What is wrong here?",
        "max_tokens": "5",
        "temperature": "0.5",
    }
    status, headers, tree = await form(gateway, "/v1/analyze", **asked)
    assert (status, tree["object"], headers["x-vlserve-engine"]) == (200, "chat.completion", "vision")
    assert urls(gateway) == [data_url(RED), data_url(BLUE)]
    body = gateway.seen("vision")[-1]["body"]
    assert body["messages"][0]["content"][-1] == {"type": "text", "text": "What is wrong here?"}
    assert (body["max_tokens"], body["temperature"]) == (5, 0.5)


async def test_form_can_be_answered_as_a_stream(gateway: Gateway) -> None:
    data = aiohttp.FormData({"prompt": "x", "stream": "true"})
    data.add_field("image", RED, filename="x.png")
    async with gateway.session.post(f"{gateway.url}/v1/analyze", data=data) as answer:
        assert answer.content_type == "text/event-stream"
        assert (await answer.text()).endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("name", ["max_tokens[]", "expires_after"])
async def test_form_fields_are_not_ignored(gateway: Gateway, name: str) -> None:
    path = "/v1/files" if name == "expires_after" else "/v1/analyze"
    fields: dict[str, Any] = {"file": RED, "purpose": "vision"} if name == "expires_after" else {"image": RED}
    status, _, tree = await form(gateway, path, **fields, **{name: "1"})
    assert (status, tree["error"]["param"]) == (400, name)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": "x"}, "image"),
        ({"image": RED}, "prompt"),
        ({"image": b"GIF? no", "prompt": "x"}, "image[0]"),
        ({"image": [RED, b""], "prompt": "x"}, "image[1]"),
        ({"image": RED, "prompt": "x", "max_tokens": "many"}, "max_tokens"),
        ({"image": RED, "prompt": "x", "stream": "perhaps"}, "stream"),
        ({"image": RED, "prompt": "x", "response_format": "{"}, "response_format"),
        ({"image": RED, "prompt": "x", "response_format": '{"a":' * 900 + "1" + "}" * 900}, "response_format"),
        ({"image": RED, "prompt": "x", "colour": "red"}, "colour"),
    ],
)
async def test_form_that_cannot_be_answered_says_which_field(
    gateway: Gateway, fields: dict[str, Any], param: str
) -> None:
    status, _, tree = await form(gateway, "/v1/analyze", **fields)
    assert (status, tree["error"]["param"]) == (400, param)


def size_of(url: str) -> str:
    width, height = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size
    return f"{width}x{height}"


def page(width: int, height: int) -> str:
    return data_url(picture(width, height, "white"))


@pytest.mark.parametrize(
    ("settings", "detail", "model", "tokens", "is_sent_smaller"),
    [
        ({}, None, "1932x1092", 2691, False),
        ({}, "high", "1932x1092", 2691, False),
        ({}, "low", "672x364", 312, True),
        ({"max_pixels": 1_000_000}, "auto", "1316x728", 1222, True),
    ],
)
async def test_detail_and_budget_decide_the_size(
    open_gateway: OpenGateway,
    settings: dict[str, int],
    detail: str | None,
    model: str,
    tokens: int,
    is_sent_smaller: bool,
) -> None:
    async with open_gateway(image=settings) as gateway:
        part = {"type": "image_url", "image_url": {"url": page(1920, 1080)} | ({"detail": detail} if detail else {})}
        status, headers, _ = await receive(gateway.post({"messages": user(part)}))
        assert status == 200
        assert headers["x-vlserve-images"] == f"original=1920x1080; model={model}; tokens={tokens}"
        (url,) = urls(gateway)
        assert (url != page(1920, 1080)) == is_sent_smaller
        assert not is_sent_smaller or size_of(url) == model


async def test_prompt_that_pictures_alone_overflow_is_told_with_their_tokens(gateway: Gateway) -> None:
    gateway.views["vision"].max_model_len = 5000
    parts = image_part(page(1920, 1080)), image_part(page(1920, 1080))
    status, _, tree = await receive(gateway.post({"messages": user(*parts)}))
    assert (status, tree["error"]["code"]) == (400, "context_length_exceeded")
    for words in ("5,382 tokens", "messages[0].content[1] 1920×1080: 2,691", "5,000"):
        assert words in tree["error"]["message"]
    assert not gateway.seen("vision")


async def test_error_for_a_prompt_too_long_lists_the_pictures_tokens(gateway: Gateway) -> None:
    status, _, tree = await receive(gateway.post({"messages": user(image_part(page(1920, 1080))), "user": "too-long"}))
    assert (status, tree["error"]["code"]) == (400, "context_length_exceeded")
    assert "the pictures take 2,691 tokens" in tree["error"]["message"]


async def test_pictures_are_made_smaller_until_they_fit(open_gateway: OpenGateway) -> None:
    async with open_gateway(image={"fit": "shrink"}) as gateway:
        gateway.views["vision"].max_model_len = 4000
        body: Any = {
            "messages": user("x", image_part(page(1920, 1080)), image_part(page(300, 200))),
            "max_tokens": 1500,
        }
        body["messages"][0]["content"][0] = {"type": "text", "text": "word " * 100}
        status, headers, _ = await receive(gateway.post(body))
        assert status == 200
        large, small = headers["x-vlserve-images"].split(", ")
        assert small == "original=300x200; model=308x196; tokens=77"
        assert large.startswith("original=1920x1080; model=")
        assert large.endswith("; fit=shrink")
        tokens = int(large.split("tokens=")[1].split(";")[0])
        assert 2000 < tokens < 4000 - 1500 - 77 - 100
        assert size_of(urls(gateway)[0]) in large
        # What fits is left alone; the small one's name is known by now.
        status, headers, _ = await receive(gateway.post({**body, "max_tokens": 1}))
        assert "fit" not in headers["x-vlserve-images"]
        assert urls(gateway) == [page(1920, 1080)]


async def test_pictures_that_cannot_be_made_small_enough_are_told(open_gateway: OpenGateway) -> None:
    async with open_gateway(image={"fit": "shrink"}) as gateway:
        gateway.views["vision"].max_model_len = 1000
        status, _, tree = await receive(gateway.post({"messages": user(image_part(page(800, 600))), "max_tokens": 998}))
        assert (status, tree["error"]["code"]) == (400, "context_length_exceeded")


async def test_latest_pictures_are_kept(open_gateway: OpenGateway) -> None:
    engines = {"vision": {"model": "v", "limit_mm_per_prompt": {"image": 2}}}
    async with open_gateway(engines=engines, image_overflow="keep_latest") as gateway:
        colors = ["red", "green", "blue"]
        turns = [user("look", image_part(data_url(picture(color=color))))[0] for color in colors]
        turns[0]["content"][0] = turns[1]["content"][0] = turns[2]["content"][0] = {"type": "text", "text": "look"}
        status, headers, _ = await receive(gateway.post({"messages": turns}))
        assert (status, headers["x-vlserve-images-dropped"]) == (200, "1")
        assert urls(gateway) == [data_url(picture(color=color)) for color in colors[1:]]
        first = gateway.seen("vision")[-1]["body"]["messages"][0]["content"]
        assert [part["type"] for part in first] == ["text", "text"]
        status, headers, _ = await receive(gateway.post({"messages": turns[:2]}))
        assert "x-vlserve-images-dropped" not in headers


async def test_pictures_left_out_are_not_fetched(open_gateway: OpenGateway, site: str) -> None:
    engines = {"vision": {"model": "v", "limit_mm_per_prompt": {"image": 1}}}
    async with open_gateway(engines=engines, image_overflow="keep_latest", fetch=LOOPBACK) as gateway:
        parts = image_part(f"{site}/none"), image_part(f"{site}/red.png")
        assert (await receive(gateway.post({"messages": user(*parts)})))[0] == 200


async def test_tokens_are_counted_in_advance(gateway: Gateway) -> None:
    body = {"messages": user(image_part(page(1920, 1080)), {"type": "text", "text": "one two three"})}
    url = f"{gateway.url}/v1/chat/completions/input_tokens"
    status, headers, tree = await receive(gateway.session.post(url, json=body))
    assert (status, headers["x-vlserve-engine"], tree["input_tokens_details"]["image_tokens"]) == (200, "vision", 2691)
    (asked,) = gateway.seen("vision")
    assert asked["path"] == "/tokenize"
    assert tree["images"] == [
        {
            "param": "messages[0].content[0]",
            "width": 1920,
            "height": 1080,
            "model_width": 1932,
            "model_height": 1092,
            "tokens": 2691,
        }
    ]
    assert tree["max_model_len"] == gateway.views["vision"].max_model_len


@pytest.mark.parametrize("raw", [RED, LARGE], ids=["small", "large"])
async def test_later_turns_send_only_the_uuids_of_pictures(gateway: Gateway, raw: bytes) -> None:
    parts: list[dict[str, Any]] = []
    for _ in range(3):
        status, _, _ = await receive(gateway.post({"messages": user(image_part(data_url(raw)))}))
        assert status == 200
        parts += gateway.seen("vision")[-1]["body"]["messages"][0]["content"]
    assert [part["image_url"] is None for part in parts] == [False, True, True]
    assert len({part["uuid"] for part in parts}) == 1


@pytest.mark.parametrize("raw", [RED, LARGE], ids=["small", "large"])
async def test_picture_that_the_engine_has_evicted_is_sent_again(gateway: Gateway, raw: bytes) -> None:
    body = {"messages": user(image_part(data_url(raw))), "user": "describe"}
    answers = [await receive(gateway.post(body))]
    gateway.engines["vision"][PICTURES].clear()
    answers.append(await receive(gateway.post(body)))
    assert [answer[0] for answer in answers] == [200, 200]
    assert answers[0][2]["choices"] == answers[1][2]["choices"]
    assert [seen["body"]["messages"][0]["content"][0]["image_url"] is None for seen in gateway.seen("vision")] == [
        False,
        True,
        False,
    ]


async def test_picture_whose_cache_miss_is_reported_in_the_stream_is_sent_again(gateway: Gateway) -> None:
    body = {"messages": user(image_part(data_url(RED))), "stream": True}
    await receive_text(gateway.post(body))
    gateway.engines["vision"][FAULTS].add("drifted")
    text = await receive_text(gateway.post(body))
    assert text.endswith("data: [DONE]\n\n")
    assert "error" not in text
    assert [seen["body"]["messages"][0]["content"][0]["image_url"] is None for seen in gateway.seen("vision")] == [
        False,
        True,
        False,
    ]


async def test_pictures_count_towards_the_memory_limit(open_gateway: OpenGateway) -> None:
    large = picture(56, 56) + b"\0" * 3_000_000
    async with open_gateway(server={"max_bodies_bytes": 8_000_000}) as gateway:
        _, _, file = await form(gateway, "/v1/files", file=large, purpose="vision")
        parts = SPELLINGS["file"](file["id"])
        held = asyncio.ensure_future(gateway.post({"messages": user(parts), "user": "hang"}))
        await until(lambda: gateway.running("vision") == 1)
        assert (await receive(gateway.post({"messages": user(parts)})))[0] == 429
        held.cancel()
        await asyncio.wait([held])
        await until(lambda: gateway.running("vision") == 0)
        assert (await receive(gateway.post({"messages": user(parts)})))[0] == 200


async def test_client_that_leaves_while_its_picture_is_fetched_leaves_nothing(open_gateway: OpenGateway) -> None:
    came, left = asyncio.Event(), asyncio.Event()

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        await reader.read(-1)
        left.set()
        writer.close()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with open_gateway(fetch=LOOPBACK) as gateway:
        body = {"messages": user(image_part(f"http://127.0.0.1:{port}/x.png"))}
        leaving = asyncio.create_task(gateway.session.post(f"{gateway.url}/v1/chat/completions", json=body))
        async with asyncio.timeout(60):
            await came.wait()
            leaving.cancel()
            await left.wait()
    server.close()


async def test_client_that_leaves_during_its_upload_leaves_nothing(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = [
        "POST /v1/files HTTP/1.1",
        "host: localhost",
        "content-type: multipart/form-data; boundary=b",
        "content-length: 9999",
    ]
    writer.write(
        "\r\n".join([*head, "", ""]).encode()
        + b'--b\r\ncontent-disposition: form-data; name="file"; filename="x"\r\n\r\nabc'
    )
    await writer.drain()
    await asyncio.sleep(0.3)
    writer.transport.abort()
    await asyncio.sleep(0.3)
    assert (await receive(gateway.get("/v1/files")))[2]["data"] == []
    assert not [record for record in caplog.records if record.exc_info]


async def test_long_history_of_pictures_is_cut_quickly(open_gateway: OpenGateway) -> None:
    async with open_gateway(image_overflow="keep_latest") as gateway:
        parts = [image_part(data_url(RED))] + [{"type": "image_url", "image_url": "data:"}] * 20_000
        parts += [image_part(data_url(BLUE))] * 4
        async with asyncio.timeout(30):  # a quadratic algorithm would take minutes
            status, headers, _ = await receive(gateway.post({"messages": user(*parts)}))
        assert (status, headers["x-vlserve-images-dropped"]) == (200, "20001")


@pytest.mark.parametrize("raw", [RED, LARGE], ids=["small", "large"])
async def test_spelling_of_a_data_url_does_not_matter(gateway: Gateway, raw: bytes) -> None:
    url = data_url(raw).replace("data:image/png;base64", "DATA:image/whatever;BASE64")
    assert (await receive(gateway.post({"messages": user(image_part(url))})))[0] == 200
    assert urls(gateway) == [data_url(raw)]


async def test_clients_cannot_choose_uuids(gateway: Gateway) -> None:
    for uuid, wanted in (("a", 400), ("", 400), (None, 200)):
        part = {"type": "image_url", "image_url": {"url": data_url(RED)}, "uuid": uuid}
        status, _, tree = await receive(gateway.post({"messages": user(part)}))
        assert (status, tree.get("error", {}).get("param")) == (
            wanted,
            "messages[0].content[0]" if wanted == 400 else None,
        )


async def test_keys_do_not_share_uuids(open_gateway: OpenGateway) -> None:
    async with open_gateway(keys=(ANA, BO)) as gateway:
        for key in ("ana", "bo"):
            body = {"messages": user(image_part(data_url(RED)))}
            assert (await receive(gateway.post(body, headers=bearer(key))))[0] == 200
        first, second = (seen["body"]["messages"][0]["content"][0] for seen in gateway.seen("vision"))
        assert first["uuid"] != second["uuid"]
        assert second["image_url"] is not None


async def test_engines_that_are_not_vllm_get_no_uuids(open_gateway: OpenGateway) -> None:
    async with open_gateway(engines={"vision": {"model": "v", "url": "http://x"}}) as gateway:
        for _ in range(2):
            assert (await receive(gateway.post({"messages": user(image_part(data_url(RED)))})))[0] == 200
        assert "uuid" not in gateway.seen("vision")[-1]["body"]["messages"][0]["content"][0]


async def test_openai_sdk_uploads_asks_and_deletes(gateway: Gateway) -> None:
    client = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none")
    async with client:
        file = await client.files.create(file=("shot.png", RED), purpose="vision")
        part: Any = {"type": "file", "file": {"file_id": file.id}}
        answer = await client.chat.completions.create(model="auto", messages=[{"role": "user", "content": [part]}])
        assert answer.choices[0].message.content
        assert [one.id async for one in client.files.list()] == [file.id]
        assert (await client.files.content(file.id)).content == RED
        assert (await client.files.delete(file.id)).deleted


async def test_error_for_a_refused_method_lists_the_allowed_ones(gateway: Gateway) -> None:
    async with gateway.session.put(f"{gateway.url}/v1/files/file-1") as answer:
        assert (answer.status, answer.headers["allow"]) == (405, "DELETE, GET, HEAD")


@pytest.mark.parametrize(
    ("limits", "size"),
    [
        ({}, "280x280"),
        ({"max_pixels": 20_000}, "140x140"),
        ({"min_pixels": 200_000}, "448x448"),
        ({"resized_height": 140, "resized_width": 280}, "280x140"),
        ({"max_pixels": 10**9}, "280x280"),
        ({"min_pixels": 10**9}, "504x504"),
    ],
)
async def test_sizes_that_clients_ask_for_are_obeyed_within_the_limits(
    open_gateway: OpenGateway, limits: dict[str, int], size: str
) -> None:
    part = {"type": "image_url", "image_url": {"url": data_url(picture(280, 280))}, **limits}
    async with (
        open_gateway(image={"max_pixels": 504 * 504}) as gateway,
        gateway.post({"messages": [{"role": "user", "content": [part]}]}) as answer,
    ):
        assert answer.status == 200
        assert f"model={size}" in answer.headers["x-vlserve-images"]


@pytest.mark.parametrize("raw", [RED, LARGE], ids=["small", "large"])
async def test_base64_that_engines_would_not_read_is_sent_in_standard_form(gateway: Gateway, raw: bytes) -> None:
    lines = base64.encodebytes(raw).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image;base64,{lines}"}}
    async with gateway.post({"messages": [{"role": "user", "content": [part]}]}) as answer:
        assert answer.status == 200
    assert urls(gateway) == [data_url(raw)]


async def test_python_in_the_documentation_prints_boxes_of_the_original(
    gateway: Gateway, tmp_path: pathlib.Path
) -> None:
    """The examples of docs/pictures.md, one after the other, as one program."""
    text = (REPOSITORY / "docs" / "pictures.md").read_text()
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    code = code.replace("http://localhost:8000", gateway.url)
    (tmp_path / "shot.png").write_bytes(picture(560, 280))
    gateway.engines["vision"][ANSWER][0] = 'Here:\n```json\n[{"bbox_2d": [28, 14, 56, 28], "label": "Sign in"}]\n```'
    gateway.views["vision"].grid = Grid(max_pixels=280 * 140)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    label, *box = output.decode().splitlines()[-1].rsplit(" ", 4)
    assert label == "Sign in"
    header = re.compile(r"original=560x280; model=(\d+)x(\d+);")
    body = {"messages": user(image_part(data_url(picture(560, 280))))}
    async with gateway.post(body) as answer:
        found = header.match(answer.headers["x-vlserve-images"])
    assert found
    wide, high = 560 / int(found[1]), 280 / int(found[2])
    assert wide > 1.5
    assert [float(value) for value in box] == pytest.approx([28 * wide, 14 * high, 56 * wide, 28 * high])
