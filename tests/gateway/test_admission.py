"""Places, lines and rates: who comes in when, and that no place is ever lost."""

import asyncio
import random
from contextlib import AsyncExitStack, ExitStack

import pytest

from vlserve.config.engine_settings import EngineSettings
from vlserve.config.keys import ApiKey
from vlserve.config.settings import Server
from vlserve.errors import TooManyRequests
from vlserve.gateway.admission import Admission, _Rate

SEVERAL = (ApiKey("a", b""), ApiKey("b", b""))


def admission(
    max_in_flight: int = 1, max_queued: int = 8, api_keys: tuple[ApiKey, ...] = SEVERAL, **server: object
) -> Admission:
    settings = EngineSettings(model="m", max_in_flight=max_in_flight, max_queued=max_queued)
    return Admission(api_keys, Server.model_validate(server), {"text": settings})


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_keys_are_served_in_turns() -> None:
    door, served = admission(max_queued=20), []

    async def ask(key: str) -> None:
        async with door.permit("text", key):
            served.append(key)
            await asyncio.sleep(0)

    async with door.permit("text", "first"):
        tasks = [asyncio.create_task(ask(key)) for key in ("a", "a", "a", "a", "b", "b", "c")]
        await settle()
        assert door.queued("text") == 7
    await asyncio.gather(*tasks)
    assert served == ["a", "b", "c", "a", "b", "a", "a"]
    assert door.is_idle


async def test_one_key_takes_half_of_the_queue_and_others_still_find_room() -> None:
    door = admission(max_queued=8)

    async def ask(key: str) -> None:
        async with door.permit("text", key):
            pass

    async with door.permit("text", "greedy"):
        greedy = [asyncio.create_task(ask("greedy")) for _ in range(20)]
        await settle()
        assert door.queued("text") == 4
        others = [asyncio.create_task(ask(key)) for key in ("b", "c")]
        await settle()
        assert door.queued("text") == 6
    refused = [task for task in await asyncio.gather(*greedy, return_exceptions=True) if task]
    assert len(refused) == 16
    assert all(isinstance(error, TooManyRequests) and error.retry_after_s for error in refused)
    await asyncio.gather(*others)


@pytest.mark.parametrize("keys", [(), SEVERAL[:1], (ApiKey("a", b"1"), ApiKey("a", b"2"))])
async def test_without_several_keys_there_is_nobody_to_leave_room_for(keys: tuple[ApiKey, ...]) -> None:
    door = admission(max_queued=8, api_keys=keys)

    async def ask() -> None:
        async with door.permit("text", "a"):
            pass

    async with door.permit("text", "a"):
        waiting = [asyncio.create_task(ask()) for _ in range(10)]
        await settle()
        assert door.queued("text") == 8
    refused = [task for task in await asyncio.gather(*waiting, return_exceptions=True) if task]
    assert len(refused) == 2
    assert all(isinstance(error, TooManyRequests) for error in refused)


async def test_a_wait_has_an_end() -> None:
    door = admission(queue_timeout_s=0.05)
    async with door.permit("text", "a"):
        with pytest.raises(TooManyRequests, match="queue_timeout_s"):
            async with door.permit("text", "a"):
                pass
        assert door.queued("text") == 0
    assert door.is_idle


async def test_no_place_is_lost_whoever_leaves_when() -> None:
    """A thousand requests that are cancelled at random moments, also in the very moment of their turn."""
    chance = random.Random(7)
    door = admission(max_in_flight=3, max_queued=1000)

    async def ask() -> None:
        async with door.permit("text", f"k{chance.randrange(5)}"):
            assert door.in_flight("text") <= 3
            await asyncio.sleep(chance.choice((0, 0, 0.001)))

    tasks = []
    for _ in range(1000):
        tasks.append(asyncio.create_task(ask()))
        if chance.random() < 0.5:
            chance.choice(tasks).cancel()
        if chance.random() < 0.3:
            await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {type(None), asyncio.CancelledError}
    assert door.is_idle
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await asyncio.wait_for(stack.enter_async_context(door.permit("text", "x")), 30)


async def test_key_may_have_so_many_requests_open() -> None:
    door = admission(key_limits={"max_in_flight": 2}, keys={"big": {"max_in_flight": 3}})
    with door.request("a"), door.request("a"):
        with pytest.raises(TooManyRequests, match="2 requests open"), door.request("a"):
            pass
        with door.request("b"), door.request("big"), door.request("big"), door.request("big"):
            pass
    with door.request("a"):
        pass


async def test_limits_of_a_key_replace_only_those_that_it_names() -> None:
    door = admission(
        key_limits={"requests_per_minute": 3, "max_in_flight": 1},
        keys={"ana": {"max_in_flight": 2}, "bo": {"requests_per_minute": None}, "ops": {"metrics": True}},
    )
    for key, open_at_once in (("ana", 2), ("bo", 1), ("ops", 1), ("other", 1)):
        with ExitStack() as stack:
            for _ in range(open_at_once):
                stack.enter_context(door.request(key))
            with pytest.raises(TooManyRequests, match=r"max_in_flight"), door.request(key):
                pass
    for key in ("ana", "ops", "other"):
        refusals = list[str]()
        for _ in range(4):
            try:
                with door.request(key):
                    pass
            except TooManyRequests as error:
                refusals.append(error.message)
        assert refusals
        assert all("key_limits.requests_per_minute" in message for message in refusals), key
    for _ in range(100):
        with door.request("bo"):
            pass


def test_rate_is_a_minutes_worth_at_once_and_then_evenly() -> None:
    now = [0.0]
    rate = _Rate(60, lambda: now[0])
    assert [rate.take() for _ in range(60)] == [0] * 60
    assert rate.take() == pytest.approx(1)
    now[0] = 0.5
    assert rate.take() == pytest.approx(0.5)
    now[0] = 1.0
    assert rate.take() == 0
    now[0] = 1e6
    assert [rate.take() for _ in range(60)] == [0] * 60
    assert rate.take() > 0


async def test_rate_of_a_key_is_told_with_the_time_to_wait() -> None:
    door = admission(key_limits={"requests_per_minute": 2})
    for _ in range(2):
        with door.request("a"):
            pass
    with pytest.raises(TooManyRequests) as error, door.request("a"):
        pass
    assert 0 < (error.value.retry_after_s or 0) <= 30  # how long exactly is _Rate's own test
    with door.request("b"):
        pass


def test_bytes_of_all_requests_are_bounded_together() -> None:
    door = admission(max_bodies_bytes=1000)
    with door.holding("a") as memory:
        memory.charge(600)
        with door.holding("b") as other:
            with pytest.raises(TooManyRequests):
                other.charge(600)
            other.charge(400)
        with door.holding("b") as other:
            other.charge(400)
    with door.holding("a") as memory:
        memory.charge(1000)


@pytest.mark.parametrize(("api_keys", "least"), [((), 1000), (SEVERAL[:1], 1000), (SEVERAL, 500)])
def test_one_of_several_keys_leaves_half_of_the_bytes(api_keys: tuple[ApiKey, ...], least: int) -> None:
    door = admission(max_bodies_bytes=1000, api_keys=api_keys)
    with door.holding("a") as memory, door.holding("a") as second:
        for one in [memory, second] * (least // 20):
            one.charge(10)
        with pytest.raises(TooManyRequests):
            second.charge(10)
        if least < 1000:
            with door.holding("b") as other:
                other.charge(500)
                memory.resize(0)
                with pytest.raises(TooManyRequests):
                    other.charge(10)
                second.resize(0)
                with pytest.raises(TooManyRequests):
                    other.charge(10)
    assert door.request_bytes == 0


def test_bytes_that_were_freed_make_room_for_others() -> None:
    door = admission(max_bodies_bytes=1000)
    with door.holding("a") as memory:
        memory.charge(600)
        memory.resize(100)
        assert door.request_bytes == 100
        with door.holding("b") as other:
            other.charge(900)
            with pytest.raises(TooManyRequests):
                memory.resize(101)
            memory.resize(0)
            assert door.request_bytes == 900
    assert door.request_bytes == 0
