"""Engines at a URL that are another vlserve."""

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.conftest import Gateway, OpenGateway, data_url, image_part, until
from tests.engines.url_gateways import CHAT, KEYS, Outer, chat, outer
from tests.fakes import fake_engine, fake_protocols
from vlserve.config.engine_settings import EngineName

IMAGE = {"type": "image", "source": {"type": "url", "url": data_url()}}
ONE_PICTURE: dict[str, Any] = {"limit_mm_per_prompt": {"image": 1}}
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


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


async def test_headers_of_another_vlserve_are_not_duplicated_and_request_ids_match(
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


async def test_metrics_of_another_vlserve_are_not_reported_as_own(two: tuple[Outer, Gateway]) -> None:
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
async def test_another_vlserve_without_a_ready_engine_is_unavailable(
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


async def test_refusals_of_another_vlserve_keep_status_and_message(two: tuple[Outer, Gateway]) -> None:
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
