#!/usr/bin/env python3
"""A fake nvidia-cuda-mps-control: a real process, with a fake MPS server as its child.

-f: listens in CUDA_MPS_PIPE_DIRECTORY until `quit`; for `client` or `start_server` it starts the server, once. Without
arguments: sends a line of standard input to the daemon and prints its answer. FAKE_MPS_FAULTS: `fails` exits at once,
`late` refuses connections at first, `deaf` ignores `quit` and SIGTERM, `silent` answers no command but `quit`;
`refuses` fails to start the server, with `dies` the server ends at once, with `faulty` its state is FAULT, and with
`slow` it stays INITIALIZING. A file `fault` in the folder with the server's pid makes its state FAULT later.
"""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

FOLDER = pathlib.Path(os.environ["CUDA_MPS_PIPE_DIRECTORY"])
FAULTS = os.environ.get("FAKE_MPS_FAULTS", "")


class Daemon:
    def __init__(self) -> None:
        self.server: subprocess.Popen[bytes] | None = None

    def answer(self, command: str) -> str:
        """The text to print, after ``error: `` if the control program is to fail."""
        match command.split():
            case ["client"] | ["start_server", "-uid", _]:
                return self._start_server()
            case ["get_server_list"]:
                return str(self.server.pid) if self.server and self.server.poll() is None else ""
            case ["get_server_status", pid]:
                named = FOLDER / "fault"
                has_fault = "faulty" in FAULTS or (named.exists() and named.read_text() == pid)
                return "FAULT" if has_fault else "INITIALIZING" if "slow" in FAULTS else "ACTIVE"
            case ["get_default_active_thread_percentage"]:
                return "100.0"
            case ["quit"]:
                return ""
        return f"error: unknown command {command}"

    def _start_server(self) -> str:
        if "refuses" in FAULTS:
            return "error: Failed to start server"
        if not self.server and "dies" in FAULTS:
            log = pathlib.Path(os.environ["CUDA_MPS_LOG_DIRECTORY"]) / "server.log"
            log.write_text("[2026-11-28 12:00:00.000 Other 8] Startup\n[Server 8] Failed to start : invalid argument\n")
            self.server = subprocess.Popen(["true"])
            self.server.wait()
        if not self.server:
            # As NVIDIA's: in a session of its own.
            argv = ["nvidia-cuda-mps-server", "600"]
            self.server = subprocess.Popen(argv, executable="/bin/sleep", start_new_session=True)
            (FOLDER / "server").write_text(str(self.server.pid))
        return ""


def listen() -> int:
    log = pathlib.Path(os.environ["CUDA_MPS_LOG_DIRECTORY"]) / "control.log"
    if "fails" in FAULTS:
        log.write_text("[2026-11-28 12:00:00.000 Control 7] Failed to start : out of pipes\n")
        return 1
    control = FOLDER / "control"
    control.unlink(missing_ok=True)
    (FOLDER / "visible").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
    (FOLDER / "pid").write_text(str(os.getpid()))
    if "deaf" in FAULTS:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    daemon, unanswered = Daemon(), []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(control))
        if "late" in FAULTS:
            time.sleep(0.5)  # clients are refused
        listener.listen()
        while True:
            connection, _ = listener.accept()
            command = connection.makefile().readline().strip()
            if "silent" in FAULTS and command != "quit":
                unanswered.append(connection)
                continue
            with connection:
                connection.sendall(daemon.answer(command).encode())
            if command == "quit" and "deaf" not in FAULTS:
                if daemon.server:
                    daemon.server.kill()
                control.unlink()
                (FOLDER.parents[2] / "quit").touch()
                return 0


def send() -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(FOLDER / "control"))
        except OSError:
            print("Cannot find MPS control daemon process")
            return 1
        connection.sendall(sys.stdin.readline().encode())
        answer = connection.makefile().read()
    print(answer.removeprefix("error: "))
    return int(answer.startswith("error: "))


if __name__ == "__main__":
    sys.exit(listen() if "-f" in sys.argv else send())
