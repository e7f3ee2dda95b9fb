"""A remote server that does not serve: the diagnosis in /ready, in the log and in the clients' 503."""

import asyncio
import errno
import logging
import os
import re
import types
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.conftest import REPOSITORY, until
from tests.engines.test_engine_faults import Client, gateway
from vlserve.config.engine_settings import EngineName, EngineSettings
from vlserve.config.settings import Config
from vlserve.engines import probe, remote
from vlserve.engines.engine import Engine
from vlserve.engines.view import Activity, Address
from vlserve.metrics import Metrics

HTML = "<html><body>Welcome</body></html>"
ANSWER = {"object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}}]}
NO_MODEL = {"message": "The model `theirs` does not exist.", "type": "NotFoundError", "param": "model", "code": 404}
NO_IMAGE = {"message": "theirs is not a multimodal model", "type": "BadRequestError", "param": None, "code": 400}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_POLL_S", 0.02)


@asynccontextmanager
async def engine_at(url: str, name: EngineName = "text") -> AsyncIterator[Client]:
    config = Config.model_validate({"engines": {name: {"url": url, "model": "theirs", "url_api_key_env": "K"}}})
    engine = Engine(name, dict(config.engines.items())[name], None, Metrics(), "sk-theirs")
    engine.start()
    try:
        async with gateway({name: engine}) as client:
            yield client
    finally:
        await engine.stop()


@asynccontextmanager
async def served(answers: Callable[[], web.Response | Awaitable[web.Response]]) -> AsyncIterator[str]:
    """A server that answers every request in one way; its address."""

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        answer = answers()
        return answer if isinstance(answer, web.Response) else await answer

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def html(status: int) -> Callable[[], web.Response]:
    return lambda: web.Response(status=status, text=HTML, content_type="text/html")


def error(status: int, message: Any) -> Callable[[], web.Response]:
    return lambda: web.json_response({"error": message}, status=status)


def redirect() -> web.Response:
    return web.Response(status=308, headers={"location": "https://secret.example/v1/chat/completions"})


async def silence() -> web.Response:
    await asyncio.sleep(600)
    return web.Response()


async def check(client: Client, cause: str, setting: str, caplog: pytest.LogCaptureFixture) -> None:
    """In /ready with the setting that decides; in a client's 503 without it, and without addresses; in the log once."""
    [(name, engine)] = client.engines.items()
    await until(lambda: engine.diagnosis is not None)
    async with client.session.get(f"{client.url}/ready") as answer:
        state = (await answer.json())["engines"][name]
        assert answer.status == 503
    assert cause in state["problem"]
    assert setting in state["problem"]
    assert state["state"] == "starting"
    status, headers, reply = await client.answer()
    message = reply["error"]["message"]
    assert (status, reply["error"]["code"]) == (503, "engine_unavailable")
    assert int(headers["retry-after"]) >= 1
    assert cause in message
    for shown in (message, state["problem"]):
        assert not re.search(r"127\.0\.0\.1|localhost|secret|sk-|:\d{4,}", shown)
    assert "url_api_key_env" not in message
    warnings = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert [one for one in warnings if cause in one] == warnings
    assert len(warnings) == 1


@pytest.mark.parametrize(
    ("answers", "name", "cause", "setting"),
    [
        (error(404, NO_MODEL), "text", "does not have the requested model", "`model`"),
        (
            error(404, 'model "theirs" not found, try pulling it first'),
            "text",
            "does not have the requested model",
            "`model`",
        ),
        (
            error(400, "Invalid model name passed in model=theirs"),
            "text",
            "does not have the requested model",
            "`model`",
        ),
        (html(401), "text", "refuses the API key", "`url_api_key_env`"),
        (error(403, "forbidden"), "text", "refuses the API key", "`url_api_key_env`"),
        (html(200), "text", "not from an OpenAI-style server", "`url`"),
        (lambda: web.json_response({"status": "ok"}), "text", "not from an OpenAI-style server", "`url`"),
        (html(400), "text", "not from an OpenAI-style server", "`url`"),
        (html(404), "text", "has no /v1/chat/completions", "without /v1"),
        (lambda: web.json_response({"detail": "Not Found"}, status=404), "text", "has no /v1/chat", "`url`"),
        (html(405), "text", "has no /v1/chat/completions", "`url`"),
        (redirect, "text", "redirects requests", "`url`"),
        (error(429, "slow down"), "text", "accepts no more requests", "`url_api_key_env`"),
        (html(503), "text", "cannot serve now", "`url`"),
        (error(400, NO_IMAGE), "vision", "refuses a plain request", "limit_mm_per_prompt"),
    ],
)
async def test_unusable_answers_are_diagnosed(
    answers: Callable[[], web.Response], name: EngineName, cause: str, setting: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked = list[int]()

    def counted() -> web.Response:
        asked.append(1)
        return answers()

    async with served(counted) as url, engine_at(url, name) as client:
        await until(lambda: len(asked) > 3)
        await check(client, cause, setting, caplog)


async def test_path_that_has_v1_already(caplog: pytest.LogCaptureFixture) -> None:
    async def routed(request: web.Request) -> web.Response:
        is_there = request.path == "/v1/chat/completions"
        return web.json_response(ANSWER if is_there else {"detail": "Not Found"}, status=200 if is_there else 404)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", routed)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/chat/completions"
    async with engine_at(url) as client:
        await check(client, "has no /v1/chat/completions", "without /v1", caplog)
    await runner.cleanup()


async def test_server_that_never_answers_is_diagnosed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(probe, "_PROGRESS_S", 0.1)
    async with served(silence) as url, engine_at(url) as client:
        await check(client, "not answered it yet", "`ready_timeout_s`", caplog)


async def test_closed_port_is_diagnosed(caplog: pytest.LogCaptureFixture) -> None:
    async with served(redirect) as url:
        pass
    async with engine_at(url) as client:
        await check(client, "Nothing listens", "`url`", caplog)


async def test_server_without_tls_is_diagnosed(caplog: pytest.LogCaptureFixture) -> None:
    async with served(html(200)) as url, engine_at(url.replace("http:", "https:")) as client:
        await check(client, "No secure connection", "https://", caplog)


async def test_server_that_closes_the_connection_is_diagnosed(caplog: pytest.LogCaptureFixture) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server, engine_at(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
        await check(client, "closes the connection", "`url`", caplog)


@pytest.mark.parametrize(
    ("kind", "words"),
    [(aiohttp.ClientConnectorDNSError, "host name"), (aiohttp.ClientConnectorCertificateError, "certificate")],
)
def test_faults_that_need_a_network(kind: type[Any], words: str) -> None:
    assert words in remote.of_fault(kind(types.SimpleNamespace(host="h", port=1, ssl=True), OSError("x"))).cause


async def test_unparsable_answer_is_a_problem_and_not_a_bug() -> None:
    nested = b'{"error":' + b"[" * 100_000
    assert remote.of_answer(200, nested) is remote.NOT_OPENAI
    assert remote.of_answer(500, nested) is not None
    async with served(lambda: web.Response(body=nested, content_type="application/json")) as url:
        settings = EngineSettings(model="m", url=url, max_model_len=7)
        asking = probe.Probe("text", settings, None, Address(url), Activity())
        async with aiohttp.ClientSession() as session:
            assert await asking.max_model_len(session) == 7


async def test_problem_is_cleared_when_the_server_recovers_and_logged_again_when_it_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(probe, "_REMOTE_CHECK_S", 0.1)
    now = [error(404, NO_MODEL)]
    async with served(lambda: now[0]()) as url, engine_at(url) as client:
        text = client.engines["text"]
        await check(client, "does not have the requested model", "`model`", caplog)
        now[0] = lambda: web.json_response(ANSWER)
        await until(lambda: text.is_ready)
        assert text.diagnosis is None
        assert (await client.answer())[0] == 200
        now[0] = html(503)
        await until(lambda: not text.is_ready)
        assert "cannot serve now" in str(text.diagnosis)
        assert "problem" in (await client.ready())[1]
        await until(lambda: "text engine: The server reports that it cannot serve now." in caplog.text)


async def test_local_resource_shortage_is_not_a_problem_of_the_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shortages = list[OSError]()

    def question(_: probe.Probe, __: aiohttp.ClientSession) -> Any:
        shortages.append(fault := OSError(errno.EMFILE, "Too many open files"))
        raise aiohttp.ClientConnectorError(types.SimpleNamespace(host="h", port=1, ssl=True), fault)  # type: ignore[arg-type]

    monkeypatch.setattr(probe.Probe, "_post_one_token", question)
    async with engine_at("http://127.0.0.1:9") as client:
        await until(lambda: len(shortages) > 3)
        assert client.engines["text"].diagnosis is None
    assert "Nothing listens" not in caplog.text


def test_every_problem_is_documented() -> None:
    rows = "".join(f"| {one.symptom} | {one.cause} | {one.remedy} |\n" for one in remote.DIAGNOSES)
    table = f"| it answers | `problem` | what to change |\n|---|---|---|\n{rows}"
    path = REPOSITORY / "docs" / "troubleshooting.md"
    text = path.read_text()
    written = re.sub(
        r"(?<=<!-- remote -->\n).*?(?=<!-- end of remote -->)", lambda _: table, text, count=1, flags=re.DOTALL
    )
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(written)
    assert "<!-- remote -->" in text
    assert written == text, "run: UPDATE_DOCS=1 pytest tests/engines/test_remote.py"
