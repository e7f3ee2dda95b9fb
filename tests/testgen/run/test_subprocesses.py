"""A child in its own session, and what it started in another one: nothing of them is left, whatever ends them."""

import asyncio
import os
import pathlib
import sys

import pytest

from tests.conftest import is_alive, until
from vlserve.testgen.subprocesses import run_child

LEAVES_ONE = """\
import pathlib, subprocess, sys, time
left = subprocess.Popen(["sleep", "600"], start_new_session=True)
pathlib.Path("pid").write_text(str(left.pid))
print("started", flush=True)
"""
NEVER_ENDS = [sys.executable, "-c", f"{LEAVES_ONE}time.sleep(600)"]
STUBBORN = [sys.executable, "-c", f"import signal; signal.signal(15, signal.SIG_IGN)\n{LEAVES_ONE}time.sleep(600)"]
PARENT = """\
import asyncio, os, pathlib, sys
from vlserve.testgen.subprocesses import run_child
asyncio.run(run_child(sys.argv[2:], pathlib.Path(sys.argv[1]), 600, os.environ))
"""


def pid_in(folder: pathlib.Path) -> int:
    return int((folder / "pid").read_text() or "0") if (folder / "pid").exists() else 0


async def test_what_a_child_leaves_ends_with_it(tmp_path: pathlib.Path) -> None:
    assert await run_child([sys.executable, "-c", LEAVES_ONE], tmp_path, 60, os.environ) == (0, "started\n")
    assert not is_alive(pid_in(tmp_path))


@pytest.mark.parametrize("argv", [NEVER_ENDS, STUBBORN], ids=["plain", "ignores SIGTERM"])
async def test_time_limit_ends_all_of_it(tmp_path: pathlib.Path, argv: list[str]) -> None:
    running = asyncio.create_task(run_child(argv, tmp_path, 10, os.environ))
    await until(lambda: pid_in(tmp_path) > 0)
    assert is_alive(pid_in(tmp_path))
    assert await running == (None, "started\n")
    assert not is_alive(pid_in(tmp_path))


async def test_cancelling_ends_all_of_it(tmp_path: pathlib.Path) -> None:
    running = asyncio.create_task(run_child(NEVER_ENDS, tmp_path, 600, os.environ))
    await until(lambda: pid_in(tmp_path) > 0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not is_alive(pid_in(tmp_path))


async def test_kill_of_this_process_ends_all_of_it(tmp_path: pathlib.Path) -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, str(tmp_path), *NEVER_ENDS)
    await until(lambda: pid_in(tmp_path) > 0)
    parent.kill()
    await parent.wait()
    await until(lambda: not is_alive(pid_in(tmp_path)))


async def test_only_the_end_of_much_output_is_kept(tmp_path: pathlib.Path) -> None:
    code, output = await run_child([sys.executable, "-c", "print('x' * 10**6, 'end')"], tmp_path, 60, os.environ)
    assert (code, output[-5:]) == (0, f" end{os.linesep}")
    assert len(output) < 20_000
