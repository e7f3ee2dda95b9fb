"""The service on a GPU machine: start times, memory, and throughput through vlserve against the same engine directly.

python -m tests.benchmarks.gpu --config FILE --out FOLDER [--skip-throughput] [--starts N]

Writes FOLDER/gpu.json and the logs. Needs vLLM with its `bench serve`. Every throughput figure is the second of
its kind after a start (the first one is slow), with fresh seeds, in the order A B B A.
"""

import argparse
import asyncio
import atexit
import base64
import contextlib
import io
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

from PIL import Image

PORT = int(os.environ.get("BENCH_PORT", "8100"))  # and the one after it; another one for a run on other GPUs meanwhile
DIRECT_PORT = PORT + 1
SERVICE, DIRECT = f"http://127.0.0.1:{PORT}", f"http://127.0.0.1:{DIRECT_PORT}"
READY_S = 400
JSON = {"content-type": "application/json"}


class Memory:
    """Highest memory use per GPU, in MiB, polled with nvidia-smi. CUDA_VISIBLE_DEVICES selects GPUs by number."""

    def __init__(self) -> None:
        self.total: dict[str, int] = {}

    def poll(self) -> None:
        if not shutil.which("nvidia-smi"):  # a try on the CPU
            self.total.setdefault("0", 0)
            return
        query = ["nvidia-smi", "--query-gpu=index,memory.used", "--format=csv,noheader,nounits"]
        if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
            query.append(f"--id={visible}")
        for line in subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines():
            index, used = line.split(", ")
            self.total[index] = max(self.total.get(index, 0), int(used))


def ask(url: str, body: dict[str, Any], timeout_s: float = 120) -> tuple[dict[str, Any], dict[str, str]]:
    request = urllib.request.Request(url + "/v1/chat/completions", json.dumps(body).encode(), JSON)
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:
        return json.load(answer), dict(answer.headers)


def is_ready(query: str) -> bool:
    try:
        urllib.request.urlopen(f"{SERVICE}/ready?engine={query}", timeout=5).close()
    except (urllib.error.URLError, OSError):
        return False
    return True


def start(config: str, log: pathlib.Path) -> tuple[subprocess.Popen[bytes], dict[str, float]]:
    """The service, and after how many seconds each engine was ready. It is stopped at the latest at exit."""
    if is_ready("all"):
        raise SystemExit(f"another service answers at {SERVICE}")
    with log.open("wb") as file:
        command = [sys.executable, "-m", "vlserve.cli", "serve", "--config", config, "--port", str(PORT)]
        service = subprocess.Popen(command, stderr=file, start_new_session=True)
    started, seconds = time.monotonic(), dict[str, float]()
    atexit.register(_end, service)  # Ctrl-C does not reach it, because it has its own session
    while not is_ready("all"):
        if service.poll() is not None or time.monotonic() - started > READY_S:
            raise SystemExit(f"not ready: {log.read_text(errors='replace')[-6000:]}")
        time.sleep(0.5)
    all_s = round(time.monotonic() - started, 1)
    with urllib.request.urlopen(f"{SERVICE}/ready", timeout=5) as answer:
        engines = json.load(answer)["engines"]
    while len(seconds) < len(engines) and time.monotonic() - started < READY_S:  # a thread writes the log
        time.sleep(0.1)
        found = re.findall(r"(\w+) engine: ready \(after (\d+) s", log.read_text(errors="replace"))
        seconds = {name: float(after) for name, after in found}
    return service, seconds | {"all": all_s}


def _end(service: subprocess.Popen[bytes]) -> None:
    service.terminate()
    service.wait(60)


def stop(service: subprocess.Popen[bytes]) -> float:
    """Seconds from SIGTERM until the GPUs' memory is free again."""
    begun = time.monotonic()
    service.send_signal(signal.SIGTERM)
    service.wait(60)
    while time.monotonic() - begun < 60:
        memory = Memory()
        memory.poll()
        if max(memory.total.values()) < 1500:
            break
        time.sleep(0.2)
    return round(time.monotonic() - begun, 1)


def picture() -> str:
    file = io.BytesIO()
    Image.effect_noise((1280, 720), 60).convert("RGB").save(file, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def bench(
    target: str, kind: str, concurrency: int, requests: int, seed: int, model: str, tokenizer: str
) -> dict[str, float]:
    """One run of vLLM's own load generator."""
    shape = {
        "text": ["--dataset-name", "random", "--random-input-len", "512", "--random-output-len", "128"],
        "vision": [
            *("--dataset-name", "random-mm", "--random-input-len", "128", "--random-output-len", "64"),
            *("--random-mm-base-items-per-request", "1", "--random-mm-num-mm-items-range-ratio", "0"),
            *("--random-mm-limit-mm-per-prompt", '{"image":1,"video":0}'),
            *("--random-mm-bucket-config", "{(720, 1280, 1): 1.0}"),
        ],
    }[kind]
    result = pathlib.Path(f"/tmp/bench-{PORT}-{seed}.json")
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.cli.main", "bench", "serve", "--backend", "openai-chat"),
        *("--base-url", target, "--endpoint", "/v1/chat/completions", "--model", model, "--tokenizer", tokenizer),
        *("--num-prompts", str(requests), "--max-concurrency", str(concurrency), "--seed", str(seed), "--ignore-eos"),
        *("--save-result", "--result-filename", str(result), "--percentile-metrics", "ttft,tpot", *shape),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    if not result.exists():
        print(done.stdout[-2000:], done.stderr[-3000:], flush=True)
        return {}
    tree = json.loads(result.read_text())
    keys = ("request_throughput", "output_throughput", "median_ttft_ms", "p99_ttft_ms", "median_tpot_ms", "completed")
    return {key: round(float(tree[key]), 2) for key in keys if key in tree}


async def forward(socket: str) -> None:
    """Bytes from DIRECT_PORT to an engine's socket and back: vLLM's load generator knows no sockets."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1 << 18):
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_unix_connection(socket)
        await asyncio.gather(copy(reader, forth), copy(back, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", DIRECT_PORT, backlog=2048)
    await server.serve_forever()


def compare(kind: str, concurrency: int, requests: int, model: str, tokenizer: str, log: str) -> dict[str, Any]:
    """Throughput through vlserve ÷ directly: a warm-up, then A B B A."""
    socket = re.findall(rf"--uds (\S+/{kind}\.sock)", log)[0]
    forwarder = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.gpu", "--forward", socket])
    time.sleep(1)
    base = int(time.time())
    try:
        bench(SERVICE, kind, concurrency, requests // 2, base, model, tokenizer)
        runs = [
            (side, bench(target, kind, concurrency, requests, base + 1 + number, model, tokenizer))
            for number, (side, target) in enumerate((("A", SERVICE), ("B", DIRECT), ("B", DIRECT), ("A", SERVICE)))
        ]
    finally:
        forwarder.terminate()
    mean = {
        side: statistics.mean(run.get("request_throughput", 0.0) for name, run in runs if name == side) for side in "AB"
    }
    return {"concurrency": concurrency, "runs": runs, "ratio": round(mean["A"] / mean["B"], 4) if mean["B"] else None}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--throughput", default="text:128:600,text:384:1200,vision:32:200")
    parser.add_argument("--forward")
    arguments = parser.parse_args()
    if arguments.forward:
        asyncio.run(forward(arguments.forward))
        return
    out: pathlib.Path = arguments.out
    report: dict[str, Any] = {"device": subprocess.getoutput("nvidia-smi -L"), "starts": []}

    def save() -> None:
        (out / "gpu.json").write_text(json.dumps(report, indent=1))
        print(json.dumps(report), flush=True)

    for number in range(arguments.starts):
        log = out / f"serve-{number}.log"
        service, seconds = start(arguments.config, log)
        memory = Memory()
        memory.poll()
        report["starts"].append({"ready_s": seconds, "memory_mib": memory.total})
        image = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": picture()}}]
        for content in ("Hello", image) if "vision" in seconds else ("Hello",):
            answer, headers = ask(SERVICE, {"messages": [{"role": "user", "content": content}], "max_tokens": 8})
            report["starts"][-1][headers["x-vlserve-engine"]] = [answer["model"], answer["usage"]]
        save()
        if number < arguments.starts - 1:
            report["starts"][-1]["free_after_s"] = stop(service)
    written = log.read_text(errors="replace")
    wanted = r"Model loading took|KV cache|[Gg]raph captur|Maximum concurrency|memory"
    report["vllm_says"] = [line[-220:] for line in written.splitlines() if re.search(wanted, line)][:60]
    models = dict(re.findall(r"/(\w+)\.sock --served-model-name (\S+)", written))
    paths = {name: path for path, name in re.findall(r"--model (\S+) --uds \S+/(\w+)\.sock", written)}
    report["throughput"] = {}
    for spec in filter(None, arguments.throughput.split(",")):
        kind, concurrency, requests = spec.split(":")
        report["throughput"][spec] = compare(kind, int(concurrency), int(requests), models[kind], paths[kind], written)
        memory.poll()
        report["memory_after_load_mib"] = memory.total
        save()
    report["free_after_s"] = stop(service)
    save()


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
