"""Slow work of one API key does not stop another key: fetches, look-ups, uploads, videos."""

import asyncio
import errno
import hashlib
import json
import os
import random
import resource
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from tests.conftest import OpenGateway, image_part, picture, until, user
from tests.reliability.addresses import PARAM, PUBLIC, PUBLIC_NAME, Gate, Names, Site, http
from vlserve.config.keys import ApiKey
from vlserve.config.settings import Fetch, Server
from vlserve.errors import InvalidRequest, TooManyRequests, VlserveError
from vlserve.fair_queue import FairQueue
from vlserve.gateway.admission import Admission
from vlserve.media.fetch import Fetcher

RAW = picture()
KEYS = tuple(ApiKey(name, hashlib.sha256(name.encode()).digest()) for name in ("ana", "bo"))
LOOPBACK = ["127.0.0.0/8"]


def of(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@asynccontextmanager
async def ended(tasks: list["asyncio.Task[object]"]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_slow_hosts_of_one_key_leave_room_for_another_keys_pictures(open_gateway: OpenGateway) -> None:
    settings = {"allowed_networks": LOOPBACK, "max_in_flight": 4, "read_timeout_s": 300, "total_timeout_s": 300}
    async with (
        Site({"/slow": stay}, other=http(RAW)).running() as site,
        open_gateway(keys=KEYS, fetch=settings) as gateway,
    ):

        async def ask(key: str, path: str) -> int:
            body = {"messages": user(image_part(site.url(path)))}
            async with gateway.post(body, headers=of(key)) as answer:
                return int(answer.status)

        async with ended([asyncio.create_task(ask("ana", "/slow")) for _ in range(8)]), asyncio.timeout(60):
            await until(lambda: site.connections >= 2)
            assert [await ask("bo", "/good") for _ in range(10)] == [200] * 10
            assert sum(head.startswith("GET /slow ") for head in site.heads) == 2


async def test_slow_uploads_of_one_key_leave_room_for_another_keys(open_gateway: OpenGateway) -> None:
    async with open_gateway(keys=KEYS, server={"queue_timeout_s": 2}) as gateway:
        sent = 0

        async def slow_body() -> AsyncIterator[bytes]:
            nonlocal sent
            yield b"--x\r\n"
            sent += 1
            await asyncio.Event().wait()

        async def upload_slowly() -> None:
            headers = of("ana") | {"content-type": "multipart/form-data; boundary=x"}
            async with gateway.session.post(f"{gateway.url}/v1/files", data=slow_body(), headers=headers) as answer:
                await answer.read()

        async with ended([asyncio.create_task(upload_slowly()) for _ in range(16)]):
            await until(lambda: sent == 16)
            form = aiohttp.FormData({"purpose": "user_data"})
            form.add_field("file", b"hello", filename="a.txt")
            async with gateway.session.post(f"{gateway.url}/v1/files", data=form, headers=of("bo")) as answer:
                assert answer.status == 200, await answer.text()


async def test_slow_bodies_of_one_key_leave_memory_for_another_keys_requests(open_gateway: OpenGateway) -> None:
    most, body = 1_000_000, json.dumps({"messages": user("x" * 100_000)}).encode()
    async with open_gateway(keys=KEYS, server={"max_bodies_bytes": most}) as gateway:

        async def slow_body() -> AsyncIterator[bytes]:
            yield b" " * 60_000
            await asyncio.Event().wait()

        async def ask_slowly() -> int:
            url, headers = f"{gateway.url}/v1/chat/completions", of("ana") | {"content-type": "application/json"}
            async with gateway.session.post(url, data=slow_body(), headers=headers) as answer:
                return int(answer.status)

        asked = [asyncio.create_task(ask_slowly()) for _ in range(20)]
        async with ended([*asked]):
            await until(lambda: any(task.done() for task in asked))  # refused: there is no room for all of them
            assert {task.result() for task in asked if task.done()} == {429}
            async with gateway.post(body, headers=of("bo")) as answer:
                assert answer.status == 200, await answer.text()


Place = Callable[[Admission, str], AbstractAsyncContextManager[None]]


@pytest.mark.parametrize("place", [Admission.uploading, Admission.reading_video])
async def test_one_key_never_holds_every_permit_of_slow_work(place: Place) -> None:
    door = Admission(KEYS, Server(queue_timeout_s=300), {})
    async with AsyncExitStack() as stack:

        async def enter(key: str) -> None:
            await stack.enter_async_context(place(door, key))

        greedy = [asyncio.create_task(enter("ana")) for _ in range(10)]
        await asyncio.sleep(0)
        async with ended([*greedy]), asyncio.timeout(60):
            await enter("bo")


@pytest.mark.parametrize("place", [Admission.uploading, Admission.reading_video])
@pytest.mark.parametrize("keys", [(), KEYS[:1]])
async def test_the_only_key_may_hold_every_permit(place: Place, keys: tuple[ApiKey, ...]) -> None:
    door = Admission(keys, Server(queue_timeout_s=0.01), {})
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(place(door, "ana"))


async def test_another_key_gets_a_permit_while_other_keys_hold_permits() -> None:
    """Each new key holds as many permits as remain free; its next requests wait for one of its own permits."""
    queue = FairQueue("x", 8, 100, 60, is_shared=True, is_slow=True)
    inside: list[str] = []

    async def enter(key: str) -> None:
        await queue.acquire(key)
        inside.append(key)

    tasks = [asyncio.create_task(enter(key)) for key in "aaaaaabbbbccd"]
    async with ended([*tasks]):
        await settle()
        assert "".join(inside) == "aaaabbcd"
        assert queue.in_flight == 8
        queue.release("a")  # one is free, and each waiting key holds one or more
        await settle()
        assert (queue.in_flight, "".join(inside[8:])) == (7, "")
        for _ in range(3):
            queue.release("a")
        await settle()
        # c entered when two were free, then a got its former permits back; b has two and waits for one of them.
        assert "".join(inside[8:]) == "caa"
        assert queue.queued == 2
        queue.release("b")
        await settle()
        assert "".join(inside[11:]) == "b"


async def test_no_permit_of_slow_work_is_lost_when_requests_are_cancelled() -> None:
    chance = random.Random(7)
    queue = FairQueue("x", 5, 1000, 60, is_shared=True, is_slow=True)

    async def ask(key: str) -> None:
        async with queue.permit(key):
            assert queue.in_flight <= 5
            await asyncio.sleep(chance.choice((0, 0, 0.001)))

    tasks = []
    for _ in range(1000):
        tasks.append(asyncio.create_task(ask(f"k{chance.randrange(4)}")))
        if chance.random() < 0.5:
            chance.choice(tasks).cancel()
        if chance.random() < 0.3:
            await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {type(None), asyncio.CancelledError}
    assert (queue.in_flight, queue.queued) == (0, 0)
    for _ in range(3):
        await asyncio.wait_for(queue.acquire("x"), 60)  # as many as are still free: 5 > 0, 4 > 1, 3 > 2
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.acquire("x"), 0.01)


@dataclass
class DeadNameServer:
    """A resolver that answers only for ``known``; at the end of a test ``released`` ends its threads."""

    known: dict[str, list[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.known:
            self.released.wait(300)
        return self.known.get(host, [])


@asynccontextmanager
async def fetching(site: Site, names: DeadNameServer, **given: Any) -> AsyncIterator[Fetcher]:
    settings = Fetch.model_validate({"max_in_flight": 4, "connect_timeout_s": 0.1, **given})
    fetcher = Fetcher(settings, 100_000, names, Gate(site), is_shared=True)
    try:
        yield fetcher
    finally:
        names.released.set()
        await fetcher.close()


async def test_names_that_never_resolve_leave_room_for_another_keys_names() -> None:
    names = DeadNameServer({PUBLIC_NAME: [PUBLIC]})
    async with Site(other=http(RAW)).running() as site, fetching(site, names) as fetcher:

        async def ask(number: int) -> VlserveError:
            with pytest.raises(VlserveError) as error:
                await fetcher.fetch(f"http://dead-{number}.example/", PARAM, key="ana")
            return error.value

        faults = await asyncio.gather(*(ask(number) for number in range(40)))
        # 16 threads, of which one key may use as many as remain free; further names are not looked up.
        assert len(names.asked) == 8
        unreachable = [fault for fault in faults if isinstance(fault, InvalidRequest)]
        assert {fault.message for fault in unreachable} == {f"{PARAM}: the URL could not be fetched."}
        assert len(unreachable) == 8
        refused = [fault for fault in faults if isinstance(fault, TooManyRequests)]
        assert len(refused) == 32
        assert all("fetch.max_in_flight" in fault.message and fault.headers() for fault in refused)
        async with asyncio.timeout(60):  # a busy machine may exceed the timeout to connect, but refuses nothing
            while not await is_fetched(fetcher, f"http://{PUBLIC_NAME}:{site.port}/", "bo", InvalidRequest):
                pass

        names.released.set()  # the threads end, and the key can use them again
        async with asyncio.timeout(60):
            while not await is_fetched(
                fetcher, f"http://{PUBLIC_NAME}:{site.port}/", "ana", InvalidRequest, TooManyRequests
            ):
                await asyncio.sleep(0.01)


async def is_fetched(fetcher: Fetcher, url: str, key: str, *allowed: type[VlserveError]) -> bool:
    """Raises errors other than ``allowed``."""
    try:
        return await fetcher.fetch(url, PARAM, key=key) == RAW
    except allowed:
        return False


@contextmanager
def no_free_descriptors() -> Iterator[None]:
    """No free file descriptors in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = os.open(os.devnull, os.O_RDONLY)
    taken = [first]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))  # noqa: PTH208
    try:
        while True:
            try:
                taken.append(os.dup(first))
            except OSError as error:
                assert error.errno == errno.EMFILE  # noqa: PT017
                break
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for one in taken:
            os.close(one)


async def fault_of(fetcher: Fetcher, url: str) -> VlserveError:
    with pytest.raises(VlserveError) as error:
        await fetcher.fetch(url, PARAM)
    return error.value


def name_server_without_descriptors(host: str) -> Sequence[str]:
    """getaddrinfo without a free descriptor: it cannot open files or sockets, and reports that no name exists."""
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize("host", ["127.0.0.1", PUBLIC_NAME, "missing.example"])
async def test_no_free_descriptors_is_a_server_error(host: str) -> None:
    settings = Fetch.model_validate({"allowed_networks": LOOPBACK})
    names = Names({PUBLIC_NAME: [[PUBLIC, PUBLIC]]})

    def look_up(name: str) -> Sequence[str]:
        return names(name) if name == PUBLIC_NAME else name_server_without_descriptors(name)

    async with Site(other=http(RAW)).running() as site:
        fetcher = Fetcher(settings, 100_000, look_up, Gate(site))
        with no_free_descriptors():
            fault = await fault_of(fetcher, f"http://{host}:{site.port}/")
        assert (fault.status, fault.code) == (503, "service_exhausted")
        assert "retry-after" in fault.headers()
        missing = await fault_of(fetcher, "http://missing.example/")
        assert isinstance(missing, InvalidRequest)  # with free descriptors it is the client's error again
        assert await fetcher.fetch(f"http://{PUBLIC_NAME}:{site.port}/", PARAM) == RAW
        await fetcher.close()


async def test_lack_of_descriptors_is_reported_even_if_other_addresses_fail_otherwise() -> None:
    faults = iter((OSError(errno.EMFILE, "Too many open files"), ConnectionRefusedError(errno.ECONNREFUSED, "refused")))

    def open_socket(info: aiohttp.AddrInfoType) -> socket.socket:
        raise next(faults)

    names = Names({PUBLIC_NAME: [[PUBLIC, "2606:4700::1"]]})
    fetcher = Fetcher(Fetch(), 100_000, names, open_socket)
    assert (await fault_of(fetcher, f"http://{PUBLIC_NAME}/")).status == 503
    await fetcher.close()


async def test_a_thread_that_cannot_start_is_a_server_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with Site(other=http(RAW)).running() as site:
        names = Names({PUBLIC_NAME: [[PUBLIC]]})
        fetcher = Fetcher(Fetch(max_in_flight=1), 100_000, names, Gate(site))
        url = f"http://{PUBLIC_NAME}:{site.port}/"
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            for _ in range(5):  # more than there are threads: none is lost
                assert (await fault_of(fetcher, url)).status == 503
        assert await fetcher.fetch(url, PARAM) == RAW
        await fetcher.close()
