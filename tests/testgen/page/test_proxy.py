"""The browser's proxy leads to the page's origin and nowhere else."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from tests.conftest import until
from vlserve.testgen.page.proxy import OriginProxy, open_proxy, origin

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(seen: list[bytes], answer: bytes = b"hello") -> AsyncIterator[str]:
    """A server that notes each request's head; its origin."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def get(proxy: OriginProxy, url: str) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, session.get(url, proxy=proxy.address) as answer:
        return answer.status, await answer.read()


async def raw(proxy: OriginProxy, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(request)
    found = await reader.read()
    writer.close()
    return found


async def test_the_page_is_reached_and_told_no_proxy_headers() -> None:
    seen: list[bytes] = []
    async with listening(seen) as page, open_proxy([page], lambda _: True) as proxy:
        assert await get(proxy, f"{page}/a/b?c=d") == (200, b"hello")
    assert seen[0].startswith(b"GET /a/b?c=d HTTP/1.1\r\n")
    assert b"proxy" not in seen[0].lower()


async def test_names_that_never_resolve_keep_no_thread_of_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop's own threads read bodies and files of all other requests."""
    released, system = threading.Event(), socket.getaddrinfo
    asked: list[object] = []

    def look_up(host: object, *arguments: object, **named: object) -> object:
        if host != "dead.example":
            return system(host, *arguments, **named)  # type: ignore[arg-type]
        asked.append(host)
        released.wait(300)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    page = "http://dead.example:8000"
    async with open_proxy([page], lambda _: True) as proxy:
        hanging = [asyncio.create_task(get(proxy, page)) for _ in range(100)]
        try:
            await until(lambda: len(asked) >= 4)
            assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 60) == 1
            await until(lambda: sum(task.done() for task in hanging) >= 36)
            assert len(asked) <= 64
        finally:
            released.set()
            answers = await asyncio.gather(*hanging)
        assert {status for status, _ in answers} == {502}
        assert proxy.failures.keys() == {page}


async def test_another_port_of_the_same_machine_is_refused_and_told() -> None:
    page_seen: list[bytes] = []
    other_seen: list[bytes] = []
    async with (
        listening(page_seen) as page,
        listening(other_seen) as other,
        open_proxy([page], lambda _: True) as proxy,
    ):
        assert (await get(proxy, f"{other}/secret"))[0] == 403
        assert proxy.blocked == {other}
    assert other_seen == []


async def test_an_address_that_may_not_be_connected_to_gets_no_packet() -> None:
    seen: list[bytes] = []
    asked: list[str] = []

    def may_connect(address: str) -> bool:
        asked.append(address)
        return False

    async with listening(seen) as page, open_proxy([page], may_connect) as proxy:
        assert (await get(proxy, page))[0] == 502
        assert proxy.blocked == {page}
    assert asked == ["127.0.0.1"]
    assert seen == []


@pytest.mark.parametrize(
    "line",
    [
        b"GET /relative HTTP/1.1",
        b"GET file:///etc/passwd HTTP/1.1",
        b"GET http:// HTTP/1.1",
        b"nonsense",
        b"CONNECT nowhere HTTP/1.1",
    ],
)
async def test_other_requests_reach_nobody(line: bytes) -> None:
    seen: list[bytes] = []
    async with listening(seen) as page, open_proxy([page], lambda _: True) as proxy:
        answer = await raw(proxy, line + b"\r\nHost: x\r\n\r\n")
        assert answer.split()[1] in (b"400", b"403"), answer
    assert seen == []


async def test_a_tunnel_leads_to_the_page_only() -> None:
    seen: list[bytes] = []
    async with listening(seen) as page, open_proxy([page], lambda _: True) as proxy:
        place = page.removeprefix("http://").encode()
        answer = await raw(proxy, b"CONNECT %s HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n" % place)
        assert answer.endswith(b"hello")
        assert b" 403 " in await raw(proxy, b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n")
    assert len(seen) == 1


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "javascript:alert(1)", "http://a:b@example.com/", "example.com", "data:text/html,x", ""],
)
def test_only_http_addresses_have_an_origin(url: str) -> None:
    with pytest.raises(ValueError, match=r"no http|user name"):
        origin(url)


def test_an_origin_is_written_as_browsers_do() -> None:
    assert origin("HTTPS://Example.com:443/a?b") == "https://example.com"
    assert origin("http://127.0.0.1:8000/") == "http://127.0.0.1:8000"
