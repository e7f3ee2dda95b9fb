"""Runs a child process with a time limit, and ends all its descendants with it."""

import asyncio
import contextlib
import os
import pathlib
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence

from vlserve.engines.process import REAPER

_LONGEST_OUTPUT = 16 * 1024
_KILL_S = 5.0


async def run_child(
    argv: Sequence[str], folder: pathlib.Path, timeout_s: float, environment: Mapping[str, str]
) -> tuple[int | None, str]:
    """Exit code (128 + n for signal n) and the end of the output; the code is None after ``timeout_s``.

    The child runs in ``folder`` behind the reaper of engines, which ends it and all its descendants, also those in a
    session of their own.
    """
    # Not a pipe: that stays open as long as any descendant has it.
    with tempfile.TemporaryFile() as output:
        child = await asyncio.create_subprocess_exec(
            # The reaper removes the engine's socket at the end; here there is none.
            *(sys.executable, "-I", "-S", str(REAPER), str(folder / "no.sock"), *argv),
            cwd=folder,
            env=environment,
            stdin=asyncio.subprocess.PIPE,  # never written to: when it closes, the reaper knows that this process ended
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        code: int | None = None
        try:
            async with asyncio.timeout(timeout_s):
                code = await child.wait()
        except TimeoutError:
            pass
        finally:
            await _end(child)
        output.seek(max(0, output.seek(0, os.SEEK_END) - _LONGEST_OUTPUT))
        return code, output.read().decode("utf-8", "replace")


async def _end(child: asyncio.subprocess.Process) -> None:
    """The reaper passes the first SIGTERM on and kills at the second."""
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        if child.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(child.pid, number)
            else:
                child.send_signal(number)
        await asyncio.wait((asyncio.ensure_future(child.wait()),), timeout=_KILL_S)
