"""CUDA MPS: the life of its control daemon behind the real reaper."""

import asyncio
import os
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.conftest import REPOSITORY, is_alive, session_of, until
from tests.engines.fleets import fake, fleet_of
from vlserve.commands import serve
from vlserve.config import load as config
from vlserve.config.settings import Config
from vlserve.engines import machine, mps_control, mps_daemon
from vlserve.engines import mps as mps_process
from vlserve.engines.engine import EngineState
from vlserve.engines.fleet import Fleet
from vlserve.engines.machine import Machine
from vlserve.engines.mps import Mps
from vlserve.engines.mps_control import MpsError
from vlserve.engines.mps_plan import MpsPlan
from vlserve.metrics import Metrics

CONTROL = REPOSITORY / "tests" / "fakes" / "fake_mps_control.py"


@pytest.fixture(autouse=True)
def _long_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer than 10 s for the three Python processes of the stand-in."""
    monkeypatch.setattr(mps_process, "_START_S", 120.0)
    for limit in ("_ANSWER_S", "_SERVER_S"):
        monkeypatch.setattr(mps_control, limit, 60.0)


@pytest.fixture
def _patient_daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """Leave the stand-in a minute to take `quit`, instead of 1.5 s."""
    source, limit = mps_process._DAEMON.read_text(), f"QUIT_S = {mps_daemon.QUIT_S}"
    assert limit in source
    copy = tmp_path / "mps_daemon.py"
    copy.write_text(source.replace(limit, "QUIT_S = 60.0"))
    monkeypatch.setattr(mps_process, "_DAEMON", copy)
    monkeypatch.setattr(mps_process, "_STOP_S", 150.0)


def mps_of(folder: pathlib.Path, **environment: str) -> Mps:
    """The daemon of the stand-in; ``folder`` has its pipes and logs."""
    variables = {f"CUDA_MPS_{name}_DIRECTORY": str(folder / "run" / "mps" / name.lower()) for name in ("PIPE", "LOG")}
    made = MpsPlan(frozenset(("text", "vision")), "", False, str(CONTROL), folder / "run" / "mps", variables)
    return Mps(made, {"PATH": os.environ["PATH"], "CUDA_VISIBLE_DEVICES": "3", **environment})


def pipe(folder: pathlib.Path, name: str) -> str:
    return (folder / "run" / "mps" / "pipe" / name).read_text()


def connect(folder: pathlib.Path) -> None:
    """Be a client: the daemon starts its server."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(folder / "run" / "mps" / "pipe" / "control"))
        connection.sendall(b"client\n")
        connection.recv(1)  # until the daemon closes it


async def server_of(folder: pathlib.Path) -> int:
    await asyncio.to_thread(connect, folder)
    file = folder / "run" / "mps" / "pipe" / "server"
    await until(lambda: file.exists() and bool(file.read_text()))
    return int(file.read_text())


async def failing_start(*_: object) -> int:
    raise MpsError("out of memory")


@asynccontextmanager
async def ready_fleet(folder: pathlib.Path, mps: Mps) -> AsyncIterator[Fleet]:
    async with fleet_of(folder, mps=mps, text=fake(), vision=fake()) as fleet:
        await until(lambda: all(engine.is_ready for engine in fleet.engines.values()))
        yield fleet


@pytest.mark.usefixtures("_patient_daemon")
async def test_daemon_starts_before_the_engines_and_ends_after_them(short_folder: pathlib.Path) -> None:
    mps = mps_of(short_folder)
    async with ready_fleet(short_folder, mps):
        assert mps.pid
        leader, server = mps.pid, await server_of(short_folder)
        assert pipe(short_folder, "visible") == "all"  # else it would renumber the GPUs
        for folder in ("mps/pipe", "mps/log", "mps"):
            assert (short_folder / "run" / folder).stat().st_mode & 0o777 == 0o700
        assert [pid for pid in (int(pipe(short_folder, "pid")), server) if not is_alive(pid)] == []
    assert session_of(leader) == []
    assert not is_alive(server)
    assert (short_folder / "quit").exists()
    assert not (short_folder / "run").exists()


async def test_deaf_daemon_is_killed(short_folder: pathlib.Path) -> None:
    mps = mps_of(short_folder, FAKE_MPS_FAULTS="deaf")
    await mps.start()
    leader, server = mps.pid, await server_of(short_folder)
    assert leader
    await mps.stop()
    assert session_of(leader) == []
    assert not is_alive(server)
    (short_folder / "run").rmdir()


@pytest.mark.parametrize("victim", ["daemon", "server"])
async def test_engines_are_restarted_with_a_new_daemon_when_it_or_its_server_dies(
    short_folder: pathlib.Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, victim: str
) -> None:
    mps = mps_of(short_folder)
    async with ready_fleet(short_folder, mps) as fleet:
        server, daemon = await server_of(short_folder), int(pipe(short_folder, "pid"))
        pids = {name: engine.pid for name, engine in fleet.engines.items()}
        os.kill(daemon if victim == "daemon" else server, signal.SIGKILL)
        await until(lambda: not is_alive(server) and not is_alive(daemon))
        await until(lambda: all(one.is_ready and one.pid != pids[one.name] for one in fleet.engines.values()))
        assert is_alive(int(pipe(short_folder, "pid")))
    assert f"CUDA MPS: {f'its server, {server},' if victim == 'server' else 'its control daemon'} died" in caplog.text
    assert ("the control daemon of CUDA MPS ended (-9)" in capfd.readouterr().err) is (victim == "daemon")
    for name in pids:
        assert f"{name} engine: failed (CUDA MPS has ended; next try in" in caplog.text


async def test_idle_engine_is_restarted_too_when_a_fatal_error_of_the_other_one_stopped_the_server(
    short_folder: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with ready_fleet(short_folder, mps_of(short_folder)) as fleet:
        server = await server_of(short_folder)
        pids = {name: engine.pid for name, engine in fleet.engines.items()}
        (short_folder / "run" / "mps" / "pipe" / "fault").write_text(str(server))
        for pid in session_of(pids["text"] or 0):
            os.kill(pid, signal.SIGKILL)
        await until(lambda: all(one.is_ready and one.pid != pids[one.name] for one in fleet.engines.values()))
        assert await server_of(short_folder) != server
        assert not is_alive(server)
    assert f"CUDA MPS: its server, {server}, reports a fatal error (its state is FAULT)" in caplog.text
    assert "vision engine: failed (CUDA MPS has ended; next try in" in caplog.text


async def test_engine_that_is_loading_is_restarted_when_the_server_dies(
    short_folder: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with fleet_of(
        short_folder, mps=mps_of(short_folder), text=[sys.executable, "-c", "import time; time.sleep(600)"]
    ) as fleet:
        first = fleet.engines["text"].pid
        os.kill(await server_of(short_folder), signal.SIGKILL)
        await until(lambda: fleet.engines["text"].pid not in (None, first))
    assert "text engine: failed (CUDA MPS has ended; next try in" in caplog.text


async def test_engines_are_restarted_with_a_new_daemon_when_its_reaper_is_killed(
    short_folder: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    mps = mps_of(short_folder)
    async with ready_fleet(short_folder, mps) as fleet:
        leader, pids = mps.pid, {name: engine.pid for name, engine in fleet.engines.items()}
        assert leader
        server = await server_of(short_folder)  # in a session of its own, and it holds the daemon's output open
        os.kill(leader, signal.SIGKILL)
        await until(lambda: session_of(leader) == [])
        await until(lambda: all(one.is_ready and one.pid != pids[one.name] for one in fleet.engines.values()))
        assert mps.pid
        assert is_alive(mps.pid)
        await until(lambda: not is_alive(server))
    assert "CUDA MPS: its control daemon died" in caplog.text


async def test_engine_that_started_while_the_daemon_could_not_is_restarted_with_the_others(
    short_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have become a client before it used the GPU."""
    mps = mps_of(short_folder)
    end = await mps.start()
    os.kill(int(pipe(short_folder, "pid")), signal.SIGKILL)
    await end
    with monkeypatch.context() as patched:
        patched.setattr(mps_control, "start_server", failing_start)
        earlier = await mps.start()
    assert mps.pid is None
    assert await mps.start() is earlier
    assert not earlier.done()
    os.kill(int(pipe(short_folder, "pid")), signal.SIGKILL)
    await asyncio.wait_for(earlier, 30)
    await mps.stop()
    (short_folder / "run").rmdir()


async def test_start_that_is_cancelled_leaves_a_daemon_for_the_next(
    short_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mps = mps_of(short_folder)
    reached = asyncio.Event()

    async def slow_start(*_: object) -> int:
        reached.set()
        await asyncio.sleep(600)
        return 0

    with monkeypatch.context() as patched:
        patched.setattr(mps_control, "start_server", slow_start)
        starting = asyncio.create_task(mps.start())
        await reached.wait()
        starting.cancel()
        await asyncio.wait([starting])
    leader = mps.pid
    end = await mps.start()
    assert mps.pid == leader
    os.kill(int(pipe(short_folder, "server")), signal.SIGKILL)
    await asyncio.wait_for(end, 30)
    await mps.stop()
    (short_folder / "run").rmdir()


async def test_engines_run_without_a_daemon_that_does_not_start(
    short_folder: pathlib.Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async with fleet_of(short_folder, mps=mps_of(short_folder, FAKE_MPS_FAULTS="fails"), text=fake()) as fleet:
        await until(lambda: fleet.engines["text"].is_ready)
    assert "the control daemon did not start (exit code 1)" in caplog.text
    assert "ended (1): [2026-11-28 12:00:00.000 Control 7] Failed to start : out of pipes" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("refuses", "start_server -uid {uid}: Failed to start server"),
        ("dies", "there was no server after 3 s: [Server 8] Failed to start : invalid argument"),
        ("faulty", "its state is FAULT"),
    ],
)
async def test_daemon_that_cannot_start_its_server_is_stopped_for_good(
    short_folder: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: str,
    reason: str,
) -> None:
    monkeypatch.setattr(mps_control, "_SERVER_S", 3.0 if fault == "dies" else 30.0)
    mps = mps_of(short_folder, FAKE_MPS_FAULTS=fault)
    await asyncio.gather(mps.start(), mps.start())  # as two engines do
    await mps.start()
    assert mps.pid is None
    assert not (short_folder / "run" / "mps").exists()  # else CUDA would connect to it
    (short_folder / "run").rmdir()
    assert [record.getMessage() for record in caplog.records] == [
        "CUDA MPS is off for this run: the control daemon cannot start its server "
        f"({reason.format(uid=os.geteuid())}); the engines take turns on the GPU"
    ]


async def test_daemon_that_does_not_answer_is_stopped_for_good(
    short_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("vlserve.engines.mps._START_S", 2.0)
    mps = mps_of(short_folder, FAKE_MPS_FAULTS="silent")
    await mps.start()
    await mps.start()
    assert mps.pid is None
    assert caplog.messages == [
        "CUDA MPS is off for this run: the control daemon did not start (not ready after 2 s); the engines take turns "
        "on the GPU"
    ]
    (short_folder / "run").rmdir()


async def test_daemon_that_listens_late_is_waited_for(short_folder: pathlib.Path) -> None:
    mps = mps_of(short_folder, FAKE_MPS_FAULTS="late")
    await mps.start()
    assert mps.pid
    await mps.stop()
    (short_folder / "run").rmdir()


async def test_engines_start_after_the_daemon_without_a_server_is_gone(short_folder: pathlib.Path) -> None:
    mps = mps_of(short_folder, FAKE_MPS_FAULTS="refuses")
    async with ready_fleet(short_folder, mps) as fleet:
        assert {engine.state for engine in fleet.engines.values()} == {EngineState.READY}
        assert mps.pid is None
        assert not (short_folder / "run" / "mps").exists()


async def test_server_that_is_still_starting_after_the_limit_is_used(
    short_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mps_control, "_SERVER_S", 5.0)
    mps = mps_of(short_folder, FAKE_MPS_FAULTS="slow")
    await mps.start()
    assert mps.pid
    await mps.stop()
    (short_folder / "run").rmdir()
    assert caplog.messages == []


@asynccontextmanager
async def system_daemon(folder: pathlib.Path, faults: str = "") -> AsyncIterator[dict[str, str]]:
    """A control daemon that others have started, and the environment in which it is at CUDA's default folder."""
    environment = {"PATH": os.environ["PATH"], "FAKE_MPS_FAULTS": faults}
    (folder / "log").mkdir()
    own = {"CUDA_MPS_PIPE_DIRECTORY": str(folder), "CUDA_MPS_LOG_DIRECTORY": str(folder / "log")}
    daemon = await asyncio.create_subprocess_exec(str(CONTROL), "-f", env={**environment, **own})
    try:
        await until((folder / "control").exists)
        yield environment
    finally:
        daemon.kill()
        await daemon.wait()


async def test_running_daemon_at_the_default_folder_is_found_if_it_answers(
    short_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mps_control, "DEFAULT_FOLDER", short_folder)
    assert await mps_control.find_daemon(str(CONTROL), {}) is None
    async with system_daemon(short_folder) as environment:
        assert await mps_control.find_daemon(str(CONTROL), environment) == str(short_folder)
        assert await mps_control.find_daemon(None, environment) is None
        named = {**environment, "CUDA_MPS_PIPE_DIRECTORY": "/mps"}
        assert await mps_control.find_daemon(str(CONTROL), named) is None  # CUDA does not look there
        if os.getuid() == 0:
            os.chown(short_folder / "control", 12345, -1)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert await mps_control.find_daemon(str(CONTROL), environment) is None  # it is another user's
        monkeypatch.undo()
        os.chown(short_folder / "control", os.getuid(), -1)
    monkeypatch.setattr(mps_control, "DEFAULT_FOLDER", short_folder)
    assert (short_folder / "control").exists()
    assert await mps_control.find_daemon(str(CONTROL), environment) is None  # it has ended


async def test_daemon_that_does_not_answer_is_not_used(
    short_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mps_control, "DEFAULT_FOLDER", short_folder)
    monkeypatch.setattr(mps_control, "_ANSWER_S", 0.5)
    async with system_daemon(short_folder, "silent") as environment:
        assert await mps_control.find_daemon(str(CONTROL), environment) is None


async def test_daemon_ends_when_the_gateway_is_killed(short_folder: pathlib.Path) -> None:
    """The gateway: a process of its own that starts the daemon, and is killed."""
    code = (
        "import asyncio, pathlib, sys\nfrom tests.engines.test_mps import mps_of, mps_process\n"
        "mps_process._START_S = mps_process.mps_control._SERVER_S = 120.0\n"
        f"folder = pathlib.Path({str(short_folder)!r})\n"
        "async def main():\n    mps = mps_of(folder)\n    await mps.start()\n"
        "    print(mps.pid, flush=True)\n    await asyncio.sleep(600)\nasyncio.run(main())\n"
    )
    gateway = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert gateway.stdout
    leader, server = int(await gateway.stdout.readline()), await server_of(short_folder)
    daemon = int(pipe(short_folder, "pid"))
    gateway.kill()
    await gateway.wait()
    await until(lambda: not any(map(is_alive, (leader, daemon, server))))
    assert not (short_folder / "run").exists()


async def test_service_starts_the_daemon_for_the_engines_that_share_a_gpu(
    monkeypatch: pytest.MonkeyPatch, short_folder: pathlib.Path
) -> None:
    settings = config.load(config.shipped("one-gpu-80g.yaml"))
    monkeypatch.setenv("TMPDIR", str(short_folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    for spec, expected in (("1x80G", True), ("2x80G", False)):
        chosen = settings if expected else config.load(config.shipped("default.yaml"))

        async def observe(*_: Any, spec: str = spec, chosen: Config = chosen, **__: Any) -> Machine:
            return machine.from_spec(spec, chosen)

        monkeypatch.setattr(machine, "observe", observe)
        fleet = await serve._fleet(chosen, Metrics(), {"text": None, "vision": None})
        assert [bool(fleet.mps), *(engine._mps is fleet.mps for engine in fleet.engines.values())] == [
            *(expected, True, True)
        ]
        await fleet.stop()
