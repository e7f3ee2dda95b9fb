"""Text chat while pictures stream in: time to first token and throughput of each kind, for one config on this machine.

python -m tests.benchmarks.mixed --config FILE [--config FILE …] --out FOLDER [--rates 8:2,16:4] [--clients 64:24]

For each config: starts the service, warms it up, sends texts and pictures at once at given rates per second (arrivals
at random times, the same ones for every config), then as fast as the given numbers of clients get answers. No prompt
and no picture comes twice. Appends to FOLDER/mixed.json after each load. Name the configs in the order A B B A. With
--limit-s, no config is started that would not be finished by then, as far as the ones before show.
"""

import argparse
import asyncio
import base64
import io
import json
import pathlib
import random
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import aiohttp
from PIL import Image, ImageDraw

from tests.benchmarks.gpu import SERVICE, Memory, start, stop

WORDS = (
    "a about after again air all animal answer apple back ball bed before begin bird blue book box bread bring build "
    "button call cat change child city clean clock close cloud cold come corner count cup dark day deep door down draw "
    "early earth eat end eye face far fast field find fire fish flower follow food foot friend garden give glass go "
    "green hand head hear hill hold home house ice image keep kind kitchen know lake large late learn leave letter "
    "light line listen long look make map menu milk moon morning move music name near new night note now number open "
    "page paper place plan play point quiet rain read red right ring river road room run sea second see send ship "
    "short show side sing sister sky slow small snow sound stand star start step stone story street sun table take "
    "talk tall teach thin think time top town train tree turn under use visit voice wait walk wall warm watch water "
    "way week white wide wind window winter wood word work world write yellow young"
).split()
KINDS = ("text", "vision")
Body = dict[str, Any]


def draw(seed: int, width: int = 1280, height: int = 720) -> str:
    """A page-like picture that no other seed gives, as a data URL."""
    chance = random.Random(seed)
    page = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(page)
    for _ in range(60):
        x, y = chance.randrange(width), chance.randrange(height)
        box = (x, y, x + chance.randrange(20, 300), y + chance.randrange(10, 60))
        pen.rectangle(box, tuple(chance.randrange(256) for _ in range(3)))
        pen.text((x, y), " ".join(chance.choices(WORDS, k=6)), "black")
    file = io.BytesIO()
    page.save(file, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


class Requests:
    """Bodies of both kinds, none twice. Pictures are drawn before, in processes of their own."""

    def __init__(self, seed: int, pictures: int, words: int) -> None:
        self._chance = random.Random(seed)
        self._words = words
        with ProcessPoolExecutor() as pool:
            self._pictures = list(pool.map(draw, range(seed, seed + pictures), chunksize=8))

    def make(self, kind: str) -> Body:
        options: Body = {"model": "auto", "stream": True, "ignore_eos": True, "temperature": 0.7}
        count = self._words if kind == "text" else self._words // 4
        text = " ".join(self._chance.choices(WORDS, k=count))
        if kind == "text":
            return {**options, "max_tokens": 128, "messages": [{"role": "user", "content": text}]}
        picture = {"type": "image_url", "image_url": {"url": self._pictures.pop()}}
        content = [{"type": "text", "text": text}, picture]
        return {**options, "max_tokens": 64, "messages": [{"role": "user", "content": content}]}


class Figures:
    """What one load gave for one kind."""

    def __init__(self) -> None:
        self.first_s: list[float] = []
        self.whole_s: list[float] = []
        self.tokens = 0
        self.failed = 0

    def summary(self, seconds: float) -> dict[str, float]:
        ordered = sorted(self.first_s)
        if not ordered:
            return {"requests": 0, "failed": self.failed}
        return {
            "requests": len(ordered),
            "failed": self.failed,
            "ttft_p50_ms": round(1000 * statistics.median(ordered), 1),
            "ttft_p99_ms": round(1000 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 1),
            "whole_p50_ms": round(1000 * statistics.median(self.whole_s), 1),
            "requests_per_s": round(len(ordered) / seconds, 2),
            "tokens_per_s": round(self.tokens / seconds, 1),
        }


async def send(session: aiohttp.ClientSession, body: Body, figures: Figures) -> None:
    begun = time.monotonic()
    first: float | None = None
    try:
        async with session.post(f"{SERVICE}/v1/chat/completions", json=body) as answer:
            async for line in answer.content:
                if first is None and b'"content":"' in line and b'"content":""' not in line:
                    first = time.monotonic() - begun
                figures.tokens += line.startswith(b"data: {")
    except (aiohttp.ClientError, TimeoutError):
        first = None
    if first is None:
        figures.failed += 1
        return
    figures.first_s.append(first)
    figures.whole_s.append(time.monotonic() - begun)


def arrivals(seed: int, rate: float, seconds: float) -> Iterator[float]:
    chance, now = random.Random(seed), 0.0
    while rate and (now := now + chance.expovariate(rate)) < seconds:
        yield now


async def at_rates(requests: Requests, rates: dict[str, float], seconds: float, seed: int) -> dict[str, Any]:
    """Open loop: nobody waits for anybody."""

    async def one(kind: str, session: aiohttp.ClientSession, figures: Figures) -> None:
        begun = time.monotonic()
        async with asyncio.TaskGroup() as running:
            for moment in arrivals(seed + KINDS.index(kind), rates[kind], seconds):
                body = requests.make(kind)
                await asyncio.sleep(max(0.0, begun + moment - time.monotonic()))
                running.create_task(send(session, body, figures))

    return await _both(one)


async def with_clients(requests: Requests, clients: dict[str, int], seconds: float) -> dict[str, Any]:
    """Closed loop: each client sends its next request when it has its answer."""
    end = time.monotonic() + seconds

    async def one(kind: str, session: aiohttp.ClientSession, figures: Figures) -> None:
        async def client() -> None:
            while time.monotonic() < end:
                await send(session, requests.make(kind), figures)

        await asyncio.gather(*(client() for _ in range(clients[kind])))

    return await _both(one)


async def _both(
    one: Callable[[str, aiohttp.ClientSession, Figures], Awaitable[None]],
) -> dict[str, dict[str, float]]:
    figures = {kind: Figures() for kind in KINDS}
    begun = time.monotonic()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=120)) as session:
        await asyncio.gather(*(one(kind, session, figures[kind]) for kind in KINDS))
    seconds = time.monotonic() - begun
    return {kind: found.summary(seconds) for kind, found in figures.items()}


def pairs(text: str) -> list[dict[str, float]]:
    return [dict(zip(KINDS, map(float, pair.split(":")), strict=True)) for pair in filter(None, text.split(","))]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", action="append", default=[])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--rates", default="8:2,16:4")
    parser.add_argument("--clients", default="64:24")
    parser.add_argument("--seconds", type=float, default=25)
    parser.add_argument("--words", type=int, default=400, help="words in a text; a picture's prompt has a quarter")
    parser.add_argument("--limit-s", type=float, default=float("inf"))
    arguments = parser.parse_args()
    begun, longest_s = time.monotonic(), 0.0
    path = arguments.out / "mixed.json"
    report = json.loads(path.read_text()) if path.exists() else []

    def save() -> None:
        path.write_text(json.dumps(report, indent=1))
        print(json.dumps(report[-1]), flush=True)

    for config in arguments.config:
        config_begun = time.monotonic()
        if config_begun - begun + longest_s > arguments.limit_s:
            print(f"left out for lack of time: {config}", flush=True)
            continue
        service, ready_s = start(config, arguments.out / f"mixed-{len(report)}.log")
        seed = int(time.time())
        entry: dict[str, Any] = {"config": config, "ready_s": ready_s, "loads": []}
        report.append(entry)
        try:
            warm_up = pairs(arguments.clients or arguments.rates)[0]
            loads = pairs(arguments.clients) + pairs(arguments.rates)
            is_drawn = arguments.seconds and any(load["vision"] for load in loads)
            pictures = (1200 if arguments.clients else 400) if is_drawn else 0
            requests = Requests(seed, pictures, arguments.words)
            if arguments.seconds:
                counts = {kind: int(count) for kind, count in warm_up.items()}
                asyncio.run(with_clients(requests, counts, arguments.seconds / 2))
            for rates in pairs(arguments.rates) if arguments.seconds else ():
                entry["loads"].append({"rates": rates, **asyncio.run(at_rates(requests, rates, arguments.seconds, 7))})
                save()
            for clients in pairs(arguments.clients) if arguments.seconds else ():
                counts = {kind: int(count) for kind, count in clients.items()}
                found = asyncio.run(with_clients(requests, counts, arguments.seconds))
                entry["loads"].append({"clients": counts, **found})
                save()
            memory = Memory()
            memory.poll()
            entry["memory_mib"] = memory.total
        finally:
            try:
                entry["free_after_s"] = stop(service)
            except subprocess.TimeoutExpired:
                service.kill()
            save()
        longest_s = max(longest_s, time.monotonic() - config_begun)


if __name__ == "__main__":
    main()
