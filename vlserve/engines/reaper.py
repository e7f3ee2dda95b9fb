"""Parent process of one engine: ends the engine and all its descendants when the gateway ends, however it ends.

Generated tests run under it, too (testgen/child.py).

usage: python reaper.py SOCKET COMMAND [ARG ...]      (standard input: a pipe whose other end the gateway holds)

As a child subreaper (prctl(2)) it inherits every orphaned descendant of the engine, even from another session, so it
can end them all. vLLM needs that: after a SIGKILL of its API server, EngineCore survives and keeps the GPU.

  SIGTERM        → SIGTERM to the engine, once, because a second one would interrupt vLLM's cleanup
  SIGTERM again  → SIGKILL to the engine
  pipe closed    → the gateway has ended: SIGTERM, and after GRACE_S SIGKILL to the remaining processes
  engine ended   → SIGKILL to its descendants, remove its socket, exit with its code (128 + n for signal n)

Standard library only: it starts in a few milliseconds and must not fail.
"""

import contextlib
import ctypes
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import time

GRACE_S = 5.0
PATIENCE_S = 1.0
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def main() -> int:
    socket, *argv = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Signals wake the select below through this pipe, so nothing is done inside a handler.
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the gateway handles Ctrl-C

    engine = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        # The kernel kills the engine if this process is killed; single-threaded, so the fork is safe.
        preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
    )
    code: int | None = None
    is_ending = is_orphan = False
    kill_at = float("inf")
    watched = [woken, sys.stdin.fileno()]
    while code is None:
        timeout = min(max(0.0, kill_at - time.monotonic()), 3600.0)
        readable, _, _ = select.select(watched, [], [], timeout)
        asked = woken in readable and signal.SIGTERM in os.read(woken, 512)
        if sys.stdin.fileno() in readable and not os.read(sys.stdin.fileno(), 512):
            watched.remove(sys.stdin.fileno())
            asked = is_orphan = True
            kill_at = time.monotonic() + GRACE_S
        code = _reap(engine.pid)
        if code is None and (time.monotonic() >= kill_at or (asked and is_ending)):
            os.kill(engine.pid, signal.SIGKILL)
            kill_at = float("inf")
        elif code is None and asked:
            os.kill(engine.pid, signal.SIGTERM)
            is_ending = True
    _end_descendants()
    path = pathlib.Path(socket)
    path.unlink(missing_ok=True)
    shutil.rmtree(path.with_suffix(""), ignore_errors=True)
    if is_orphan:
        with contextlib.suppress(OSError):  # it still contains another engine's socket
            path.parent.rmdir()
    return code


def _reap(engine: int) -> int | None:
    """Reap ended children. Returns the engine's exit code if it is one of them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == engine:
            ended = os.waitstatus_to_exitcode(status)
            code = ended if ended >= 0 else 128 - ended


def _end_descendants() -> None:
    """End all children, and the children of each, which become ours when it ends.

    They have PATIENCE_S to end by themselves, then get SIGKILL. Python's resource tracker has twice that time: it ends
    after the processes that it tracks, and removes their shared memory.
    """
    killed_at = time.monotonic() + PATIENCE_S
    while True:
        late_s = time.monotonic() - killed_at
        for pid, command in _children():
            if late_s > PATIENCE_S or (late_s > 0 and b"resource_tracker" not in command):
                os.kill(pid, signal.SIGKILL)
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.02)
        except ChildProcessError:
            return


def _children() -> list[tuple[int, bytes]]:
    """Pid and command line of each child that has not ended."""
    own = str(os.getpid()).encode()
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
            if fields[1] == own and fields[0] != b"Z":
                found.append((int(folder.name), (folder / "cmdline").read_bytes()))
        except OSError:
            continue  # it ended meanwhile
    return found


if __name__ == "__main__":
    sys.exit(main())
