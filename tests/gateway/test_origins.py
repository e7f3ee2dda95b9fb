"""Requests from web pages to a service without API keys: checks of Origin, Host and Content-Type."""

import asyncio
import hashlib
import json
import logging
import re
import shutil
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import async_playwright, expect

from tests.conftest import Gateway, OpenGateway, picture, user
from vlserve.config.keys import ApiKey
from vlserve.config.settings import Server

KEY = ApiKey("ci", hashlib.sha256(b"sk-secret").digest())
BODY = json.dumps({"messages": user("x")}).encode()
CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}


async def send(
    gateway: Gateway,
    target: str,
    headers: list[tuple[str, str]],
    method: str = "GET",
    body: bytes = b"",
    version: str = "1.1",
) -> tuple[int, dict[str, Any]]:
    """Status and JSON of a request whose target and headers are sent as they are."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"{method} {target} HTTP/{version}", *(f"{name}: {value}" for name, value in headers)]
    writer.write("\r\n".join([*lines, "connection: close", f"content-length: {len(body)}", "", ""]).encode() + body)
    head, _, raw = (await asyncio.wait_for(reader.read(), 60)).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), json.loads(raw) if b"application/json" in head else {}


async def post(gateway: Gateway, path: str = CHAT, **headers: str) -> tuple[int, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with gateway.post(BODY, path, headers=named) as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize(
    "origin",
    [
        *("https://evil.example", "http://evil.example:8000", "null", "", "http://127.0.0.1", "http://127.0.0.1:1"),
        *("http://localhost:8000", "chrome-extension://abcdefgh", "file://", "http://127.0.0.1.evil.example"),
        *("http://{host}.evil.example", "http://{host}/", "http://x@{host}", "ftp://{host}", "https://{host}0"),
    ],
)
async def test_page_of_another_origin_does_not_reach_an_engine(gateway: Gateway, origin: str) -> None:
    origin = origin.format(host=gateway.url.removeprefix("http://"))
    for content_type in ("application/json", "text/plain"):
        status, tree = await post(gateway, origin=origin, content_type=content_type)
        assert (status, tree["error"]["code"]) == (403, "origin_not_allowed"), origin
        assert "server.public_origins" in tree["error"]["message"]
        assert "server.cors_origins" in tree["error"]["message"]
    assert gateway.seen("text") == []


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH", "QUERY"])
@pytest.mark.parametrize("path", [CHAT, "/v1/files", "/v1/files/file-1", "/nothing", "/", "/health", "/metrics"])
async def test_every_method_that_changes_something_is_covered_on_every_path(
    gateway: Gateway, method: str, path: str
) -> None:
    foreign = [("host", "127.0.0.1"), ("origin", "https://evil.example")]
    # The HTTP parser rejects unknown methods itself.
    assert (await send(gateway, path, foreign, method))[0] in ((403,) if method != "QUERY" else (400, 403))


async def test_own_page_sdks_and_curl_are_served(gateway: Gateway) -> None:
    host = gateway.url.removeprefix("http://")
    for origin in (gateway.url, gateway.url.upper().replace("HTTP", "http"), f"https://{host}"):
        assert (await post(gateway, origin=origin))[0] == 200
    assert (await post(gateway))[0] == 200
    for named, origin in (
        *(
            ("LOCALHOST:80", "http://localhost"),
            ("localhost", "http://localhost:80"),
            ("localhost.", "http://localhost"),
        ),
        *(("[::1]:443", "https://[::1]"), ("localhost", "https://localhost")),
    ):
        headers = [("host", named), ("origin", origin), *JSON.items()]
        assert (await send(gateway, CHAT, headers, "POST", BODY))[0] == 200, named


async def test_pages_that_the_operator_names_are_served(open_gateway: OpenGateway) -> None:
    """The page behind a proxy that ends TLS and writes another Host; pages and extensions with CORS."""
    server = {
        "public_origins": ["https://VL.example:443"],
        "cors_origins": ["https://app.example", "chrome-extension://abcdefgh"],
    }
    async with open_gateway(server=server) as gateway:
        for origin in ("https://vl.example", "https://app.example", "chrome-extension://abcdefgh"):
            assert (await post(gateway, origin=origin))[0] == 200, origin
        for origin in ("http://vl.example", "https://vl.example:8443", "chrome-extension://other", "null"):
            assert (await post(gateway, origin=origin))[0] == 403, origin
        # An allowed page gets the reason why its request is invalid.
        headers = {"origin": "https://app.example", "content-type": "text/plain"}
        async with gateway.post(BODY, headers=headers) as answer:
            assert (answer.status, answer.headers["access-control-allow-origin"]) == (415, "https://app.example")
    async with open_gateway(server={"cors_origins": ["*"]}) as gateway:
        for origin in ("https://any.example", "null"):
            assert (await post(gateway, origin=origin))[0] == 200


async def test_preflights_are_answered_as_before(open_gateway: OpenGateway) -> None:
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    async with open_gateway(server={"cors_origins": ["https://app.example"]}) as gateway:
        for origin, status in (("https://app.example", 200), ("https://evil.example", 400)):
            headers = {"origin": origin, **wanted}
            async with gateway.session.options(gateway.url + CHAT, headers=headers) as answer:
                assert answer.status == status
                assert ("access-control-allow-origin" in answer.headers) == (status == 200)


@pytest.mark.parametrize(
    "named",
    [
        *("rebound.example", "rebound.example:8000", "localhost.evil.example", "127.0.0.1.nip.io", "xlocalhost", ""),
        *("127.0.0.1@evil.example", "evil.example#127.0.0.1", "0x7f000001.evil", "127.1", "[evil.example]", "::1"),
        *("localhost:80:80", "localhost:port", "local host", "localhost/evil.example", "localhost..", "[::1"),
    ],
)
async def test_rebound_host_name_is_refused(gateway: Gateway, named: str) -> None:
    for method, path in (("GET", "/v1/models"), ("GET", "/metrics"), ("GET", "/ready"), ("GET", "/"), ("POST", CHAT)):
        headers = [("host", named), ("origin", f"http://{named}"), *JSON.items()]
        status, tree = await send(gateway, path, headers, method, BODY if method == "POST" else b"")
        assert (status, tree["error"]["code"]) == (421, "host_not_allowed"), (method, path)
        assert "server.allowed_hosts" in tree["error"]["message"]
    assert (await send(gateway, "/nothing", [("host", named)]))[0] == 421
    assert (await send(gateway, "/health", [("host", named)]))[0] == 200
    assert gateway.seen("text") == []


async def test_hosts_of_this_machine_are_served(open_gateway: OpenGateway) -> None:
    async with open_gateway(server={"allowed_hosts": ["My-Box.lan"]}) as gateway:
        for named in (
            *(
                "127.0.0.1",
                "127.0.0.1:8000",
                "localhost",
                "LocalHost:8000",
                "localhost.",
                "localhost.:80",
                "[::1]:8000",
            ),
            *("192.168.1.7", "[2001:db8::1]", "my-box.lan", "MY-BOX.LAN.:8000"),
        ):
            assert (await send(gateway, "/v1/models", [("host", named)]))[0] == 200, named


async def test_missing_repeated_and_target_hosts(gateway: Gateway) -> None:
    """Browsers always send Host. Each of several is checked, and the target's replaces them (RFC 9112, 3.2.2)."""
    good, bad = ("host", "127.0.0.1"), ("host", "rebound.example")
    assert (await send(gateway, "/v1/models", [], version="1.0"))[0] == 200
    assert (await send(gateway, "/v1/models", [bad], version="1.0"))[0] == 421
    for headers in ([good, bad], [bad, good]):
        assert (await send(gateway, "/v1/models", headers))[0] == 421
    assert (await send(gateway, "http://rebound.example/v1/models", [good]))[0] == 421
    assert (await send(gateway, "http://127.0.0.1:8000/v1/models", [good]))[0] == 200
    unclear = [good, ("host", "localhost"), ("origin", "http://localhost"), *JSON.items()]
    assert (await send(gateway, CHAT, unclear, "POST", BODY))[0] == 403
    doubled = [good, ("origin", gateway.url), ("origin", "https://evil.example"), *JSON.items()]
    assert (await send(gateway, CHAT, doubled, "POST", BODY))[0] == 403


async def test_allowed_hosts_apply_to_a_network_address(open_gateway: OpenGateway) -> None:
    """Otherwise a page could rebind its host name to a service that listens on all addresses."""
    server = {"host": "0.0.0.0", "allow_unauthenticated": True, "allowed_hosts": ["gpu-box.lan"]}
    async with open_gateway(server=server) as gateway:
        for named in ("gpu-box.lan:8000", "localhost", "192.168.1.7:8000"):
            assert (await send(gateway, "/v1/models", [("host", named)]))[0] == 200, named
        headers = [("host", "rebound.example"), ("origin", "http://rebound.example"), *JSON.items()]
        status, tree = await send(gateway, CHAT, headers, "POST", BODY)
        assert (status, tree["error"]["code"]) == (421, "host_not_allowed")
        assert (await send(gateway, "/v1/models", headers[:1]))[0] == 421


async def test_any_host_is_accepted_on_a_network_address(open_gateway: OpenGateway) -> None:
    async with open_gateway(server={"host": "0.0.0.0", "allow_unauthenticated": True}) as gateway:
        assert (await send(gateway, "/v1/models", [("host", "vlserve.default.svc:8000")]))[0] == 200
        headers = [("host", "gpu-box"), ("origin", "http://gpu-box"), *JSON.items()]
        assert (await send(gateway, CHAT, headers, "POST", BODY))[0] == 200
        foreign = [("host", "gpu-box"), ("origin", "http://evil.example"), *JSON.items()]
        assert (await send(gateway, CHAT, foreign, "POST", BODY))[0] == 403


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/responses", "/v1/completions", "/nothing"])
@pytest.mark.parametrize(
    "content_type",
    [
        *("text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "json", "a/jsonx"),
        *("text/plain, a/b+json", "text/plain a/b+json", "+json", "a/+json", "/b+json", "a/b/c+json"),
    ],
)
async def test_content_type_other_than_json_is_a_415(gateway: Gateway, path: str, content_type: str) -> None:
    status, tree = await post(gateway, path, content_type=content_type)
    assert status == 415
    assert "-H 'content-type: application/json'" in tree["error"]["message"]
    if path == "/v1/messages":
        assert set(tree) == {"type", "error", "request_id"}
    else:
        assert tree["error"]["code"] == "unsupported_media_type"
    assert gateway.seen("text") == []


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/vnd.api+json",
        'application/ld+json ; profile="x"',
    ],
)
async def test_json_content_types_and_none_are_accepted(gateway: Gateway, content_type: str | None) -> None:
    headers = [("host", "127.0.0.1"), *([("content-type", content_type)] if content_type is not None else [])]
    assert (await send(gateway, CHAT, headers, "POST", BODY))[0] == 200


async def test_form_for_a_route_without_forms_is_a_415_that_asks_for_json(gateway: Gateway) -> None:
    status, tree = await post(gateway, content_type="Multipart/Form-Data; boundary=x")
    assert status == 415
    assert "It accepts no forms: send JSON" in tree["error"]["message"]
    assert "-d" not in tree["error"]["message"].partition("It accepts")[2]


async def test_form_routes_accept_forms_and_no_plain_text(gateway: Gateway) -> None:
    import aiohttp

    form = aiohttp.FormData()
    form.add_field("purpose", "vision")
    form.add_field("file", picture(), filename="a.png", content_type="image/png")
    async with gateway.session.post(f"{gateway.url}/v1/files", data=form) as answer:
        assert answer.status == 200
    for path in ("/v1/files", "/v1/analyze", "/v1/testgen"):
        status, tree = await post(gateway, path, content_type="text/plain")
        assert (status, "multipart/form-data" in tree["error"]["message"]) == (415, True), path
        assert (await post(gateway, path, origin="https://evil.example"))[0] == 403


async def test_origins_are_not_checked_with_api_keys(open_gateway: OpenGateway) -> None:
    bearer = ("authorization", "Bearer sk-secret")
    async with open_gateway(keys=(KEY,)) as gateway:
        for origin in ("null", "file://", "https://anywhere.example", "chrome-extension://x"):
            headers = [bearer, ("host", "rebound.example"), ("origin", origin), ("content-type", "text/plain")]
            assert (await send(gateway, CHAT, headers, "POST", BODY))[0] == 200, origin


async def test_refused_origins_are_logged_and_counted(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vlserve.request")
    await post(gateway, origin="https://evil.example")
    await post(gateway, content_type="text/plain")
    await send(gateway, "/v1/models", [("host", "rebound.example")])
    fields = [record.__dict__["fields"] for record in caplog.records if record.getMessage() == "refused"]
    assert [(one["status"], one["error"], one["path"]) for one in fields] == [
        (403, "origin_not_allowed", CHAT),
        (415, "unsupported_media_type", CHAT),
        (421, "host_not_allowed", "/v1/models"),
    ]
    async with gateway.get("/metrics") as answer:
        counted = re.findall(r'vlserve_requests_refused_total\{code="(\w+)",status="(\d+)"\} 1.0', await answer.text())
    assert set(counted) == {
        *(("origin_not_allowed", "403"), ("unsupported_media_type", "415"), ("host_not_allowed", "421")),
    }


@pytest.mark.parametrize(
    ("setting", "wrong"),
    [
        *(("cors_origins", one) for one in ("https://a.example/", "a.example", "https://*.a.example", "https://")),
        *(("public_origins", one) for one in ("*", "null", "https://a.example/path", "chrome-extension://x")),
        *(("allowed_hosts", one) for one in ("http://a.example", "a.example:80", "", "*", "a b")),
    ],
)
def test_settings_that_could_never_match_are_refused(setting: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(wrong))):
        Server.model_validate({setting: [wrong]})


@pytest.mark.full
@pytest.mark.browser
async def test_in_a_browser_the_own_page_works_and_another_origin_does_not(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """With the Origin and Host of a real browser; ``rebound.example`` resolves to the service."""
    caplog.set_level(logging.INFO, "vlserve.request")
    port = gateway.url.rpartition(":")[2]
    flags = ["--no-sandbox", f"--host-resolver-rules=MAP rebound.example 127.0.0.1:{port}"]
    async with async_playwright() as playwright, TestServer(web.Application()) as stranger:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        tab = await browser.new_page()
        for url in (gateway.url, f"http://localhost:{port}"):
            await tab.goto(url)
            await tab.get_by_label("Message", exact=True).fill("hi")
            await tab.get_by_label("Message", exact=True).press("Enter")
            await expect(tab.get_by_role("article", name="Answer").last).to_contain_text("one two three")
        assert len(gateway.seen("text")) == 2
        await tab.goto(str(stranger.make_url("/")))
        for kind in ("text/plain", "application/x-www-form-urlencoded", None):
            await tab.evaluate(
                """async ([url, body, type]) => {
                    const data = type ? new Blob([body], { type }) : new Blob([body]);
                    await fetch(url, { method: "POST", mode: "no-cors", body: data }).catch(() => {});
                }""",
                [gateway.url + CHAT, BODY.decode(), kind],
            )
        answer = await tab.goto("http://rebound.example/v1/models")
        assert answer is not None
        assert answer.status == 421
        await browser.close()
    assert len(gateway.seen("text")) == 2
    refused = [record.__dict__["fields"]["error"] for record in caplog.records if record.getMessage() == "refused"]
    assert refused.count("origin_not_allowed") == 3
