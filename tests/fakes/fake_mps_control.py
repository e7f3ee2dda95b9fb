#!/usr/bin/env python3
"""A fake nvidia-cuda-mps-control: a real process, with a fake MPS server as its child.

-f: listens in CUDA_MPS_PIPE_DIRECTORY until `quit`; for `client` it starts the server, once. Without arguments: sends a
line of standard input to the daemon. FAKE_MPS_FAULTS: `fails` exits at once, `deaf` ignores `quit` and SIGTERM.
"""

import os
import pathlib
import signal
import socket
import subprocess
import sys

FOLDER = pathlib.Path(os.environ["CUDA_MPS_PIPE_DIRECTORY"])
FAULTS = os.environ.get("FAKE_MPS_FAULTS", "")


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
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(control))
        listener.listen()
        server: subprocess.Popen[bytes] | None = None
        while True:
            connection, _ = listener.accept()
            with connection:
                command = connection.makefile().readline().strip()
            if command == "client" and server is None:
                # As NVIDIA's: in a session of its own.
                server = subprocess.Popen(["sleep", "600"], start_new_session=True)
                (FOLDER / "server").write_text(str(server.pid))
            if command == "quit" and "deaf" not in FAULTS:
                if server:
                    server.kill()
                control.unlink()
                (FOLDER.parents[2] / "quit").touch()
                return 0


def send() -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(FOLDER / "control"))
        connection.sendall(sys.stdin.readline().encode())


if __name__ == "__main__":
    if "-f" in sys.argv:
        sys.exit(listen())
    send()
