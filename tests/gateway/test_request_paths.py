"""Paths as clients write them: slashes, wrong prefixes, HEAD; a byte order mark before a body."""

import hashlib
import io
import json

import pytest

from tests.conftest import Gateway, OpenGateway, picture, user
from tests.gateway.test_origins import send
from vlserve.config.keys import ApiKey
from vlserve.gateway import request_paths

BODY = json.dumps({"messages": user("x")}).encode()
CHAT = "/v1/chat/completions"
JSON = ("content-type", "application/json")
LOCAL = ("host", "localhost")


@pytest.mark.parametrize("path", [f"{CHAT}/", f"/{CHAT}", "/v1//chat/completions", "//v1///chat//completions//"])
async def test_double_and_trailing_slashes_are_ignored(gateway: Gateway, path: str) -> None:
    assert (await send(gateway, path, [LOCAL, JSON], "POST", BODY))[0] == 200
    assert len(gateway.seen("text")) == 1


async def test_every_route_of_the_api_accepts_them(gateway: Gateway) -> None:
    for path in ("/v1/models/", "//v1/models", "/v1/models//auto/", "/v1/models/org/text-7b/", "/v1/files/"):
        assert (await send(gateway, path, [LOCAL]))[0] == 200, path
    status, tree = await send(gateway, "//v1/messages/", [LOCAL, JSON], "POST", b"{")
    assert (status, tree["type"]) == (400, "error"), "the error is in Anthropic's format"


@pytest.mark.parametrize("path", [CHAT, f"{CHAT}/", f"/{CHAT}", "/v1//chat/completions", "/%2Fv1/chat%2Fcompletions/"])
async def test_checks_are_those_of_the_plain_path(gateway: Gateway, open_gateway: OpenGateway, path: str) -> None:
    foreign = [LOCAL, JSON, ("origin", "https://evil.example")]
    assert (await send(gateway, path, foreign, "POST", BODY))[0] == 403
    assert (await send(gateway, path, [("host", "rebound.example"), JSON], "POST", BODY))[0] == 421
    assert (await send(gateway, path, [LOCAL, ("content-type", "text/plain")], "POST", BODY))[0] == 415
    multipart = ("content-type", "multipart/form-data; boundary=b")
    assert (await send(gateway, path, [LOCAL, multipart], "POST", BODY))[0] == 415
    assert (await send(gateway, f"{path}/../../../health/", [("host", "rebound.example")]))[0] == 421
    assert (await send(gateway, "//health", [("host", "rebound.example")]))[0] == 421
    assert gateway.seen("text") == []


@pytest.mark.parametrize("path", [f"{CHAT}/", f"/{CHAT}", "//v1/models", "/v1/models/auto/", "/v1//files", "//metrics"])
async def test_the_key_is_needed_on_every_spelling(open_gateway: OpenGateway, path: str) -> None:
    async with open_gateway(keys=(ApiKey("ci", hashlib.sha256(b"sk-secret").digest()),)) as gateway:
        method, body = ("POST", BODY) if "chat" in path else ("GET", b"")
        expected = 404 if path == "//metrics" else 401
        assert (await send(gateway, path, [LOCAL, JSON], method, body))[0] == expected


def test_only_paths_of_the_api_are_changed() -> None:
    unchanged = ("/", "//", "/docs/", "//docs", "/health/", "//metrics", "/v10//x", "/v1", "/x//v1/models/", "")
    assert {path: request_paths.normalize(path) for path in unchanged} == {path: path for path in unchanged}
    assert request_paths.normalize("//v1/") == "/v1"


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", CHAT),
        ("/api/v1/chat/completions", CHAT),
        ("/v1/v1/chat/completions", CHAT),
        ("/v1/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/openai/deployments/gpt-4o/chat/completions", CHAT),
        ("/completions", "/v1/completions"),
        ("/messages", "/v1/messages"),
        ("/api/models/", "/v1/models"),
        ("/models/org/text-7b", "/v1/models/org/text-7b"),
        ("/docs/", "/docs"),
        ("/v1/health", "/health"),
        ("/" + "a/" * 90 + "v1/models", "/v1/models"),
        ("/v1/embeddings", None),
        ("/nothing", None),
        ("//", None),
    ],
)
async def test_unknown_path_is_a_404_that_names_the_right_one(gateway: Gateway, path: str, meant: str | None) -> None:
    for method in ("GET", "POST"):
        status, tree = await send(gateway, path, [LOCAL, JSON], method, b"{}" if method == "POST" else b"")
        message = tree["error"]["message"]
        assert (status, tree["error"]["code"]) == (404, "not_found")
        assert (f"Did you mean {meant}?" in message) == (meant is not None), message
        assert ("Did you mean" in message) == (meant is not None), message
        assert ("GET /docs lists the paths." in message) == (meant is None), message
        assert ("base URL" in message) == (meant is not None and meant.startswith("/v1/")), message


async def test_head_is_answered_as_get_without_a_body(gateway: Gateway) -> None:
    form = {"purpose": "user_data", "file": io.BytesIO(picture())}
    async with gateway.session.post(f"{gateway.url}/v1/files", data=form) as answer:
        file_id = (await answer.json())["id"]
    for path in (
        *("/", "/health", "/ready", "/docs", "/openapi.json", "/docs/start.js", "/metrics", "/v1/models"),
        *("/v1/models/auto", "/v1/testgen", "/v1/files", f"/v1/files/{file_id}", f"/v1/files/{file_id}/content"),
    ):
        async with gateway.get(path) as wanted, gateway.session.head(gateway.url + path) as answer:
            assert (answer.status, await answer.read()) == (200, b""), path
            assert answer.headers["content-type"] == wanted.headers["content-type"]
            if path != "/metrics":
                assert answer.headers["content-length"] == wanted.headers["content-length"]
    async with gateway.session.head(f"{gateway.url}/v1/models/other") as answer:
        assert answer.status == 404
    async with gateway.session.head(f"{gateway.url}{CHAT}") as answer:
        assert (answer.status, answer.headers["allow"]) == (405, "POST")


async def test_head_needs_the_key_too(open_gateway: OpenGateway) -> None:
    async with open_gateway(keys=(ApiKey("ci", hashlib.sha256(b"sk-secret").digest()),)) as gateway:
        for path, status in (("/v1/models", 401), ("/v1/files", 401), ("/metrics", 401), ("/health", 200)):
            async with gateway.session.head(gateway.url + path) as answer:
                assert answer.status == status, path


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/v1/messages"])
async def test_a_byte_order_mark_is_skipped(gateway: Gateway, path: str) -> None:
    chat = path in (CHAT, "/v1/messages")
    body = {"messages": user("x"), "max_tokens": 5} if chat else {"prompt": "x"} if "comp" in path else {"input": "x"}
    raw = json.dumps(body).encode()
    async with gateway.post(b"\xef\xbb\xbf" + raw, path) as answer:
        assert answer.status == 200, await answer.text()
    if path == CHAT:
        assert gateway.seen("text")[0]["raw"] == raw


async def test_only_the_first_byte_order_mark_is_skipped(gateway: Gateway) -> None:
    async with gateway.post(b"\xef\xbb\xbf\xef\xbb\xbf" + BODY) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, "invalid_json")
