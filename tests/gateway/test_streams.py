"""Streams: line ends, comments, usage, writes to the client, and cached pictures."""

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from tests.conftest import Gateway, OpenGateway, data_url, image_part, until, user
from tests.fakes import fake_protocols
from tests.gateway.streaming import CHAT, DONE, MESSAGES, ONE, RESPONSES, TWO, WHOLE, ask, logged, streams, typed
from vlserve.config.settings import Server
from vlserve.engines.view import Address
from vlserve.gateway import relay
from vlserve.gateway.response_writer import Writer

pytestmark = pytest.mark.usefixtures("log_of_requests")


@pytest.mark.parametrize("path", WHOLE)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
async def test_stream_with_any_line_end_comes_through_whole(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, path: str, end: bytes
) -> None:
    sent = b"".join(WHOLE[path]).replace(b"\n", end)
    streams(gateway, sent[:50], sent[50:])
    assert await ask(gateway, path) == (200, sent)
    [fields] = await logged(caplog)
    assert (fields["status"], fields["error"]) == (200, None)
    assert fields["completion_tokens"] == (
        2 + 1 if path == CHAT else 3
    )  # of a chat without usage its events are counted


async def test_engine_comments_are_forwarded_and_are_not_tokens(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    sent = [b": ping\n\n", ONE, b": ping\n\n", b"retry: 9\n\n", TWO, DONE]
    streams(gateway, *sent)
    assert await ask(gateway) == (200, b"".join(sent))
    [fields] = await logged(caplog)
    assert fields["completion_tokens"] == 3


@pytest.mark.parametrize(
    ("path", "sign"), [(CHAT, b": ping\n\n"), (MESSAGES, b": ping\n\n"), (MESSAGES, typed("ping"))]
)
async def test_comment_or_preamble_does_not_count_as_first_token(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, path: str, sign: bytes
) -> None:
    streams(gateway, sign)  # and then the connection ends
    status, _ = await ask(gateway, path)
    [fields] = await logged(caplog)
    assert (status, fields["time_to_first_token_s"], fields["completion_tokens"]) == (503, None, 0)


async def test_usage_is_read_in_any_format_and_not_forwarded(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    counts = (
        b'id: 3\r\ndata: {"choices" : [ ],\r\ndata: "usage": {"prompt_tokens": 70, "completion_tokens": 30}}\r\n\r\n'
    )
    streams(gateway, ONE, counts, DONE)
    assert await ask(gateway) == (200, ONE + DONE)
    [fields] = await logged(caplog)
    assert (fields["prompt_tokens"], fields["completion_tokens"]) == (70, 30)


async def test_writes_to_the_client_never_overlap(open_gateway: OpenGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a slow client and constant comments."""
    overlaps, messages = [], list[Message]()
    forward = relay.PassThrough.__call__

    async def slowly(self: relay.PassThrough, scope: Scope, receive: Receive, send: Send) -> None:
        busy = 0

        async def slow(message: Message) -> None:
            nonlocal busy
            busy += 1
            overlaps.append(busy)
            messages.append(message)
            for _ in range(20):
                await asyncio.sleep(0.001)
            await send(message)
            busy -= 1

        await forward(self, scope, receive, slow)

    monkeypatch.setattr(relay.PassThrough, "__call__", slowly)
    async with open_gateway(server={"sse_keep_alive_s": 0.001}) as gateway:
        status, received = await ask(gateway, user="drip:0.5")
    assert (status, set(overlaps)) == (200, {1})
    assert b": waiting\n\n" in received
    assert received.endswith(DONE)
    assert [message["type"] for message in messages].count("http.response.start") == 1
    assert [message.get("more_body") for message in messages[1:]] == [True] * (len(messages) - 2) + [False]


async def test_client_that_disconnects_before_the_last_event_was_written_is_logged_as_disconnected(
    open_gateway: OpenGateway, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's answer is complete, but a comment that the client does not read blocks it."""
    is_writing, leaves, may_answer = asyncio.Event(), asyncio.Event(), asyncio.Event()
    forward = relay.PassThrough.__call__

    async def stuck(self: relay.PassThrough, scope: Scope, receive: Receive, send: Send) -> None:
        async def take_nothing(message: Message) -> None:
            if message["type"] == "http.response.body":
                is_writing.set()
                await asyncio.Event().wait()
            await send(message)

        async def leave() -> Message:
            await leaves.wait()
            return {"type": "http.disconnect"}

        await forward(self, scope, leave, take_nothing)

    monkeypatch.setattr(relay.PassThrough, "__call__", stuck)
    async with open_gateway(server={"sse_keep_alive_s": 0.001}) as gateway:
        streams(gateway, may_answer, ONE, DONE)
        asked = asyncio.create_task(ask(gateway))
        await is_writing.wait()
        may_answer.set()
        await until(lambda: not gateway.views["text"].activity._open)  # the engine's part is over
        leaves.set()
        [fields] = await logged(caplog)
        await asyncio.wait((asked,))
        asked.exception()
    assert (fields["status"], fields["error"]) == (499, "client_left")


async def test_writer_sends_nothing_after_the_end() -> None:
    written: list[bytes] = []

    async def send(message: Message) -> None:
        written.append(message.get("body", b""))

    writer = Writer(send, {}, 0.0)
    async with writer.comments(0.001):
        await until(lambda: len(written) > 3)
        await writer.end([b"last"])
        for _ in range(20):
            await asyncio.sleep(0.001)
    assert written[-1] == b"last"
    assert set(written[1:-1]) == {b": waiting\n\n"}


def test_queue_timeout_is_shorter_than_the_interval_of_comments() -> None:
    assert Server().queue_timeout_s == 10 < Server().sse_keep_alive_s


PICTURE = {"messages": user(image_part(data_url()))}
INPUT_PICTURE = {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": data_url()}]}]}


async def test_picture_names_are_forgotten_when_their_engine_restarts(gateway: Gateway) -> None:
    async def is_named() -> bool:
        async with gateway.post(PICTURE) as answer:
            assert answer.status == 200
        return gateway.seen("vision")[-1]["body"]["messages"][0]["content"][0]["image_url"] is None

    assert [await is_named(), await is_named()] == [False, True]
    gateway.views["vision"].activity.begin()
    assert [await is_named(), await is_named()] == [False, True]


@pytest.mark.parametrize("is_stream", [False, True])
async def test_named_picture_is_not_sent_again_after_an_engine_error(gateway: Gateway, is_stream: bool) -> None:
    async with gateway.post(PICTURE) as answer:
        assert answer.status == 200
    wish = "error-first" if is_stream else "fail"
    async with gateway.post({**PICTURE, "user": wish, "stream": is_stream}) as answer:
        assert answer.status in (500, 503)
    assert len(gateway.seen("vision")) == 2
    assert gateway.seen("vision")[-1]["body"]["messages"][0]["content"][0]["image_url"] is None


@pytest.mark.parametrize("is_stream", [False, True])
async def test_picture_missing_in_the_engine_core_is_sent_again_in_responses(gateway: Gateway, is_stream: bool) -> None:
    """vLLM closes a stream of responses in this case, without an error."""
    for _ in range(2):
        async with gateway.post({**INPUT_PICTURE, "user": "drifted", "stream": is_stream}, RESPONSES) as answer:
            assert answer.status == 200
            received = await answer.text()
    assert "one two three" in received
    sent = [one["body"] for one in gateway.engines["vision"][fake_protocols.SEEN]]
    named = [body["input"][0]["content"][0]["image_url"] is None for body in sent]
    assert named == [False, True, False]


async def test_engines_are_asked_for_plain_bytes(gateway: Gateway) -> None:
    await ask(gateway)
    assert gateway.seen("text")[0]["headers"]["accept-encoding"] == "identity"
    async with Address("http://x", headers={"authorization": "k"}).open_session() as session:
        assert session.headers == {"accept-encoding": "identity", "authorization": "k"}
