"""Fleets of fake engines: real child processes behind the real reaper."""

import os
import pathlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.conftest import REPOSITORY, session_of, until
from vlserve.config.settings import Config
from vlserve.engines import engine as engines
from vlserve.engines import plan, probe, process, restarts
from vlserve.engines.engine import Engine, EngineState
from vlserve.engines.fleet import Fleet
from vlserve.engines.machine import Machine
from vlserve.engines.mps import Mps
from vlserve.metrics import Metrics


def shorten_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restart, check and stop engines after fractions of a second."""
    monkeypatch.setattr(restarts, "FIRST_BACKOFF_S", 0.2)
    monkeypatch.setattr(restarts, "_JITTER", 0.0)
    monkeypatch.setattr(probe, "_POLL_S", 0.05)
    monkeypatch.setattr(probe, "_CHECK_S", 0.1)
    monkeypatch.setattr(probe, "_REMOTE_CHECK_S", 0.2)
    monkeypatch.setattr(engines, "_STOP_S", 1.0)
    monkeypatch.setattr(process, "_KILL_S", 1.0)


def fake(*faults: str, grandchild: pathlib.Path | None = None) -> list[str]:
    command = [sys.executable, "-m", "tests.fakes.fake_engine", "--uds", "{uds}", "--faults", ",".join(faults)]
    return [*command, "--grandchild", str(grandchild)] if grandchild else command


@asynccontextmanager
async def fleet_of(
    folder: pathlib.Path, metrics: Metrics | None = None, /, mps: Mps | None = None, **commands: list[str]
) -> AsyncIterator[Fleet]:
    """A running fleet; ended, and nothing left, when the block is over."""
    settings = {name: {"model": f"org/{name}", "command": command} for name, command in commands.items()}
    config = Config.model_validate({"engines": settings})
    run = folder / "run"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    planned = {one.name: one for one in plan.make(config, Machine((0,), None), environment, run).engines}
    metrics = metrics or Metrics()
    made = {name: Engine(name, one, planned[name], metrics, mps=mps) for name, one in config.engines.items()}
    fleet = Fleet(made, run, mps)
    fleet.start()
    sessions: list[int] = []
    try:
        await until(lambda: all(engine.pid for engine in fleet.engines.values()))
        sessions = [engine.pid or 0 for engine in fleet.engines.values()]
        yield fleet
    finally:
        await fleet.stop()
        assert [pid for leader in sessions for pid in session_of(leader)] == []
        assert not run.exists()
        assert all(engine.state is EngineState.STOPPED for engine in fleet.engines.values())
