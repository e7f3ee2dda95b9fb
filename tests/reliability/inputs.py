"""Rows 9, 13 and 15: invalid bodies, invalid API keys, and secrets that must not be disclosed."""

import asyncio
import base64
import hashlib
import io
import json
import pathlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from tests.conftest import data_url, image_part, picture, user
from tests.reliability.service import MIB, Figure, Service, fakes, serve

CAP = 8 * MIB
KEY = "sk-canary-7f3a91"
_PROMPT, _PIXELS = "prompt-canary-5c2e", b"pixel-canary-8d1b" * 20
OPEN_ROUTES = ["/health", "/ready", "/docs", "/openapi.json"]


def bad_bodies() -> Iterator[tuple[str, bytes, int]]:
    """Yield name, body and expected status."""
    messages = b'"messages":[{"role":"user","content":"x"}]'
    yield "JSON 10,000 lists deep", b'{"messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400
    yield "JSON 10,000 objects deep", b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 400
    yield "a million objects", b'{"messages":[' + b"{}," * 1_000_000 + b"{}]}", 400
    yield "NaN", b'{"temperature":NaN,' + messages + b"}", 400
    yield "Infinity", b'{"top_p":-Infinity,' + messages + b"}", 400
    yield "a number that is no float", b'{"top_p":1e999,' + messages + b"}", 400
    yield "a number of 10,000 digits", b'{"seed":' + b"9" * 10_000 + b"," + messages + b"}", 400
    yield "duplicate keys", b'{"model":"a","model":"auto",' + messages + b"}", 400
    yield "duplicate keys inside", b'{"messages":[{"role":"user","role":"system","content":"x"}]}', 400
    yield "UTF-16", json.dumps({"messages": user("x")}).encode("utf-16"), 400
    yield "not UTF-8", b'{"messages":[{"role":"user","content":"\xff\xfe"}]}', 400
    yield "half of a surrogate pair", b'{"messages":[{"role":"user","content":"\\ud800"}]}', 400
    yield "a zero byte", b'{"messages":[{"role":"user","content":"x"}]}\x00', 400
    yield "nothing", b"", 400
    yield "a list", b"[]", 400
    yield "a string", b'"hello"', 400
    yield "cut off", b'{"messages":[{"role":"user","content":"' + b"x" * (CAP - 100), 400
    for name, wrong in (
        *(("messages", "x"), ("messages", {}), ("messages", [1]), ("messages", [{"role": "user", "content": 1}])),
        *(("messages", [{"role": "user", "content": [{"type": 7}]}]), ("model", 7), ("stream", "yes")),
        *(("stream_options", []), ("messages", [{"role": "user", "content": [{"type": "image_url"}]}])),
        *(("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": []}}]}]),),
    ):
        yield f"{name} = {json.dumps(wrong)[:60]}", json.dumps({"messages": user("x"), name: wrong}).encode(), 400
    yield "over the cap", b" " * (CAP + 1), 413


async def bad_input(folder: pathlib.Path) -> list[Figure]:
    """Row 9. Each invalid body gets its status and the error format, with and without a Content-Length."""
    wrong: list[str] = []
    most_memory = count = 0
    async with serve(folder, fakes(), server={"max_body_bytes": CAP}) as service:
        async with service.ask() as answer:
            await answer.read()
        for name, body, status in bad_bodies():
            for sent in (io.BytesIO(body), _chunked(body)):
                service.reset_peak()
                memory = service.rss()
                count += 1
                headers = {"content-type": "application/json"}
                async with service.session.post(
                    f"{service.url}/v1/chat/completions", data=sent, headers=headers
                ) as answer:
                    tree = json.loads(await answer.read())
                is_envelope = set(tree) == {"error"} and set(tree["error"]) == {"message", "type", "param", "code"}
                if answer.status != status or not is_envelope:
                    wrong.append(f"{name}: {answer.status}")
                if len(body) > CAP:
                    most_memory = max(most_memory, service.peak() - memory)
        async with service.ask() as answer:
            assert answer.status == 200
    print(*wrong, sep="\n")
    return [
        Figure(9, f"bad bodies with another answer than 400 or 413 and the envelope (of {count})", len(wrong), 0),
        Figure(9, "memory that a body over the cap took, in caps", most_memory / CAP, 2, "×"),
    ]


async def _chunked(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 1024**2):
        yield body[start : start + 1024**2]


async def without_key(folder: pathlib.Path) -> list[Figure]:
    """Row 13. Every route with each kind of missing or invalid key, and with forged client headers."""
    keys = {"KEYS": f"ana:{KEY},bo:sk-other"}
    attempts = bypasses = 0
    server = {"api_keys_env": "KEYS", "keys": {"ana": {"metrics": True}}}
    async with serve(folder, fakes(), environ=keys, server=server) as service:
        good = {"authorization": f"Bearer {KEY}"}
        async with service.session.get(f"{service.url}/openapi.json") as answer:
            paths: dict[str, dict[str, Any]] = (await answer.json())["paths"]
        routes = [
            (method.upper(), path.replace("{model}", "auto").replace("{file_id}", "file-1"))
            for path in paths
            for method in paths[path]
        ]
        assert ("POST", "/v1/chat/completions") in routes
        for method, path in routes:
            if path in OPEN_ROUTES:
                continue
            for headers in _wrong_keys():
                for target in (path, f"{path}?", f"{path}?api_key={KEY}", f"{path}?authorization=Bearer {KEY}"):
                    attempts += 1
                    bypasses += await _status(service, method, target, headers) != 401
            assert await _status(service, method, path, good) in (200, 400, 404)
            for odd in (f"/{path}", f"{path}/", path.upper(), f"/health/..{path}", f"/health;{path}", f"/%2e{path}"):
                attempts += 1
                bypasses += await _status(service, method, odd, {}) not in (401, 404, 405)
        for path in OPEN_ROUTES:
            assert await _status(service, "GET", path, {}) == 200
    return [Figure(13, f"ways in without a key (of {attempts} attempts)", bypasses, 0)]


def _wrong_keys() -> Iterator[dict[str, str]]:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    for value in (
        *(None, "Bearer", "Bearer ", "Bearer x", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Bearer {KEY.upper()}"),
        *(f"Basic {base64.b64encode(KEY.encode()).decode()}", KEY, f"Token {KEY}", f"Bearer Bearer {KEY}"),
        *(f"Bearer {digest}", f"Bearer sha256:{digest}", "Bearer ana", f"Bearer ana:{KEY}", f"Bearer {KEY},sk-other"),
    ):
        yield {"authorization": value} if value is not None else {}
    for name in ("x-api-key", "api-key", "cookie", "proxy-authorization", "x-authorization"):
        yield {name: f"Bearer {KEY}"}
    for name in ("host", "x-forwarded-host", "x-forwarded-for", "x-original-url", "x-rewrite-url", "forwarded"):
        for value in ("/health", "localhost", "127.0.0.1/health?", "x/health"):
            yield {name: value}


async def _status(service: Service, method: str, target: str, headers: dict[str, str]) -> int:
    """Return the status of a request whose target is sent unmodified, which client libraries cannot do."""
    host, port = service.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    sent = {"host": "x", "content-type": "application/json", "connection": "close"} | headers
    lines = [f"{method} {target.replace(' ', '%20')} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    body = b"{}" if method == "POST" else b""
    writer.write("\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body)
    line = await reader.readline()
    writer.close()
    return int(line.split()[1])


async def planted_secrets(folder: pathlib.Path) -> list[Figure]:
    """Row 15. A key, a prompt and a picture, no part of which may appear in logs, metrics or errors."""
    raw = picture(40, 40) + _PIXELS
    url = data_url(raw)
    canaries = [KEY, _PROMPT, _PIXELS.decode()[:17], base64.b64encode(_PIXELS[:60]).decode()[4:60], url[40:80]]
    found: list[str] = []
    answers: list[str] = []
    server = {"api_keys_env": "KEYS", "keys": {"ana": {"metrics": True}}}
    async with serve(folder, fakes(), environ={"KEYS": f"ana:{KEY}"}, server=server) as service:
        for body in _leaky_requests(url):
            for key in (KEY, KEY + "x"):
                async with service.session.post(
                    f"{service.url}/v1/chat/completions",
                    data=body,
                    headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
                ) as answer:
                    answers.append(f"{dict(answer.headers)} {await answer.text()}")
        for path in ("/metrics", "/ready", "/v1/models"):
            async with service.session.get(
                f"{service.url}{path}", headers={"authorization": f"Bearer {KEY}"}
            ) as answer:
                assert answer.status == 200
                answers.append(f"{path} {await answer.text()}")
    # After its end, when the engines' lines are in the log, too.
    for place, text in (("log", service.log), ("answers and metrics", "\n".join(answers))):
        found += [f"{canary} in {place}" for canary in canaries if canary in text]
    print(*found, sep="\n")
    return [Figure(15, f"canaries in logs, metrics and errors (of {len(answers)} answers)", len(found), 0)]


def _leaky_requests(url: str) -> Iterator[bytes]:
    part = image_part(url)
    text = {"type": "text", "text": _PROMPT}
    trees: list[dict[str, Any]] = [
        *({"messages": user(text, part), "user": wish} for wish in ("", "fail", "refuse", "garbage", "core-died")),
        *({"messages": user(text, part), "user": wish, "stream": True} for wish in ("", "core-dies", "half-event")),
        {"messages": user(text, part, {"type": _PROMPT[:0] + "odd", "text": _PROMPT})},
        {"messages": user(text, *[part] * 9)},
        {"messages": user(text, image_part(url[:-9] + "!" * 9))},
        {"messages": user(text, image_part("data:image/png;base64," + base64.b64encode(_PIXELS).decode()))},
        {"messages": user(text, image_part("http://127.0.0.1:1/" + _PROMPT))},
        {"messages": user(text), "stream": _PROMPT},
        {"messages": user(text), "model": "gpt-9"},
        {"messages": user(text), "n": 10_000},
        {"messages": [{"role": "user", "content": _PROMPT, "name": _PROMPT}, _PROMPT]},
        {"messages": {"content": _PROMPT}},
    ]
    for tree in trees:
        yield json.dumps(tree).encode()
    yield f'{{"messages": "{_PROMPT}'.encode()
    yield f'{{"messages": [], "messages": "{_PROMPT}"}}'.encode()
