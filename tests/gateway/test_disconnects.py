"""Clients that disconnect or stop reading, and connections to engines."""

import asyncio
import json
import logging

import pytest

from tests.conftest import Gateway, OpenGateway, until, user
from tests.fakes import fake_engine
from vlserve.gateway import relay


@pytest.mark.parametrize(("wish", "stream"), [("hang", False), ("hang", True), ("drip:600", True)])
async def test_disconnect_frees_the_engine(gateway: Gateway, wish: str, stream: bool) -> None:
    async def ask() -> None:
        async with gateway.post({"messages": user("x"), "user": wish, "stream": stream}) as answer:
            await answer.read()

    leaving = asyncio.create_task(ask())
    await until(lambda: gateway.running("text") == 1)
    leaving.cancel()
    await until(lambda: gateway.running("text") == 0)
    assert not gateway.seen("text")[0]["is_finished"]


async def test_connection_that_the_engine_closes_when_idle_is_not_used_again(gateway: Gateway) -> None:
    """vLLM closes idle connections after 5 s. Here they are closed right after the answer, the worst case."""
    gateway.engines["text"][fake_engine.FAULTS].add("close-idle")
    for _ in range(3):
        async with gateway.post({"messages": user("x")}) as answer:
            assert answer.status == 200
        await until(lambda: gateway.seen("text")[-1]["transport"].is_closing())


async def test_streams_reuse_connections(gateway: Gateway) -> None:
    """A second connection is opened if a client asks again before the first is free, but not one for each request."""
    async with asyncio.timeout(60):
        while len(gateway.seen("text")) - len({seen["connection"] for seen in gateway.seen("text")}) < 3:
            async with gateway.post({"messages": user("x"), "stream": True}) as answer:
                await answer.read()
            await asyncio.sleep(0.02)


async def test_client_that_stops_reading_does_not_keep_its_permit(
    open_gateway: OpenGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_LAST_EVENT_S", 0.2)
    engines = {"text": {"model": "t", "max_in_flight": 1}}
    async with open_gateway(engines=engines, server={"request_timeout_s": 1}) as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")
        body = json.dumps({"messages": user("x"), "user": "flood", "stream": True}).encode()
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await reader.readexactly(1)  # then stop reading
        await until(lambda: gateway.running("text") == 0)
        statuses = []
        async with asyncio.timeout(60):
            while 200 not in statuses:
                async with gateway.post({"messages": user("x")}) as answer:
                    statuses.append(answer.status)
                await asyncio.sleep(0.1)
        writer.transport.abort()


async def test_disconnect_while_queued_frees_the_queue(open_gateway: OpenGateway) -> None:
    async with open_gateway(
        engines={"text": {"model": "t", "max_in_flight": 1}}, server={"queue_timeout_s": 300}
    ) as gateway:

        async def until_queued(count: int) -> None:
            line = f'vlserve_requests_queued{{vlserve_engine="text"}} {count}.0'
            async with asyncio.timeout(60):  # less than queue_timeout_s, which ends the wait, too
                while True:
                    async with gateway.get("/metrics") as answer:
                        if line in await answer.text():
                            return
                    await asyncio.sleep(0.02)

        drip = await gateway.post({"messages": user("x"), "user": "drip:600", "stream": True})
        leaving = asyncio.create_task(
            gateway.session.post(f"{gateway.url}/v1/chat/completions", json={"messages": user("x")})
        )
        await until_queued(1)
        leaving.cancel()
        await until_queued(0)
        drip.close()
        assert len(gateway.seen("text")) == 1


async def test_disconnect_after_done_is_a_complete_answer(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """OpenAI's clients close the connection as soon as they have read `[DONE]`."""
    gateway.engines["text"][fake_engine.FAULTS].add("lingers")
    caplog.set_level(logging.INFO, "vlserve.request")
    body = json.dumps({"messages": user("hi"), "stream": True}).encode()
    host, port = gateway.url.removeprefix("http://").split(":")
    for _ in range(20):
        reader, writer = await asyncio.open_connection(host, int(port))
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        await reader.readuntil(b"data: [DONE]")
        writer.transport.abort()
    await until(lambda: len(caplog.records) == 20)
    assert {record.__dict__["fields"]["status"] for record in caplog.records} == {200}
