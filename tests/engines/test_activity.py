"""An engine's activity: suspicion, recovery, and the end of open requests with the engine."""

import asyncio
import types

import pytest

from vlserve.engines import view as activity
from vlserve.engines.view import Activity, EngineEndedError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    now = [1000.0]
    monkeypatch.setattr(activity, "time", types.SimpleNamespace(monotonic=lambda: now[0]))  # not the event loop's
    return now


async def test_lost_connection_wakes_the_probe_and_a_good_check_clears_it(clock: list[float]) -> None:
    engine = Activity()
    engine.begin()
    clock[0] += 60
    engine.found_healthy()  # as every half second
    engine.lost()
    assert engine.is_suspect
    await asyncio.wait_for(engine.until_lost(3600), 60)
    engine.found_healthy()
    assert not engine.is_suspect


async def test_connection_lost_during_a_check_is_not_cleared_by_it() -> None:
    engine = Activity()
    engine.lost()
    await engine.until_lost(3600)  # a check begins
    engine.lost()
    engine.found_healthy()
    assert engine.is_suspect
    await asyncio.wait_for(engine.until_lost(3600), 60)
    engine.found_healthy()
    assert not engine.is_suspect


async def test_unexplained_losses_suspend_requests_at_most_once_a_second(clock: list[float]) -> None:
    engine = Activity()
    suspected = 0
    for _ in range(50):
        engine.lost()
        suspected += engine.is_suspect
        await asyncio.wait_for(engine.until_lost(3600), 60)  # checked all the same
        engine.found_healthy()
        clock[0] += 0.1
    assert suspected in (5, 6)


async def test_requested_check_waits_for_the_next_good_result() -> None:
    engine = Activity()
    asking = asyncio.create_task(engine.is_healthy(3600))
    await asyncio.sleep(0)
    engine.found_healthy()  # a check that had begun before
    await asyncio.sleep(0)
    assert (engine.is_suspect, asking.done()) == (False, False)
    await asyncio.wait_for(engine.until_lost(3600), 60)
    engine.found_healthy()
    assert await asyncio.wait_for(asking, 60)
    assert not await engine.is_healthy(0.01)


async def test_waiting_for_a_loss_ends_with_its_time() -> None:
    engine = Activity()
    await asyncio.wait_for(engine.until_lost(0.01), 60)
    assert not engine.is_suspect


async def test_engine_exit_ends_its_requests_and_refuses_new_ones_until_the_restart() -> None:
    engine = Activity()
    engine.begin()

    async def ask() -> str:
        try:
            async with engine.request(), asyncio.timeout(3600), engine.request():
                await asyncio.Event().wait()
        except ConnectionError as fault:
            return type(fault).__name__
        return "answered"

    requests = [asyncio.create_task(ask()) for _ in range(3)]
    await asyncio.sleep(0)
    engine.end()
    assert await asyncio.wait_for(asyncio.gather(*requests), 60) == [EngineEndedError.__name__] * 3
    assert [task.cancelling() for task in requests] == [0, 0, 0]
    assert await ask() == EngineEndedError.__name__
    engine.begin()
    later = asyncio.create_task(ask())
    await asyncio.sleep(0)
    assert not later.done()
    engine.end()
    await later


async def test_complete_answer_is_not_ended() -> None:
    engine, taken = Activity(), asyncio.Event()

    async def ask() -> str:
        async with engine.request() as request:
            request.complete()
            await taken.wait()
        return "answered"

    task = asyncio.create_task(ask())
    await asyncio.sleep(0)
    engine.end()
    taken.set()
    assert await task == "answered"


async def test_outside_cancellation_is_propagated() -> None:
    """The client leaves in the moment in which the engine ends."""
    engine = Activity()

    async def ask() -> None:
        async with engine.request():
            await asyncio.Event().wait()

    for order in ((engine.end, None), (None, engine.end)):
        engine.begin()
        task = asyncio.create_task(ask())
        await asyncio.sleep(0)
        for step in order:
            (step or task.cancel)()
        await asyncio.wait((task,))
        assert task.cancelled()
