"""Debian's nginx with the shipped configuration before the gateway; addresses and paths are replaced."""

import asyncio
import io
import json
import os
import pathlib
import re
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from tests.benchmarks.gateways.processes import free_port
from tests.conftest import Gateway, OpenGateway, data_url, picture, until, user
from tests.deploy.files import DEPLOY, program
from vlserve.config.settings import Config

TEXT = (DEPLOY / "nginx" / "vlserve.conf").read_text()
MAIN = """daemon off; user root; pid nginx.pid; error_log stderr; worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
{include}
}}
"""
MIB = 1024**2


@dataclass
class Proxy:
    url: str
    plain_url: str
    session: aiohttp.ClientSession

    def post(self, body: Any, headers: dict[str, str] | None = None) -> Any:
        sent = {"content-type": "application/json"} | (headers or {})
        return self.session.post(
            f"{self.url}/v1/chat/completions", data=io.BytesIO(json.dumps(body).encode()), headers=sent
        )


def _replace(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@asynccontextmanager
async def nginx(folder: pathlib.Path, url: str) -> AsyncIterator[Proxy]:
    """Run nginx before the service at ``url``, with a certificate of its own."""
    certificate = ("-keyout", "privkey.pem", "-out", "fullchain.pem", "-subj", "/CN=localhost")
    names = ("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *certificate, *names]
    await asyncio.to_thread(subprocess.run, command, cwd=folder, check=True, capture_output=True, timeout=60)
    port, plain_port = free_port(), free_port()
    (folder / "vlserve.conf").write_text(
        _replace(
            TEXT,
            ("server vlserve:8000;", f"server {url.removeprefix('http://')};"),
            ("listen 80 default_server;", f"listen 127.0.0.1:{plain_port};"),
            ("listen 443 ssl http2 default_server;", f"listen 127.0.0.1:{port} ssl http2;"),
            ("/etc/nginx/tls/fullchain.pem", "fullchain.pem"),
            ("/etc/nginx/tls/privkey.pem", "privkey.pem"),
        )
    )
    (folder / "nginx.conf").write_text(MAIN.format(include="  include vlserve.conf;"))
    arguments = (program("nginx"), "-p", str(folder), "-c", "nginx.conf", "-e", "stderr")
    process = await asyncio.create_subprocess_exec(*arguments, stderr=asyncio.subprocess.PIPE)
    context = ssl.create_default_context(cafile=str(folder / "fullchain.pem"))
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:
        proxy = Proxy(f"https://localhost:{port}", f"http://127.0.0.1:{plain_port}", session)
        try:
            async with asyncio.timeout(60):
                while not await _answers(proxy):
                    assert process.returncode is None, (await process.communicate())[1].decode()
                    await asyncio.sleep(0.05)
            yield proxy
        finally:
            if process.returncode is None:
                process.terminate()
            await process.communicate()


async def _answers(proxy: Proxy) -> bool:
    try:
        async with proxy.session.get(f"{proxy.url}/health") as answer:
            return bool(answer.status)
    except aiohttp.ClientConnectionError:
        return False


@pytest.fixture
async def proxied(open_gateway: OpenGateway) -> AsyncIterator[Gateway]:
    async with open_gateway(server={"trusted_proxies": ["127.0.0.1"]}) as gateway:
        yield gateway


@pytest.fixture
async def proxy(tmp_path: pathlib.Path, proxied: Gateway) -> AsyncIterator[Proxy]:
    async with nginx(tmp_path, proxied.url) as running:
        yield running


async def test_first_event_of_a_stream_arrives_while_the_engine_generates(proxy: Proxy, proxied: Gateway) -> None:
    async with proxy.post({"messages": user("x"), "user": "drip:20", "stream": True}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert b"one" in await answer.content.readany()
        assert proxied.running("text") == 1


async def test_request_of_a_client_that_leaves_is_cancelled_in_the_engine(proxy: Proxy, proxied: Gateway) -> None:
    async with proxy.post({"messages": user("x"), "user": "drip:60", "stream": True}) as answer:
        await answer.content.readany()
    await until(lambda: proxied.running("text") == 0)
    assert not proxied.seen("text")[-1]["is_finished"]


async def test_picture_of_20_megabytes_reaches_the_engine(proxy: Proxy, proxied: Gateway) -> None:
    raw = picture() + os.urandom(20 * 10**6)  # bytes after the end of a PNG are ignored
    part = {"type": "image_url", "image_url": {"url": data_url(raw)}}
    async with proxy.post({"messages": user(part)}) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["x-vlserve-engine"] == "vision"
    assert len(proxied.seen("vision")[-1]["raw"]) > 26 * 10**6


async def test_host_and_client_address_are_forwarded(proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for origin, status in ((proxy.url, 200), ("https://evil.example", 403)):
        forwarded = {"origin": origin, "x-forwarded-for": "192.0.2.1"}
        async with proxy.post({"messages": user("x")}, headers=forwarded) as answer:
            assert answer.status == status
    clients = [getattr(record, "fields", {}).get("client") for record in caplog.records]
    assert "127.0.0.1" in clients
    assert "192.0.2.1" not in clients  # a client cannot choose its own


async def test_body_over_the_limit_is_a_413_in_the_format_of_the_api(proxy: Proxy) -> None:
    async with proxy.post({"messages": user("x" * (49 * MIB))}) as answer:
        assert answer.status == 413
        assert json.loads(await answer.text())["error"]["code"] == "request_too_large"


async def test_upload_larger_than_other_bodies_is_stored(proxy: Proxy) -> None:
    form = aiohttp.FormData({"purpose": "user_data"})
    form.add_field("file", io.BytesIO(bytes(60 * MIB)), filename="large.bin", content_type="application/octet-stream")
    async with proxy.session.post(f"{proxy.url}/v1/files", data=form) as answer:
        assert (answer.status, (await answer.json())["bytes"]) == (200, 60 * MIB)


async def test_plain_http_is_redirected_and_metrics_are_hidden(proxy: Proxy) -> None:
    async with proxy.session.get(proxy.plain_url, allow_redirects=False) as answer:
        assert answer.status == 308
        assert answer.headers["location"].startswith("https://")
    async with proxy.session.get(f"{proxy.url}/metrics") as answer:
        assert answer.status == 404


async def test_gateway_that_is_down_is_a_503_in_the_format_of_the_api(tmp_path: pathlib.Path) -> None:
    async with nginx(tmp_path, f"http://127.0.0.1:{free_port()}") as proxy, proxy.post({"messages": []}) as answer:
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert (await answer.json())["error"]["code"] == "engine_unavailable"


def test_limits_and_timeouts_match_the_defaults_of_the_settings() -> None:
    config = Config.model_validate({"engines": {"text": {"model": "m"}}})
    server = config.server
    values = re.findall(r"^ *(client_\w+|proxy_read_timeout) (\d+)[ms];", TEXT, re.MULTILINE)
    first = {name: int(number) for name, number in reversed(values)}  # of `location /`
    assert first["client_max_body_size"] * MIB == server.max_body_bytes
    assert first["client_header_timeout"] == server.head_timeout_s
    assert first["client_body_timeout"] == server.body_timeout_s
    assert first["proxy_read_timeout"] > server.request_timeout_s
    files = int(re.findall(r"location /v1/files \{\s+client_max_body_size (\d+)m;", TEXT)[0])
    assert config.files.max_file_bytes < files * MIB
