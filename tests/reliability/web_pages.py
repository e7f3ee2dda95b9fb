"""Row 17: requests that a hostile web page can send to a service without API keys, on every route."""

import asyncio
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from tests.conftest import user
from tests.reliability.service import Figure, Service, fakes, serve

_BODY = json.dumps({"messages": user("x"), "input": "x", "prompt": "x", "max_tokens": 5}).encode()
_JSON, _FORM_PATHS = "application/json", ("/v1/analyze", "/v1/files", "/v1/testgen")
_SAFE = ("GET", "HEAD", "OPTIONS")
_ORIGINS = (
    "https://evil.example",
    "null",
    "http://127.0.0.1",
    "http://localhost:1",
    "chrome-extension://abc",
    "file://",
)
_REBOUND = (
    "rebound.example",
    "rebound.example:{port}",
    "127.0.0.1.nip.io",
    "localhost.evil.example",
    "x.localhost:{port}",
)
_SIMPLE_TYPES = ("text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded")
Headers = dict[str, str]


async def hostile_pages(folder: pathlib.Path) -> list[Figure]:
    """Send each kind of a page's request to each route, documented or not; then requests of legitimate clients, which
    must not be refused."""
    past, wrong = list[str](), list[str]()
    attempts = 0
    async with serve(folder, fakes()) as service:
        port = service.url.rpartition(":")[2]
        before = await _counted(service)
        for method, path in await _routes(service):
            for headers, status in _attempts(method, path, port):
                attempts += 1
                found = await _status(service, method, path, headers)
                if found != status:
                    past.append(f"{method} {path} {headers}: {found}")
        if before != await _counted(service):
            past.append("an engine was asked")
        for name, method, path, headers, status in _welcome(port):
            found = await _status(service, method, path, headers)
            if found != status:
                wrong.append(f"{name}: {found}")
    async with serve(folder, fakes(), server={"public_origins": ["https://vl.example"]}) as service:
        proxied = {"host": "127.0.0.1:8000", "origin": "https://vl.example", "content-type": _JSON}
        if (found := await _status(service, "POST", "/v1/chat/completions", proxied)) != 200:
            wrong.append(f"the page behind a proxy that is named: {found}")
    print(*past, *wrong, sep="\n")
    return [
        Figure(17, f"requests of web pages that came in without a key (of {attempts:,} on every route)", len(past), 0),
        Figure(17, "SDKs, curl, probes, proxies and the own page that did not", len(wrong), 0),
    ]


async def _routes(service: Service) -> list[tuple[str, str]]:
    async with service.session.get(f"{service.url}/openapi.json") as answer:
        paths: dict[str, dict[str, Any]] = (await answer.json())["paths"]
    known = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    assert ("POST", "/v1/chat/completions") in known
    more = [(method, path) for path in ("/", "/docs", "/nothing", "/v1/", "//v1/models") for method in ("GET", "POST")]
    more += [("PUT", "/v1/files/a"), ("PATCH", "/v1/models"), ("OPTIONS", "/v1/models"), ("HEAD", "/v1/models")]
    return [(method, path.replace("{model}", "auto").replace("{file_id}", "a")) for method, path in known + more]


def _attempts(method: str, path: str, port: str) -> Iterator[tuple[Headers, int]]:
    """Yield headers and the expected status."""
    own, is_safe = f"127.0.0.1:{port}", method in _SAFE
    if path != "/health":
        for host in _REBOUND:
            named = host.format(port=port)
            yield {"host": named}, 421
            yield {"host": named, "origin": f"http://{named}", "content-type": _JSON}, 421
    if is_safe:
        return
    for origin in _ORIGINS:
        yield {"host": own, "origin": origin}, 403
        for kind in (_JSON, *_SIMPLE_TYPES, "multipart/form-data; boundary=b"):
            yield {"host": own, "origin": origin, "content-type": kind}, 403
    if method == "POST":
        for kind in _SIMPLE_TYPES:
            yield {"host": own, "content-type": kind}, 415
            yield {"host": own, "origin": f"http://{own}", "content-type": kind}, 415
        if path not in _FORM_PATHS:
            yield {"host": own, "content-type": "multipart/form-data; boundary=b"}, 415


def _welcome(port: str) -> Iterator[tuple[str, str, str, Headers, int]]:
    """Yield client, method, path, headers and expected status."""
    chat, own = "/v1/chat/completions", f"127.0.0.1:{port}"
    typed = {"content-type": _JSON}
    for host in (own, f"localhost:{port}", f"[::1]:{port}", "localhost", "LOCALHOST.", "192.168.1.7"):
        yield f"an SDK that asks {host}", "POST", chat, {"host": host, **typed}, 200
        yield f"the page at {host}", "POST", chat, {"host": host, "origin": f"http://{host}".lower(), **typed}, 200
        yield f"the page's models at {host}", "GET", "/v1/models", {"host": host}, 200
    yield "the page behind TLS", "POST", chat, {"host": "10.0.0.1", "origin": "https://10.0.0.1", **typed}, 200
    yield "curl without a type", "POST", chat, {"host": own}, 200
    yield "JSON with parameters", "POST", chat, {"host": own, "content-type": "application/json; charset=utf-8"}, 200
    yield "Anthropic's SDK", "POST", "/v1/messages", {"host": own, "anthropic-version": "2023-06-01", **typed}, 200
    yield "deleting a file", "DELETE", "/v1/files/a", {"host": own, "content-type": "application/octet-stream"}, 404
    for host in ("vlserve.default.svc", own, "10.2.3.4:8000"):
        yield f"a probe that calls it {host}", "GET", "/health", {"host": host}, 200
    yield "a browser that goes to the page", "GET", "/", {"host": own, "sec-fetch-site": "cross-site"}, 200
    yield "Prometheus", "GET", "/metrics", {"host": own}, 200


async def _counted(service: Service) -> list[str]:
    """Return the gateway's count of requests that reached an engine."""
    async with service.session.get(f"{service.url}/metrics") as answer:
        return [line for line in (await answer.text()).splitlines() if line.startswith("vlserve_requests_total")]


async def _status(service: Service, method: str, path: str, headers: Headers) -> int:
    """Return the status of a request with exactly these headers."""
    host, port = service.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = _BODY if method == "POST" else b""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    lines += ["connection: close", f"content-length: {len(body)}", "", ""]
    writer.write("\r\n".join(lines).encode() + body)
    line = await asyncio.wait_for(reader.readline(), 60)
    writer.close()
    return int(line.split()[1])
