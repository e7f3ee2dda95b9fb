"""Pictures fetched from real sites on loopback; tests/reliability/addresses.py has the hostile ones."""

import asyncio
import contextlib
import gzip
import ipaddress
import logging
import pathlib
import ssl
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.conftest import picture, until
from tests.reliability.addresses import (
    PARAM,
    PUBLIC,
    PUBLIC_NAME,
    Gate,
    Handler,
    Names,
    Site,
    hostile_addresses,
    http,
    redirect,
    reveals_an_address,
)
from vlserve.config.settings import Fetch
from vlserve.errors import ConfigError, InvalidRequest, TooManyRequests
from vlserve.media import addresses, fetch, resolver
from vlserve.media.addresses import may_connect
from vlserve.media.fetch import Fetcher

RAW = picture()
LOOPBACK = "127.0.0.0/8"
UNREACHABLE = (f"{PARAM}: the URL could not be fetched.", "image_fetch_failed")
# The key of a self-signed certificate for the name of the public site.
PEM = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQglMTT6DvNTqe8YeEN
y0RQGJqnenfC+IuwxQ8QNVs7tYKhRANCAASsneQU3pDhVyl4iXlc6zKQfsyULDz+
/G8CjHR6uKgIrnLYK/Iznzq2Bm1MtCDpk42ihJuQCVYhsWEqkcEu0vgI
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBqDCCAU6gAwIBAgIBATAKBggqhkjOPQQDAjAbMRkwFwYDVQQDDBBwaWN0dXJl
cy5leGFtcGxlMCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAbMRkw
FwYDVQQDDBBwaWN0dXJlcy5leGFtcGxlMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD
QgAErJ3kFN6Q4VcpeIl5XOsykH7MlCw8/vxvAox0erioCK5y2CvyM586tgZtTLQg
6ZONooSbkAlWIbFhKpHBLtL4CKOBgDB+MBsGA1UdEQQUMBKCEHBpY3R1cmVzLmV4
YW1wbGUwHQYDVR0OBBYEFLqG2zMX+IjNl6hHAGrvLpvKOz2kMB8GA1UdIwQYMBaA
FLqG2zMX+IjNl6hHAGrvLpvKOz2kMA4GA1UdDwEB/wQEAwIChDAPBgNVHRMBAf8E
BTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQDR7TQ/FEt8rJj3+SJEVwJ91d8AJv0O
TKqzkpXBkua6AAIgcO/gQkPgq3pC24qstaIWoBohpTuBmNq678GSQde3pDA=
-----END CERTIFICATE-----
"""


@asynccontextmanager
async def fetching(
    site: Site,
    names: Callable[[str], Sequence[str]] | None = None,
    max_bytes: int = 100_000,
    queue_timeout_s: float = 30.0,
    **given: Any,
) -> AsyncIterator[Fetcher]:
    """A fetcher that may connect to loopback, and resolves PUBLIC_NAME to the site."""
    chosen = Fetch.model_validate({"allowed_networks": [LOOPBACK], **given})
    known = names or Names({PUBLIC_NAME: [[PUBLIC]]})
    fetcher = Fetcher(chosen, max_bytes, known, Gate(site), queue_timeout_s=queue_timeout_s)
    try:
        yield fetcher
    finally:
        await fetcher.close()


async def refusal(fetcher: Fetcher, url: str) -> tuple[str, str | None]:
    """Message and code of the error for a URL."""
    with pytest.raises(InvalidRequest) as error:
        await fetcher.fetch(url, PARAM)
    assert error.value.param == PARAM
    assert error.value.message.startswith(f"{PARAM}: ")
    assert error.value.__cause__ is None
    return error.value.message, error.value.code


@pytest.mark.parametrize(
    "answer",
    [
        http(RAW, content_type="image/png"),
        http(RAW, content_type="text/html"),
        http(RAW, content_encoding="identity"),
        http(RAW, content_length=""),
        http(b"5\r\n" + RAW[:5] + b"\r\n%x\r\n" % len(RAW[5:]) + RAW[5:] + b"\r\n0\r\n\r\n", content_length="").replace(
            b"connection: close", b"transfer-encoding: chunked"
        ),
        b"HTTP/1.1 100 Continue\r\n\r\n" + http(RAW),
    ],
    ids=["typed", "wrong type", "identity", "until close", "chunked", "after a 100"],
)
async def test_bytes_come_back(answer: bytes) -> None:
    async with Site({"/a.png?x=1": answer}).running() as site, fetching(site) as fetcher:
        assert await fetcher.fetch(site.url("/a.png?x=1#part"), PARAM) == RAW
        assert await fetcher.fetch(f"HTTP://Pictures.EXAMPLE:{site.port}/a.png?x=1", PARAM) == RAW


async def test_a_request_has_no_credentials_or_cookies(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    (tmp_path / ".netrc").write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    async with Site().running() as proxy, Site(other=http(RAW, set_cookie="a=secret")).running() as site:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url())
            monkeypatch.setenv(name.upper(), proxy.url())
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with fetching(site) as fetcher:
            for _ in range(2):
                assert await fetcher.fetch(site.url("/a"), PARAM) == RAW
        assert proxy.connections == 0
        for head in site.heads:
            assert head.startswith("GET /a HTTP/1.1\r\n")
            lines = head.strip().split("\r\n")[1:]
            assert {line.split(":")[0].lower() for line in lines} <= {
                *("host", "accept", "accept-encoding", "user-agent", "connection")
            }
            assert "accept-encoding: identity" in head.lower()
            assert "secret" not in head


@pytest.mark.parametrize(
    ("count", "most", "is_fetched"), [(0, 0, True), (1, 0, False), (1, 3, True), (3, 3, True), (4, 3, False)]
)
@pytest.mark.parametrize("form", ["/{}", "{}", "./x/../{}", "//127.0.0.1:{port}/{}", "http://127.0.0.1:{port}/{}#x"])
async def test_redirects(count: int, most: int, is_fetched: bool, form: str) -> None:
    async with Site({"/0": http(RAW)}).running() as site, fetching(site, max_redirects=most) as fetcher:
        for number in range(1, count + 1):
            site.answers[f"/{number}"] = redirect(form.format(number - 1, port=site.port), "307 Temporary Redirect")
        if is_fetched:
            assert await fetcher.fetch(site.url(f"/{count}"), PARAM) == RAW
        else:
            assert f"more than {most} times" in (await refusal(fetcher, site.url(f"/{count}")))[0]
        assert site.connections == min(count, most) + 1


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://other.example:{port}/", "image_domain_not_allowed"),
        ("http://169.254.169.254/", "image_domain_not_allowed"),
        ("http://inner.pictures.example:{port}/", "image_fetch_failed"),
        ("data:image/png;base64,AAAA", "invalid_image_url"),
        ("file:///etc/passwd", "invalid_image_url"),
        ("//user@pictures.example:{port}/", "invalid_image_url"),
    ],
)
async def test_each_redirect_is_checked_from_the_start(url: str, code: str) -> None:
    names = Names({PUBLIC_NAME: [[PUBLIC]], "inner.pictures.example": [["10.0.0.1"]]})
    async with (
        Site().running() as site,
        fetching(site, names, allowed_domains=["pictures.example"], allowed_networks=[]) as fetcher,
    ):
        site.answers["/"] = redirect(url.format(port=site.port))
        assert (await refusal(fetcher, f"http://pictures.example:{site.port}/"))[1] == code
        assert site.connections == 1


@pytest.mark.parametrize(
    "odd",
    [
        *("http://{n}/ x", "http://{n}/\x7f", "http://{n}/\u200b", "http://{n}/\u2028", "http://{n}/\ud800"),
        *("http://{n}/\\x", "http:\\\\{n}/", "http://a@{n}/", "http://@{n}/", "http:{n}/", "http:///{n}/"),
        *("http://127.1:{p}/", "http://0x7f000001:{p}/", "http://2130706433:{p}/", "http://127.0.0.1.:{p}/"),
        *("http://a..example:{p}/", "http://-a.example:{p}/", "http://a%2eexample:{p}/", "http://[::1%25lo]:{p}/"),
        *("http://{n}/" + "x" * 8000, "http://" + "a" * 64 + ".example:{p}/", "http://pictures.example:+{p}/"),
        *("gopher://{n}/", "tcp://{n}/", "httpſ://{n}/"),
    ],
)
async def test_ambiguous_urls_are_refused(odd: str) -> None:
    names = Names({PUBLIC_NAME: [[PUBLIC]]})
    async with Site(other=http(RAW)).running() as site, fetching(site, names) as fetcher:
        url = odd.replace("{n}", f"{PUBLIC_NAME}:{site.port}").replace("{p}", str(site.port))
        assert (await refusal(fetcher, url))[1] == "invalid_image_url"
        assert site.connections == 0
        assert names.asked == []


@pytest.mark.parametrize("location", ["/\t/{n}/x", "ht\ttp://{n}/x", "/\\{n}/x", "\\\\{n}/x", "/x\x7f", "/x\u200b"])
async def test_ambiguous_redirects_are_refused(location: str) -> None:
    async with Site({"/x": http(RAW)}).running() as site, fetching(site) as fetcher:
        site.answers["/"] = redirect(location.replace("{n}", f"127.0.0.1:{site.port}"))
        assert (await refusal(fetcher, site.url()))[1] == "invalid_image_url"
        assert site.connections == 1


@pytest.mark.parametrize("status", [*range(201, 209), 300, 302, 304, 400, 401, 403, 404, 418, 429, 500, 503, 999])
async def test_only_200_counts(status: int) -> None:
    body = b"" if status in (204, 304) else RAW
    async with Site({"/": http(body, f"{status} Odd")}).running() as site, fetching(site) as fetcher:
        message, code = await refusal(fetcher, site.url())
        assert message == f"{PARAM}: the server responded with status {status}."
        assert code == "image_fetch_failed"


async def drip_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(http(content_length="1000"))
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def drip_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An endless body."""
    writer.write(http(content_length=""))
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


async def stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def stay_after_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(http(content_length="5"))
    await reader.read()


async def test_a_picture_may_be_as_large_as_the_limit_and_no_larger() -> None:
    until_close = http(b"x" * 1001, content_length="")
    answers: dict[str, bytes | Handler] = {"/1000": http(b"x" * 1000), "/1001": http(b"x" * 1001)}
    answers |= {"/open": until_close, "/flood": flood}
    async with Site(answers).running() as site, fetching(site, max_bytes=1000) as fetcher:
        # Refused by the header alone: the body is never sent.
        site.answers["/claimed"] = http(content_length="1001")
        assert await fetcher.fetch(site.url("/1000"), PARAM) == b"x" * 1000
        for path in ("/1001", "/open", "/flood", "/claimed"):
            message, code = await refusal(fetcher, site.url(path))
            assert "1,000 bytes" in message
            assert "image.max_image_bytes" in message
            assert code == "image_too_large"


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip", "x"])
async def test_compressed_responses_are_refused(coding: str) -> None:
    answer = http(gzip.compress(b"x" * 1000), content_encoding=coding)
    async with Site({"/": answer}).running() as site, fetching(site) as fetcher:
        assert "compressed" in (await refusal(fetcher, site.url()))[0]


@pytest.mark.parametrize(
    "answer",
    [
        http(b""),
        http(b"", content_length=""),
    ],
)
async def test_empty_responses_are_refused(answer: bytes) -> None:
    async with Site({"/": answer}).running() as site, fetching(site) as fetcher:
        assert "empty response" in (await refusal(fetcher, site.url()))[0]


@pytest.mark.parametrize(
    "answer",
    [b"", b"\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", http(RAW[:9], content_length="10"), b"HTTP/1.1 200 OK\r\nx\r\n\r\n"],
)
async def test_invalid_http_responses_get_a_plain_error(answer: bytes) -> None:
    async with Site({"/": answer}).running() as site, fetching(site) as fetcher:
        assert await refusal(fetcher, site.url()) == UNREACHABLE


@pytest.mark.parametrize(
    ("handler", "deadline"),
    [
        *((handler, {"read_timeout_s": 0.2}) for handler in (stay, stay_after_head)),
        *((handler, {"total_timeout_s": 1}) for handler in (stay, stay_after_head, drip_head, drip_body)),
    ],
)
async def test_slow_sites_are_cut_off(handler: Handler, deadline: dict[str, Any]) -> None:
    long = {"read_timeout_s": 60, "total_timeout_s": 60, **deadline}
    async with Site({"/": handler}).running() as site, fetching(site, **long) as fetcher, asyncio.timeout(20):
        message, code = await refusal(fetcher, site.url())
        assert code == "image_fetch_timeout"
        assert "fetch.total_timeout_s" in message


async def test_all_unreachable_urls_get_the_same_error() -> None:
    released = threading.Event()

    def names(host: str) -> Sequence[str]:
        if host == "slow.example":
            released.wait(60)
        if host == "missing.example":
            raise OSError(-2, "Name or service not known")
        return {"inner.example": ["10.0.0.1"], "closed.example": ["127.0.0.1"]}.get(host, [])

    async with Site().running() as gone:
        pass
    async with Site(tls=server_context()).running() as site:
        refusals = set()
        for deadline in ("connect_timeout_s", "total_timeout_s"):
            short: dict[str, Any] = {"connect_timeout_s": 60, "total_timeout_s": 60, deadline: 0.2}
            async with asyncio.timeout(20), fetching(site, names, **short) as fetcher:
                refusals |= {
                    await refusal(fetcher, url)
                    for url in (
                        *("http://slow.example/", "http://missing.example/", "http://empty.example/"),
                        "http://inner.example/",
                        *(gone.url(), f"http://closed.example:{gone.port}/"),
                        site.url().replace("http:", "https:"),  # its certificate is not trusted
                    )
                }
    released.set()
    assert refusals == {UNREACHABLE}
    assert not reveals_an_address(UNREACHABLE[0])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "10.0.0.1", "[::ffff:127.0.0.1]", "LOCALHOST."])
async def test_a_private_address_in_the_url_itself_gets_an_error_that_helps(host: str) -> None:
    async with Site().running() as site, fetching(site, allowed_networks=[]) as fetcher:
        message, code = await refusal(fetcher, f"http://{host}/a.png")
    assert code == "image_fetch_failed"
    assert "only public addresses" in message
    assert "fetch.allowed_networks" in message


async def test_hanging_name_servers_delay_nothing_else() -> None:
    released, asked = threading.Event(), list[str]()

    def names(host: str) -> Sequence[str]:
        asked.append(host)
        released.wait(60)
        return []

    async with Site(other=http(RAW)).running() as site, fetching(site, names) as fetcher:
        hanging = [asyncio.create_task(fetcher.fetch("http://slow.example/", PARAM)) for _ in range(60)]
        await until(lambda: bool(asked))
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 30) == 1
        assert await asyncio.wait_for(fetcher.fetch(site.url(), PARAM), 30) == RAW
        released.set()
        refusals = await asyncio.gather(*hanging, return_exceptions=True)
        assert {str(one) for one in refusals} == {UNREACHABLE[0]}


async def test_fetches_at_once_are_limited() -> None:
    running = most = 0
    are_three = asyncio.Event()

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            are_three.set()
        await are_three.wait()
        await asyncio.sleep(0.02)  # so that a fourth would be seen
        running -= 1
        writer.write(http(RAW))

    async with Site({"/": count}).running() as site, fetching(site, max_in_flight=3) as fetcher:
        assert await asyncio.gather(*(fetcher.fetch(site.url(), PARAM) for _ in range(10))) == [RAW] * 10
        assert most == 3


async def test_the_wait_for_a_permit_ends_and_permits_are_released() -> None:
    async with Site({"/": stay, "/a": http(RAW)}).running() as site:
        async with fetching(site, max_in_flight=1, queue_timeout_s=0.2, total_timeout_s=60) as fetcher:
            staying = asyncio.create_task(fetcher.fetch(site.url(), PARAM))
            await until(lambda: site.connections == 1)
            with pytest.raises(TooManyRequests, match=r"fetch\.max_in_flight.*queue_timeout_s"):
                await fetcher.fetch(site.url("/a"), PARAM)
            assert site.connections == 1
            staying.cancel()
            await asyncio.wait((staying,))
            assert await fetcher.fetch(site.url("/a"), PARAM) == RAW
        async with fetching(site, max_in_flight=1, total_timeout_s=60) as fetcher:
            before = site.connections
            leaving = asyncio.create_task(fetcher.fetch(site.url(), PARAM))
            await until(lambda: site.connections == before + 1)
            waiting = asyncio.create_task(fetcher.fetch(site.url("/a"), PARAM))
            leaving.cancel()
            assert await asyncio.wait_for(waiting, 20) == RAW


@pytest.mark.parametrize("head", [b"", http(content_length="1000") + b"x"])
async def test_cancelling_closes_the_connection(head: bytes) -> None:
    closed = asyncio.Event()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        closed.set()

    async with Site({"/": watch}).running() as site, fetching(site) as fetcher:
        task = asyncio.create_task(fetcher.fetch(site.url(), PARAM))
        await until(lambda: len(site.heads) == 1)
        await asyncio.sleep(0.05)
        assert not closed.is_set()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), 10)


async def test_no_connection_is_kept() -> None:
    closed = asyncio.Event()

    async def keep_alive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http(RAW, connection="keep-alive"))
        await reader.read()
        closed.set()

    async with Site({"/": keep_alive}).running() as site, fetching(site) as fetcher:
        assert await fetcher.fetch(site.url(), PARAM) == RAW
        await asyncio.wait_for(closed.wait(), 10)


@pytest.mark.parametrize(
    ("allowed", "denied", "host", "is_fetched"),
    [
        ([], [], "a.example", True),
        (["a.example"], [], "a.example", True),
        (["a.example"], [], "A.EXAMPLE", True),
        (["A.Example."], [], "a.example", True),
        (["a.example"], [], "a.example.", True),
        (["a.example"], [], "b.a.example", True),
        (["*.a.example"], [], "b.a.example", True),
        ([".a.example"], [], "b.a.example", True),
        (["a.example"], [], "ba.example", False),
        (["a.example"], [], "a.example.b.example", False),
        (["a.example"], [], "example", False),
        (["a.example"], [], "127.0.0.1", False),
        (["127.0.0.1"], [], "127.0.0.1", True),
        (["bücher.example"], [], "xn--bcher-kva.example", True),
        (["xn--bcher-kva.example"], [], "BÜCHER.example", True),
        (["a.example"], [], "ａ.example", True),
        (["a.example"], [], "а.example", False),  # Cyrillic
        ([], ["a.example"], "a.example", False),
        ([], ["a.example"], "b.a.example", False),
        ([], ["a.example"], "b.A.example.", False),
        ([], ["a.example"], "ａ。example", False),
        ([], ["a.example"], "ba.example", True),
        ([], ["127.0.0.1"], "127.0.0.1", False),
        (["a.example"], ["b.a.example"], "a.example", True),
        (["a.example"], ["b.a.example"], "c.b.a.example", False),
        (["b.a.example"], ["a.example"], "b.a.example", False),
    ],
)
async def test_domain_lists(allowed: list[str], denied: list[str], host: str, is_fetched: bool) -> None:
    lists: dict[str, Any] = {"allowed_domains": allowed, "denied_domains": denied}
    async with Site(other=http(RAW)).running() as site, fetching(site, Names(), **lists) as fetcher:
        url = f"http://{host}:{site.port}/"
        if is_fetched:
            assert await fetcher.fetch(url, PARAM) == RAW
        else:
            message, code = await refusal(fetcher, url)
            assert code == "image_domain_not_allowed"
            assert "fetch.allowed_domains" in message
            assert site.connections == 0


@pytest.mark.parametrize(
    "name", ["", "*", "https://a.example", "a.example/x", "a b", "a..example", "a.example:80", "127.1"]
)
async def test_an_invalid_domain_in_the_settings_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=r"fetch\.denied_domains: .*is not a domain"):
        Fetcher(Fetch(denied_domains=[name]), 1)


async def test_fetching_can_be_switched_off() -> None:
    async with Site(other=http(RAW)).running() as site, fetching(site, enabled=False) as fetcher:
        assert "fetch.enabled" in (await refusal(fetcher, site.url()))[0]
        assert site.connections == 0


@pytest.mark.parametrize(
    ("address", "networks", "is_allowed"),
    [
        ("93.184.215.14", [], True),
        ("2606:4700::1", [], True),
        ("10.1.2.3", [], False),
        ("10.1.2.3", ["10.1.0.0/16"], True),
        ("10.2.0.1", ["10.1.0.0/16"], False),
        ("fd00::1", ["fd00::/8"], True),
        ("::1", ["::1/128"], True),
        # Only the address itself is allowed, not other forms of it.
        ("::ffff:10.1.2.3", ["10.1.0.0/16"], False),
        ("64:ff9b::10.1.2.3", ["10.1.0.0/16"], False),
        ("2002:a01:203::", ["10.1.0.0/16"], False),
        # Translated addresses must embed a public address or one that is allowed as well.
        ("64:ff9b::8.8.8.8", ["64:ff9b::/96"], True),
        ("64:ff9b::10.1.2.3", ["64:ff9b::/96"], False),
        ("64:ff9b::10.1.2.3", ["64:ff9b::/96", "10.1.0.0/16"], True),
        ("2002:a01:203::", ["2002::/16"], False),
        ("2001:0:808:808::f5fe:fdfc", ["2001::/32"], False),  # Teredo of 10.1.2.3
        ("::ffff:127.0.0.1", ["::/0"], False),
        ("fe80::1%eth0", ["fe80::/10"], False),
        ("127.1", [LOOPBACK], False),
        ("localhost", [LOOPBACK], False),
        ("", [LOOPBACK], False),
    ],
)
def test_addresses(address: str, networks: list[str], is_allowed: bool) -> None:
    assert may_connect(address, [ipaddress.ip_network(network) for network in networks]) is is_allowed


@given(st.ip_addresses())
def test_no_address_that_python_knows_as_special_is_public(address: addresses.Address) -> None:
    special = (
        *(address.is_private, address.is_loopback, address.is_link_local, address.is_multicast),
        *(address.is_reserved, address.is_unspecified, not address.is_global),
        isinstance(address, ipaddress.IPv6Address) and (address.is_site_local or address.ipv4_mapped is not None),
    )
    if any(special):
        assert not may_connect(str(address))


async def test_one_bad_address_refuses_the_whole_name() -> None:
    names = Names({"mixed.example": [[PUBLIC, "10.0.0.1"]], "good.example": [[PUBLIC, PUBLIC]]})
    async with Site(other=http(RAW)).running() as site, fetching(site, names) as fetcher:
        assert await refusal(fetcher, f"http://mixed.example:{site.port}/") == UNREACHABLE
        assert site.connections == 0
        assert await fetcher.fetch(f"http://good.example:{site.port}/", PARAM) == RAW


async def test_the_socket_is_refused_where_every_check_before_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Site(other=http(RAW)).running() as site, fetching(site, allowed_networks=[]) as fetcher:
        for module in (addresses, fetch):
            monkeypatch.setattr(module, "is_allowed", lambda address, networks: True)
        assert await fetcher.fetch(site.url(), PARAM) == RAW  # only this check is left
        monkeypatch.undo()
        monkeypatch.setattr(fetch, "may_connect", lambda address, networks: True)
        assert "only public addresses" in (await refusal(fetcher, site.url()))[0]
        monkeypatch.undo()

        async def resolve(self: Any, host: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:
            return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}]

        monkeypatch.setattr(resolver.Resolver, "resolve", resolve)
        assert await refusal(fetcher, f"http://a.example:{site.port}/") == UNREACHABLE
        assert site.connections == 1


async def test_a_name_is_resolved_once_per_fetch() -> None:
    names = Names({PUBLIC_NAME: [[PUBLIC]]})
    async with Site(other=http(RAW)).running() as site, fetching(site, names) as fetcher:
        for _ in range(3):
            await fetcher.fetch(f"http://{PUBLIC_NAME}:{site.port}/", PARAM)
        assert names.asked == [PUBLIC_NAME] * 3
        assert site.connections == 3


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(PEM)
        file.flush()
        context.load_cert_chain(file.name)
    return context


async def test_https_is_checked_and_never_becomes_http(monkeypatch: pytest.MonkeyPatch) -> None:
    trusting = ssl.create_default_context(cadata=PEM[PEM.index("-----BEGIN CERTIFICATE") :])
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", trusting)
    names = Names({PUBLIC_NAME: [[PUBLIC]], "other.example": [[PUBLIC]]})
    async with Site({"/": http(RAW)}, tls=server_context()).running() as site, fetching(site, names) as fetcher:
        site.answers["/up"] = redirect("/")
        site.answers["/down"] = redirect(f"http://{PUBLIC_NAME}:{site.port}/")
        for path in ("/", "/up"):
            assert await fetcher.fetch(f"https://{PUBLIC_NAME}:{site.port}{path}", PARAM) == RAW
        assert "from https to http" in (await refusal(fetcher, f"https://{PUBLIC_NAME}:{site.port}/down"))[0]
        assert await refusal(fetcher, f"https://other.example:{site.port}/") == UNREACHABLE


async def test_no_log_line_contains_a_url(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Site({"/good?secret": http(RAW)}).running() as site, fetching(site) as fetcher:
        assert await fetcher.fetch(site.url("/good?secret"), PARAM) == RAW
        for url in (site.url("/?secret"), "http://secret.10.0.0.1/", "http://10.0.0.1/secret", "file:///secret"):
            await refusal(fetcher, url)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith(("vlserve", "aiohttp"))]
    assert any("not fetched" in line for line in lines)
    assert not [line for line in lines if "secret" in line or "10.0.0.1" in line or str(site.port) in line]


def test_the_systems_resolver_is_used() -> None:
    assert resolver.look_up("127.0.0.1") == ["127.0.0.1"]


async def test_no_hostile_address_reaches_anything(tmp_path: pathlib.Path) -> None:
    assert [figure.measured for figure in await hostile_addresses(tmp_path)] == [0, 0, 0]


HOSTS = st.sampled_from(
    ["127.0.0.1", "[::1]", "localhost", "pictures.example", "0", "@", ":80", "\\", "/", "//", "#", "?"]
)
PIECES = HOSTS | st.sampled_from(["http:", "https:", ".", "%", "[", "]", "\t", "\0"]) | st.text(max_size=4)
URLS = (
    st.text() | st.lists(PIECES, max_size=8).map("".join) | st.lists(PIECES).map(lambda some: "http://" + "".join(some))
)


async def ask(url: str) -> None:
    """Returns bytes or raises InvalidRequest; nothing on loopback is contacted."""
    async with Site(other=http(RAW)).running() as canary, Site(other=redirect(url)).running() as site:
        gate = Gate(site)
        fetcher = Fetcher(Fetch(), 1000, Names({PUBLIC_NAME: [[PUBLIC]]}), gate)
        for tried in (url, url.replace(":80", f":{canary.port}"), f"http://{PUBLIC_NAME}:{site.port}/"):
            message, _ = await refusal(fetcher, tried)
            assert len(message) < 300
        await fetcher.close()
        assert canary.connections == 0
        assert gate.reached == []


@given(URLS)
@example("http://[]@/a.png")
@settings(max_examples=100, deadline=None)
def test_any_text_is_refused_or_leads_to_the_public_site(url: str) -> None:
    asyncio.run(ask(url))


HEADERS = st.sampled_from(
    [
        *("content-length: 3", "content-length: -1", "content-length: 99999999999999999999", "content-length: 3, 4"),
        *(
            "transfer-encoding: chunked",
            "transfer-encoding: gzip",
            "content-encoding: gzip",
            "location: ",
            "location: /",
        ),
        *(
            "content-length: x",
            "x" * 9000 + ": y",
            ": ",
            "set-cookie: a=b",
            "upgrade: websocket",
            "connection: upgrade",
        ),
        *(
            "transfer-encoding: chunked, chunked",
            "content-encoding: \xff",
            "location: http://[",
            "content-type: \xff/\0",
        ),
    ]
)
STATUSES = st.sampled_from(["200 OK", "200", "101 Switching", "302 Found", "20 x", "-1", "99999", "200 \xff\0"])
ANSWERS = st.binary() | st.builds(
    lambda status, headers, body: "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode("latin-1") + body,
    STATUSES,
    st.lists(HEADERS, max_size=4),
    st.binary(max_size=40) | st.sampled_from([b"3\r\nabc\r\n0\r\n\r\n", b"z\r\n", b"3;" + b"x" * 20_000, b"-1\r\n"]),
)


async def answer_with(raw: bytes) -> None:
    async with Site(other=raw).running() as site, fetching(site, read_timeout_s=1) as fetcher:
        try:
            assert await fetcher.fetch(site.url(), PARAM)
        except InvalidRequest as error:
            assert error.message.startswith(f"{PARAM}: ")  # noqa: PT017  (either is right)


@given(ANSWERS)
@example(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nz\r\n")
@settings(max_examples=200, deadline=None)
def test_any_answer_is_bytes_or_a_refusal(raw: bytes) -> None:
    asyncio.run(answer_with(raw))
