"""A real Prometheus with the shipped configuration, watching the service with fake engines under load."""

import asyncio
import contextlib
import itertools
import math
import pathlib
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import yaml

from tests.conftest import REPOSITORY, data_url, picture, user
from tests.deploy.files import RULES, program, read
from tests.reliability.service import Service, fakes, serve

CLIENTS = {"ana": "key-of-ana", "bo": "key-of-bo"}
METRICS_KEY = "key-of-prometheus"


@dataclass
class Prometheus:
    """A running Prometheus."""

    url: str
    session: aiohttp.ClientSession

    async def query(self, expr: str) -> list[dict[str, Any]]:
        """Return the samples of an expression now."""
        return await self._get("query", query=expr)

    async def query_range(self, expr: str, start: float, end: float, step: float = 1.0) -> list[dict[str, Any]]:
        """Return the series of an expression. Times are Unix times in seconds."""
        return await self._get("query_range", query=expr, start=start, end=end, step=step)

    async def numbers(self, expr: str) -> list[float]:
        """Return the values of an expression now, without NaN."""
        values = [float(sample["value"][1]) for sample in await self.query(expr)]
        return [value for value in values if not math.isnan(value)]

    async def _get(self, path: str, **parameters: Any) -> list[dict[str, Any]]:
        async with self.session.get(f"{self.url}/api/v1/{path}", params=parameters) as answer:
            tree = await answer.json()
        assert tree["status"] == "success", tree
        result: list[dict[str, Any]] = tree["data"]["result"]
        return result


@asynccontextmanager
async def prometheus(folder: pathlib.Path, service: Service) -> AsyncIterator[Prometheus]:
    """Run Prometheus with the shipped configuration, but for the address, the path of the key and shorter intervals."""
    config = read(RULES.parent / "prometheus.yml")
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    [job] = config["scrape_configs"]
    job["static_configs"] = [{"targets": [service.url.removeprefix("http://")]}]
    job["authorization"] = {"credentials_file": "metrics_key"}
    folder.mkdir()
    (folder / "metrics_key").write_text(METRICS_KEY)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(RULES, folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = await asyncio.create_subprocess_exec(
        *(program("prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=data"),
        f"--web.listen-address={address}",
        cwd=folder,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(60):
            while not await _is_ready(service.session, f"http://{address}/-/ready"):
                assert process.returncode is None
                await asyncio.sleep(0.05)
        yield Prometheus(f"http://{address}", service.session)
    finally:
        process.terminate()
        await process.wait()


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    with contextlib.suppress(aiohttp.ClientError):
        async with session.get(url) as answer:
            return answer.status == 200
    return False


@asynccontextmanager
async def watched_service(folder: pathlib.Path) -> AsyncIterator[tuple[Service, Prometheus]]:
    """Run the service with API keys, fake engines and one fake GPU, and Prometheus."""
    environ = {
        "VLSERVE_KEYS": ",".join(f"{name}:{key}" for name, key in (CLIENTS | {"prometheus": METRICS_KEY}).items()),
        "PYTHONPATH": f"{REPOSITORY / 'tests' / 'fakes' / 'nvml'}:{REPOSITORY}",
    }
    server = {"api_keys_env": "VLSERVE_KEYS", "keys": {"prometheus": {"metrics": True}}}
    fetch = {"allowed_networks": ["127.0.0.0/8"]}
    engines = fakes(max_in_flight=8, max_queued=16)
    async with (
        serve(folder / "service", engines, environ, server=server, fetch=fetch) as service,
        prometheus(folder / "prometheus", service) as running,
    ):
        yield service, running


@asynccontextmanager
async def load(service: Service, clients: int = 12) -> AsyncIterator[None]:
    """Send requests during the block: streams, pictures, and now and then one that fails."""
    tasks = [asyncio.create_task(_client(service, number)) for number in range(clients)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} == {asyncio.CancelledError}, results


async def _client(service: Service, number: int) -> None:
    key = list(CLIENTS.values())[number % 2]
    shot = {"type": "image_url", "image_url": {"url": data_url(picture(56 + number, 56))}}
    closed = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/shot.png"}}
    cases: list[tuple[Any, str]] = [("hello", "drip:0.4"), (shot, "drip:0.6")] * 6
    cases += [("hello", "half-event"), (closed, "")]
    for content, wish in itertools.islice(itertools.cycle(cases), number, None):
        body = {"messages": user(content), "user": wish, "stream": True}
        async with service.post(body, headers={"authorization": f"Bearer {key}"}) as answer:
            await answer.read()


async def until_values(find: Callable[[], Awaitable[set[str]]], timeout_s: float = 120.0) -> set[str]:
    """Wait until ``find`` returns an empty set of expressions without a value, and return the last set."""
    missing = {"?"}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while missing := await find():
                await asyncio.sleep(0.5)
    return missing
