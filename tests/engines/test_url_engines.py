"""Remote engines: servers like trtllm-serve, and another vlserve."""

import asyncio
import hashlib
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.conftest import Gateway, OpenGateway, Server, data_url, image_part, picture, until, user
from tests.fakes import fake_engine, fake_protocols, fake_trtllm
from vlserve.config.engine_settings import EngineName
from vlserve.config.keys import ApiKey
from vlserve.config.settings import Config
from vlserve.engines import probe
from vlserve.engines.engine import Engine
from vlserve.gateway import server as http_server
from vlserve.gateway.app import create_app
from vlserve.metrics import Metrics

MINE = {"authorization": "Bearer sk-mine"}
KEYS = tuple(ApiKey(name, hashlib.sha256(f"sk-{name}".encode()).digest()) for name in ("mine", "other"))
CHAT = "/v1/chat/completions"
IMAGE = {"type": "image", "source": {"type": "url", "url": data_url()}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
ONE_PICTURE: dict[str, Any] = {"limit_mm_per_prompt": {"image": 1}}
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Outer:
    """A gateway with remote engines. Two clients' keys, so that local engines would get a cache_salt."""

    url: str
    session: aiohttp.ClientSession
    engines: dict[EngineName, Engine]

    def post(self, body: dict[str, Any], path: str = CHAT, **headers: str) -> Any:
        return self.session.post(self.url + path, json=body, headers=MINE | headers)

    async def answer(self, body: dict[str, Any], path: str = CHAT) -> tuple[int, Any, Any]:
        """Status, headers, JSON."""
        async with self.post(body, path) as answer:
            return answer.status, answer.headers, await answer.json()

    async def events(self, body: dict[str, Any]) -> list[Any]:
        async with self.post({**body, "stream": True}) as answer:
            assert answer.status == 200
            lines = [line.removeprefix("data: ") for line in (await answer.text()).split("\n\n") if line]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]

    async def metrics(self) -> str:
        async with self.session.get(f"{self.url}/metrics", headers=MINE) as answer:
            assert answer.status == 200
            return str(await answer.text())


@asynccontextmanager
async def outer(tree: Mapping[Any, dict[str, Any]], key: str, **settings: Any) -> AsyncIterator[Outer]:
    """``tree``: the engines' settings. ``key``: what those servers want to see."""
    server_settings = {"keys": {"mine": {"metrics": True}}}
    config, metrics = Config.model_validate({"engines": tree, "server": server_settings, **settings}), Metrics()
    engines = {name: Engine(name, engine, None, metrics, key) for name, engine in config.engines.items()}
    app = create_app(config, engines, KEYS, metrics)
    server = Server(http_server.configure(app, config.server.model_copy(update={"port": 0}), metrics))
    for engine in engines.values():
        engine.start()
    try:
        async with server.running() as port, aiohttp.ClientSession() as session:
            yield Outer(f"http://127.0.0.1:{port}", session, engines)
    finally:
        for engine in engines.values():
            await engine.stop()


@dataclass
class Theirs:
    """The remote servers, which behave like trtllm-serve."""

    apps: dict[EngineName, web.Application]

    def seen(self, engine: EngineName, path: str = CHAT) -> list[dict[str, Any]]:
        """Requests after the first, which is the readiness check."""
        all_of_them = [one for one in self.apps[engine][fake_trtllm.SEEN] if one["path"] == path]
        return all_of_them[1:] if path == CHAT else all_of_them


@asynccontextmanager
async def over_trtllm(
    counting: int = 404, key: str = fake_trtllm.KEY, engine: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[tuple[Outer, Theirs]]:
    names: tuple[EngineName, ...] = ("text", "vision")
    theirs = Theirs({name: fake_trtllm.make_app(f"their-{name}", counting) for name in names})
    async with AsyncExitStack() as stack:
        tree = {}
        for name, app in theirs.apps.items():
            runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            tree[name] = {"url": url, "model": f"their-{name}", "served_model_name": f"our-{name}", **(engine or {})}
        gateway = await stack.enter_async_context(outer(tree, key, **settings))
        if key == fake_trtllm.KEY:
            await until(lambda: all(engine.is_ready for engine in gateway.engines.values()))
        yield gateway, theirs


def chat(*content: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": user(*content), **fields}


async def test_text_and_pictures_go_to_their_servers_with_nothing_that_only_vllm_knows() -> None:
    async with over_trtllm() as (gateway, theirs):
        status, headers, reply = await gateway.answer(chat("hi", temperature=0, max_completion_tokens=9))
        assert (status, headers["x-vlserve-engine"], reply["usage"]["prompt_tokens"]) == (200, "text", 7)
        assert reply["choices"][0]["message"]["content"] == "one two three"
        asked = chat({"type": "text", "text": "?"}, image_part(), model="our-vision")
        for _ in range(2):  # a picture that was sent before goes as a name to engines of ours alone
            status, headers, _ = await gateway.answer(asked)
            assert (status, headers["x-vlserve-engine"]) == (200, "vision")
        [text] = theirs.seen("text")
        assert text["body"] == chat("hi", temperature=0, max_completion_tokens=9) | {"model": "their-text"}
        assert [one["body"] for one in theirs.seen("vision")] == [asked | {"model": "their-vision"}] * 2


async def test_stream_has_the_usage_that_the_client_asks_for_and_the_log_counts_it_anyhow() -> None:
    async with over_trtllm() as (gateway, theirs):
        *events, last = await gateway.events(chat("hi"))
        assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == "one two three"
        assert last == "[DONE]"
        assert theirs.seen("text")[0]["body"]["stream_options"] == {"include_usage": True}
        events = await gateway.events(chat("hi", stream_options={"include_usage": True}))
        assert (events[-2]["choices"], events[-2]["usage"]["total_tokens"]) == ([], 10)
        assert 'vlserve_completion_tokens_total{key="mine",vlserve_engine="text"} 6.0' in await gateway.metrics()


async def test_tools_are_called_whole_and_streamed() -> None:
    async with over_trtllm() as (gateway, _):
        body = chat("look", tools=[TOOL], tool_choice="auto")
        _, _, reply = await gateway.answer(body)
        called = reply["choices"][0]["message"]["tool_calls"][0]["function"]
        deltas = [event["choices"][0]["delta"] for event in (await gateway.events(body))[:-1]]
        [streamed] = [delta["tool_calls"][0]["function"] for delta in deltas if delta.get("tool_calls")]
        assert called == streamed == {"name": "look", "arguments": '{"x": 1}'}


async def test_server_sees_its_own_key_alone() -> None:
    async with over_trtllm() as (gateway, theirs):
        async with gateway.post(chat("hi"), cookie="a=b", **{"x-api-key": "sk-mine"}) as answer:
            assert answer.status == 200
        await gateway.metrics()
        everything = theirs.apps["text"][fake_trtllm.SEEN]
        assert {one["path"] for one in everything} == {CHAT, "/v1/models", "/metrics"}
        assert {one["headers"]["authorization"] for one in everything} == {f"Bearer {fake_trtllm.KEY}"}
        assert "sk-mine" not in str(everything)
        assert not any("cookie" in one["headers"] for one in everything)


async def test_wrong_key_is_the_operators_matter_not_the_clients(caplog: pytest.LogCaptureFixture) -> None:
    async with over_trtllm(key="sk-wrong") as (gateway, theirs):
        await until(lambda: len(theirs.apps["text"][fake_trtllm.SEEN]) > 0)
        status, headers, reply = await gateway.answer(chat("hi"))
        assert (status, reply["error"]["code"]) == (503, "engine_unavailable")
        assert int(headers["retry-after"]) > 0
        assert "sk-wrong" not in caplog.text + str(reply)


@pytest.mark.parametrize(
    ("fields", "status", "code", "words"),
    [
        ({"structured_outputs": {"choice": ["a"]}}, 400, None, "structured_outputs: Extra inputs are not permitted."),
        ({"bad_words": ["a"]}, 400, None, "bad_words: Extra inputs are not permitted."),
        ({"max_tokens": 2, "max_completion_tokens": 2}, 400, None, "max_completion_tokens: Extra inputs are not"),
        ({"stream_options": {}, "stream": False, "user": "too-long"}, 400, "context_length_exceeded", "9417"),
        ({"user": "too-long", "stream": True}, 400, "context_length_exceeded", "8192"),
        ({"user": "fault"}, 500, "engine_failed", "not a JSON object"),
        ({"user": "busy"}, 429, "rate_limit_exceeded", "has too many requests"),
        ({"user": "down", "stream": True}, 503, "engine_unavailable", "cannot take requests now"),
    ],
)
async def test_errors_are_reported_in_openais_form(fields: dict[str, Any], status: int, code: str, words: str) -> None:
    async with over_trtllm() as (gateway, _):
        given, headers, reply = await gateway.answer(chat("hi", **fields))
    assert (given, reply["error"]["code"]) == (status, code)
    assert set(reply["error"]) == {"message", "type", "param", "code"}
    assert words in reply["error"]["message"]
    assert "loc" not in reply["error"]["message"]
    assert headers.get("retry-after") == ("17" if status in (429, 503) else None)  # the server's own
    if "Extra" in words:
        assert reply["error"]["param"] == words.partition(":")[0]


async def test_stream_that_breaks_off_ends_with_an_error() -> None:
    async with over_trtllm() as (gateway, _):
        first, last = await gateway.events(chat("hi", user="cut"))
    assert first["choices"][0]["delta"] == {"role": "assistant"}
    assert last["error"]["code"] == "engine_unavailable"


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/v1/responses", {"input": "hi"}, 404, "invalid_request_error"),
        ("/v1/messages", {**chat("hi"), "max_tokens": 9}, 404, "not_found_error"),
        ("/v1/messages/count_tokens", chat("hi"), 404, "not_found_error"),
        ("/v1/chat/completions/input_tokens", chat("hi"), 400, "invalid_request_error"),
    ],
)
async def test_what_the_server_lacks_is_said_in_the_clients_form(
    path: str, body: dict[str, Any], status: int, kind: str
) -> None:
    async with over_trtllm() as (gateway, _):
        given, _, reply = await gateway.answer(body, path)
        assert (given, reply["error"]["type"]) == (status, kind)
        assert re.search("does not have this endpoint|cannot count tokens", reply["error"]["message"])
        status, _, reply = await gateway.answer({"prompt": "hi"}, "/v1/completions")
        assert (status, reply["choices"][0]["text"]) == (200, "one two three")


@pytest.mark.parametrize("counting", [404, 400])
async def test_pictures_are_fitted_without_a_server_that_counts(counting: int) -> None:
    """404: it has no /tokenize (TensorRT-LLM); 400: one for plain text (SGLang)."""
    image, engine = {"fit": "shrink"}, {"max_model_len": 2048}
    async with over_trtllm(counting, image=image, engine=engine) as (gateway, theirs):
        text = {"type": "text", "text": "word " * 500}
        status, headers, _ = await gateway.answer(chat(text, image_part(data_url(picture(280, 280)))))
        assert (status, headers["x-vlserve-images"]) == (200, "original=280x280; model=280x280; tokens=100")
        [counted] = theirs.seen("vision", "/tokenize")
        assert counted["body"]["model"] == "their-vision"


async def test_limits_hold_before_the_server_is_asked() -> None:
    async with over_trtllm(request={"max_tokens": 5}, engine={"max_in_flight": 1, "max_queued": 1}) as (
        gateway,
        theirs,
    ):
        status, _, reply = await gateway.answer(chat(*[image_part()] * 9))
        assert (status, reply["error"]["code"]) == (400, "too_many_images")
        status, _, _ = await gateway.answer(chat("hi", max_tokens=6))
        assert status == 400
        assert theirs.seen("text") == theirs.seen("vision") == []

        running = asyncio.create_task(gateway.answer(chat("hi", user="hold")))
        await until(lambda: len(theirs.seen("text")) == 1)
        waiting = asyncio.create_task(gateway.answer(chat("waits")))
        await until_said(gateway, 'vlserve_requests_queued{vlserve_engine="text"} 1.0')
        status, headers, reply = await gateway.answer(chat("too many"))
        assert (status, reply["error"]["code"]) == (429, "rate_limit_exceeded")
        assert headers["retry-after"]
        assert len(theirs.seen("text")) == 1
        theirs.apps["text"][fake_trtllm.HELD].set()
        assert [(await task)[0] for task in (running, waiting)] == [200, 200]
        assert [one["body"]["max_tokens"] for one in theirs.seen("text")] == [5, 5]


async def until_said(gateway: Outer, words: str) -> None:
    async with asyncio.timeout(60):
        while words not in await gateway.metrics():
            await asyncio.sleep(0.02)


async def test_metrics_are_the_gateways_own_where_the_server_has_none(caplog: pytest.LogCaptureFixture) -> None:
    async with over_trtllm() as (gateway, theirs):
        await gateway.answer(chat(image_part()))
        text = await gateway.metrics()
        assert theirs.seen("vision", "/metrics")
    for line in (
        'vlserve_requests_total{reason="has_image",status="200",vlserve_engine="vision"} 1.0',
        'vlserve_images_total{vlserve_engine="vision"} 1.0',
        'vlserve_prompt_tokens_total{key="mine",vlserve_engine="vision"} 7.0',
        'vlserve_engine_ready{vlserve_engine="text"} 1.0',
    ):
        assert line in text
    assert "gpuMemUsage" not in text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_server_that_ends_is_away_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_REMOTE_CHECK_S", 0.05)

    async def start(port: int = 0) -> web.AppRunner:
        runner = web.AppRunner(fake_trtllm.make_app("theirs"), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
        return runner

    runner = await start()
    port = int(runner.addresses[0][1])
    tree = {"text": {"url": f"http://127.0.0.1:{port}", "model": "theirs"}}
    async with outer(tree, fake_trtllm.KEY) as gateway:
        engine = gateway.engines["text"]
        await until(lambda: engine.is_ready)
        await runner.cleanup()
        await until(lambda: not engine.is_ready)
        status, headers, reply = await gateway.answer(chat("hi"))
        assert (status, reply["error"]["code"]) == (503, "engine_unavailable")
        assert int(headers["retry-after"]) >= 1
        async with gateway.session.get(f"{gateway.url}/ready") as answer:
            assert answer.status == 503
        runner = await start(port)
        await until(lambda: engine.is_ready)
        assert (await gateway.answer(chat("hi")))[0] == 200
        await runner.cleanup()


@pytest.fixture
async def two(open_gateway: OpenGateway) -> AsyncIterator[tuple[Outer, Gateway]]:
    """A gateway over another one, whose engines are the fake vLLM and whose key is sk-mine."""
    engines = {"text": {"model": "org/text-7b"}, "vision": {"model": "org/vision-7b"}}
    async with open_gateway({**engines, "vision": engines["vision"] | ONE_PICTURE}, keys=KEYS) as inner:
        tree = {name: {"url": inner.url, "model": f"org/{name}-7b"} for name in ("text", "vision")}
        async with outer(tree, "sk-mine") as gateway:
            await until(lambda: all(engine.is_ready for engine in gateway.engines.values()))
            yield gateway, inner


async def test_longest_prompt_of_another_vlserve_is_known(two: tuple[Outer, Gateway]) -> None:
    gateway, inner = two
    for name in ("text", "vision"):
        assert gateway.engines[name].max_model_len == inner.views[name].max_model_len == fake_engine.MAX_MODEL_LEN


async def test_headers_of_another_vlserve_come_once_and_the_request_can_be_followed(
    two: tuple[Outer, Gateway], caplog: pytest.LogCaptureFixture
) -> None:
    gateway, inner = two
    caplog.set_level(logging.INFO, "vlserve.request")
    async with gateway.post(
        chat(image_part(), unknown=1), traceparent=TRACEPARENT, **{"x-request-id": "r-1"}
    ) as answer:
        assert answer.status == 200
        for name in ("engine", "reason", "images", "dropped"):
            assert len(answer.headers.getall(f"x-vlserve-{name}")) == 1
        assert answer.headers.getall("x-request-id") == ["r-1"]
    seen = inner.seen("vision")[-1]["headers"]
    assert seen["traceparent"].split("-")[1] == TRACEPARENT.split("-")[1]
    assert seen["x-request-id"].startswith("r-1-")  # the same id, made longer by each gateway
    assert "authorization" not in seen


async def test_figures_of_another_vlserves_engines_are_not_reported_as_ones_own(two: tuple[Outer, Gateway]) -> None:
    gateway, _ = two
    text = await gateway.metrics()
    assert "vllm:" not in text
    assert 'vlserve_engine_ready{vlserve_engine="vision"} 1.0' in text
    samples = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(samples) == len(set(samples))


def _away(inner: Gateway) -> dict[str, Any]:
    inner.views["text"].is_ready = False
    return {}


def _ending(inner: Gateway) -> dict[str, Any]:
    return {"user": "core-dies"}


@pytest.mark.parametrize(
    ("prepare", "is_stream", "retry_after"), [(_away, False, "42"), (_away, True, "42"), (_ending, True, None)]
)
async def test_another_vlserve_whose_engine_is_away_is_away(
    two: tuple[Outer, Gateway], prepare: Callable[[Gateway], dict[str, Any]], is_stream: bool, retry_after: str | None
) -> None:
    gateway, inner = two
    body = chat("hi", stream=is_stream, **prepare(inner))
    if retry_after:
        status, headers, reply = await gateway.answer(body)
        assert (status, headers["retry-after"]) == (503, retry_after)
    else:
        *_, reply = await gateway.events(body)
    assert (reply["error"]["type"], reply["error"]["code"]) == ("service_unavailable_error", "engine_unavailable")


async def test_refusals_of_another_vlserve_keep_their_sense(two: tuple[Outer, Gateway]) -> None:
    gateway, _ = two
    asked = chat(image_part(), image_part())
    for path, body in ((CHAT, asked), ("/v1/messages", {**chat(IMAGE, IMAGE), "max_tokens": 9})):
        status, _, reply = await gateway.answer(body, path)
        assert (status, reply["error"]["type"]) == (400, "invalid_request_error")
        assert "1 allowed" in reply["error"]["message"]
    status, _, reply = await gateway.answer(asked)
    assert reply["error"]["code"] == "too_many_images"


async def test_every_protocol_goes_through_another_vlserve(two: tuple[Outer, Gateway]) -> None:
    gateway, inner = two
    cases: list[tuple[str, dict[str, Any], EngineName]] = [
        ("/v1/completions", {"prompt": "hi"}, "text"),
        ("/v1/responses", {"input": "hi"}, "text"),
        ("/v1/messages", {**chat(IMAGE), "max_tokens": 9}, "vision"),
        ("/v1/messages/count_tokens", chat(IMAGE), "vision"),
    ]
    for path, body, engine in cases:
        status, headers, _ = await gateway.answer(body, path)
        assert (status, headers["x-vlserve-engine"]) == (200, engine)
        assert inner.engines[engine][fake_protocols.SEEN][-1]["path"] == path
