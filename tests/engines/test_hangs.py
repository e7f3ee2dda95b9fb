"""Hang detection: limits by device and uptime, and engines (real child processes) that block for a while."""

import asyncio
import dataclasses
import os
import pathlib
import time
import types
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.conftest import REPOSITORY, until, user
from tests.engines.fleets import fake
from vlserve.config.engine_settings import EngineSettings
from vlserve.config.settings import Config
from vlserve.engines import hang_limits, plan, probe, restarts
from vlserve.engines import view as activity
from vlserve.engines.engine import Engine
from vlserve.engines.hang_limits import HangLimits
from vlserve.engines.machine import Machine
from vlserve.engines.view import Activity, Address
from vlserve.engines.vllm_installation import Vllm
from vlserve.metrics import Metrics

BLOCK_S = 3.0
CPU = Vllm("0.32.0", is_cpu=True, start=("vllm",), flags=None)
GPU = dataclasses.replace(CPU, is_cpu=False)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_POLL_S", 0.05)
    monkeypatch.setattr(restarts, "FIRST_BACKOFF_S", 0.1)


def limits(vllm: Vllm | None, **settings: Any) -> HangLimits | None:
    tree = {"text": {"model": "org/m", **settings}}
    machine = Machine((0, 1), vllm, gpus=() if vllm is None or vllm.is_cpu else ("0",), gpu_bytes=80 * 1024**3)
    [made] = plan.make(Config.model_validate({"engines": tree}), machine, {}, pathlib.Path("/tmp/v")).engines
    return made.hang


@pytest.mark.parametrize(
    ("vllm", "settings", "first", "usual"),
    [
        (CPU, {}, 30, 30),
        (GPU, {}, 360, 120),
        (CPU, {"hang_after_s": "auto"}, 30, 30),
        (GPU, {"hang_after_s": "auto"}, 360, 120),
        (GPU, {"hang_after_s": 30}, 30, 30),
        (CPU, {"hang_after_s": 7.5}, 7.5, 7.5),
        (None, {"command": ["x"]}, 360, 120),  # it may compute on anything
        (None, {"command": ["x"], "hang_after_s": 5}, 5, 5),
    ],
)
def test_limits_depend_on_the_device_and_a_number_holds_everywhere(
    vllm: Vllm | None, settings: dict[str, Any], first: float, usual: float
) -> None:
    found = limits(vllm, **settings)
    assert found
    assert [found.at(ready_s) for ready_s in (0, 599, 600, 1e6)] == [first, first, usual, usual]


@pytest.mark.parametrize("vllm", [CPU, GPU])
def test_null_disables_hang_detection(vllm: Vllm) -> None:
    assert limits(vllm, hang_after_s=None) is None


@asynccontextmanager
async def running(folder: pathlib.Path, hang: HangLimits) -> AsyncIterator[Engine]:
    settings = EngineSettings(model="m", command=fake())
    config = Config.model_validate({"engines": {"text": settings.model_dump()}})
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    [made] = plan.make(config, Machine((0,), None), environment, folder / "run").engines
    engine = Engine("text", settings, dataclasses.replace(made, hang=hang), Metrics())
    engine.start()
    try:
        await until(lambda: engine.is_ready)
        yield engine
    finally:
        await engine.stop()


async def blocked(engine: Engine, seconds: float) -> None:
    """Ask for something that blocks the whole engine, and await the answer."""
    asked = time.monotonic()
    async with (
        engine.address.open_session() as session,
        session.post(
            "http://engine/v1/chat/completions", json={"messages": user("x"), "user": f"freeze:{seconds:g}"}
        ) as answer,
    ):
        assert answer.status == 200
    assert time.monotonic() - asked >= seconds  # otherwise nothing was blocked


async def test_block_at_first_use_is_not_a_hang(short_folder: pathlib.Path) -> None:
    async with running(short_folder, HangLimits(BLOCK_S / 3, 20 * BLOCK_S)) as engine:
        first = engine.pid
        await blocked(engine, BLOCK_S)
        assert (engine.pid, engine.is_ready) == (first, True)


@pytest.mark.parametrize(
    ("hang", "first_use_s"), [(HangLimits(60.0, BLOCK_S / 3), 600.0), (HangLimits(BLOCK_S / 3, 60.0), -1.0)]
)
async def test_longer_block_is_a_hang(
    short_folder: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    hang: HangLimits,
    first_use_s: float,
) -> None:
    """In the first minutes, and afterwards."""
    monkeypatch.setattr(hang_limits, "_FIRST_USE_S", first_use_s)
    async with running(short_folder, hang) as engine:
        first = engine.pid
        blocking = asyncio.create_task(blocked(engine, 600))
        await until(lambda: engine.is_ready and engine.pid != first)
        assert f"it hangs: no sign of progress for hang_after_s ({BLOCK_S / 3:g} s)" in caplog.text
        assert isinstance((await asyncio.gather(blocking, return_exceptions=True))[0], Exception)


@pytest.mark.parametrize("pause_s", [600.0, 0.0])
async def test_pause_of_the_gateway_is_not_a_hang(monkeypatch: pytest.MonkeyPatch, pause_s: float) -> None:
    """As in a frozen container or a debugger: the clock advances while the engine is not observed."""
    now = [1000.0]
    for module in (activity, probe):
        monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: now[0]))

    async def never(_: probe.Probe, __: object) -> bool:
        return await asyncio.Event().wait()

    async def paused(_: probe.Probe, __: object) -> bool:
        now[0] += pause_s or 0.9
        return False

    monkeypatch.setattr(probe.Probe, "_send", never)
    monkeypatch.setattr(probe.Probe, "_metrics_change", paused)
    address = Address("http://127.0.0.1:9")
    one = probe.Probe("text", EngineSettings(model="m"), None, address, engine := Activity())
    engine.progressed()
    async with address.open_session() as session:
        is_well = await one._makes_progress(session, now[0] + 20, check_s=0.01)
    assert is_well is bool(pause_s)
