"""The fake engines refuse what vLLM refuses, and never respond to a fuzzed request with a 500."""

import asyncio
import copy
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web

from tests.conftest import REPOSITORY, image_part, user
from tests.fakes import fake_engine, fake_trtllm
from tests.fakes.fake_requests import work_of

ODD: tuple[Any, ...] = (None, True, 3, 1.5, "x", [], ["x"], [3], [None], {}, {"x": 1}, 10**400)
_PICTURE = image_part()
_TURNS = user({"type": "text", "text": "?"}, _PICTURE, {"type": "video_url", "video_url": {"url": "data:,"}})
_CHAT = {"model": "m", "user": "x", "messages": _TURNS}
_STREAM = {"stream": True, "stream_options": {"include_usage": True}}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": _CHAT | _STREAM,
    "/v1/completions": {"model": "m", "user": "x", "prompt": "x"} | _STREAM,
    "/v1/responses": {"model": "m", "user": "x", "input": "x", "metadata": {"a": "b"}, "stream": True},
    "/v1/messages": {
        "model": "m",
        "max_tokens": 5,
        "messages": user("x"),
        "metadata": {"user_id": "x"},
        "stream": True,
    },
    "/v1/messages/count_tokens": {"model": "m", "messages": user("x")},
    "/tokenize": {"model": "m", "messages": _TURNS},
}
TRTLLM_BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": "m",
        "user": "x",
        "messages": user({"type": "text", "text": "?"}, _PICTURE),
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }
    | _STREAM,
    "/v1/completions": {"model": "m", "user": "x", "prompt": "x"} | _STREAM,
    "/tokenize": {"prompt": "x"},
}


class Mutant(NamedTuple):
    path: str
    what: str
    """A path in the body, and the value put there."""
    body: Any


def mutants(bodies: dict[str, dict[str, Any]]) -> Iterator[Mutant]:
    """Yield each body with each of its values, at every depth, replaced by each odd value, or removed."""
    for path, body in bodies.items():
        for odd in ODD:
            yield Mutant(path, f"body={json.dumps(odd)[:20]}", odd)
        for place in _places(body):
            for odd in ODD:
                changed = copy.deepcopy(body)
                _inner(changed, place[:-1])[place[-1]] = odd
                yield Mutant(path, f"{'.'.join(map(str, place))}={json.dumps(odd)[:20]}", changed)
            changed = copy.deepcopy(body)
            del _inner(changed, place[:-1])[place[-1]]
            yield Mutant(path, f"{'.'.join(map(str, place))} missing", changed)


def _places(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield (*above, key)
        yield from _places(tree[key], (*above, key))


def _inner(tree: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        tree = tree[key]
    return tree


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[aiohttp.ClientSession]:
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    headers = {"authorization": f"Bearer {fake_trtllm.KEY}", "content-type": "application/json"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}", headers=headers) as session:
        yield session
    await runner.cleanup()


async def status_of(session: aiohttp.ClientSession, path: str, body: Any) -> int:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with session.post(path, data=raw) as answer:
        await answer.read()
        return answer.status


_NAMED = {"/v1/chat/completions": _CHAT | {"messages": user(_PICTURE | {"uuid": "one"})}}
STAND_INS: dict[str, tuple[Callable[[], web.Application], dict[str, dict[str, Any]]]] = {
    "vllm": (fake_engine.make_app, BODIES),
    "vllm, a named picture": (fake_engine.make_app, _NAMED),
    "trtllm": (lambda: fake_trtllm.make_app("m"), TRTLLM_BODIES),
}


@pytest.mark.parametrize("name", STAND_INS)
async def test_odd_values_are_never_a_server_error(name: str) -> None:
    make_app, bodies = STAND_INS[name]
    wrong, refused = [], 0
    async with served(make_app()) as session:
        for path, body in bodies.items():
            assert await status_of(session, path, body) in (200, 404), path
        for mutant in mutants(bodies):
            status = await status_of(session, mutant.path, mutant.body)
            refused += status == 400
            if status not in (200, 400, 404):
                wrong.append(f"{status} {mutant.path} {mutant.what}")
    assert wrong == []
    assert refused > 50


# For each field that a fake engine reads, values that vLLM does not accept.
_ODD_TEXTS: tuple[Any, ...] = (True, 3, [], {"x": 1})
_ODD_SWITCHES: tuple[Any, ...] = (3, 1.5, "x", [], {})
_WRONG: dict[str, dict[str, tuple[Any, ...]]] = {
    "/v1/chat/completions": {
        "model": _ODD_TEXTS,
        "user": _ODD_TEXTS,
        "stream": _ODD_SWITCHES,
        "stream_options": (True, 3, "x", [], ["x"]),
        "stream_options.include_usage": _ODD_SWITCHES,
        "messages": (3, "x", {}, ["x"], [3], [None]),
        "messages.0.content": (True, 3, [3], [None]),
        "messages.0.content.1": (None, 3, [], ["x"]),
        "messages.0.content.1.image_url": (True, 3, [], ["x"], {}),
        "messages.0.content.1.image_url.url": (None, *_ODD_TEXTS),
        "messages.0.content.2.video_url": (True, 3, [], ["x"], {}),
        "messages.0.content.2.video_url.url": (None, *_ODD_TEXTS),
    },
    "/v1/completions": {
        "model": _ODD_TEXTS,
        "user": _ODD_TEXTS,
        "stream": _ODD_SWITCHES,
        "stream_options": (True, 3, "x", [], ["x"]),
        "stream_options.include_usage": _ODD_SWITCHES,
    },
    "/v1/responses": {"model": _ODD_TEXTS, "user": _ODD_TEXTS, "stream": _ODD_SWITCHES},
    "/v1/messages": {
        "model": (None, *_ODD_TEXTS),
        "stream": _ODD_SWITCHES,
        "metadata": (True, 3, "x", [], ["x"]),
    },
    "/v1/messages/count_tokens": {"model": (None, *_ODD_TEXTS)},
    "/tokenize": {"messages": (None, True, 3, "x", {}, ["x"], [3])},
}


@pytest.mark.parametrize("path", _WRONG)
async def test_a_wrong_type_is_refused(path: str) -> None:
    async with served(fake_engine.make_app()) as session:
        for place, odds in _WRONG[path].items():
            keys = tuple(int(key) if key.isdigit() else key for key in place.split("."))
            for odd in odds:
                changed = copy.deepcopy(BODIES[path])
                _inner(changed, keys[:-1])[keys[-1]] = odd
                assert await status_of(session, path, changed) == 400, (place, odd)


@pytest.mark.parametrize("name", STAND_INS)
@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 100_000], ids=["empty", "cut", "not UTF-8", "deep"])
async def test_invalid_json_is_refused(name: str, raw: bytes) -> None:
    make_app, bodies = STAND_INS[name]
    async with served(make_app()) as session:
        for path in bodies:
            assert await status_of(session, path, raw) in (400, 404)


@pytest.mark.parametrize("wish", ["work:x", "work:", "prefill:", "prefill", "decode:nan", "drip:inf", "drip:1e9", ":"])
async def test_user_that_resembles_work_is_ignored(wish: str) -> None:
    async with served(fake_engine.make_app()) as session:
        assert await status_of(session, "/v1/chat/completions", {"messages": user("x"), "user": wish}) == 200


def test_every_kind_of_work_can_be_requested() -> None:
    kinds = set(re.findall(r'kind == "(\w+)"', inspect.getsource(fake_engine)))
    assert kinds >= {"work", "freeze", "print"}
    assert {kind for kind in kinds if work_of(f"{kind}:12") != (kind, 12.0)} == set()
    assert work_of("print:16777216") == ("print", 16_777_216.0)


# Reads paths and bodies of mutants, one per line, and prints whether vLLM's own class accepts each.
_REAL = """
import json, sys, typing
from pydantic import TypeAdapter
from vllm.entrypoints.anthropic.protocol import AnthropicCountTokensRequest, AnthropicMessagesRequest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.serve.tokenize.protocol import TokenizeRequest
from vllm.exceptions import VLLMValidationError
from vllm.renderers.chat_utils import _parse_chat_message_content_mm_part as read_part

kinds = {
    "/v1/chat/completions": ChatCompletionRequest,
    "/v1/completions": CompletionRequest,
    "/v1/responses": ResponsesRequest,
    "/v1/messages": AnthropicMessagesRequest,
    "/v1/messages/count_tokens": AnthropicCountTokensRequest,
    "/tokenize": TokenizeRequest,
}
readers = {path: TypeAdapter(kind) for path, kind in kinds.items()}
for line in sys.stdin:
    path, body = json.loads(line)
    try:
        asked = readers[path].validate_python(body)
        for message in getattr(asked, "messages", ()) if path in ("/v1/chat/completions", "/tokenize") else ():
            if not isinstance(message.get("content"), str | None):
                for part in message["content"]:  # checked when it is read
                    if not isinstance(part, str):
                        read_part(part)
        print("taken", flush=True)
    except (ValueError, VLLMValidationError, TypeError):  # a TypeError is a 500 there
        print("refused", flush=True)
"""


def verdicts(made: list[Mutant]) -> list[str]:
    """Return for each mutant whether vLLM's own class accepts it."""
    lines = "".join(json.dumps([mutant.path, mutant.body]) + "\n" for mutant in made)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "vlserve" / "engines" / "compat")}
    command = [sys.executable, "-c", _REAL]
    done = subprocess.run(command, input=lines, env=environment, capture_output=True, text=True, check=False)
    said = [line for line in done.stdout.splitlines() if line in ("taken", "refused")]
    assert len(said) == len(made), done.stderr
    return said


@pytest.mark.full
@pytest.mark.engine
async def test_fake_engines_refuse_only_what_vllm_refuses() -> None:
    made = list(mutants(BODIES))
    said = await asyncio.to_thread(verdicts, made)
    async with served(fake_engine.make_app()) as session:
        statuses = [await status_of(session, mutant.path, mutant.body) for mutant in made]
    taken = [
        f"{mutant.path} {mutant.what}"
        for mutant, status, word in zip(made, statuses, said, strict=True)
        if (status, word) == (400, "taken") and not mutant.what.endswith("content={}")  # an empty list to vLLM
    ]
    assert not taken, "\n".join(taken)
