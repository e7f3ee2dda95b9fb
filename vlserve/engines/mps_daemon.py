"""Runs CUDA MPS's control daemon in the foreground, restarts it when it dies, and ends it on SIGTERM.

usage: python mps_daemon.py CONTROL_PROGRAM      (the folders: CUDA_MPS_PIPE_DIRECTORY, CUDA_MPS_LOG_DIRECTORY)

It runs under the reaper, like an engine. If the daemon dies, its MPS server is killed: without a daemon the engines'
requests stalled, while without a server the engines fail at once, and are restarted (an H100, driver 580.159).

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
_SERVER = b"nvidia-cuda-mps-server"


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
        line = f"the control daemon of CUDA MPS ended ({daemon.returncode}){_last_line(folders[1])}"
        print(line, flush=True)  # noqa: T201  (to the gateway's log)
        _kill_servers(folders[0])
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


def _kill_servers(pipe_folder: pathlib.Path) -> None:
    own = f"CUDA_MPS_PIPE_DIRECTORY={pipe_folder}".encode()
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended, or is another user's
            if _SERVER in (entry / "cmdline").read_bytes() and own in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)


def _last_line(folder: pathlib.Path) -> str:
    try:
        lines = (folder / "control.log").read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return ": " + next((line.strip() for line in reversed(lines) if line.strip()), "no message")


if __name__ == "__main__":
    sys.exit(main())
