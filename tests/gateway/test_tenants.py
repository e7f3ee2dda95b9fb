"""Several API keys: isolation from each other, and from clients without a key."""

import asyncio
import hashlib
import logging
from typing import Any

import aiohttp
import pytest

from tests.conftest import FakeView, Gateway, OpenGateway, image_part, until, user
from vlserve.config.keys import ApiKey
from vlserve.engines.diagnosis import Diagnosis

KEYS = tuple(ApiKey(name, hashlib.sha256(f"sk-{name}".encode()).digest()) for name in ("ana", "bo", "ops"))
OPERATOR: dict[str, Any] = {"keys": {"ops": {"metrics": True}}}


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Fields of the log lines for answered and refused requests."""
    return [record.__dict__["fields"] for record in caplog.records if record.name == "vlserve.request"]


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer sk-{name}"}


async def test_metrics_are_for_an_operators_key(open_gateway: OpenGateway) -> None:
    async with open_gateway(keys=KEYS, server=OPERATOR) as gateway:
        async with gateway.post({"messages": user("x")}, headers=bearer("ana")) as answer:
            assert answer.status == 200
        async with gateway.get("/metrics", headers=bearer("bo")) as answer:
            text = await answer.text()
            assert answer.status == 403
        assert "server.keys" in text
        assert "{bo: {metrics: true}}" in text
        assert "ana" not in text
        async with gateway.get("/metrics") as answer:
            assert answer.status == 401
            message = (await answer.json())["error"]["message"]
            assert "'Authorization: Bearer YOUR_KEY' or 'x-api-key: YOUR_KEY'" in message
        async with gateway.get("/metrics", headers=bearer("ops")) as answer:
            assert answer.status == 200
            assert 'vlserve_completion_tokens_total{key="ana"' in await answer.text()


def lose(view: FakeView) -> None:
    view.is_ready, view.state, view.diagnosis = (
        False,
        "given_up",
        Diagnosis("memory", "", "The memory is full.", "Change it."),
    )


async def test_ready_has_only_states_without_a_key(open_gateway: OpenGateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vlserve.request")
    async with open_gateway(keys=KEYS) as gateway:
        lose(gateway.views["text"])
        for headers in ({}, bearer("guess"), {"x-api-key": "guess"}):
            async with gateway.get("/ready", headers=headers) as answer:
                assert (answer.status, await answer.json()) == (
                    200,
                    {"status": "ready", "engines": {"text": {"state": "given_up"}, "vision": {"state": "ready"}}},
                )
        # Otherwise guesses of keys would not be logged.
        assert [(one["status"], one["path"]) for one in lines(caplog)] == [(401, "/ready")] * 2
        async with gateway.get("/ready", headers=bearer("bo")) as answer:
            engines = (await answer.json())["engines"]
        assert engines["text"]["model"] == "org/text-7b"
        assert "memory is full" in engines["text"]["problem"]


async def test_full_queue_does_not_count_other_keys_requests(open_gateway: OpenGateway) -> None:
    async with open_gateway(
        keys=KEYS, engines={"text": {"model": "t", "max_in_flight": 1, "max_queued": 0}}
    ) as gateway:
        drip = await gateway.post({"messages": user("x"), "user": "drip", "stream": True}, headers=bearer("ana"))
        async with gateway.post({"messages": user("x")}, headers=bearer("bo")) as answer:
            message = (await answer.json())["error"]["message"]
            assert answer.status == 429
        assert not any(character.isdigit() for character in message), message
        drip.close()


async def test_answers_without_a_key_reveal_no_models(open_gateway: OpenGateway) -> None:
    async with open_gateway(keys=KEYS, auto_aliases=["alias-of-ours"]) as gateway:
        lose(gateway.views["text"])
        paths = ["/", "/docs", "/openapi.json", "/ready", "/health", "/metrics", "/nothing", "/v1/models", "/v1/files"]
        for path in [*paths, "/ready?engine=other", "/v1/models/auto", "/v1/testgen"]:
            for method in ("GET", "POST", "DELETE", "OPTIONS"):
                async with gateway.session.request(method, gateway.url + path, data=b"{}") as answer:
                    received = f"{answer.headers} {await answer.text()}"
                for secret in ("org/text-7b", "org/vision-7b", "alias-of-ours", "memory is full", "ana", "ops"):
                    assert secret not in received.replace("analy", ""), (method, path, secret)


async def test_request_and_refusal_lines_name_path_model_and_client(
    open_gateway: OpenGateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vlserve.request")
    spoofed = {"x-forwarded-for": "203.0.113.9", "forwarded": "for=203.0.113.9", "x-real-ip": "203.0.113.9"}
    async with open_gateway(keys=KEYS) as gateway:
        for body, headers in (
            ({"messages": user("x"), "model": "auto"}, bearer("ana")),
            ({"messages": user("x")}, bearer("ana")),
            ({"messages": user("x"), "model": "gpt-9\n" + "x" * 500}, bearer("ana")),
            ({"messages": user("x")}, bearer("guess")),
        ):
            async with gateway.post(body, "/v1/chat/completions?api_key=sk-in-query", headers=headers | spoofed) as got:
                await got.read()
        await until(lambda: len(lines(caplog)) == 4)
    logged = lines(caplog)
    assert {(line["path"], line["client"]) for line in logged} == {("/v1/chat/completions", "127.0.0.1")}
    assert sorted((line["status"], (line["model"] or "")[:6]) for line in logged) == [
        *((200, ""), (200, "auto"), (401, ""), (404, "gpt-9\n")),
    ]
    assert max(len(line["model"] or "") for line in logged) == 128
    assert "sk-" not in str(logged)


async def test_forms_counts_and_questions_of_testgen_have_the_fields_too(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vlserve.request")
    body = {"messages": user({"type": "text", "text": "?"}, image_part()), "model": "org/vision-7b"}
    async with gateway.post(body, "/v1/chat/completions/input_tokens") as answer:
        assert answer.status == 200
    form = aiohttp.FormData({"prompt": "?", "model": "nobody's"}, default_to_multipart=True)
    form.add_field("image", b"junk", filename="a.png")
    async with gateway.session.post(f"{gateway.url}/v1/analyze", data=form) as answer:
        assert answer.status == 404
    assert [(line["path"], line["model"], line["client"]) for line in lines(caplog)] == [
        ("/v1/chat/completions/input_tokens", "org/vision-7b", "127.0.0.1"),
        ("/v1/analyze", "nobody's", "127.0.0.1"),
    ]


async def test_client_behind_a_trusted_proxy_is_the_forwarded_address(
    open_gateway: OpenGateway, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "vlserve.request")
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    sent = {"x-forwarded-for": f"198.51.100.1, 203.0.113.9, {'x' * 500}, 10.0.0.2"}
    for trusted in ([], ["10.0.0.0/8", "127.0.0.1"]):
        async with open_gateway(server={"trusted_proxies": trusted}) as gateway:
            for value in ("203.0.113.9", "198.51.100.1, 203.0.113.9, 10.0.0.2", sent["x-forwarded-for"]):
                async with gateway.get("/nothing", headers={"x-forwarded-for": value}) as answer:
                    assert answer.status == 404
    assert [line["client"] for line in lines(caplog)] == ["127.0.0.1"] * 3 + ["203.0.113.9"] * 2 + ["x" * 64]


async def test_broken_head_is_logged_with_its_client(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vlserve.request")
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"HELO\r\n\r\n")
    await reader.read()
    writer.close()
    (fields,) = lines(caplog)
    assert (fields["status"], fields["client"], fields["path"]) == (400, "127.0.0.1", None)
