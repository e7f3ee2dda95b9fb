"""Row 20: a name server of one API key never responds; another key's pictures and all text requests are answered."""

import asyncio
import contextlib
import itertools
import os
import pathlib
from typing import Any

from tests.conftest import REPOSITORY, image_part, picture, until, user
from tests.reliability.addresses import PUBLIC_NAME, Site, http
from tests.reliability.service import Figure, Service, fakes, serve

_KEYS = {"ana": "a-key", "bo": "b-key"}
_CLIENTS = 80  # host names of key ana, each with a request in flight: more than the slots to fetch
_MOST_IN_RESOLVER = 128  # half of four for each of the 64 slots
_AT_ONCE = 8
_GIVE_UP_S = 60.0  # reached only if a request is never answered
# Python imports it at startup. It records each failed lookup, one name per line.
_NAME_SERVER = """
import os, socket, threading

system = socket.getaddrinfo

def getaddrinfo(host, *arguments, **named):
    if host == {known!r}:
        return system("127.0.0.1", *arguments, **named)
    if host and host.endswith(".dead.example"):
        noted = os.open({notes!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(noted, host.encode() + b"\\n")
        os.close(noted)
        threading.Event().wait()
    return system(host, *arguments, **named)

socket.getaddrinfo = getaddrinfo
"""


async def silent_name_server(folder: pathlib.Path, in_resolver: int, count: int) -> list[Figure]:
    """Send ``count`` pictures of key bo and twice as many texts, while ``in_resolver`` lookups of key ana hang."""
    notes = folder / "names"
    notes.touch()
    (folder / "sitecustomize.py").write_text(_NAME_SERVER.format(known=PUBLIC_NAME, notes=str(notes)))
    environment = {
        "VLSERVE_TEST_KEYS": ", ".join(f"{name}: {key}" for name, key in _KEYS.items()),
        "PYTHONPATH": os.pathsep.join((str(folder), os.environ.get("PYTHONPATH", str(REPOSITORY)))),
    }
    settings: dict[str, Any] = {
        "server": {"api_keys_env": "VLSERVE_TEST_KEYS"},
        "fetch": {"allowed_networks": ["127.0.0.0/8"], "connect_timeout_s": 0.5},
    }
    numbers = itertools.count()
    wrong: list[int] = []

    def looked_up() -> int:
        return len(notes.read_text().splitlines())

    async with (
        Site(other=http(picture())).running() as site,
        serve(folder, fakes(), environment, **settings) as service,
    ):

        async def ask_in_vain() -> None:
            while True:
                status = await _ask(service, "ana", image_part(f"http://{next(numbers)}.dead.example/"))
                if status == 429:
                    await asyncio.sleep(0.2)  # as Retry-After requires
                elif status != 400:
                    wrong.append(status)

        clients = [asyncio.create_task(ask_in_vain()) for _ in range(_CLIENTS)]
        try:
            await until(lambda: looked_up() >= in_resolver, 60)
            shown = image_part(f"http://{PUBLIC_NAME}:{site.port}/")
            pictures = await _each(service, [("bo", shown)] * count)
            texts = await _each(service, [("ana", "hello"), ("bo", "hello")] * count)
            in_flight = sum(not task.done() for task in clients)
        finally:
            for task in clients:
                task.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
    while_dead = f"while {_CLIENTS} requests of another key name a dead name server"
    return [
        Figure(20, f"pictures of one key not fetched (of {count:,}) {while_dead}", count - pictures, 0),
        Figure(20, f"texts of both keys not answered (of {2 * count:,})", 2 * count - texts, 0),
        Figure(20, "requests of the other key answered with neither 400 nor 429", len(wrong), 0),
        Figure(20, "clients of the other key that gave up", _CLIENTS - in_flight, 0),
        Figure(20, "names of the other key in the resolver", looked_up(), _MOST_IN_RESOLVER),
    ]


async def _each(service: Service, asked: list[tuple[str, Any]]) -> int:
    """Return the number of responses with status 200; a few requests are sent at a time."""
    waiting, statuses = iter(asked), list[int]()

    async def ask() -> None:
        for key, content in waiting:
            statuses.append(await _ask(service, key, content))

    await asyncio.gather(*(ask() for _ in range(_AT_ONCE)))
    return statuses.count(200)


async def _ask(service: Service, key: str, content: Any) -> int:
    """Return the status; 0 without a response."""
    body = {"messages": user(content)}
    with contextlib.suppress(TimeoutError):
        async with (
            asyncio.timeout(_GIVE_UP_S),
            service.post(body, headers={"authorization": f"Bearer {_KEYS[key]}"}) as answer,
        ):
            await answer.read()
            return int(answer.status)
    return 0
