"""Shutdown of an engine's processes: they end with the engine, with its reaper and with the gateway."""

import asyncio
import os
import pathlib
import signal
import sys

import pytest

from tests.conftest import REPOSITORY, is_alive, session_of, until, user
from tests.engines.fleets import fake, fleet_of, shorten_waits
from vlserve.engines.engine import EngineState


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_waits(monkeypatch)


async def test_engine_that_ignores_sigterm_is_killed(short_folder: pathlib.Path) -> None:
    async with fleet_of(short_folder, text=fake("ignore-sigterm")) as fleet:
        await until(lambda: fleet.engines["text"].is_ready)


async def test_grandchild_in_a_session_of_its_own_does_not_outlive_the_engine(short_folder: pathlib.Path) -> None:
    file = short_folder / "grandchild"
    async with fleet_of(short_folder, text=fake("escape", grandchild=file)) as fleet:
        await until(lambda: fleet.engines["text"].is_ready)
        grandchild = int(file.read_text())
        assert is_alive(grandchild)
    assert not is_alive(grandchild)


NAMED = "import ctypes; ctypes.CDLL(None).prctl(15, b'\\xc3(', 0, 0, 0); print(flush=True); input()"  # PR_SET_NAME


async def test_process_whose_name_is_not_utf_8_disturbs_nothing(
    short_folder: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    pipe, file = asyncio.subprocess.PIPE, short_folder / "grandchild"
    named = await asyncio.create_subprocess_exec(sys.executable, "-c", NAMED, stdin=pipe, stdout=pipe)
    assert named.stdout
    await named.stdout.readline()
    assert b"\xc3(" in pathlib.Path(f"/proc/{named.pid}/stat").read_bytes()
    async with fleet_of(short_folder, text=fake("escape", grandchild=file)) as fleet:
        text = fleet.engines["text"]
        await until(lambda: text.is_ready)
        os.kill(next(pid for pid in session_of(text.pid or 0) if pid != text.pid), signal.SIGKILL)
        await until(lambda: not text.is_ready)
        await until(lambda: text.is_ready)
        grandchild = int(file.read_text())
    assert not is_alive(grandchild)
    assert "supervision failed" not in caplog.text
    await named.communicate(b"\n")


async def test_reaper_killed_while_a_descendant_holds_the_output_is_noticed_too(short_folder: pathlib.Path) -> None:
    file = short_folder / "grandchild"
    async with fleet_of(short_folder, text=fake("escape", grandchild=file)) as fleet:
        text = fleet.engines["text"]
        await until(lambda: text.is_ready)
        leader, grandchild = text.pid or 0, int(file.read_text())
        os.kill(leader, signal.SIGKILL)
        await until(lambda: text.pid not in (None, leader) and text.is_ready)
        os.kill(grandchild, signal.SIGKILL)  # a killed reaper cannot: its session was the grandchild's choice


async def test_stop_while_an_engine_is_being_replaced_leaves_nothing(short_folder: pathlib.Path) -> None:
    async with fleet_of(short_folder, text=fake("unhealthy", "ignore-sigterm")) as fleet:
        text = fleet.engines["text"]
        await until(lambda: text.is_ready)
        leader = text.pid or 0
        async with (
            text.address.open_session() as session,
            session.post("http://engine/v1/chat/completions", json={"messages": user("x"), "stream": True}) as answer,
        ):
            await answer.read()
        await until(lambda: text.state is EngineState.STOPPING)
        text.drain()  # as SIGTERM does, and then the end of the service
        await asyncio.sleep(0)
        await text.stop()
        assert session_of(leader) == []


async def test_killed_reaper_ends_its_engine(short_folder: pathlib.Path) -> None:
    async with fleet_of(short_folder, text=fake()) as fleet:
        text = fleet.engines["text"]
        await until(lambda: text.is_ready)
        leader = text.pid or 0
        os.kill(leader, signal.SIGKILL)
        await until(lambda: text.pid not in (None, leader) and text.is_ready)
        assert session_of(leader) == []


@pytest.mark.parametrize("faults", [(), ("ignore-sigterm",), ("escape",)])
async def test_nothing_outlives_a_gateway_that_was_killed(short_folder: pathlib.Path, faults: tuple[str, ...]) -> None:
    grandchild = short_folder / "grandchild"
    config = short_folder / "c.yaml"
    command = [sys.executable, "-m", "tests.fakes.fake_engine", "--uds", "{uds}", f"--faults={','.join(faults)}"]
    command += ["--grandchild", str(grandchild)]
    config.write_text(f"engines: {{text: {{model: a, command: {command}, env: {{PYTHONPATH: '{REPOSITORY}'}}}}}}")
    gateway = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vlserve.cli", "serve", "--config", str(config), "--port", "0"),
        env={**os.environ, "TMPDIR": str(short_folder)},
        stderr=asyncio.subprocess.PIPE,
    )
    assert gateway.stderr
    async with asyncio.timeout(60):
        while b"text engine: ready" not in await gateway.stderr.readline():
            pass
    (run,) = short_folder.glob("vlserve-*")
    (reaper,) = [
        int(pid) for pid in pathlib.Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text().split()
    ]
    gateway.kill()
    await gateway.wait()
    await until(lambda: not session_of(reaper) and not run.exists())
    if "escape" in faults:
        assert not is_alive(int(grandchild.read_text()))
