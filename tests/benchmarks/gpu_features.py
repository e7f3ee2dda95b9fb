"""Asks for features of the API once each on a GPU machine, and for a long prompt; checks the form of the answers.

python -m tests.benchmarks.gpu_features --config FILE --out FOLDER [--long-tokens 119000] [--only "long prompt"]

FILE serves both models with API keys from VLSERVE_KEYS (server.api_keys_env), metrics for the key ana, grammars and one
video per request. The weights may be random: only status, finish_reason and form are checked. Random weights fill JSON
with white space until max_tokens: disable_any_whitespace in --structured-outputs-config forbids it, but not in tool
calls, where logit_bias does. Prints a JSON line per question, writes FOLDER/features.json.
"""

import argparse
import base64
import functools
import io
import json
import os
import pathlib
import random
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import yaml
from PIL import Image
from pydantic import BaseModel, Field

from tests.benchmarks.gpu import JSON, SERVICE, picture, start, stop
from tests.fakes.films import film, part

KEYS = {"ana": "sk-ana-0123456789abcdef", "bo": "sk-bo-0123456789abcdef"}
_WORDS = "time year people way day man thing woman life child world school state family student group".split()
# What the engine is asked for, and a regular expression for the answer.
_CONSTRAINTS = {
    "regex": (r"[a-z]{3,8}@[a-z]{4}\.com", r"[a-z]{3,8}@[a-z]{4}\.com"),
    "choice": (["positive", "negative"], "positive|negative"),
    "grammar": (
        'root ::= "SELECT " ("name" | "email") " FROM users WHERE id = " [0-9]',
        r"SELECT \w+ FROM users WHERE id = \d",
    ),
}


class Car(BaseModel, extra="forbid"):
    brand: Literal["Audi", "Volvo"]
    model: Annotated[str, Field(pattern="^[a-z]{3,8}$")]
    year: Annotated[int, Field(ge=1990, le=2030)]
    colors: Annotated[list[Literal["red", "blue"]], Field(min_length=1, max_length=3)]


_TOOL = {"name": "buy_car", "strict": True, "parameters": Car.model_json_schema()}
_TOOLS = [{"type": "function", "function": _TOOL}, {"type": "function", "function": {**_TOOL, "name": "sell_car"}}]


def request(path: str, key: str, body: dict[str, Any] | None = None) -> urllib.request.Request:
    data = None if body is None else json.dumps(body).encode()
    return urllib.request.Request(SERVICE + path, data, {**JSON, "authorization": f"Bearer {KEYS[key]}"})


def ask(content: Any, key: str = "ana", **fields: Any) -> dict[str, Any]:
    """Ask once. ``seconds``, ``status``, and what the answer or the error contains."""
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 300, **fields}
    started = time.monotonic()
    try:
        with urllib.request.urlopen(request("/v1/chat/completions", key, body), timeout=100) as answer:
            tree, engine = json.load(answer), answer.headers["x-vlserve-engine"]
    except urllib.error.HTTPError as error:
        return {"status": error.code, "seconds": round(time.monotonic() - started, 2), "error": json.load(error)}
    except OSError as error:  # the next question is asked
        return {"status": None, "seconds": round(time.monotonic() - started, 2), "error": repr(error)}
    seconds, choice = round(time.monotonic() - started, 2), tree["choices"][0]
    calls = [call["function"] for call in choice["message"].get("tool_calls") or []]
    counts = {name: tree["usage"][name] for name in ("prompt_tokens", "completion_tokens")}
    shown = {"finish_reason": choice["finish_reason"], "content": choice["message"]["content"], "calls": calls}
    return {"status": 200, "seconds": seconds, "engine": engine, **counts, **shown}


def is_car(text: str) -> bool:
    """Raises ValidationError, a ValueError."""
    return isinstance(Car.model_validate_json(text), Car)


def matches(pattern: str, answer: dict[str, Any]) -> bool:
    return bool(re.fullmatch(pattern, answer["content"]))


def are_calls(answer: dict[str, Any]) -> bool:
    names = {call["name"] for call in answer["calls"] if is_car(call["arguments"])}
    return bool(names) and names <= {"buy_car", "sell_car"}


def hits(engine: str) -> int:
    with urllib.request.urlopen(request("/metrics", "ana"), timeout=30) as answer:
        lines = [line for line in answer.read().decode().splitlines() if f'vlserve_engine="{engine}"' in line]
    return round(sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:prefix_cache_hits_total{")))


def salted(engine: str, content: Any) -> dict[str, Any]:
    """Tokens of a prompt that the prefix cache had: for ana, ana again, bo, bo again."""
    found, statuses = [], []
    for key in ("ana", "ana", "bo", "bo"):
        before = hits(engine)
        statuses.append(ask(content, key, max_tokens=1)["status"])
        found.append(hits(engine) - before)
    is_valid = [one > 100 for one in found] == [False, True, False, True] and set(statuses) == {200}
    return {"is_valid": is_valid, "cached_tokens": found, "statuses": statuses}


def image(side: int) -> dict[str, Any]:
    file = io.BytesIO()
    Image.new("RGB", (side, side), "teal").save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def white_space(config: str) -> dict[str, int]:
    """A logit_bias against the tokens of the text model that are white space only."""
    path = pathlib.Path(config)
    model = path.parent / yaml.safe_load(path.read_text())["engines"]["text"]["model"]
    vocabulary = json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]
    return {str(number): -100 for token, number in vocabulary.items() if not set(token) - set("ĠĊĉč")}


def questions(
    config: str, long_tokens: int
) -> Iterator[tuple[str, Any, dict[str, Any], Callable[[dict[str, Any]], Any]]]:
    """Yield name, content of the message, further fields, and a check of the answer."""
    schema = {"type": "json_schema", "json_schema": {"name": "car", "strict": True, "schema": Car.model_json_schema()}}
    noise = {"type": "image_url", "image_url": {"url": picture()}}
    for model, content in (("text", "Describe a car."), ("vision", [noise, {"type": "text", "text": "Describe it."}])):
        yield f"JSON schema, {model}", content, {"response_format": schema}, lambda one: is_car(one["content"])
        for kind, (constraint, pattern) in _CONSTRAINTS.items():
            check = functools.partial(matches, pattern)
            yield f"{kind}, {model}", content, {"structured_outputs": {kind: constraint}}, check
    tools = {"tools": _TOOLS, "tool_choice": "required", "logit_bias": white_space(config), "max_tokens": 1000}
    for seed in range(4):
        yield f"tool_choice required, seed {seed}", "Buy cars.", {**tools, "seed": seed}, are_calls
    alone = {**tools, "parallel_tool_calls": False}
    yield "parallel_tool_calls false", "Buy cars.", alone, lambda one: are_calls(one) and len(one["calls"]) == 1
    named = {**tools, "tool_choice": {"type": "function", "function": {"name": "sell_car"}}}
    yield "named tool", "Buy a car.", named, lambda one: are_calls(one) and one["calls"][0]["name"] == "sell_car"
    video = [part(film(480, 270, 32)), {"type": "text", "text": "What happens?"}]
    yield "video of 16 s", video, {"max_tokens": 16}, lambda one: one["engine"] == "vision"
    yield "picture of 49 megapixels", [image(7000)], {"max_tokens": 4}, lambda one: one["status"] == 200
    yield "picture of 64 megapixels", [image(8000)], {"max_tokens": 4}, lambda one: one["status"] == 400
    for number in (1, 2):
        content = " ".join(random.Random(number).choices(_WORDS, k=long_tokens))
        fields = {"max_tokens": 16, "ignore_eos": True}
        yield f"long prompt {number}", content, fields, lambda one: one["completion_tokens"] == 16


def results(config: str, long_tokens: int, only: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, content, fields, is_valid in questions(config, long_tokens):
        if only not in name:
            continue
        answer = ask(content, **fields)
        try:
            yield name, {"is_valid": bool(is_valid(answer)), **answer}
        except (KeyError, IndexError, TypeError, ValueError) as error:
            yield name, {"is_valid": False, "reason": repr(error)[:300], **answer}
    noise = {"type": "image_url", "image_url": {"url": picture()}}
    numbers = " ".join(map(str, range(400)))
    for name, engine, content in (
        ("keys and the prefix cache, text", "text", numbers),
        ("keys and the prefix cache, picture", "vision", [noise, {"type": "text", "text": "What?"}]),
    ):
        if only in name:
            yield name, salted(engine, content)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--long-tokens", type=int, default=119_000)
    parser.add_argument("--only", default="", help="a part of the questions' names")
    options = parser.parse_args()
    os.environ["VLSERVE_KEYS"] = ",".join(f"{name}:{key}" for name, key in KEYS.items())
    service, seconds = start(options.config, options.out / "features.log")
    found: dict[str, Any] = {"ready_s": seconds}
    try:
        for name, result in results(options.config, options.long_tokens, options.only):
            found[name] = result
            print(json.dumps({"question": name, **result}), flush=True)
            (options.out / "features.json").write_text(json.dumps(found, indent=1))
        if len(found) == 1:
            raise SystemExit(f"no question has {options.only!r} in its name")
    finally:
        print(json.dumps({"ready_s": seconds, "memory_free_after_s": stop(service)}), flush=True)


if __name__ == "__main__":
    main()
