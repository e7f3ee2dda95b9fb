"""Streams through the relay: events byte for byte, engine errors and comments."""

import asyncio
import json
import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import pytest
from starlette.types import Message, Receive, Scope, Send

from tests.conftest import Gateway, OpenGateway, data_url, image_part, until, user
from tests.fakes import fake_engine, fake_protocols
from vlserve import resource_errors
from vlserve.config.engine_settings import EngineSettings
from vlserve.config.settings import Server
from vlserve.engines import probe
from vlserve.engines.view import Activity, Address
from vlserve.gateway import handler, relay, token_counting
from vlserve.gateway.relay import Outcome
from vlserve.gateway.writer import Writer
from vlserve.protocols import request

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": user("hi"), "stream": True},
    RESPONSES: {"input": "hi", "stream": True},
    MESSAGES: {"messages": user("hi"), "max_tokens": 9, "stream": True},
}
ONE, TWO = fake_engine.chunk("m", "one"), fake_engine.chunk("m", " two")
DONE = b"data: [DONE]\n\n"


def typed(kind: str, **tree: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **tree})}\n\n".encode()


WHOLE: dict[str, list[bytes]] = {
    CHAT: [ONE, TWO, DONE],
    RESPONSES: [
        typed("response.created", sequence_number=0, response={"usage": None}),
        typed("response.output_text.delta", sequence_number=1, delta="one"),
        typed("response.completed", sequence_number=2, response={"usage": {"input_tokens": 7, "output_tokens": 3}}),
    ],
    MESSAGES: [
        typed("message_start", message={"usage": {"input_tokens": 7, "output_tokens": 0}}),
        typed("content_block_delta", index=0, delta={"type": "text_delta", "text": "one"}),
        typed("message_delta", delta={"stop_reason": "end_turn"}, usage={"input_tokens": 7, "output_tokens": 3}),
        typed("message_stop"),
    ],
}


def streams(gateway: Gateway, *pieces: bytes | asyncio.Event) -> None:
    """Set what the text engine's streams send."""
    gateway.engines["text"][fake_protocols.PIECES][:] = pieces


async def ask(gateway: Gateway, path: str = CHAT, **more: Any) -> tuple[int, bytes]:
    async with gateway.post({**BODIES[path], **more}, path) as answer:
        return answer.status, await answer.read()


async def logged(caplog: pytest.LogCaptureFixture, count: int = 1) -> list[dict[str, Any]]:
    def lines() -> list[dict[str, Any]]:
        return [vars(record)["fields"] for record in caplog.records if record.getMessage() == "request"]

    await until(lambda: len(lines()) >= count)
    return lines()


@pytest.fixture(autouse=True)
def log_of_requests(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vlserve.request")


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


async def test_comments_of_an_engine_go_through_and_are_no_tokens(
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


ERROR = json.dumps({"error": {"message": "EngineCore encountered an issue.", "type": "x", "param": None, "code": 500}})
SPELLINGS = [
    f"data: {ERROR}\n\n",
    f"data:{ERROR}\r\n\r\n",
    f"data: {ERROR}\r\r",
    f"id: 7\ndata: {ERROR}\n\n",
    f"retry: 3\nid: 7\ndata: {ERROR}\n\n",
    f": sorry\ndata: {ERROR}\n\n",
    f"data: {ERROR}\nevent: error\n\n",
    f"event: error\r\ndata: {ERROR}\r\n\r\n",
    "data: {\ndata: " + ERROR[1:] + "\n\n",
    "data: { " + ERROR[1:] + "\n\n",
    'data: {"id": "x", ' + ERROR[1:] + "\n\n",
    'data: {"object" : "error", "message": "EngineCore encountered an issue.", "code": 500}\n\n',
    "event: error\ndata: EngineCore encountered an issue.\n\n",
    "event: error\nid: 7\ndata: {}\n\n",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("path", WHOLE)
async def test_error_in_any_spelling_ends_a_stream_without_its_last_event(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, path: str, spelling: str
) -> None:
    *begun, last = WHOLE[path]
    streams(gateway, *begun, spelling.encode(), last)
    status, received = await ask(gateway, path)
    assert status == 200
    assert received.startswith(b"".join(begun))
    assert last not in received
    [error] = received.removeprefix(b"".join(begun)).strip().split(b"\n\n")
    assert b"EngineCore" not in error
    assert error.startswith(b"data: " if path == CHAT else b"event: error\ndata: ")
    [fields] = await logged(caplog)
    assert fields["error"] in ("engine_unavailable", "engine_failed")


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_error_before_the_first_event_has_its_status(gateway: Gateway, spelling: str) -> None:
    streams(gateway, b": ping\n\n", spelling.encode(), DONE)
    status, received = await ask(gateway)
    assert status in (500, 503)
    assert json.loads(received)["error"]["code"] in ("engine_unavailable", "engine_failed")


async def test_text_that_contains_an_error_is_not_an_error(gateway: Gateway) -> None:
    sent = [fake_engine.chunk("m", text) for text in ('{"error": 1}', "error", "data: [DONE]", "event: error\n\n")]
    null = b'data: {"error": null, "choices": [{"index": 0, "delta": {"content": "x"}}]}\n\n'
    streams(gateway, *sent, null, DONE)
    assert await ask(gateway) == (200, b"".join([*sent, null, DONE]))


async def test_usage_is_read_in_any_format_and_held_back(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    counts = (
        b'id: 3\r\ndata: {"choices" : [ ],\r\ndata: "usage": {"prompt_tokens": 70, "completion_tokens": 30}}\r\n\r\n'
    )
    streams(gateway, ONE, counts, DONE)
    assert await ask(gateway) == (200, ONE + DONE)
    [fields] = await logged(caplog)
    assert (fields["prompt_tokens"], fields["completion_tokens"]) == (70, 30)


async def test_event_that_does_not_end_is_an_error(gateway: Gateway) -> None:
    streams(gateway, ONE, *[b"x" * 2**20] * 18)
    _, received = await ask(gateway)
    assert received.startswith(ONE)
    assert json.loads(received.removeprefix(ONE + b"data: "))["error"]["code"] == "engine_failed"


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


def _fails(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a bug")


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("place", "name", "wish"),
    [
        (handler, "_add_pictures", ""),  # on_answer()
        (token_counting, "too_long", "too-long"),
        (request.ModelRequest, "body", ""),
        (Outcome, "count", ""),
    ],
)
async def test_bug_is_a_500_and_is_logged(
    gateway: Gateway,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    place: Any,
    name: str,
    wish: str,
    is_stream: bool,
) -> None:
    monkeypatch.setattr(place, name, _fails)
    if name == "count":
        streams(gateway, b'data: {"choices":[],"usage":{}}\n\n', ONE, DONE)
    status, received = await ask(gateway, stream=is_stream, user=wish)
    assert (status, json.loads(received)["error"]["code"]) == (500, "internal_error")
    [fields] = await logged(caplog)
    assert (fields["status"], fields["error"]) == (500, "internal_error")


async def test_bug_inside_a_stream_is_one_error_event_and_its_end(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Outcome, "count", _fails)
    gate = asyncio.Event()
    streams(gateway, ONE, gate, b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n', DONE)
    async with gateway.post(BODIES[CHAT]) as answer:
        assert await answer.content.readexactly(len(ONE)) == ONE
        gate.set()
        received = await answer.read()
    assert json.loads(received.removeprefix(b"data: "))["error"]["code"] == "internal_error"
    [fields] = await logged(caplog)
    assert (fields["status"], fields["error"]) == (200, "internal_error")
    assert "a bug" in caplog.text  # with its traceback


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


CREATED = WHOLE[RESPONSES][0]
LOST = "2 validation errors for ChatCompletionStreamResponse\nid\n  Field required [input_value={'error': …: %d}}]"
SCHEMA = {"type": "json_schema", "name": "x", "schema": {"type": "object"}}


def late_error(status: int) -> bytes:
    """Return what vLLM sends in a stream of messages instead of an error's reason."""
    message = LOST.replace("…", "…, 'code'") % status
    return typed("error", error={"type": "internal_error", "message": message})


@pytest.mark.parametrize(
    ("path", "piece", "fields", "expected"),
    [
        (RESPONSES, CREATED, {}, (500, "engine_failed", None)),
        (RESPONSES, CREATED, {"text": {"format": SCHEMA}}, (400, "invalid_structured_output", None)),
        (RESPONSES, CREATED, {"logit_bias": {"9": 1}}, (400, None, "logit_bias")),
        (MESSAGES, late_error(400), {}, (400, None, None)),
        (MESSAGES, late_error(500), {}, (500, None, None)),
        (MESSAGES, late_error(400), {"output_config": {"format": SCHEMA}}, (400, None, None)),
        (MESSAGES, late_error(500), {"output_config": {"format": SCHEMA}}, (400, None, None)),
    ],
)
async def test_late_error_of_a_healthy_engine_has_its_status_and_no_retry_after(
    gateway: Gateway,
    path: str,
    piece: bytes,
    fields: dict[str, Any],
    expected: tuple[int, str | None, str | None],
) -> None:
    streams(gateway, piece)
    async with gateway.post({**BODIES[path], **fields}, path) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error.get("code"), error.get("param")) == expected
        assert "retry-after" not in answer.headers
    assert "engine" in error["message"]
    assert "validation error" not in error["message"]
    assert len(gateway.engines["text"][fake_protocols.SEEN]) == 1
    assert not gateway.views["text"].activity.is_suspect


async def test_late_error_with_its_reason_keeps_it(gateway: Gateway) -> None:
    """Other servers send the error itself."""
    streams(gateway, CREATED, typed("error", code=400, message="top_p must be in (0, 1]", param="top_p"))
    status, received = await ask(gateway, RESPONSES)
    assert (status, json.loads(received)["error"]["message"]) == (400, "top_p must be in (0, 1]")


@pytest.mark.parametrize(("path", "piece"), [(RESPONSES, CREATED), (MESSAGES, late_error(500))])
async def test_late_error_of_an_engine_that_is_not_healthy_is_a_503_with_retry_after(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, path: str, piece: bytes
) -> None:
    monkeypatch.setattr(relay, "_CHECK_S", 0.1)
    monkeypatch.setattr(gateway.views["text"].activity, "found_healthy", lambda: None)
    streams(gateway, piece)
    async with gateway.post(BODIES[path], path) as answer:
        assert (answer.status, "retry-after" in answer.headers) == (503, True)


async def test_engines_are_asked_for_plain_bytes(gateway: Gateway) -> None:
    await ask(gateway)
    assert gateway.seen("text")[0]["headers"]["accept-encoding"] == "identity"
    async with Address("http://x", headers={"authorization": "k"}).open_session() as session:
        assert session.headers == {"accept-encoding": "identity", "authorization": "k"}


@pytest.fixture
def seldom() -> Iterator[None]:
    """Reset the rate limit of the exhaustion log."""
    [once] = resource_errors.log.filters
    resource_errors.log.removeFilter(once)
    resource_errors.log.addFilter(resource_errors.AtMostEvery(60))
    yield
    resource_errors.log.removeFilter(resource_errors.log.filters[0])
    resource_errors.log.addFilter(once)


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open no more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("path", [CHAT, "/v1/messages/count_tokens", "/v1/chat/completions/input_tokens"])
async def test_exhausted_file_descriptors_are_reported_as_a_503(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, seldom: None, path: str
) -> None:
    body = {"messages": user("hi")}
    async with gateway.get("/health") as answer:  # this connection stays open
        await answer.read()
    with no_descriptors():
        for _ in range(3):
            async with gateway.post(body, path) as answer:
                received = (await answer.json())["error"]
                assert (answer.status, int(answer.headers["retry-after"]) > 0) == (503, True)
            assert "out of file descriptors" in received["message"]
    async with gateway.post(body, path) as answer:
        assert answer.status == 200
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1, errors
    assert "out of file descriptors" in errors[0]


async def test_picture_that_cannot_be_fetched_for_lack_of_file_descriptors_is_a_503(
    open_gateway: OpenGateway, seldom: None
) -> None:
    async with open_gateway(fetch={"allowed_networks": ["127.0.0.0/8"]}) as gateway:
        async with gateway.get("/health") as answer:
            await answer.read()
        with no_descriptors():
            async with gateway.post({"messages": user(image_part("http://127.0.0.1:9/x.png"))}) as answer:
                assert (answer.status, (await answer.json())["error"]["code"]) == (503, "service_exhausted")


def test_exhaustion_is_logged_at_most_once_a_minute() -> None:
    now = [0.0]
    seldom = resource_errors.AtMostEvery(60, lambda: now[0])
    record = logging.LogRecord("x", logging.ERROR, "", 0, "x", None, None)
    passed = []
    for now[0] in (0, 1, 59, 60, 61, 119, 120):
        passed.append(seldom.filter(record))
    assert passed == [True, False, False, True, False, False, True]


class Unreachable:
    """A session whose connections fail with the given error numbers, in this order."""

    def __init__(self, *errnos: int) -> None:
        self.errnos = list(errnos)

    def get(self, *_: Any, **__: Any) -> Any:
        raise aiohttp.ClientOSError(self.errnos.pop(0), "no")


async def test_exhausted_file_descriptors_do_not_count_as_a_dead_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_REMOTE_CHECK_S", 0.0)
    settings = EngineSettings(model="m", url="http://x")
    watching: Any = probe.Probe("text", settings, None, Address("http://x"), Activity())
    session = Unreachable(24, 23, 12, 111, 24, 111)
    assert await watching.until_it_fails(session, {}) == "it does not answer"
    assert session.errnos == []


ABORTED = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{},"finish_reason":"abort"}]}\n\n'


@pytest.mark.parametrize("before", [[], [ONE]])
async def test_stream_that_an_engine_aborts_at_its_end_is_an_error(gateway: Gateway, before: list[bytes]) -> None:
    """vLLM 0.32 aborts running requests this way when a worker died and its core shuts down."""
    streams(gateway, *before, ABORTED, DONE)
    status, sent = await ask(gateway)
    error = json.loads(sent.removeprefix(ONE).removeprefix(b"data: "))["error"]
    assert (status, error["code"]) == (200 if before else 503, "engine_unavailable")
    assert b"[DONE]" not in sent


async def test_whole_answer_that_an_engine_aborts_at_its_end_is_an_error(gateway: Gateway) -> None:
    async with gateway.post({"messages": user("x"), "user": "abort"}) as answer:
        assert answer.status == 503
        assert (await answer.json())["error"]["code"] == "engine_unavailable"
