"""How long a large picture keeps the gateway's event loop from other requests.

python -m tests.benchmarks.longest_callback [--mb 19.5] [--pictures 8]

Sends pictures to a gateway before the fake engine, one after the other, while streams run. Prints the most CPU time of
one iteration of the event loop in milliseconds, which no callback exceeds, and the median, p99 and longest gap
between the streams' events, without pictures and with them.
"""

import argparse
import asyncio
import base64
import io
import json
import os
import pathlib
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import aiohttp
import yaml
from PIL import Image

from tests.benchmarks.gateways.processes import Gateway, free_port, run

_STREAMS = 8
# A gateway that measures the turns of its loop: SIGUSR1 prints the longest since the last time.
_MEASURED = """
import asyncio, signal, sys, time, uvloop
from vlserve import cli
made = uvloop.new_event_loop
def new_event_loop():
    loop, state = made(), {"last": time.thread_time(), "most": 0.0}
    def turn():
        now = time.thread_time()
        state["most"], state["last"] = max(state["most"], now - state["last"]), now
        loop.call_later(0.0005, turn)
    def report():
        print(f"longest {state['most'] * 1000:.2f}", flush=True)
        state["most"] = 0.0
    loop.call_soon(turn)
    loop.call_soon(loop.add_signal_handler, signal.SIGUSR1, report)
    return loop
uvloop.new_event_loop = new_event_loop
sys.exit(cli.main())
"""


def png(megabytes: float) -> bytes:
    """A PNG of random pixels, which has about this size."""
    side = round((megabytes * 1e6 / 3) ** 0.5)
    file = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(file, "PNG", compress_level=0)
    return file.getvalue()


def body(content: Any, **more: Any) -> bytes:
    return json.dumps({"model": "auto", "messages": [{"role": "user", "content": content}], **more}).encode()


async def drip(session: aiohttp.ClientSession, url: str, gaps: list[float]) -> None:
    """Read a stream that lasts until it is cancelled; each event's distance from the one before."""
    async with session.post(url, data=body("Hello", stream=True, user="drip:600")) as answer:
        before = 0.0
        async for line in answer.content:
            if line.startswith(b"data:"):
                now = time.monotonic()
                gaps += [now - before] if before else []
                before = now


def describe(gaps: Sequence[float]) -> str:
    p99 = statistics.quantiles(gaps, n=100)[98]
    return f"{statistics.median(gaps) * 1e3:.1f} / {p99 * 1e3:.1f} / {max(gaps) * 1e3:.1f} ms"


async def measure(gateway: Gateway, log: pathlib.Path, picture: bytes, count: int, quiet_s: float) -> None:
    url, headers = f"{gateway.url}/v1/chat/completions", {"content-type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:
        gaps: list[float] = []
        streams = [asyncio.create_task(drip(session, url, gaps)) for _ in range(_STREAMS)]
        await asyncio.sleep(2)
        for what in ("without pictures", "with pictures"):
            gaps.clear()
            os.kill(gateway.pid, signal.SIGUSR1)
            if what == "with pictures":
                for _ in range(count):
                    async with session.post(url, data=picture) as answer:
                        await answer.read()
                        assert answer.status == 200, await answer.text()
            else:
                await asyncio.sleep(quiet_s)
            os.kill(gateway.pid, signal.SIGUSR1)
            await asyncio.sleep(0.2)
            longest = [line for line in log.read_text().splitlines() if line.startswith("longest ")][-1].split()[1]
            print(
                f"{what}: longest iteration {longest} ms of CPU; gaps of events, p50 / p99 / longest: {describe(gaps)}"
            )
        for stream in streams:
            stream.cancel()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mb", type=float, default=19.5)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--quiet-s", type=float, default=8.0)
    options = parser.parse_args()
    engine = {"model": "fake", "command": [sys.executable, "-m", "tests.fakes.fake_engine", "--uds", "{uds}"]}
    engines = {name: {**engine, "served_model_name": f"fake-{name}"} for name in ("text", "vision")}
    raw = png(options.mb)
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(raw).decode()}"}}
    with tempfile.TemporaryDirectory() as name:
        folder, port = pathlib.Path(name), free_port()
        limits = {"server": {"max_body_bytes": "64MiB"}, "image": {"max_image_bytes": "20MiB"}}
        (folder / "vlserve.yaml").write_text(yaml.safe_dump({"engines": engines, **limits}))
        argv = [sys.executable, "-c", _MEASURED, "serve", "--config", str(folder / "vlserve.yaml"), "--port", str(port)]
        env = {"PYTHONPATH": str(pathlib.Path.cwd())}
        with run("vlserve", argv, f"http://127.0.0.1:{port}", folder, "/ready?engine=all", **env) as gateway:
            log = folder / "vlserve.log"
            asyncio.run(measure(gateway, log, body([part]), options.pictures, options.quiet_s))


if __name__ == "__main__":
    main()
