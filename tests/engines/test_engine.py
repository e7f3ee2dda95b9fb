"""Supervision: child processes start, die, hang and ignore SIGTERM, behind the real reaper."""

import asyncio
import dataclasses
import os
import pathlib
import re
import signal
import socket
import sys
import time
from types import SimpleNamespace
from typing import Any

import aiohttp
import pynvml
import pytest
from aiohttp import web

from tests.conftest import REPOSITORY, until, user
from tests.engines.fleets import fake, fleet_of, shorten_waits
from tests.fakes import fake_engine
from vlserve.config.engine_settings import EngineSettings
from vlserve.config.settings import Config
from vlserve.engines import engine as engines
from vlserve.engines import plan, probe
from vlserve.engines.engine import Engine, EngineState
from vlserve.engines.fleet import Fleet
from vlserve.engines.gpu_memory import GIB, Budget
from vlserve.engines.machine import Machine
from vlserve.metrics import Metrics


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_waits(monkeypatch)


async def test_engines_become_ready_and_end_with_their_sockets(short_folder: pathlib.Path) -> None:
    async with fleet_of(short_folder, text=fake("slow-start"), vision=fake()) as fleet:
        text, vision = fleet.engines["text"], fleet.engines["vision"]
        assert text.state is EngineState.STARTING
        await until(lambda: vision.is_ready)
        assert not text.is_ready
        await until(lambda: text.is_ready)
        assert (short_folder / "run").stat().st_mode & 0o777 == 0o700
        assert {path.name for path in (short_folder / "run").iterdir()} == {
            "text.sock",
            "vision.sock",
            "text",
            "vision",
        }


async def test_stale_socket_is_replaced(short_folder: pathlib.Path) -> None:
    (short_folder / "run").mkdir(mode=0o700)
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(short_folder / "run" / "text.sock"))
    stale.close()
    async with fleet_of(short_folder, text=fake()) as fleet:
        await until(lambda: fleet.engines["text"].is_ready)


async def test_killed_engine_is_restarted_and_the_other_one_is_unaffected(
    short_folder: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with fleet_of(short_folder, text=fake("die-on-request"), vision=fake()) as fleet:
        text, vision = fleet.engines["text"], fleet.engines["vision"]
        await until(lambda: text.is_ready and vision.is_ready)
        pids = (text.pid, vision.pid)
        assert (text.activity.lives, vision.activity.lives) == (1, 1)
        async with text.address.open_session() as session:
            with pytest.raises(aiohttp.ClientError):
                async with session.post(
                    "http://engine/v1/chat/completions", json={"messages": user("x"), "stream": True}
                ) as answer:
                    await answer.read()
        await until(lambda: not text.is_ready)
        assert text.retry_after_s() >= 1
        await until(lambda: text.is_ready)
        assert text.pid != pids[0]
        assert (vision.pid, vision.state) == (pids[1], EngineState.READY)
        assert (text.activity.lives, vision.activity.lives) == (2, 1)
        assert "text engine: failed (killed by SIGKILL" in caplog.text


def test_retry_after_is_at_least_one_second_in_every_state() -> None:
    """The first clients that lose their stream ask while the engine is still reported as ready."""
    engine = Engine("text", EngineSettings(model="m", url="http://x"), None, Metrics())
    engine._expected_start_s = 0.1
    for state in EngineState:
        engine._state, engine.state_since = state, time.monotonic()
        assert engine.retry_after_s() >= 1, state


async def test_crash_at_start_is_reported_and_retried_with_backoff(
    short_folder: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with fleet_of(short_folder, text=fake("crash-anew")):
        await until(lambda: "next try in 0.8 s" in caplog.text)
    failed = (
        r"failed \(it ended while loading: exit code 1, MemoryError: not enough memory for \w{8}; next try in 0\.2 s\)"
    )
    assert re.search(f"text engine: {failed}", caplog.text)


async def test_engine_whose_start_fails_twice_the_same_way_is_given_up(
    short_folder: pathlib.Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async with fleet_of(short_folder, text=fake("crash"), vision=fake()) as fleet:
        text = fleet.engines["text"]
        await until(lambda: text.state is EngineState.GIVEN_UP)
        words = "exit code 1, MemoryError: not enough memory for the weights"
        assert words in str(text.diagnosis)
        assert f"text engine: Two starts in a row failed the same way: {words}" in caplog.text
        assert len(re.findall(r"engine: (?:failed|given_up) \(it ended while loading", caplog.text)) == 2
        await until(lambda: fleet.engines["vision"].is_ready)
    assert capfd.readouterr().err.count("[text] Loading weights\n") == 2


async def test_missing_executable_is_reported(short_folder: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    async with fleet_of(short_folder, text=["/no/such/program"]):
        await until(lambda: "FileNotFoundError" in caplog.text)


async def test_unhealthy_engine_is_restarted(short_folder: pathlib.Path) -> None:
    async with fleet_of(short_folder, text=fake("unhealthy", "ignore-sigterm")) as fleet:
        text = fleet.engines["text"]
        await until(lambda: text.is_ready)
        first = text.pid
        async with (
            text.address.open_session() as session,
            session.post("http://engine/v1/chat/completions", json={"messages": user("x"), "stream": True}) as answer,
        ):
            await answer.read()
        await until(lambda: text.is_ready and text.pid != first)


async def test_engine_that_never_answers_is_given_up_after_ready_timeout(
    short_folder: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = EngineSettings(
        model="m", command=[sys.executable, "-c", "import time; time.sleep(600)"], ready_timeout_s=0.3
    )
    config = Config.model_validate({"engines": {"text": settings.model_dump()}})
    (planned,) = plan.make(config, Machine((0,), None), {}, short_folder / "run").engines
    engine = Engine("text", settings, planned, Metrics())
    engine.start()
    await until(lambda: "no answer within ready_timeout_s (0.3 s)" in caplog.text)
    await engine.stop()


async def test_engine_that_accepts_but_never_answers_stays_supervised(short_folder: pathlib.Path) -> None:
    async with fleet_of(short_folder, text=fake("mute")) as fleet:
        await asyncio.sleep(1)
        assert fleet.engines["text"].state is EngineState.STARTING


async def test_closed_terminal_does_not_end_engines(
    short_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = list[str]()

    class Closed:
        def write(self, text: str) -> int:
            written.append(text)
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    script = "import time\nwhile True: print('words'); time.sleep(0.05)"
    async with fleet_of(short_folder, text=[sys.executable, "-u", "-c", script]) as fleet:
        await until(lambda: len(written) >= 3)
        assert fleet.engines["text"].state is EngineState.STARTING


async def test_changes_of_state_are_counted(short_folder: pathlib.Path) -> None:
    metrics = Metrics()
    async with fleet_of(short_folder, metrics, text=fake()) as fleet:
        text = fleet.engines["text"]
        await until(lambda: text.is_ready)
        os.killpg(text.pid or 0, signal.SIGKILL)
        await until(lambda: text.state is EngineState.FAILED)
        await until(lambda: text.is_ready)
        fleet.drain()
        assert text.state is EngineState.DRAINING
        assert not text.is_ready
    changes = ("stopped starting", "starting ready", "ready failed", "failed starting", "ready draining")
    counts = [
        metrics.registry.get_sample_value(
            "vlserve_engine_transitions_total",
            {"vlserve_engine": "text", "from": change.split()[0], "to": change.split()[1]},
        )
        for change in changes
    ]
    assert counts == [1, 2, 1, 1, 1]


async def test_bug_in_supervision_does_not_lose_the_engine(
    short_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(self: probe.Probe, session: object) -> None:
        monkeypatch.undo()
        raise RuntimeError("a bug")

    monkeypatch.setattr(probe.Probe, "until_it_answers", broken)
    async with fleet_of(short_folder, text=fake()) as fleet:
        await until(lambda: fleet.engines["text"].is_ready)
    assert "failed (RuntimeError: a bug; next try" in caplog.text


async def test_progress_bars_are_passed_on_as_they_move(
    short_folder: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = "import time; print('10%', end='\\r', flush=True); print('20%', end='\\r', flush=True); time.sleep(600)"
    printed = ""
    async with fleet_of(short_folder, text=[sys.executable, "-c", script]):
        async with asyncio.timeout(60):
            while "[text] 20%\n" not in printed:
                printed += capfd.readouterr().err
                await asyncio.sleep(0.05)
    assert "[text] 10%\n" in printed


async def test_engines_that_died_together_restart_together_once_their_memory_is_free(
    short_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two engines die together; a fake NVML reports when the memory is free."""
    free, asked = [0], list[object]()

    def memory(gpu: int) -> SimpleNamespace:
        asked.append(gpu)
        return SimpleNamespace(total=80 * GIB, used=80 * GIB - free[0], free=free[0])

    for name, answer in {"Init": None, "Shutdown": None, "DeviceGetHandleByIndex": 0}.items():
        monkeypatch.setattr(pynvml, f"nvml{name}", lambda *_, answer=answer: answer)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", memory)
    monkeypatch.setattr(engines, "_MEMORY_POLL_S", 0.05)
    settings = {name: {"model": f"org/{name}", "command": fake("slow-start")} for name in ("text", "vision")}
    config = Config.model_validate({"engines": settings})
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": "0"}
    budget = Budget((0,), 80 * GIB, 15 * GIB, 4 * GIB, 18 * GIB, 1000, 100, is_shared=True)
    made = plan.make(config, Machine((0,), None), environment, short_folder / "run").engines
    plans = {one.name: dataclasses.replace(one, budget=budget) for one in made}
    fleet = Fleet(
        {name: Engine(name, one, plans[name], Metrics()) for name, one in config.engines.items()},
        short_folder / "run",
    )
    text, vision = fleet.engines["text"], fleet.engines["vision"]
    fleet.start()
    try:
        await until(lambda: text.is_ready and vision.is_ready)
        for engine in fleet.engines.values():
            os.killpg(engine.pid or 0, signal.SIGKILL)
        await until(lambda: text.state is vision.state is EngineState.FAILED)
        asked.clear()
        await until(lambda: len(asked) >= 5)
        assert text.state is vision.state is EngineState.FAILED  # no memory yet
        free[0] = 80 * GIB
        await until(lambda: text.state is vision.state is EngineState.STARTING)
        await until(lambda: text.is_ready and vision.is_ready)
    finally:
        await fleet.stop()


async def test_url_engine_is_ready_when_it_answers_and_unavailable_otherwise() -> None:
    runner = web.AppRunner(fake_engine.make_app())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    settings = EngineSettings(model="theirs", served_model_name="ours", url=f"http://127.0.0.1:{port}/")
    engine = Engine("vision", settings, None, Metrics(), url_key="sk-theirs")
    engine.start()
    try:
        await until(lambda: engine.is_ready)
        (probe,) = runner.app[fake_engine.SEEN] if runner.app else [{}]
        assert probe["headers"]["authorization"] == "Bearer sk-theirs"
        assert probe["body"]["model"] == "theirs"
        assert probe["body"]["messages"][0]["content"][1]["type"] == "image_url"
        await runner.cleanup()
        await until(lambda: not engine.is_ready)
        again: Any = web.AppRunner(fake_engine.make_app())
        await again.setup()
        await web.TCPSite(again, "127.0.0.1", port, reuse_address=True).start()
        await until(lambda: engine.is_ready)
        await again.cleanup()
    finally:
        await engine.stop()
