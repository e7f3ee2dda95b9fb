"""Memory of requests while they wait and while they are answered, and its count in ``/metrics``."""

import asyncio
import gc
import io
import json
import re
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.conftest import Gateway, OpenGateway, data_url, image_part, picture, user
from tests.fakes import fake_engine
from tests.gateway.metrics import REQUEST_BYTES, metric, until_metric

LARGE = picture() + b"\0" * 1_000_000
"""A picture file of 1 MB."""
URL = data_url(LARGE)
_PICTURE_BYTES = len(URL)
_LARGE_BLOCK_BYTES = 64 * 1024
_PIECE_BYTES = 256 * 1024
_GIVE_UP_S = 60.0
_CONNECTION_BYTES = 100_000
"""More than a request takes besides its body: connections, buffers and tasks, here on both sides."""
_FIRST = {
    "/v1/responses": b'event: response.output_text.delta\ndata: {"delta":"one"}\n\n',
    "/v1/messages": b'event: message_start\ndata: {"message":{}}\n\n',
}


async def in_pieces(body: bytes) -> AsyncIterator[memoryview]:
    """Yield a body without copying it: this client runs in the process that is measured."""
    for start in range(0, len(body), _PIECE_BYTES):
        yield memoryview(body)[start : start + _PIECE_BYTES]


@dataclass
class StillEngine:
    """Keeps nothing of what it is sent, and answers with one event, or half of a JSON object, until the test ends; or
    with an error."""

    is_stream: bool = True
    status: int = 200
    asked: int = 0
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    def make_app(self) -> web.Application:
        app = web.Application(client_max_size=1024**3)
        for path in ("/v1/chat/completions", "/v1/responses", "/v1/messages"):
            app.router.add_post(path, self.answer)
        for path in ("/tokenize", "/v1/messages/count_tokens"):
            app.router.add_post(path, self.count)
        return app

    async def count(self, request: web.Request) -> web.Response:
        await _discard(request)
        return web.json_response({"count": 1, "input_tokens": 1})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        await _discard(request)
        self.asked += 1
        if self.status != 200:
            return web.json_response({"error": {"message": "no", "code": self.status}}, status=self.status)
        await self.may_answer.wait()
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(_FIRST.get(request.path, fake_engine.chunk("m", "one")) if self.is_stream else b"{")
        await asyncio.Event().wait()
        return response


async def _discard(request: web.Request) -> None:
    async for _ in request.content.iter_any():
        pass


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> StillEngine:
    """Both engines of a gateway that is opened by the test."""
    still = StillEngine()
    monkeypatch.setattr(fake_engine, "make_app", still.make_app)
    return still


@pytest.fixture
async def traced() -> AsyncIterator[Callable[[], int]]:
    """Bytes in large blocks of memory that were allocated since the test began and still are."""
    gc.collect()
    tracemalloc.start()

    def large_blocks() -> int:
        gc.collect()
        return large_blocks_now()

    yield large_blocks
    tracemalloc.stop()


@pytest.fixture
def without_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def large_blocks_now() -> int:
    return sum(trace.size for trace in tracemalloc.take_snapshot().traces if trace.size >= _LARGE_BLOCK_BYTES)


async def until_freed(before: int) -> None:
    """Wait until the bodies of four requests are freed; a thread may still be at the end of its work."""
    async with asyncio.timeout(_GIVE_UP_S):
        while large_blocks_now() - before > 4 * 0.1e6:
            await asyncio.sleep(0.05)


def total() -> int:
    """Bytes in blocks of any size."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


QUEUED = 'vlserve_requests_queued{vlserve_engine="%s"}'
_TEXT = {"type": "text", "text": "?"}
_LONG = "A sentence with an emoji: \N{GRINNING FACE}. " * 20_000
CHAT = "/v1/chat/completions"
PICTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHAT, {"messages": user(_TEXT, image_part(URL))}),
    "two pictures": (CHAT, {"messages": user(image_part(URL), image_part(URL))}),
    "responses": (
        "/v1/responses",
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": URL}]}]},
    ),
    "messages": (
        "/v1/messages",
        {
            "max_tokens": 9,
            "messages": user(
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": URL.partition(",")[2]},
                }
            ),
        },
    ),
    "file": (CHAT, {"messages": user({"type": "image_file", "image_file": {"file_id": "FILE"}})}),
    "form": ("/v1/analyze", {"prompt": "What is this?", "image": LARGE}),
}
TEXTS: dict[str, tuple[str, dict[str, Any]]] = {
    "text": (CHAT, {"messages": user("word " * 200_000)}),
    "text beyond Latin-1": (CHAT, {"messages": user(_LONG)}),
    "text of many parts": (CHAT, {"messages": [{"role": "user", "content": [_TEXT] * 20} for _ in range(500)]}),
    "text in responses": ("/v1/responses", {"input": _LONG}),
    "rewritten text": (CHAT, {"messages": user("word " * 200_000), "unknown": 1}),
}


class Client:
    """Sends the same request many times, without a copy of its own, and keeps the answers open."""

    def __init__(self, gateway: Gateway, stack: AsyncExitStack, *, stream: bool) -> None:
        self._gateway = gateway
        self._stack = stack
        self._stream = stream
        self._tasks: list[asyncio.Task[None]] = []
        self._path, self._raw, self._type = "", b"", "application/json"

    async def prepare(self, path: str, body: dict[str, Any]) -> None:
        self._path = path
        if path == "/v1/analyze":
            self._raw, self._type = self._form(body), "multipart/form-data; boundary=b"
            return
        if "FILE" in str(body)[:200]:
            body = {"messages": user({"type": "image_file", "image_file": {"file_id": await self._upload()}})}
        self._raw = json.dumps(body | {"stream": self._stream}).encode()

    def _form(self, body: dict[str, Any]) -> bytes:
        texts = {"prompt": body["prompt"], "stream": str(self._stream).lower()}
        head = "".join(
            f'--b\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{texts[name]}\r\n' for name in texts
        )
        file = '--b\r\ncontent-disposition: form-data; name="image"; filename="shot.png"\r\n\r\n'
        image: bytes = body["image"]
        return f"{head}{file}".encode() + image + b"\r\n--b--\r\n"

    async def _upload(self) -> str:
        form = aiohttp.FormData({"purpose": "vision"})
        form.add_field("file", io.BytesIO(LARGE), filename="shot.png", content_type="image/png")
        async with self._gateway.session.post(self._gateway.url + "/v1/files", data=form) as answer:
            return str((await answer.json())["id"])

    def send(self, count: int) -> None:
        self._tasks = [asyncio.create_task(self._first_event()) for _ in range(count)]
        self._stack.push_async_callback(self._close)

    async def _first_event(self) -> None:
        headers = {"content-type": self._type, "content-length": str(len(self._raw))}
        answer = await self._gateway.session.post(
            self._gateway.url + self._path, data=in_pieces(self._raw), headers=headers
        )
        self._stack.callback(answer.close)
        assert answer.status == 200, await answer.text()
        await answer.content.readany()

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def first_events(self) -> None:
        """Wait until each answer's first event is here."""
        async with asyncio.timeout(_GIVE_UP_S):
            await asyncio.gather(*self._tasks)


@pytest.mark.parametrize("what", [*PICTURES, *TEXTS])
async def test_request_is_freed_when_its_stream_begins(
    open_gateway: OpenGateway, engine: StillEngine, traced: Callable[[], int], what: str
) -> None:
    count = 20 if what == "chat" else 4
    async with open_gateway() as gateway, AsyncExitStack() as stack:
        client = Client(gateway, stack, stream=True)
        await client.prepare(*(PICTURES | TEXTS)[what])
        engine.may_answer.set()
        before, total_before = traced(), total()
        client.send(count)
        await client.first_events()
        assert engine.asked == count
        assert await metric(gateway, REQUEST_BYTES) == 0
        assert (traced() - before) / count <= 0.1e6
        assert (total() - total_before) / count <= 0.3e6


@pytest.mark.parametrize("what", ["chat", "text"])
async def test_request_is_freed_when_the_head_of_a_plain_answer_arrives(
    open_gateway: OpenGateway, engine: StillEngine, traced: Callable[[], int], what: str
) -> None:
    engine.is_stream = False
    async with open_gateway() as gateway, AsyncExitStack() as stack:
        client = Client(gateway, stack, stream=False)
        await client.prepare(*(PICTURES | TEXTS)[what])
        before = traced()
        client.send(4)
        async with asyncio.timeout(_GIVE_UP_S):
            while engine.asked < 4:
                await asyncio.sleep(0.05)
        assert await metric(gateway, REQUEST_BYTES) >= 4 * 1_000_000
        assert traced() - before >= 4 * 1_000_000
        engine.may_answer.set()
        await until_metric(gateway, REQUEST_BYTES, lambda value: value == 0)
        assert traced() - before <= 4 * 0.1e6


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.usefixtures("without_garbage_collection")
async def test_request_that_the_engine_refused_is_freed_without_garbage_collection(
    open_gateway: OpenGateway, engine: StillEngine, traced: Callable[[], int], status: int
) -> None:
    engine.status = status
    async with open_gateway() as gateway:
        before = traced()
        for _ in range(4):
            async with gateway.post({"messages": user(image_part(URL))}) as answer:
                assert answer.status == status
        await until_freed(before)


@pytest.mark.usefixtures("without_garbage_collection", "engine")
async def test_request_with_a_picture_that_cannot_be_fetched_is_freed_without_garbage_collection(
    open_gateway: OpenGateway, traced: Callable[[], int]
) -> None:
    async with open_gateway() as gateway:
        before = traced()
        for _ in range(4):
            parts = (image_part(URL), image_part("http://127.0.0.1:9/a.png"))
            async with gateway.post({"messages": user(*parts)}) as answer:
                assert answer.status == 400, await answer.text()
        await until_freed(before)


@pytest.mark.parametrize("what", [*PICTURES, *TEXTS])
async def test_counted_bytes_match_the_memory_of_waiting_requests(
    open_gateway: OpenGateway, engine: StillEngine, traced: Callable[[], int], what: str
) -> None:
    name = "vision" if what in PICTURES else "text"
    engines = {one: {"model": f"org/{one}", "max_in_flight": 1, "max_queued": 20} for one in ("text", "vision")}
    async with open_gateway(engines=engines) as gateway, AsyncExitStack() as stack:
        client = Client(gateway, stack, stream=True)
        await client.prepare(*(PICTURES | TEXTS)[what])
        before, total_before = traced(), total()
        client.send(5)
        await until_metric(gateway, re.escape(QUEUED % name), lambda value: value == 4)
        async with asyncio.timeout(_GIVE_UP_S):
            while not engine.asked:
                await asyncio.sleep(0.05)
        counted, held = await metric(gateway, REQUEST_BYTES), traced() - before
        assert held <= counted
        held_in_all = total() - total_before - 5 * _CONNECTION_BYTES
        assert held_in_all <= counted <= 1.3 * held_in_all
        pictures = 2 if what == "two pictures" else 1
        if what in PICTURES:  # the body, and no second copy
            assert held <= 5 * (pictures * _PICTURE_BYTES + 50_000), held / 5


async def test_pictures_left_out_are_freed(
    open_gateway: OpenGateway, engine: StillEngine, traced: Callable[[], int]
) -> None:
    limits = {"max_in_flight": 1, "limit_mm_per_prompt": {"image": 1}}
    engines = {one: {"model": f"org/{one}", **limits} for one in ("text", "vision")}
    async with (
        open_gateway(engines=engines, image_overflow="keep_latest") as gateway,
        AsyncExitStack() as stack,
    ):
        client = Client(gateway, stack, stream=True)
        await client.prepare(CHAT, {"messages": user(*[image_part(URL)] * 4)})
        before = traced()
        client.send(1)
        async with asyncio.timeout(_GIVE_UP_S):
            while not engine.asked:
                await asyncio.sleep(0.05)
        held = traced() - before
        assert held <= _PICTURE_BYTES + 50_000
        assert held <= await metric(gateway, REQUEST_BYTES) <= 1.3 * held


async def test_decoded_picture_counts_besides_its_text(open_gateway: OpenGateway) -> None:
    """Both copies count: the received body, parts of which are forwarded, and the decoded picture."""
    for most, status in ((_PICTURE_BYTES + len(LARGE) - 1, 429), (_PICTURE_BYTES + len(LARGE) + 10_000, 200)):
        async with (
            open_gateway(server={"max_bodies_bytes": most}) as gateway,
            gateway.post({"messages": user(image_part(URL))}) as answer,
        ):
            assert answer.status == status, await answer.text()
