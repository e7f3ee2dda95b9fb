"""Runs CUDA MPS's control daemon in the foreground, and ends when it or its server dies, or on SIGTERM.

usage: python mps_daemon.py CONTROL_PROGRAM      (the folders: CUDA_MPS_PIPE_DIRECTORY, CUDA_MPS_LOG_DIRECTORY)

It runs under the reaper, like an engine. Without the server every client has lost its GPU, and some do not notice: on
an H200 (driver 580.159) one of two engines ended at once when the server was killed, and the other one hung. On an H100
both hung without the daemon. So the gateway must know, and restarts them (docs/reliability.md).

  SIGTERM                → `quit` to the daemon, after QUIT_S SIGTERM, after another QUIT_S SIGKILL; exit code 0
  daemon or server ended → kill the other one, and print which it was; exit code 1

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
POLL_S, SEARCH_S = 0.2, 60.0
SERVER = b"nvidia-cuda-mps-server"
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
    server, search_end = 0, time.monotonic() + SEARCH_S
    while daemon.poll() is None and not (server and _is_gone(server)):
        caught = signal.sigtimedwait(watched, POLL_S)
        if caught and caught.si_signo == signal.SIGTERM:
            _end(program, daemon)
            return 0
        if search_end and not server:
            server = _find_server(daemon.pid)
            if not server and time.monotonic() > search_end:
                search_end = 0.0
                print("the server of CUDA MPS was not found: its end would not be noticed", flush=True)  # noqa: T201
    if daemon.returncode is None:
        what, log = f"the server of CUDA MPS, {server}, ended", "server.log"
        daemon.kill()
        daemon.wait()
    else:
        what, log = f"the control daemon of CUDA MPS ended ({daemon.returncode})", "control.log"
    print(f"{what}{_last_line(folders[1] / log)}; {_kill_orphans()}", flush=True)  # noqa: T201  (to the gateway's log)
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


def _kill_orphans() -> str:
    """Kill what the daemon has left, its server: the reaper, this process's parent, has become the parent of it."""
    killed = []
    for pid in _children(os.getppid()):
        if pid != os.getpid() and not _is_gone(pid):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                killed.append(str(pid))
    return f"killed its server, {', '.join(killed)}" if killed else "no server was left"


def _find_server(daemon: int) -> int:
    """The pid of the daemon's server, or 0. The reaper, this process's parent, would be the parent of a grandchild."""
    for pid in (*_children(daemon), *_children(os.getppid())):
        with contextlib.suppress(OSError):
            if SERVER in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]:
                return pid
    return 0


def _children(parent: int) -> list[int]:
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if int(_stat(int(entry.name))[1]) == parent:
                found.append(int(entry.name))
    return found


def _is_gone(pid: int) -> bool:
    try:
        return _stat(pid)[0] in ("Z", "X")
    except OSError:
        return True


def _stat(pid: int) -> list[str]:
    """State, parent and what follows in /proc/PID/stat. Raises OSError."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _last_line(log: pathlib.Path) -> str:
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return ": " + next((line.strip() for line in reversed(lines) if line.strip()), "no message")


if __name__ == "__main__":
    sys.exit(main())
