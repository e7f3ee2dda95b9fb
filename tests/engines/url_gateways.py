"""A gateway whose engines are servers at a URL."""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.conftest import Server, user
from vlserve.config.engine_settings import EngineName
from vlserve.config.keys import ApiKey
from vlserve.config.settings import Config
from vlserve.engines.engine import Engine
from vlserve.gateway import server as http_server
from vlserve.gateway.app import create_app
from vlserve.metrics import Metrics

MINE = {"authorization": "Bearer sk-mine"}
KEYS = tuple(ApiKey(name, hashlib.sha256(f"sk-{name}".encode()).digest()) for name in ("mine", "other"))
CHAT = "/v1/chat/completions"


@dataclass
class Outer:
    """A gateway with remote engines. Two clients' keys, so that local engines would get a cache_salt."""

    url: str
    session: aiohttp.ClientSession
    engines: dict[EngineName, Engine]

    def post(self, body: dict[str, Any], path: str = CHAT, **headers: str) -> Any:
        return self.session.post(self.url + path, json=body, headers=MINE | headers)

    async def answer(self, body: dict[str, Any], path: str = CHAT) -> tuple[int, Any, Any]:
        """Status, headers, JSON."""
        async with self.post(body, path) as answer:
            return answer.status, answer.headers, await answer.json()

    async def events(self, body: dict[str, Any]) -> list[Any]:
        async with self.post({**body, "stream": True}) as answer:
            assert answer.status == 200
            lines = [line.removeprefix("data: ") for line in (await answer.text()).split("\n\n") if line]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]

    async def metrics(self) -> str:
        async with self.session.get(f"{self.url}/metrics", headers=MINE) as answer:
            assert answer.status == 200
            return str(await answer.text())


@asynccontextmanager
async def outer(tree: Mapping[Any, dict[str, Any]], key: str, **settings: Any) -> AsyncIterator[Outer]:
    """``tree``: the engines' settings. ``key``: what those servers want to see."""
    server_settings = {"keys": {"mine": {"metrics": True}}}
    config, metrics = Config.model_validate({"engines": tree, "server": server_settings, **settings}), Metrics()
    engines = {name: Engine(name, engine, None, metrics, key) for name, engine in config.engines.items()}
    app = create_app(config, engines, KEYS, metrics)
    server = Server(http_server.configure(app, config.server.model_copy(update={"port": 0}), metrics))
    for engine in engines.values():
        engine.start()
    try:
        async with server.running() as port, aiohttp.ClientSession() as session:
            yield Outer(f"http://127.0.0.1:{port}", session, engines)
    finally:
        for engine in engines.values():
            await engine.stop()


def chat(*content: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": user(*content), **fields}
