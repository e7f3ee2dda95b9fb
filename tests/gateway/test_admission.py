"""Admission control: permits, queues, rates and memory limits."""

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


def make_admission(
    max_in_flight: int = 1, max_queued: int = 8, api_keys: tuple[ApiKey, ...] = SEVERAL, **server: object
) -> Admission:
    settings = EngineSettings(model="m", max_in_flight=max_in_flight, max_queued=max_queued)
    return Admission(api_keys, Server.model_validate(server), {"text": settings})


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_keys_are_served_in_turns() -> None:
    admission, served = make_admission(max_queued=20), []

    async def ask(key: str) -> None:
        async with admission.permit("text", key):
            served.append(key)
            await asyncio.sleep(0)

    async with admission.permit("text", "first"):
        tasks = [asyncio.create_task(ask(key)) for key in ("a", "a", "a", "a", "b", "b", "c")]
        await settle()
        assert admission.queued("text") == 7
    await asyncio.gather(*tasks)
    assert served == ["a", "b", "c", "a", "b", "a", "a"]
    assert (admission.in_flight("text"), admission.queued("text")) == (0, 0)


async def test_one_key_takes_half_of_the_queue_and_others_still_find_room() -> None:
    admission = make_admission(max_queued=8)

    async def ask(key: str) -> None:
        async with admission.permit("text", key):
            pass

    async with admission.permit("text", "greedy"):
        greedy = [asyncio.create_task(ask("greedy")) for _ in range(20)]
        await settle()
        assert admission.queued("text") == 4
        others = [asyncio.create_task(ask(key)) for key in ("b", "c")]
        await settle()
        assert admission.queued("text") == 6
    refused = [task for task in await asyncio.gather(*greedy, return_exceptions=True) if task]
    assert len(refused) == 16
    assert all(isinstance(error, TooManyRequests) and error.retry_after_s for error in refused)
    await asyncio.gather(*others)


@pytest.mark.parametrize("keys", [(), SEVERAL[:1], (ApiKey("a", b"1"), ApiKey("a", b"2"))])
async def test_one_key_alone_may_fill_the_queue(keys: tuple[ApiKey, ...]) -> None:
    admission = make_admission(max_queued=8, api_keys=keys)

    async def ask() -> None:
        async with admission.permit("text", "a"):
            pass

    async with admission.permit("text", "a"):
        waiting = [asyncio.create_task(ask()) for _ in range(10)]
        await settle()
        assert admission.queued("text") == 8
    refused = [task for task in await asyncio.gather(*waiting, return_exceptions=True) if task]
    assert len(refused) == 2
    assert all(isinstance(error, TooManyRequests) for error in refused)


async def test_queue_has_a_timeout() -> None:
    admission = make_admission(queue_timeout_s=0.05)
    async with admission.permit("text", "a"):
        with pytest.raises(TooManyRequests, match="queue_timeout_s"):
            async with admission.permit("text", "a"):
                pass
        assert admission.queued("text") == 0
    assert (admission.in_flight("text"), admission.queued("text")) == (0, 0)


async def test_no_permit_leaks_when_requests_are_cancelled() -> None:
    """A thousand requests, cancelled at random moments, including the moment of their permit."""
    chance = random.Random(7)
    admission = make_admission(max_in_flight=3, max_queued=1000)

    async def ask() -> None:
        async with admission.permit("text", f"k{chance.randrange(5)}"):
            assert admission.in_flight("text") <= 3
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
    assert (admission.in_flight("text"), admission.queued("text")) == (0, 0)
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await asyncio.wait_for(stack.enter_async_context(admission.permit("text", "x")), 30)


async def test_open_requests_of_a_key_are_limited() -> None:
    admission = make_admission(key_limits={"max_in_flight": 2}, keys={"big": {"max_in_flight": 3}})
    with admission.request("a"), admission.request("a"):
        with pytest.raises(TooManyRequests, match="2 open requests"), admission.request("a"):
            pass
        with admission.request("b"), admission.request("big"), admission.request("big"), admission.request("big"):
            pass
    with admission.request("a"):
        pass


async def test_limits_of_a_key_override_only_those_that_are_set() -> None:
    admission = make_admission(
        key_limits={"requests_per_minute": 3, "max_in_flight": 1},
        keys={"ana": {"max_in_flight": 2}, "bo": {"requests_per_minute": None}, "ops": {"metrics": True}},
    )
    for key, open_at_once in (("ana", 2), ("bo", 1), ("ops", 1), ("other", 1)):
        with ExitStack() as stack:
            for _ in range(open_at_once):
                stack.enter_context(admission.request(key))
            with pytest.raises(TooManyRequests, match=r"max_in_flight"), admission.request(key):
                pass
    for key in ("ana", "ops", "other"):
        refusals = list[str]()
        for _ in range(4):
            try:
                with admission.request(key):
                    pass
            except TooManyRequests as error:
                refusals.append(error.message)
        assert refusals
        assert all("key_limits.requests_per_minute" in message for message in refusals), key
    for _ in range(100):
        with admission.request("bo"):
            pass


def test_rate_allows_a_burst_of_one_minute_and_refills_evenly() -> None:
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


async def test_rate_limit_has_a_retry_after() -> None:
    admission = make_admission(key_limits={"requests_per_minute": 2})
    for _ in range(2):
        with admission.request("a"):
            pass
    with pytest.raises(TooManyRequests) as error, admission.request("a"):
        pass
    assert 0 < (error.value.retry_after_s or 0) <= 30  # the exact time is tested for _Rate
    with admission.request("b"):
        pass


def test_bytes_of_all_requests_are_bounded_together() -> None:
    admission = make_admission(max_bodies_bytes=1000)
    with admission.request_memory("a") as memory:
        memory.charge(600)
        with admission.request_memory("b") as other:
            with pytest.raises(TooManyRequests):
                other.charge(600)
            other.charge(400)
        with admission.request_memory("b") as other:
            other.charge(400)
    with admission.request_memory("a") as memory:
        memory.charge(1000)


@pytest.mark.parametrize(("api_keys", "least"), [((), 1000), (SEVERAL[:1], 1000), (SEVERAL, 500)])
def test_one_of_several_keys_may_use_half_of_the_bytes(api_keys: tuple[ApiKey, ...], least: int) -> None:
    admission = make_admission(max_bodies_bytes=1000, api_keys=api_keys)
    with admission.request_memory("a") as memory, admission.request_memory("a") as second:
        for one in [memory, second] * (least // 20):
            one.charge(10)
        with pytest.raises(TooManyRequests):
            second.charge(10)
        if least < 1000:
            with admission.request_memory("b") as other:
                other.charge(500)
                memory.resize(0)
                with pytest.raises(TooManyRequests):
                    other.charge(10)
                second.resize(0)
                with pytest.raises(TooManyRequests):
                    other.charge(10)
    assert admission.request_bytes == 0


def test_bytes_that_were_freed_make_room_for_others() -> None:
    admission = make_admission(max_bodies_bytes=1000)
    with admission.request_memory("a") as memory:
        memory.charge(600)
        memory.resize(100)
        assert admission.request_bytes == 100
        with admission.request_memory("b") as other:
            other.charge(900)
            with pytest.raises(TooManyRequests):
                memory.resize(101)
            memory.resize(0)
            assert admission.request_bytes == 900
    assert admission.request_bytes == 0
