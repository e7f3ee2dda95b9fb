"""What clients see when an engine dies: readiness, open requests, later requests."""

import asyncio
import json
import os
import pathlib
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from fastapi import FastAPI
from starlette.types import Message

from tests.conftest import Server, session_of, until, user
from tests.engines.fleets import fake, fleet_of
from tests.fakes import fake_engine
from vlserve.config.engine_settings import EngineName, EngineSettings
from vlserve.config.settings import Config
from vlserve.engines import engine, plan, probe, restarts
from vlserve.engines.engine import Engine
from vlserve.engines.hang_limits import HangLimits
from vlserve.engines.view import Activity, Address
from vlserve.gateway import server as http_server
from vlserve.gateway.app import create_app
from vlserve.metrics import Metrics

CHAT = "/v1/chat/completions"
DEATHS = 20


class Client:
    """Of a gateway over supervised engines."""

    def __init__(
        self, app: FastAPI, url: str, session: aiohttp.ClientSession, engines: dict[EngineName, Engine]
    ) -> None:
        self.app = app
        self.url = url
        self.session = session
        self.engines = engines

    def post(self, wish: str = "", *, stream: bool = False, path: str = CHAT) -> Any:
        body = {"messages": user("hi"), "user": wish, "stream": stream}
        return self.session.post(self.url + path, json=body)

    async def answer(self, wish: str = "", path: str = CHAT) -> tuple[int, dict[str, str], Any]:
        """Status, headers (names in lower case), JSON."""
        async with self.post(wish, path=path) as answer:
            return answer.status, {name.lower(): text for name, text in answer.headers.items()}, await answer.json()

    async def ready(self) -> tuple[int, dict[str, Any]]:
        async with self.session.get(f"{self.url}/ready") as answer:
            return answer.status, (await answer.json())["engines"]["text"]


@asynccontextmanager
async def gateway(engines: dict[EngineName, Engine], **settings: Any) -> AsyncIterator[Client]:
    """The app with engines that the caller starts and stops."""
    tree = {name: one.settings.model_dump(exclude_defaults=True) for name, one in engines.items()}
    config, metrics = Config.model_validate({"engines": tree, **settings}), Metrics()
    app = create_app(config, engines, (), metrics)
    server = Server(http_server.configure(app, config.server.model_copy(update={"port": 0}), metrics))
    async with server.running() as port, aiohttp.ClientSession() as session:
        yield Client(app, f"http://127.0.0.1:{port}", session, engines)


@asynccontextmanager
async def supervised(folder: pathlib.Path, *faults: str) -> AsyncIterator[Client]:
    """A gateway over a text engine that is a real child process."""
    async with fleet_of(folder, text=fake(*faults)) as fleet, gateway(dict(fleet.engines)) as client:
        await until(lambda: fleet.engines["text"].is_ready)
        yield client


@asynccontextmanager
async def elsewhere(folder: str = "", /, **settings: Any) -> AsyncIterator[tuple[Client, web.Application]]:
    """A gateway over a text engine at a URL, served in this process."""
    app = fake_engine.make_app()
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    tree = {"url": f"http://127.0.0.1:{runner.addresses[0][1]}{folder}", "model": "theirs", **settings}
    config = Config.model_validate({"engines": {"text": tree}})
    assert config.engines.text
    text = Engine("text", config.engines.text, None, Metrics())
    text.start()
    try:
        async with gateway({"text": text}) as client:
            await until(lambda: text.is_ready)
            yield client, app
    finally:
        await text.stop()
        await runner.cleanup()


@pytest.fixture(autouse=True)
def _restarts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run counts as long enough to reset the backoff, so that an engine can die twenty times."""
    monkeypatch.setattr(restarts, "STABLE_S", 0.0)
    monkeypatch.setattr(restarts, "FIRST_BACKOFF_S", 0.05)
    monkeypatch.setattr(restarts, "BREAKER_WINDOW_S", 0.0)
    monkeypatch.setattr(probe, "_POLL_S", 0.05)
    monkeypatch.setattr(engine, "_HUNG_STOP_S", 0.05)


async def last_event(answer: aiohttp.ClientResponse) -> Any:
    *_, last = [line for line in (await answer.text()).split("\n\n") if line.startswith("data: ")]
    return last if last == "data: [DONE]" else json.loads(last.removeprefix("data: "))


def core_of(leader: int) -> int:
    titles = {pid: pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() for pid in session_of(leader)}
    return next(pid for pid, title in titles.items() if title.startswith(b"VLLM::EngineCore"))


@pytest.mark.parametrize("fault", ["core", "die-on-request"])
async def test_ready_reports_a_loss_found_by_a_stream_at_once(short_folder: pathlib.Path, fault: str) -> None:
    async with supervised(short_folder, fault) as client:
        text = client.engines["text"]
        states, pids = list[tuple[int, str]](), set[int | None]({None})
        for _ in range(DEATHS):
            await until(lambda: text.is_ready and text.pid not in pids)
            pids.add(text.pid)
            answer = await client.post("drip:60", stream=True)
            if fault == "core":
                await answer.content.readany()
                os.kill(core_of(text.pid or 0), signal.SIGKILL)
            assert (await last_event(answer))["error"]["code"] == "engine_unavailable"
            status, state = await client.ready()
            states.append((status, state["state"]))
        assert [one for one in states if one[0] != 503 or one[1] == "ready"] == []


@pytest.mark.parametrize(
    ("wish", "status", "code"), [("die-late", 503, "engine_unavailable"), ("refuse-late", 500, "engine_failed")]
)
async def test_stream_cut_before_its_first_event_does_not_count_as_an_engine_exit(
    short_folder: pathlib.Path, wish: str, status: int, code: str
) -> None:
    """vLLM cuts a stream of responses that it refuses, as the end of its process does."""
    async with supervised(short_folder) as client:
        body = {"input": "hi", "user": wish, "stream": True}
        for _ in range(3):
            await until(lambda: client.engines["text"].is_ready)
            async with client.session.post(f"{client.url}/v1/responses", json=body) as answer:
                assert (answer.status, (await answer.json())["error"]["code"]) == (status, code)
                assert ("retry-after" in answer.headers) == (status == 503)


async def test_request_after_an_engine_exit_is_refused_as_unavailable(short_folder: pathlib.Path) -> None:
    async with supervised(short_folder, "die-on-request") as client:
        answer = await client.post("drip:60", stream=True)
        assert "error" in await last_event(answer)
        status, headers, reply = await client.answer()
        assert (status, reply["error"]["code"]) == (503, "engine_unavailable")
        assert "is not ready" in reply["error"]["message"]
        assert int(headers["retry-after"]) >= 1


async def test_broken_stream_of_a_healthy_engine_triggers_one_check(short_folder: pathlib.Path) -> None:
    async with supervised(short_folder) as client:
        text = client.engines["text"]
        first, other = text.pid, await client.post("drip:2", stream=True)
        for _ in range(3):
            assert "error" in await last_event(await client.post("half-event", stream=True))
            await until(lambda: text.is_ready)
            assert (await client.answer())[0] == 200
        assert await last_event(other) == "data: [DONE]"
        assert (text.pid, text.state) == (first, "ready")


@pytest.mark.parametrize("stream", [False, True])
async def test_requests_end_when_a_url_engine_exits(monkeypatch: pytest.MonkeyPatch, *, stream: bool) -> None:
    """The server stops answering, but its connections stay open. One request is open, one waits in the queue."""
    monkeypatch.setattr(probe, "_REMOTE_CHECK_S", 0.1)
    async with elsewhere(max_in_flight=1) as (client, theirs):
        wish = "drip:600" if stream else "decode:600"
        running = asyncio.create_task(client.post(wish, stream=stream).__aenter__())
        await until(lambda: theirs[fake_engine.RUNNING][0] == 1)
        waiting = asyncio.create_task(client.answer())
        theirs[fake_engine.FAULTS].add("models-fail")
        async with asyncio.timeout(60):
            answer = await running
            if stream:
                assert (await last_event(answer))["error"]["code"] == "engine_unavailable"
            else:
                assert (answer.status, (await answer.json())["error"]["code"]) == (503, "engine_unavailable")
                assert int(answer.headers["retry-after"]) >= 1
            status, _, reply = await waiting
        assert (status, reply["error"]["code"]) == (503, "engine_unavailable")
        await until(lambda: theirs[fake_engine.RUNNING][0] == 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_complete_answer_reaches_a_slow_client_after_the_engines_end(*, stream: bool) -> None:
    """The client reads nothing until the engine, which has finished the answer, has ended."""
    async with elsewhere() as (client, _):
        body = json.dumps({"messages": user("hi"), "stream": stream, "user": "at-once"}).encode()
        blocked, taken, sent = asyncio.Event(), asyncio.Event(), list[bytes]()

        async def receive() -> Message:
            if body_parts:
                return {"type": "http.request", "body": body_parts.pop()}
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            blocked.set()
            await taken.wait()
            sent.append(message.get("body", b""))

        body_parts = [body]
        scope = {"type": "http", "method": "POST", "path": CHAT, "query_string": b"", "headers": [], "app": client.app}
        answering = asyncio.create_task(client.app({**scope, "raw_path": CHAT.encode()}, receive, send))
        await asyncio.wait_for(blocked.wait(), 60)
        client.engines["text"].activity.end()
        taken.set()
        await asyncio.wait_for(answering, 60)
    assert b"engine_unavailable" not in b"".join(sent)
    assert b"".join(sent).endswith(b"data: [DONE]\n\n" if stream else b"}")


async def test_broken_stream_of_a_url_engine_triggers_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine stays ready until the server has failed to answer, because one lost connection proves little."""
    monkeypatch.setattr(probe, "_REMOTE_CHECK_S", 3600.0)
    async with elsewhere() as (client, theirs):
        text = client.engines["text"]
        assert "error" in await last_event(await client.post("half-event", stream=True))
        assert (await client.ready())[0] == 200
        assert (await client.answer())[0] == 200
        theirs[fake_engine.FAULTS].add("models-fail")
        assert "error" in await last_event(await client.post("half-event", stream=True))
        await until(lambda: not text.is_ready)


async def test_token_count_ends_when_its_engine_exits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_REMOTE_CHECK_S", 0.1)
    async with elsewhere() as (client, theirs):
        theirs[fake_engine.FAULTS].add("tokenize-hangs")
        counting = asyncio.create_task(client.answer(path=f"{CHAT}/input_tokens"))
        await until(lambda: any(one.get("path") == "/tokenize" for one in theirs[fake_engine.SEEN]))
        theirs[fake_engine.FAULTS].add("models-fail")
        async with asyncio.timeout(30):  # a count may take 60 s
            status, _, reply = await counting
        assert (status, reply["error"]["code"]) == (503, "engine_unavailable")


async def test_requests_end_when_a_hung_engine_ignores_sigterm(
    short_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is stopped, so it ignores SIGTERM, and its sockets stay open until it is killed."""
    monkeypatch.setattr(plan, "hang_limits", lambda *_, **__: HangLimits(5.0, 5.0))
    monkeypatch.setattr(engine, "_HUNG_STOP_S", 600.0)
    async with supervised(short_folder) as client:
        text = client.engines["text"]
        answer = await client.post("drip:600", stream=True)
        await answer.content.readany()
        [server] = [pid for pid in session_of(text.pid or 0) if pid != text.pid]
        os.kill(server, signal.SIGSTOP)
        async with asyncio.timeout(60):
            assert (await last_event(answer))["error"]["code"] == "engine_unavailable"
        assert text.state == "stopping"
        os.kill(server, signal.SIGKILL)


def ended_unread(script: str) -> subprocess.Popen[bytes]:
    """A process that has ended, and whose exit status was not read yet."""
    process = subprocess.Popen(["/bin/sh", "-c", script])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process


@pytest.mark.parametrize(
    ("script", "ending"), [("kill -9 $$", "died: killed by SIGKILL"), ("exit 3", "died: exit code 3")]
)
async def test_death_of_an_inner_process_has_its_exit_status_until_its_parent_has_read_that(
    script: str, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_REMOTE_CHECK_S", 0.0)
    settings = EngineSettings(model="m", url="http://x")
    watching: Any = probe.Probe("text", settings, None, Address("http://x"), Activity())
    core = ended_unread(script)
    inner = {os.getpid(): "VLLM::Worker", core.pid: "VLLM::EngineCore"}
    assert await watching.until_it_fails(None, inner) == f"its process VLLM::EngineCore {ending}"
    core.wait()
    assert await watching.until_it_fails(None, inner) == "its process VLLM::EngineCore died"
