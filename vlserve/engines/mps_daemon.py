"""Runs CUDA MPS's control daemon in the foreground, and ends with it, or it on SIGTERM.

usage: python mps_daemon.py CONTROL_PROGRAM      (the folders: CUDA_MPS_PIPE_DIRECTORY, CUDA_MPS_LOG_DIRECTORY)

It runs under the reaper, like an engine, which also ends the daemon's server.

  SIGTERM      → `quit` to the daemon, after QUIT_S SIGTERM, after another QUIT_S SIGKILL; exit code 0
  daemon ended → print how; exit code 1

Standard library only, like the reaper.
"""

import contextlib
import ctypes
import os
import pathlib
import signal
import subprocess
import sys

QUIT_S = 1.5  # its clients have ended, or have lost the GPU
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

    daemon = subprocess.Popen([program, "-f"], stdin=subprocess.DEVNULL, preexec_fn=prepare)  # noqa: S603
    while daemon.poll() is None:
        if signal.sigwait(watched) == signal.SIGTERM:
            _end(program, daemon)
            return 0
    last_line = _last_line(folders[1] / "control.log")
    print(f"the control daemon of CUDA MPS ended ({daemon.returncode}){last_line}", flush=True)  # noqa: T201  (the log)
    return 1


def _end(program: str, daemon: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run([program], input=b"quit\n", timeout=QUIT_S, check=False)  # noqa: S603
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        if number:
            daemon.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(QUIT_S)
            return


def _last_line(log: pathlib.Path) -> str:
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return ": " + next((line.strip() for line in reversed(lines) if line.strip()), "no message")


if __name__ == "__main__":
    sys.exit(main())
