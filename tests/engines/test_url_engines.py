"""Engines at a URL that are not vLLM: requests, errors, limits and metrics."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web

from tests.conftest import data_url, image_part, picture, until
from tests.engines.url_gateways import CHAT, Outer, chat, outer
from tests.fakes import fake_trtllm
from vlserve.config.engine_settings import EngineName
from vlserve.engines import probe

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


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


async def test_requests_have_no_vllm_only_fields() -> None:
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


async def test_stream_has_requested_usage_and_the_log_always_has_it() -> None:
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


async def test_server_receives_only_its_own_key() -> None:
    async with over_trtllm() as (gateway, theirs):
        async with gateway.post(chat("hi"), cookie="a=b", **{"x-api-key": "sk-mine"}) as answer:
            assert answer.status == 200
        await gateway.metrics()
        everything = theirs.apps["text"][fake_trtllm.SEEN]
        assert {one["path"] for one in everything} == {CHAT, "/v1/models", "/metrics"}
        assert {one["headers"]["authorization"] for one in everything} == {f"Bearer {fake_trtllm.KEY}"}
        assert "sk-mine" not in str(everything)
        assert not any("cookie" in one["headers"] for one in everything)


async def test_wrong_upstream_key_is_a_server_error(caplog: pytest.LogCaptureFixture) -> None:
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
async def test_unsupported_endpoints_are_reported_in_the_clients_protocol(
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


async def test_limits_are_checked_before_the_server_is_called() -> None:
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


async def test_stopped_server_is_unavailable_until_it_returns(monkeypatch: pytest.MonkeyPatch) -> None:
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
