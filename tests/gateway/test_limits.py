"""Limits of the gateway: keys, body sizes, permits, the queue and timeouts."""

import asyncio
import hashlib
import json
import logging
from typing import Any

import pytest

from tests.conftest import Gateway, OpenGateway, until, user
from tests.gateway.events import events, text_of
from vlserve.config.keys import ApiKey

KEY = ApiKey("ci", hashlib.sha256(b"sk-secret").digest())


async def test_too_large_a_body_is_a_413_with_and_without_content_length(open_gateway: OpenGateway) -> None:
    async with open_gateway(server={"max_body_bytes": 1000}) as gateway:
        body = json.dumps({"messages": user("x" * 2000)}).encode()

        async def chunked() -> Any:
            yield body

        for data in (body, chunked()):
            headers = {"content-type": "application/json"}
            async with gateway.session.post(f"{gateway.url}/v1/chat/completions", data=data, headers=headers) as answer:
                assert (answer.status, (await answer.json())["error"]["code"]) == (413, "request_too_large")
        async with gateway.post({"messages": user("small")}) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/v1/models/auto", "/metrics"])
@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Bearer ", "Basic sk-secret", "sk-secret", "Bearer sk-secret2"]
)
async def test_routes_need_the_key(open_gateway: OpenGateway, path: str, header: str | None) -> None:
    async with open_gateway(keys=(KEY,)) as gateway:
        headers = {"authorization": header} if header else {}
        method = "POST" if path.endswith("completions") else "GET"
        async with gateway.session.request(method, gateway.url + path, headers=headers, data=b"{}") as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (401, "invalid_api_key")


async def test_valid_key_is_admitted_and_probes_need_none(open_gateway: OpenGateway) -> None:
    async with open_gateway(keys=(KEY,)) as gateway:
        headers = {"authorization": "Bearer sk-secret"}
        async with gateway.post({"messages": user("x")}, headers=headers) as answer:
            assert answer.status == 200
        assert "authorization" not in gateway.seen("text")[0]["headers"]
        for path in ("/health", "/ready"):
            async with gateway.get(path) as answer:
                assert answer.status == 200


async def test_full_engine_is_a_429_with_retry_after(open_gateway: OpenGateway) -> None:
    engines = {"text": {"model": "t", "max_in_flight": 1}}
    async with open_gateway(engines=engines, server={"queue_timeout_s": 0.2}) as gateway:
        drip = await gateway.post({"messages": user("x"), "user": "drip:600", "stream": True})
        async with gateway.post({"messages": user("x")}) as answer:
            assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        drip.close()
        await until(lambda: gateway.running("text") == 0)
        async with gateway.post({"messages": user("x")}) as answer:
            assert answer.status == 200


async def test_request_that_takes_too_long_is_a_504(open_gateway: OpenGateway) -> None:
    body = {"messages": user("x"), "user": "hang"}
    async with open_gateway(server={"request_timeout_s": 0.2}) as gateway, gateway.post(body) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (504, "engine_timeout")


async def test_stream_that_takes_too_long_ends_with_an_error(open_gateway: OpenGateway) -> None:
    body = {"messages": user("x"), "user": "drip", "stream": True}
    async with open_gateway(server={"request_timeout_s": 3}) as gateway, gateway.post(body) as answer:
        assert answer.status == 200
        assert events(await answer.text())[-1]["error"]["code"] == "engine_timeout"


async def test_a_stream_gets_comments_only_after_the_queue(open_gateway: OpenGateway) -> None:
    """In the queue it can still become a 429, which clients retry."""
    engines = {"text": {"model": "t", "max_in_flight": 1, "max_queued": 4}}
    server = {"sse_keep_alive_s": 0.02, "queue_timeout_s": 2}
    async with open_gateway(engines=engines, server=server) as gateway:
        drip = await gateway.post({"messages": user("x"), "user": "drip:600", "stream": True})
        for is_stream in (True, False):
            async with gateway.post({"messages": user("x"), "stream": is_stream}) as answer:
                assert (answer.status, answer.headers["retry-after"]) == (429, "1")
                assert (await answer.json())["error"]["code"] == "rate_limit_exceeded"
        drip.close()
        await until(lambda: gateway.running("text") == 0)
        async with gateway.post({"messages": user("x"), "user": "slow", "stream": True}) as answer:
            text = await answer.text()
        assert text_of(events(text.replace(": waiting\n\n", ""))) == "one two three"
        assert text.count(": waiting\n\n") >= 2


async def test_requests_wait_for_a_permit(open_gateway: OpenGateway) -> None:
    async with open_gateway(engines={"text": {"model": "t", "max_in_flight": 1}}) as gateway:

        async def ask() -> int:
            async with gateway.post({"messages": user("x"), "user": "work:0.1"}) as answer:
                return int(answer.status)

        assert await asyncio.gather(*(ask() for _ in range(5))) == [200] * 5


async def test_keys_are_separated_in_the_engines_cache_and_in_the_metrics(open_gateway: OpenGateway) -> None:
    keys = [ApiKey(name, hashlib.sha256(name.encode()).digest()) for name in ("ana", "bo", "ops")]
    async with open_gateway(keys=tuple(keys), server={"keys": {"ops": {"metrics": True}}}) as gateway:
        for name in ("ana", "bo", "ana"):
            async with gateway.post({"messages": user("x")}, headers={"authorization": f"Bearer {name}"}) as answer:
                assert answer.status == 200
        salts = [seen["body"]["cache_salt"] for seen in gateway.seen("text")]
        assert salts[0] == salts[2] != salts[1]
        async with gateway.get("/metrics", headers={"authorization": "Bearer ops"}) as answer:
            text = await answer.text()
        assert 'vlserve_completion_tokens_total{key="ana",vlserve_engine="text"} 6.0' in text
        assert 'vlserve_prompt_tokens_total{key="bo",vlserve_engine="text"} 7.0' in text


async def test_body_that_does_not_arrive_is_a_408(open_gateway: OpenGateway) -> None:
    async def endless() -> Any:
        while True:
            yield b" "
            await asyncio.sleep(0.05)

    headers = {"content-type": "application/json"}
    async with (
        open_gateway(server={"body_timeout_s": 0.5}) as gateway,
        gateway.session.post(f"{gateway.url}/v1/chat/completions", data=endless(), headers=headers) as answer,
    ):
        assert (answer.status, (await answer.json())["error"]["code"]) == (408, "request_timeout")


async def test_refusals_are_logged_with_their_key(open_gateway: OpenGateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vlserve.request")
    async with open_gateway(keys=(KEY,), server={"key_limits": {"requests_per_minute": 1}}) as gateway:
        headers = {"authorization": "Bearer sk-secret"}
        for expected in (200, 429):
            async with gateway.post({"messages": user("x")}, headers=headers) as answer:
                assert answer.status == expected
        assert int(answer.headers["retry-after"]) > 50
        async with gateway.get("/nothing", headers=headers) as answer:
            assert answer.status == 404
    fields = [record.__dict__["fields"] for record in caplog.records if record.getMessage() == "refused"]
    assert [(one["key"], one["status"], one["error"]) for one in fields] == [
        ("ci", 429, "rate_limit_exceeded"),
        ("ci", 404, "not_found"),
    ]


async def test_errors_of_caps_name_the_setting(open_gateway: OpenGateway) -> None:
    async with open_gateway(request={"max_n": 2, "max_tokens": 10, "max_stop": 1, "max_top_logprobs": 3}) as gateway:
        for field, value, setting in (
            *(("n", 3, "max_n"), ("max_tokens", 11, "max_tokens"), ("max_completion_tokens", 1e9, "max_tokens")),
            *(("stop", ["a", "b"], "max_stop"), ("top_logprobs", 4, "max_top_logprobs")),
        ):
            async with gateway.post({"messages": user("x"), field: value}) as answer:
                error = (await answer.json())["error"]
            assert (answer.status, error["param"]) == (400, field)
            assert f"request.{setting}" in error["message"]
        async with gateway.post({"messages": user("x"), "n": 2, "max_tokens": 10, "stop": ["a"]}) as answer:
            assert answer.status == 200


async def test_endless_head_is_refused(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vlserve.request")
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\nx-long: " + b"x" * 100_000)
    assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")
    assert b"head_too_large" in await reader.read()
    writer.close()
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"HELO\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
    assert b'"code": "invalid_http"' in await reader.read()
    writer.close()
    logged = [record.__dict__["fields"]["status"] for record in caplog.records if record.getMessage() == "refused"]
    assert logged == [431, 400]
    async with gateway.get("/metrics") as answer:
        assert 'vlserve_requests_refused_total{code="head_too_large",status="431"} 1.0' in await answer.text()
