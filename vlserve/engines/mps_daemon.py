"""Runs CUDA MPS's control daemon in the foreground, restarts it when it dies, and ends it on SIGTERM.

usage: python mps_daemon.py CONTROL_PROGRAM      (the folders: CUDA_MPS_PIPE_DIRECTORY, CUDA_MPS_LOG_DIRECTORY)

It runs under the reaper, like an engine. If the daemon dies, its MPS server is killed: on an H100 (driver 580.159) the
engines' requests stalled after the death of the daemon, and failed at once after that of the server.

  SIGTERM      → `quit` to the daemon, after QUIT_S SIGTERM, after another QUIT_S SIGKILL; exit code 0
  daemon ended → kill its server, and start the daemon again, after a pause that doubles while it ends within SHORT_S of
                 its start; exit code 1 if it does so twice and never ran longer

Standard library only, like the reaper.
"""

import contextlib
import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import time

QUIT_S = 1.5  # all its clients have ended
SHORT_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 30.0
_PR_SET_PDEATHSIG = 1


def main() -> int:
    program = sys.argv[1]
    libc = ctypes.CDLL(None, use_errno=True)
    folders = [pathlib.Path(os.environ[f"CUDA_MPS_{name}_DIRECTORY"]) for name in ("PIPE", "LOG")]
    for folder in folders:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Blocked and then waited for: neither gets lost between two calls.
    watched = (signal.SIGTERM, signal.SIGCHLD)
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, watched)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    pause_s, was_stable = FIRST_PAUSE_S, False
    while True:
        started = time.monotonic()
        daemon = subprocess.Popen([program, "-f"], stdin=subprocess.DEVNULL, preexec_fn=prepare)  # noqa: S603
        while daemon.poll() is None:
            if signal.sigwait(watched) == signal.SIGTERM:
                _end(program, daemon)
                return 0
        line = f"the control daemon of CUDA MPS ended ({daemon.returncode}){_last_line(folders[1])}; {_kill_orphans()}"
        print(line, flush=True)  # noqa: T201  (to the gateway's log)
        if time.monotonic() - started >= SHORT_S:
            pause_s, was_stable = FIRST_PAUSE_S, True
        elif not was_stable and pause_s > FIRST_PAUSE_S:
            return 1
        if signal.sigtimedwait((signal.SIGTERM,), pause_s):
            return 0
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _end(program: str, daemon: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run([program], input=b"quit\n", timeout=QUIT_S, check=False)  # noqa: S603
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        if number:
            daemon.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(QUIT_S)
            return


def _kill_orphans() -> str:
    """Kill what the daemon has left, its server: the reaper, this process's parent, has become the parent of it."""
    killed = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getppid() and int(entry.name) != os.getpid():
                os.kill(int(entry.name), signal.SIGKILL)
                killed.append(entry.name)
    return f"killed its server, {', '.join(killed)}" if killed else "it had no server"


def _last_line(folder: pathlib.Path) -> str:
    try:
        lines = (folder / "control.log").read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return ": " + next((line.strip() for line in reversed(lines) if line.strip()), "no message")


if __name__ == "__main__":
    sys.exit(main())
