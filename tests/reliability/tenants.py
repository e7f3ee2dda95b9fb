"""Row 14: pictures that an engine keeps under names, with two API keys and a client that wants to choose the names."""

import asyncio
import hashlib
import pathlib
import random
from typing import Any

from tests.conftest import data_url, picture, user
from tests.reliability.service import Figure, Service, fakes, serve

_AT_ONCE, _COLORS = 32, 24


async def shared_names(folder: pathlib.Path, count: int) -> list[Figure]:
    """Both keys ask about a few pictures in every order, over an engine that forgets them soon; every fourth request
    says that its picture has the name that everyone uses."""
    urls = [data_url(picture(56, 56, f"hsl({15 * number}, 100%, 50%)")) for number in range(_COLORS)]
    chance = random.Random(14)
    waiting = iter(range(count))
    mixed_up, taken, wrong = 0, 0, list[str]()
    keys = {"VLSERVE_TEST_KEYS": "ana: a-key, bo: b-key"}
    async with serve(
        folder, fakes(vision=("forgets",)), keys, ready=("vision",), server={"api_keys_env": "VLSERVE_TEST_KEYS"}
    ) as service:

        async def ask() -> None:
            nonlocal mixed_up, taken
            for number in waiting:
                shown = chance.choices(urls, k=chance.randint(1, 3))
                answer = await _describe(service, shown, chance.choice(("a-key", "b-key")), is_named=number % 4 == 3)
                if number % 4 == 3:
                    taken += answer is not None
                elif answer is None:
                    wrong.append(str(number))
                else:
                    mixed_up += answer != [hashlib.sha256(url.encode()).hexdigest() for url in shown]

        await asyncio.gather(*(ask() for _ in range(_AT_ONCE)))
    return [
        Figure(14, f"pictures mixed up (of {count:,} requests of two keys)", mixed_up, 0),
        Figure(14, "names chosen by a client that were taken", taken, 0),
        Figure(14, "other requests that failed", len(wrong), 0),
    ]


async def _describe(service: Service, urls: list[str], key: str, *, is_named: bool) -> list[str] | None:
    """Digests of the pictures that the engine saw; None where the request was refused."""
    named: dict[str, Any] = {"uuid": "everyone's"} if is_named else {}
    parts = [{"type": "image_url", "image_url": {"url": url}, **named} for url in urls]
    body = {"messages": user(*parts), "user": "describe"}
    async with service.post(body, headers={"authorization": f"Bearer {key}"}) as answer:
        tree = await answer.json()
        return tree["choices"][0]["message"]["content"].split() if answer.status == 200 else None
