"""Fetching pictures by URL: responses, redirects, and what a request contains."""

import asyncio
import gzip
import logging
import pathlib
import ssl

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.media.fetching import PEM, RAW, UNREACHABLE, fetching, refusal, server_context
from tests.reliability.addresses import (
    PARAM,
    PUBLIC,
    PUBLIC_NAME,
    Names,
    Site,
    http,
    redirect,
)
from vlserve.errors import InvalidRequest


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
async def test_bytes_are_returned(answer: bytes) -> None:
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


@pytest.mark.parametrize("status", [*range(201, 209), 300, 302, 304, 400, 401, 403, 404, 418, 429, 500, 503, 999])
async def test_other_statuses_than_200_are_refused(status: int) -> None:
    body = b"" if status in (204, 304) else RAW
    async with Site({"/": http(body, f"{status} Odd")}).running() as site, fetching(site) as fetcher:
        message, code = await refusal(fetcher, site.url())
        assert message == f"{PARAM}: the server responded with status {status}."
        assert code == "image_fetch_failed"


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
