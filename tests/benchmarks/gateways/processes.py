"""The processes of a benchmark: the mock engine, the gateways in front of it, their CPU time and memory."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

KEY = "bench-key-0123456789abcdef"
SOURCE = pathlib.Path(__file__).parent / "mock_engine.c"
_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_START_S = 90.0


@dataclass
class Gateway:
    """A running gateway. ``is_own`` tells whether a process of its tree is counted as the gateway's."""

    name: str
    url: str
    pid: int
    is_own: Callable[[str], bool] = field(default=lambda command: "mock_engine" not in command)

    def cpu_ms(self) -> float:
        """CPU time of all its processes so far, user and system."""
        return sum(_cpu_ticks(pid) for pid in self._pids()) * _TICK_MS

    def rss_bytes(self) -> int:
        return sum(_rss_pages(pid) for pid in self._pids()) * _PAGE

    def _pids(self) -> list[int]:
        return [pid for pid in _tree(self.pid) if self.is_own(_command(pid))]


def compile_mock(folder: pathlib.Path) -> pathlib.Path:
    """Compile the mock engine. Raises CalledProcessError, FileNotFoundError without a C compiler."""
    program = folder / "mock_engine"
    subprocess.run(["cc", "-O2", "-o", str(program), str(SOURCE)], check=True)
    return program


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def run(
    name: str, argv: list[str], url: str, folder: pathlib.Path, ready: str = "/health", **env: str
) -> Iterator[Gateway]:
    """Start a gateway in a session of its own, wait until it answers, end its whole group. Raises TimeoutError."""
    log = folder / f"{name.replace(' ', '_')}.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            argv, stdout=file, stderr=file, env={**os.environ, **env}, start_new_session=True, cwd=folder
        )
    try:
        _wait(f"{url}{ready}", process, log)
        yield Gateway(name, url, process.pid)
    finally:
        _signal(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            _signal(process.pid, signal.SIGKILL)
            process.wait()


def environment(folder: pathlib.Path, name: str, *packages: str) -> pathlib.Path:
    """The bin folder of a virtual environment with these packages, made once. Raises CalledProcessError."""
    home = folder / name
    if not (home / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        subprocess.run([str(home / "bin" / "pip"), "install", "--quiet", *packages], check=True)
        (home / "installed").touch()
    return home / "bin"


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it ended by itself
        os.killpg(group, number)


def _wait(url: str, process: subprocess.Popen[bytes], log: pathlib.Path) -> None:
    deadline = time.monotonic() + _START_S
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {KEY}"})
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{log.stem} ended: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise TimeoutError(f"{log.stem} does not answer: {log.read_text()[-2000:]}")


def _tree(pid: int) -> list[int]:
    found, left = [], [pid]
    while left:
        one = left.pop()
        found.append(one)
        for task in pathlib.Path(f"/proc/{one}/task").glob("*/children"):
            try:
                left += map(int, task.read_text().split())
            except OSError:
                continue
    return found


def _command(pid: int) -> str:
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _cpu_ticks(pid: int) -> int:
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def _rss_pages(pid: int) -> int:
    try:
        return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
