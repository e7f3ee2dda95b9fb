"""Row 11: server-side request forgery by picture URLs, with a listener on loopback that no request may reach.

No test sends a packet off the machine: names are resolved by a table, and sockets are opened by a gate that connects to
loopback only. The gate connects the one public address, which represents the internet, to a site in this process.
"""

import asyncio
import contextlib
import pathlib
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.conftest import picture
from tests.reliability.service import Figure
from vlserve.config.settings import Fetch
from vlserve.errors import InvalidRequest
from vlserve.media.fetch import Fetcher

PARAM = "messages[0].content[1]"
PUBLIC, PUBLIC_NAME = "93.184.215.14", "pictures.example"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def http(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """Return a complete response; ``content_length=""`` omits that header."""
    given = {"content_length": str(len(body)), "connection": "close"} | headers
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in given.items() if value]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("utf-8", "surrogatepass") + body


def redirect(location: str, status: str = "302 Found") -> bytes:
    return http(status=status, location=location)


@dataclass
class Site:
    """A server on loopback that answers with raw bytes and records its clients."""

    answers: dict[str, bytes | Handler] = field(default_factory=dict)
    other: bytes = http(status="404 Not Found")
    tls: ssl.SSLContext | None = None
    port: int = 0
    connections: int = 0
    heads: list[str] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Site"]:
        """Listen on 127.0.0.1, and on the same port of ::1 if available."""
        async with contextlib.AsyncExitStack() as stack:
            server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self.tls)
            await stack.enter_async_context(server)
            self.port = server.sockets[0].getsockname()[1]
            with contextlib.suppress(OSError):
                await stack.enter_async_context(await asyncio.start_server(self._accept, "::1", self.port))
            try:
                yield self
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.heads.append(head)
            answer = self.answers.get(head.split(" ")[1], self.other)
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(reader, writer)


class _Rerouted(socket.socket):
    """Connects to ``to`` instead of the requested address."""

    to: tuple[str, int]

    def connect(self, address: Any, /) -> None:
        super().connect(self.to)


@dataclass
class Gate:
    """Opens the fetcher's sockets: the public address connects to ``public``, loopback to loopback, and others fail.
    ``reached`` has the requested addresses other than the public one."""

    public: Site
    reached: list[str] = field(default_factory=list)

    def __call__(self, info: aiohttp.AddrInfoType) -> socket.socket:
        address = str(info[4][0])
        if address == PUBLIC:
            rerouted = _Rerouted(socket.AF_INET, socket.SOCK_STREAM)
            rerouted.to = ("127.0.0.1", self.public.port)
            return rerouted
        self.reached.append(address)
        if address not in ("127.0.0.1", "::1"):
            raise OSError("no packet leaves this machine")
        return socket.socket(*info[:3])


@dataclass
class Names:
    """A hostile resolver: each lookup of a name returns its next answer; the last one is repeated.

    An unknown name resolves to the address that the C library parses from it, otherwise to loopback.
    """

    answers: dict[str, list[list[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        known = self.answers.get(host.rstrip("."))
        if known:
            return known.pop(0) if len(known) > 1 else known[0]
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except OSError:
            return ["127.0.0.1"]
        return [str(address[0]) for *_, address in found]


_LOOPBACK = """
    127.0.0.1 127.1 127.0.1 127.127.127.127 127.255.255.254 2130706433 6425673729 0x7f000001 0X7F000001 0x7f.0.0.1
    0x7f.1 0x7f.0x0.0x0.0x1 0177.0.0.1 0177.1 017700000001 00000177.0.0.1 127.000.000.001 127.0x0.0.1 127.0.0.1.
    127.0.0.1.. 127..1 .127.0.0.1 0 00 0x0 0x 0.0 0.0.0.0 0.0.0.0. localhost LOCALHOST localhost. localhost.. .localhost
    localhost.localdomain a.localhost ip6-localhost 127.0.0.1.nip.io 1.0.0.127.in-addr.arpa
    [::1] [::] [0:0:0:0:0:0:0:1] [0000:0000:0000:0000:0000:0000:0000:0001] [::0.0.0.1] [::ffff:127.0.0.1]
    [::FFFF:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:127.0.0.1] [::ffff:0.0.0.0] [::127.0.0.1] [::7f00:1]
    [::ffff:0:127.0.0.1] [::ffff:0:7f00:1] [2002:7f00:1::] [2002:7f00:1::7f00:1] [64:ff9b::127.0.0.1] [64:ff9b::7f00:1]
    [64:ff9b:1::7f00:1] [2001:0:7f00:1::] [2001:0:4136:e378:8000:63bf:80ff:fffe] [2606:4700::5efe:7f00:1]
    [2606:4700::200:5efe:7f00:1] [::1%lo] [::1%25lo] [::1%1] [::1%00] [fe80::1%lo] [fe80::1%25lo] [::1 [::1]] ::1
    [127.0.0.1] [::1]a.example [v1.::1] 127.0.0.1%00 127.0.0.1%2f 127.0.0.1%20 %31%32%37.0.0.1
    127%2e0%2e0%2e1 %6cocalhost 127。0。0。1 127．0．0．1 127｡0｡0｡1 １２７.0.0.1 ①②⑦.⓪.⓪.①
    𝟏𝟐𝟕.𝟎.𝟎.𝟏 ١٢٧.٠.٠.١ ⓛⓞⓒⓐⓛⓗⓞⓢⓣ ｌｏｃａｌｈｏｓｔ
    locaⅼhost loca\u00adlhost local\u200bhost localhoſt LOCALHOST\u3002 \u2130localhost xn--localhost xn--127-0-0-1
    127.0.0.1,a.example 127.0.0.1;a.example 127.0.0.1&a.example a.example,127.0.0.1 (127.0.0.1) {127.0.0.1} <127.0.0.1>
"""
_ELSEWHERE = """
    169.254.169.254 2852039166 0xa9fea9fe 0xa9.0xfe.0xa9.0xfe 0251.0376.0251.0376 169.254.43518 169.254.169.254.
    169.254.170.2 100.100.100.200 192.0.0.192 168.63.129.16 [::ffff:169.254.169.254] [::ffff:a9fe:a9fe] [::a9fe:a9fe]
    [2002:a9fe:a9fe::] [64:ff9b::a9fe:a9fe] [fd00:ec2::254] [fd20:ce::254] [fe80::a9fe:a9fe] metadata
    metadata.google.internal instance-data metadata.tencentyun.com
    10.0.0.1 10.1 012.0.0.1 172.16.0.1 172.31.255.255 192.168.0.1 192.168.1 3232235777 100.64.0.1 100.127.255.255
    192.0.0.9 192.0.2.1 192.88.99.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255
    240.0.0.1 255.255.255.255 0.1.2.3 [::ffff:10.0.0.1] [::10.0.0.1] [fc00::1] [fdff::1] [fe80::1] [febf::1] [fec0::1]
    [ff02::1] [ff0e::1] [2001:db8::1] [3fff::1] [3ffe::1] [100::1] [5f00::1] [2001:2::1] [2001:10::1] [2001:20::1]
    [64:ff9b::808:808] [::ffff:8.8.8.8] [2002:808:808::1] [4000::1] [::2]
"""
# {c} is the canary's host and port, {p} its port, {n} a public name with its port.
_WHOLE = (
    *("HTTP://{c}/", "hTtP://{c}/", "https://{c}/", "HTTPS://{c}/", "//{c}/", "{c}/", "http:{c}/", "http:/{c}/"),
    *("http:///{c}/", "http:////{c}/", "http//{c}/", "http;//{c}/", "http:\\\\{c}/", "http:/\\{c}/", "\\\\{c}/"),
    *("http://{c}\\@{n}/", "http://{n}\\@{c}/", "http://{n}\\.{c}/", "http://{c}\\.{n}/", "http://\\{c}/"),
    *("http://{n}@{c}/", "http://{c}@{n}/", "http://@{c}/", "http://:@{c}/", "http://a:b@{c}/", "http://a@{n}@{c}/"),
    *("http://{n}%40{c}/", "http://{n}#@{c}/", "http://{n}?@{c}/", "http://{n}/@{c}/", "http://{n};@{c}/"),
    *("http://{c}#@{n}/", "http://{c}?@{n}/", "http://{c}#{n}", "http://{n}:80@{c}/", "http://{n}%2f@{c}/"),
    *(" http://{c}/", "http://{c}/ ", "\thttp://{c}/", "ht\ttp://{c}/", "http://\t{c}/", "http:/\t/{c}/"),
    *("http://127.0.\n0.1:{p}/", "http://{c}\r\n/", "http://{c}/\r\nHost: {n}", "http://{c}/ HTTP/1.1\r\n\r\nGET /"),
    *("http://{c}\0.{n}/", "http://{n}\0@{c}/", "\0http://{c}/", "http://{n}\t@{c}/", "http://{n}\u2028@{c}/"),
    *("http://\u00a0{c}/", "http://{c}\x7f/", "http://{n} {c}/", "http://{n}\ud800@{c}/", "\ufeffhttp://{c}/"),
    *("http://127.0.0.1:{p}:80/", "http://127.0.0.1:80:{p}/", "http://127.0.0.1:+{p}/", "http://127.0.0.1:0{p}/"),
    *("http://127.0.0.1:{p}_/", "http://127.0.0.1: {p}/", "http://127.0.0.1:-1/", "http://127.0.0.1:0/"),
    *("http://127.0.0.1:99999/", "http://127.0.0.1:/", "http://127.0.0.1", "http://:{p}/", "http://:@/", "http://"),
    *("http:", "http", "https://", "", " ", "/", "//", "?", "#", ".", "http://.", "http://..", "http://[", "http://]"),
    *(
        "http://?{c}",
        "http://#{c}",
        "http:///",
        "http:///x",
        "http://%",
        "http://{c}" + "/" * 9000,
        "javascript:alert(1)",
    ),
    *(
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "file://{c}/",
        "file:/etc/passwd",
        "gopher://{c}/_GET%20/",
        "dict://{c}/",
    ),
    *(
        "ftp://{c}/",
        "sftp://{c}/",
        "ldap://{c}/",
        "tftp://{c}/",
        "ws://{c}/",
        "wss://{c}/",
        "tcp://{c}/",
        "unix:///tmp/x",
    ),
    *("http+unix://%2ftmp%2fx.sock/", "jar:http://{c}!/", "netdoc:///etc/passwd", "view-source:http://{c}/"),
    *("blob:http://{c}/x", "url:http://{c}/", "URL:http://{c}/", "feed:http://{c}/", "httpx://{c}/", "httpſ://{c}/"),
    *(
        "data:image/png;base64,AAAA",
        "data://{c}/,x",
        "about:blank",
        "php://filter",
        "phar://x",
        "expect://id",
        "s3://x/y",
    ),
)
_LOCATIONS = (
    *(
        "/\\{c}/",
        "\\\\{c}/",
        "\\/{c}/",
        "/\t/{c}/",
        "//{c}/\\@{n}",
        "///{c}/",
        "http:\\\\{c}/",
        "@{c}/",
        ":{p}/",
        ".{c}/",
    ),
    *("/r/loop", "/r/chain", "/r/home", "../../r/home", "?x", "#x", "http:x", "https:/x", "%2f%2f{c}/"),
)


def _urls(canary: Site, public: Site) -> Iterator[str]:
    """Every notation of an address."""
    for host in (*_LOOPBACK.split(), *_ELSEWHERE.split()):
        yield f"http://{host}:{canary.port}/"
    yield from _written(_WHOLE, canary, public)


def _written(forms: Sequence[str], canary: Site, public: Site) -> Iterator[str]:
    for form in forms:
        text = form.replace("{c}", f"127.0.0.1:{canary.port}").replace("{p}", str(canary.port))
        yield text.replace("{n}", f"{PUBLIC_NAME}:{public.port}")


def _rebinding_names() -> dict[str, list[list[str]]]:
    """DNS answers that change, are mixed, or are not addresses."""
    inner = ["127.0.0.1", "::1", "169.254.169.254", "10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "fd00:ec2::254"]
    names = {f"mixed-{place}.example": [[PUBLIC, address]] for place, address in enumerate(inner)}
    names |= {f"mixed-back-{place}.example": [[address, PUBLIC]] for place, address in enumerate(inner)}
    names |= {f"inner-{place}.example": [[address]] for place, address in enumerate(inner)}
    odd = ["localhost", "127.1", "0x7f.1", "2130706433", "::1%lo", "fe80::1%lo", "", "127.0.0.1 ", "127.0.0.1\0", "０"]
    names |= {f"odd-{place}.example": [[address]] for place, address in enumerate(odd)}
    return names | {"nothing.example": [[]], "metadata.google.internal": [["169.254.169.254"]]}


@dataclass
class _Outcome:
    count: int = 0
    reached: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    telling: list[str] = field(default_factory=list)


async def hostile_addresses(folder: pathlib.Path) -> list[Figure]:
    """Row 11. Every notation, directly and as a redirect's target, and names with changing answers.

    The canary detects connections to loopback; on ports without a listener, the gate does.
    """
    outcome = _Outcome()
    raw = picture()
    settings = Fetch(connect_timeout_s=5, read_timeout_s=5, total_timeout_s=10)
    async with Site(other=http(raw)).running() as canary, Site().running() as public:
        gate, names = Gate(public), Names({PUBLIC_NAME: [[PUBLIC]], **_rebinding_names()})
        await _control(canary, gate, names, raw)
        fetcher = Fetcher(settings, len(raw), names, gate)
        site = f"http://{PUBLIC_NAME}:{public.port}"
        public.answers = {
            "/good": http(raw),
            "/r/loop": redirect("/r/loop"),
            "/r/chain": redirect(f"{site}/r/chain2"),
            "/r/chain2": redirect(canary.url()),
            "/r/home": redirect(f"http://localhost:{canary.port}/"),
        }
        assert await fetcher.fetch(f"{site}/good", PARAM) == raw  # the public site works

        async def attack(url: str) -> None:
            await _attack(fetcher, url, canary, gate, outcome)

        for url in _urls(canary, public):
            await attack(url)
            if not set("\r\n\0") & set(url):  # not valid in a header
                public.answers["/r"] = redirect(url)
                await attack(f"{site}/r")
        for location in _written(_LOCATIONS, canary, public):
            public.answers["/r"] = redirect(location)
            await attack(f"{site}/r")
        for name in names.answers:
            if name != PUBLIC_NAME:
                await attack(f"http://{name}:{canary.port}/")
        # The first answer is public and the next ones are not: detects resolving a name
        # again after the check, and not checking again after a redirect.
        for status in ("301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"):
            for address in ("127.0.0.1", "::1", "169.254.169.254"):
                names.answers["rebinding.example"] = [[PUBLIC], [address]]
                public.answers["/r"] = redirect(f"http://rebinding.example:{canary.port}/r", status)
                await attack(f"http://rebinding.example:{canary.port}/r")
        await fetcher.close()
    print(*outcome.reached, *outcome.wrong, *outcome.telling, sep="\n")
    return [
        Figure(11, f"SSRF forms that reached the canary (of {outcome.count})", len(outcome.reached), 0),
        Figure(11, "SSRF forms with another answer than a 400 that names the part", len(outcome.wrong), 0),
        Figure(11, "errors that tell an address", len(outcome.telling), 0),
    ]


async def _control(canary: Site, gate: Gate, names: Names, raw: bytes) -> None:
    """The canary and the gate detect connections by address and by name."""
    settings = Fetch.model_validate({"allowed_networks": ["127.0.0.0/8"]})
    fetcher = Fetcher(settings, len(raw), names, gate)
    for host in ("127.0.0.1", "unknown.example"):
        assert await fetcher.fetch(f"http://{host}:{canary.port}/", PARAM) == raw
    await fetcher.close()
    assert canary.connections == 2
    assert gate.reached == ["127.0.0.1", "127.0.0.1"]


async def _attack(fetcher: Fetcher, url: str, canary: Site, gate: Gate, outcome: _Outcome) -> None:
    outcome.count += 1
    connections, reached = canary.connections, len(gate.reached)
    found: InvalidRequest | None = None
    try:
        await fetcher.fetch(url, PARAM)
    except InvalidRequest as error:
        found = error
    if canary.connections > connections or len(gate.reached) > reached:
        outcome.reached.append(repr(url))
    if not found or found.status != 400 or found.param != PARAM or not found.message.startswith(f"{PARAM}: "):
        outcome.wrong.append(repr(url))
    elif reveals_an_address(found.message):
        outcome.telling.append(f"{url!r}: {found.message}")


_TELLING = re.compile(
    r"\d+\.\d+|[0-9a-f]*::|0x|\.example|localhost|internal|metadata|errno|refused|connect|resol|dns|name|aiohttp|ssl|host"
)


def reveals_an_address(message: str) -> bool:
    """Whether an error reveals an address, a name, or what is there."""
    return _TELLING.search(message.removeprefix(f"{PARAM}: ").lower()) is not None
