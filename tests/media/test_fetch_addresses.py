"""Which hosts and addresses may be fetched (SSRF)."""

import asyncio
import ipaddress
import pathlib
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.media.fetching import LOOPBACK, RAW, UNREACHABLE, fetching, refusal, server_context
from tests.reliability.addresses import (
    PARAM,
    PUBLIC,
    PUBLIC_NAME,
    Gate,
    Names,
    Site,
    hostile_addresses,
    http,
    redirect,
    reveals_an_address,
)
from vlserve.config.settings import Fetch
from vlserve.errors import ConfigError
from vlserve.media import addresses, fetch, resolver
from vlserve.media.addresses import may_connect
from vlserve.media.fetch import Fetcher


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


async def test_all_unreachable_urls_get_the_same_error() -> None:
    released = threading.Event()

    def names(host: str) -> Sequence[str]:
        if host == "slow.example":
            released.wait(300)
        if host == "missing.example":
            raise OSError(-2, "Name or service not known")
        return {"inner.example": ["10.0.0.1"], "closed.example": ["127.0.0.1"]}.get(host, [])

    async with Site().running() as gone:
        pass
    async with Site(tls=server_context()).running() as site:
        refusals = set()
        for deadline in ("connect_timeout_s", "total_timeout_s"):
            short: dict[str, Any] = {"connect_timeout_s": 300, "total_timeout_s": 300, deadline: 0.2}
            async with asyncio.timeout(60), fetching(site, names, **short) as fetcher:
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
def test_allowed_networks(address: str, networks: list[str], is_allowed: bool) -> None:
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
