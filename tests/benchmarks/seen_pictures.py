"""What it would save to send a picture that the engine has seen by its name alone (vLLM's ``uuid``) in later turns.

python -m tests.benchmarks.seen_pictures --config FILE --out FOLDER [--chats N]

A chat of five turns about one 1920×1080 screenshot, streamed, straight to the vision engine's socket: the picture sent
again each turn, against sent once and then named. What the gateway adds is counted in: decoding for both, the
keyed hash for the second. The third way is the service itself, to which the picture is sent each turn, and which names
it. Every chat has a new picture; the ways in turns A B C C B A.
"""

import argparse
import base64
import hashlib
import hmac
import http.client
import io
import json
import pathlib
import random
import socket
import statistics
import time
from typing import Any

from PIL import Image, ImageDraw

from tests.benchmarks.gpu import SERVICE, start

_TURNS = 5
_WAYS = ("sent each turn", "named", "through the service")
_SECRET = b"measured, not secret"


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=300)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def _connect(to: str) -> http.client.HTTPConnection:
    """``to``: an engine's socket, or the service's address."""
    return http.client.HTTPConnection(to.removeprefix("http://"), timeout=300) if "://" in to else _Connection(to)


def screenshot(seed: int) -> str:
    """A page full of text and boxes, as a data: URL."""
    chance = random.Random(seed)
    page = Image.new("RGB", (1920, 1080), "white")
    draw = ImageDraw.Draw(page)
    for row in range(54):
        draw.rectangle((0, row * 20, chance.randrange(40, 300), row * 20 + 16), fill=chance.randrange(2**24))
        words = "".join(chance.choice("abcdefghijklmnopqrstuvwxyz    0123456789") for _ in range(220))
        draw.text((310, row * 20), words, fill="black")
    file = io.BytesIO()
    page.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def first_token(path: str, model: str, messages: list[Any]) -> tuple[float, str]:
    """Seconds to the first event with text, and the whole text."""
    body = {"model": model, "messages": messages, "stream": True, "max_tokens": 16, "temperature": 0}
    connection = _connect(path)
    started = time.monotonic()
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(answer.read().decode())
    first, text = 0.0, ""
    for line in answer:
        if line.startswith(b"data: {"):
            choices = json.loads(line[6:])["choices"]
            delta = choices[0]["delta"].get("content") if choices else None
            if delta:
                first = first or time.monotonic() - started
                text += delta
    connection.close()
    return first, text


def chat(path: str, model: str, url: str, *, is_named: bool) -> list[float]:
    """Time to first token of each turn, in seconds."""
    seconds, messages = [], list[Any]()
    for turn in range(_TURNS):
        question: list[dict[str, Any]] = [{"type": "text", "text": f"Question {turn}: what is in row {turn * 7}?"}]
        if not turn:
            question.insert(0, {"type": "image_url", "image_url": {"url": url}})
        messages.append({"role": "user", "content": question})
        started = time.monotonic()
        raw = base64.b64decode(url.partition(",")[2])
        if is_named:
            name = hmac.new(_SECRET, hashlib.sha256(raw).digest(), hashlib.sha256).hexdigest()
            part = messages[0]["content"][0]
            part["uuid"] = name
            part["image_url"] = None if turn else {"url": url}
        before = time.monotonic() - started
        first, text = first_token(path, model, messages)
        seconds.append(before + first)
        messages.append({"role": "assistant", "content": text or "."})
    return seconds


def ask_unknown(path: str, model: str) -> tuple[int, str]:
    """How the engine answers to the name of a picture that it does not have."""
    part = {"type": "image_url", "image_url": None, "uuid": "unknown"}
    body = {"model": model, "messages": [{"role": "user", "content": [part]}], "max_tokens": 1, "stream": True}
    connection = _connect(path)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read(1000).decode()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--chats", type=int, default=12, help="of each kind")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    service, _ = start(options.config, options.out / "seen.log")
    try:
        path = str(max(pathlib.Path("/tmp").glob("vlserve-*/vision.sock"), key=lambda found: found.stat().st_mtime))
        connection = _Connection(path)
        connection.request("GET", "/v1/models")
        model = json.load(connection.getresponse())["data"][0]["id"]
        seconds: dict[str, list[list[float]]] = {way: [] for way in _WAYS}
        for number in range(-1, options.chats):
            for turn, way in enumerate(_WAYS if number % 2 else reversed(_WAYS)):
                picture = screenshot(len(_WAYS) * number + turn + 1000)
                to = SERVICE if way == "through the service" else path
                found = chat(to, model, picture, is_named=way == "named")
                if number >= 0:  # the first of each kind warms up
                    seconds[way].append(found)
        missing = ask_unknown(path, model)
        size = len(screenshot(1)) * 3 // 4
    finally:
        service.terminate()
        service.wait(60)
    medians = {
        way: [statistics.median(one[turn] for one in chats) for turn in range(_TURNS)] for way, chats in seconds.items()
    }
    later = {way: statistics.median(one for chat in chats for one in chat[1:]) for way, chats in seconds.items()}
    result = {
        "picture_bytes": size,
        "turns_ms": {way: [round(1000 * one, 1) for one in medians[way]] for way in _WAYS},
        "turns_2_to_5_ms": {way: round(1000 * later[way], 1) for way in _WAYS},
        "saved_percent": round(100 * (1 - later["named"] / later["sent each turn"]), 1),
        "unknown_name": missing,
    }
    (options.out / "seen.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
