"""`vlserve smoke`: the judgement of answers, with a server whose answers a test sets."""

import asyncio
import json
import pathlib
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from tests.conftest import REPOSITORY, Gateway
from vlserve.commands.smoke import smoke

BOX = '[{"bbox_2d": [170, 372, 470, 410], "label": "button"}]'
RIGHT: dict[str, Any] = {
    "fact": "The capital of France is Paris.",
    "picture": 'The button says "Sign in".',
    "tool": {"name": "get_weather", "arguments": '{"city": "Berlin"}'},
    "box": BOX,
    "stream": ["7 + 5", " = 12.", None],
}
# The check, its wrong answer, and what the result says.
WRONG: list[tuple[str, Any, str]] = [
    ("fact", "The capital of France is Madrid.", "does not contain 'Paris'"),
    ("fact", 503, "status 503: The engine is away."),
    ("picture", "It is a picture.", "does not contain 'Sign in'"),
    ("tool", "It is sunny.", "no tool call, but It is sunny."),
    ("tool", {"name": "get_weather", "arguments": '{"city": "Paris"}'}, 'get_weather({"city": "Paris"}) instead of'),
    ("tool", {"name": "get_weather", "arguments": '{"city":'}, "instead of"),
    ("box", "It is at the bottom.", "no box: It is at the bottom."),
    ("box", BOX.replace("372", "72").replace("410", "110"), "outside the button"),
    ("stream", ["7 + 5 = 12.", None], "came in 1 piece"),
    ("stream", ["7 + 5", " = 13.", None], "does not contain '12'"),
    ("stream", ["7 + 5", " = 12."], "does not end with [DONE]"),
]


def kind_of(body: dict[str, Any]) -> str:
    content = json.dumps(body["messages"])
    if body.get("stream"):
        return "stream"
    if body.get("tools"):
        return "tool"
    return ("box" if "bbox" in content else "picture") if "image_url" in content else "fact"


class Server:
    """A vlserve with prepared answers; ``answers`` by check: a text, a tool call, a status, or pieces of a stream."""

    def __init__(self) -> None:
        self.answers = dict(RIGHT)
        self.engines: dict[str, Any] = {"text": {}, "vision": {}}
        self.keys = set[str | None]()

    async def ready(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ready", "engines": self.engines})

    async def chat(self, request: web.Request) -> web.Response:
        self.keys.add(request.headers.get("authorization"))
        answer = self.answers[kind_of(await request.json())]
        if isinstance(answer, int):
            return web.json_response({"error": {"message": "The engine is away."}}, status=answer)
        if isinstance(answer, list):
            chunks = [{"choices": [{"delta": {"content": piece}}]} for piece in answer if piece]
            events = [json.dumps(one) for one in chunks] + ["[DONE]"] * (None in answer)
            return web.Response(text="".join(f"data: {event}\n\n" for event in events))
        message = {"tool_calls": [{"function": answer}]} if isinstance(answer, dict) else {"content": answer}
        headers = {"x-vlserve-images": "640x480->644x476=391"}
        return web.json_response({"choices": [{"message": message}]}, headers=headers)


@pytest.fixture
async def server(unused_tcp_port_factory: Any) -> AsyncIterator[tuple[Server, str]]:
    made, app, port = Server(), web.Application(client_max_size=2**20), unused_tcp_port_factory()
    app.add_routes([web.get("/ready", made.ready), web.post("/v1/chat/completions", made.chat)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield made, f"http://127.0.0.1:{port}"
    await runner.cleanup()


async def results(url: str, key: str | None = None) -> dict[str, smoke.Result]:
    return {one.name: one async for one in smoke.run(url, key, 30)}


async def test_right_answers_pass_and_the_key_is_sent(server: tuple[Server, str]) -> None:
    made, url = server
    found = await results(url, "sk-mine")
    assert [str(one) for one in found.values() if not one.is_right] == []
    assert list(found) == ["fact", "picture", "tool", "box", "stream"]
    assert made.keys == {"Bearer sk-mine"}


@pytest.mark.parametrize(("check", "answer", "expected"), WRONG)
async def test_wrong_answer_is_found_and_described(
    server: tuple[Server, str], check: str, answer: Any, expected: str
) -> None:
    made, url = server
    made.answers[check] = answer
    found = await results(url)
    assert [name for name, one in found.items() if not one.is_right] == [check]
    assert expected in found[check].text


async def test_service_without_vision_is_asked_about_no_picture(server: tuple[Server, str]) -> None:
    made, url = server
    del made.engines["vision"]
    assert list(await results(url)) == ["fact", "tool", "stream"]


async def test_fake_engines_fail_every_check(gateway: Gateway) -> None:
    found = await results(gateway.url)
    assert {name: one.is_right for name, one in found.items()} == dict.fromkeys(RIGHT, False)


def test_exit_code_is_1_if_nothing_answers(unused_tcp_port: int, tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-m", "vlserve.cli", "smoke", "--base-url", f"http://127.0.0.1:{unused_tcp_port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=REPOSITORY, check=False)
    assert done.returncode == 1
    assert "No service answers at" in done.stdout


@pytest.mark.parametrize("suffix", ["/v1", "/v1/", "/"])
async def test_base_url_may_end_like_that_of_a_client(gateway: Gateway, suffix: str) -> None:
    command = [sys.executable, "-m", "vlserve.cli", "smoke", "--base-url", gateway.url + suffix]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=REPOSITORY)
    shown, _ = await process.communicate()
    assert b"does not answer like vlserve" not in shown
    assert b"fact" in shown


@pytest.mark.parametrize("name", ["smoke", "compare", "batch", "testgen"])
def test_base_url_without_a_scheme_is_refused(name: str, tmp_path: pathlib.Path) -> None:
    files = {"batch": [str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out.jsonl")]}.get(name, [])
    command = [sys.executable, "-m", "vlserve.cli", name, *files, "--base-url", "127.0.0.1:8000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=REPOSITORY, check=False)
    assert done.returncode == 2
    assert "--base-url '127.0.0.1:8000' must start with http:// or https://." in done.stderr
