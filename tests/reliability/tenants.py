"""Row 14: pictures in an engine's cache, with two API keys and a client that sends its own uuids.

Row 18: whether one API key, or none, can observe another's requests.
"""

import asyncio
import hashlib
import pathlib
import random
from typing import Any

import aiohttp

from tests.conftest import data_url, picture, user
from tests.reliability.service import Figure, Service, fakes, serve

_AT_ONCE, _COLORS = 32, 24


async def shared_names(folder: pathlib.Path, count: int) -> list[Figure]:
    """Both keys ask about a few pictures in every order, with an engine that has a small cache; every fourth request
    sends a uuid that all clients use."""
    urls = [data_url(picture(56, 56, f"hsl({15 * number}, 100%, 50%)")) for number in range(_COLORS)]
    chance = random.Random(14)
    waiting = iter(range(count))
    mixed_up, taken, wrong = 0, 0, list[str]()
    keys = {"VLSERVE_TEST_KEYS": "ana: a-key, bo: b-key"}
    async with serve(
        folder, fakes(vision=("forgets",)), keys, ready=("vision",), server={"api_keys_env": "VLSERVE_TEST_KEYS"}
    ) as service:

        async def ask() -> None:
            nonlocal mixed_up, taken
            for number in waiting:
                shown = chance.choices(urls, k=chance.randint(1, 3))
                answer = await _describe(service, shown, chance.choice(("a-key", "b-key")), is_named=number % 4 == 3)
                if number % 4 == 3:
                    taken += answer is not None
                elif answer is None:
                    wrong.append(str(number))
                else:
                    mixed_up += answer != [hashlib.sha256(url.encode()).hexdigest() for url in shown]

        await asyncio.gather(*(ask() for _ in range(_AT_ONCE)))
    return [
        Figure(14, f"pictures mixed up (of {count:,} requests of two keys)", mixed_up, 0),
        Figure(14, "names chosen by a client that were taken", taken, 0),
        Figure(14, "other requests that failed", len(wrong), 0),
    ]


async def _describe(service: Service, urls: list[str], key: str, *, is_named: bool) -> list[str] | None:
    """Return digests of the pictures that the engine saw; None if the request was refused."""
    named: dict[str, Any] = {"uuid": "everyone's"} if is_named else {}
    parts = [{"type": "image_url", "image_url": {"url": url}, **named} for url in urls]
    body = {"messages": user(*parts), "user": "describe"}
    async with service.post(body, headers={"authorization": f"Bearer {key}"}) as answer:
        tree = await answer.json()
        return tree["choices"][0]["message"]["content"].split() if answer.status == 200 else None


_MARKS = ("ana", "ana-model", "ana-file", "ana-request", "ana-scenario", "org/text", "org/vision")


async def secrets_of_others(folder: pathlib.Path) -> list[Figure]:
    """Row 18. Key bo, and a client without a key, request every route before and after requests of key ana. The
    responses must contain nothing of ana's, and must not change."""
    environ = {"KEYS": "ana: a-key, bo: b-key, ops: o-key"}
    server = {"api_keys_env": "KEYS", "keys": {"ops": {"metrics": True}, "ana": {"requests_per_minute": 1000}}}
    found = list[str]()
    async with serve(folder, fakes(), environ, server=server) as service:
        before = {who: await _everything(service, key, "file-none") for who, key in (("bo", "b-key"), ("nobody", None))}
        file_id = await _work(service, "a-key")
        for who, key in (("bo", "b-key"), ("nobody", None)):
            after = await _everything(service, key, file_id)
            for where, answer in after.items():
                marks = _MARKS if who == "nobody" else _MARKS[:-2]
                found += [f"{where} reveals {mark} to {who}" for mark in marks if mark in answer.replace("analy", "")]
                if answer.replace(file_id, "file-none") != before[who][where]:
                    found.append(f"{where} answers {who} differently since ana works")
        figures = (await _everything(service, "o-key", file_id))["GET /metrics"]
    print(*found, sep="\n")
    return [
        Figure(18, "answers that tell one key, or nobody, of another key", len(found), 0),
        Figure(18, "keys that the operator's key does not see", float('key="ana"' not in figures), 0),
    ]


async def _work(service: Service, key: str) -> str:
    """Send requests that change any state; return the id of a file."""
    headers = {"authorization": f"Bearer {key}", "x-request-id": "ana-request"}
    form = aiohttp.FormData({"purpose": "vision"})
    form.add_field("file", picture(), filename="ana-file.png", content_type="image/png")
    async with service.session.post(f"{service.url}/v1/files", data=form, headers=headers) as answer:
        assert answer.status == 200
        file_id: str = (await answer.json())["id"]
    for model, status in (("auto", 200), ("ana-model", 404)):
        body = {"model": model, "messages": user({"type": "image_url", "image_url": {"url": data_url()}})}
        async with service.post(body, headers=headers) as answer:
            assert answer.status == status
    return file_id


async def _everything(service: Service, key: str | None, file_id: str) -> dict[str, str]:
    """Return status, body and headers of each route, without headers that always differ."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    answers = {}
    paths = ["/", "/docs", "/openapi.json", "/health", "/ready", "/ready?engine=all", "/metrics", "/nothing"]
    paths += ["/v1/models", "/v1/models/auto", "/v1/models/other", "/v1/files", "/v1/files?limit=1", "/v1/testgen"]
    paths += [f"/v1/files/{file_id}", f"/v1/files/{file_id}/content", f"/v1/files?after={file_id}"]
    asked: list[tuple[str, str, Any]] = [("GET", path, None) for path in paths]
    asked += [("DELETE", f"/v1/files/{file_id}", None)]
    for part in (
        {"type": "image_file", "image_file": {"file_id": file_id}},
        {"type": "file", "file": {"file_id": file_id}},
    ):
        asked.append(("POST", "/v1/chat/completions", {"messages": user(part)}))
    for method, path, body in asked:
        async with service.session.request(method, service.url + path, json=body, headers=headers) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _VARYING}
            where = f"{method} {path} {body or ''}".replace(file_id, "ID").strip()
            answers[where] = f"{answer.status} {kept} {await answer.text()}"
    return answers


_VARYING = ("date", "x-request-id", "content-length", "last-modified", "etag")
