"""Pictures from URLs, uploads and forms, through the gateway with fake engines."""

import asyncio
import base64
import io
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import openai
import pytest
from aiohttp import web

from tests.conftest import Gateway, OpenGateway, data_url, image_part, picture, until, user
from tests.gateway.metrics import REQUEST_BYTES, until_metric
from tests.media.media_requests import ANA, BLUE, BO, LARGE, RED, bearer, receive, urls
from tests.reliability.pictures import chunk
from vlserve.media import picture_headers

LOOPBACK = {"allowed_networks": ["127.0.0.0/8"]}


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


async def test_pictures_left_out_are_not_fetched(open_gateway: OpenGateway, site: str) -> None:
    engines = {"vision": {"model": "v", "limit_mm_per_prompt": {"image": 1}}}
    async with open_gateway(engines=engines, image_overflow="keep_latest", fetch=LOOPBACK) as gateway:
        parts = image_part(f"{site}/none"), image_part(f"{site}/red.png")
        assert (await receive(gateway.post({"messages": user(*parts)})))[0] == 200


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
    await until_metric(gateway, REQUEST_BYTES, lambda value: value > 0)
    writer.transport.abort()
    await until_metric(gateway, REQUEST_BYTES, lambda value: value == 0)
    assert (await receive(gateway.get("/v1/files")))[2]["data"] == []
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("raw", [RED, LARGE], ids=["small", "large"])
async def test_spelling_of_a_data_url_does_not_matter(gateway: Gateway, raw: bytes) -> None:
    url = data_url(raw).replace("data:image/png;base64", "DATA:image/whatever;BASE64")
    assert (await receive(gateway.post({"messages": user(image_part(url))})))[0] == 200
    assert urls(gateway) == [data_url(raw)]


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


async def test_base64_that_engines_would_not_read_is_sent_in_standard_form(gateway: Gateway) -> None:
    raw = picture()
    lines = base64.encodebytes(raw).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image;base64,{lines}"}}
    async with gateway.post({"messages": [{"role": "user", "content": [part]}]}) as answer:
        assert answer.status == 200
    assert urls(gateway) == [data_url(raw)]


@pytest.mark.parametrize(("parts", "threads"), [(20, [False]), (3000, [False, True])])
async def test_small_picture_is_read_at_once_or_in_a_thread_if_it_has_many_parts(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, parts: int, threads: list[bool]
) -> None:
    in_thread = []

    def read(raw: bytes, max_parts: int) -> picture_headers.File:
        in_thread.append(threading.current_thread() is not threading.main_thread())
        return reading(raw, max_parts)

    reading = picture_headers.read
    monkeypatch.setattr(picture_headers, "read", read)
    end_of_ihdr = 33
    raw = RED[:end_of_ihdr] + parts * chunk(b"abCd") + RED[end_of_ihdr:]
    status, _, answer = await receive(gateway.post({"messages": user(image_part(data_url(raw)))}))
    assert status == 200, answer
    assert urls(gateway) == [data_url(raw)]
    assert in_thread == threads
