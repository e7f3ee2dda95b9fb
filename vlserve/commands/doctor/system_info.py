"""System information for `vlserve doctor`: the driver, GPUs and their processes, disk, ports, shared memory.

Read-only; checks.py evaluates it. Nothing raises for information that is unavailable: it is None, or an empty tuple.
"""

import asyncio
import contextlib
import importlib.util
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pynvml

ALL_REDUCE = (sys.executable, "-m", "vlserve.commands.doctor.allreduce")
_SHARED_MEMORY = pathlib.Path("/dev/shm")  # noqa: S108  (read, not written)


@dataclass(frozen=True)
class Driver:
    version: str
    cuda: tuple[int, int]
    """The newest CUDA version that it supports."""


@dataclass(frozen=True)
class Gpu:
    number: int
    """The index in NVML, which is in the order of the PCI bus."""
    name: str
    total_bytes: int
    free_bytes: int
    capability: tuple[int, int]
    users: tuple[str, ...] = ()
    """Processes that use memory on it, as far as visible in this container."""
    is_mig: bool = False
    ecc_errors: int = 0
    """Uncorrected errors since the driver was loaded."""
    needs_reset: bool = False
    """Whether memory rows have a pending or failed remapping."""
    lost: str = ""
    """The driver's error if the GPU is lost; then the other fields are unknown."""


@dataclass(frozen=True)
class DiskSpace:
    folder: pathlib.Path
    """The folder, or its nearest parent that exists."""
    free_bytes: int
    is_writable: bool


@dataclass(frozen=True)
class Output:
    """Result of a child process. ``code``: its exit code; None: it was killed at the timeout."""

    code: int | None
    stdout: str
    stderr: str


def driver() -> Driver | None:
    """NVIDIA's driver, or None if there is none."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        cuda = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
        return Driver(str(pynvml.nvmlSystemGetDriverVersion()), (cuda // 1000, cuda % 1000 // 10))
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def gpus() -> tuple[Gpu, ...]:
    """Every GPU of this machine or container, regardless of CUDA_VISIBLE_DEVICES."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return tuple(_gpu_or_lost(number) for number in range(_ask(pynvml.nvmlDeviceGetCount, 0)))
    finally:
        pynvml.nvmlShutdown()


def _gpu_or_lost(number: int) -> Gpu:
    try:
        return _gpu(number)
    except pynvml.NVMLError as error:
        return Gpu(number, "?", 0, 0, (0, 0), lost=str(error))


def _gpu(number: int) -> Gpu:
    """Raises NVMLError."""
    handle = pynvml.nvmlDeviceGetHandleByIndex(number)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    mig = _ask(lambda: pynvml.nvmlDeviceGetMigMode(handle)[0], 0)
    errors = _ask(
        lambda: pynvml.nvmlDeviceGetTotalEccErrors(
            handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
        ),
        0,
    )
    _, _, is_pending, has_failed = _ask(lambda: pynvml.nvmlDeviceGetRemappedRows(handle), (0, 0, 0, 0))
    running = _ask(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(handle), [])
    return Gpu(
        number,
        str(pynvml.nvmlDeviceGetName(handle)),
        int(memory.total),
        int(memory.free),
        (int(major), int(minor)),
        tuple(describe(int(process.pid)) for process in running),
        bool(mig),
        int(errors),
        bool(is_pending or has_failed),
    )


def _ask(question: Callable[[], Any], otherwise: Any) -> Any:
    """Call ``question``; return ``otherwise`` if the GPU does not support it."""
    try:
        return question()
    except pynvml.NVMLError:
        return otherwise


def torch_build() -> tuple[str, tuple[int, int] | None] | None:
    """Version of the installed torch and its CUDA version (None: CPU build). Read from its files, not imported."""
    found = importlib.util.find_spec("torch")
    if not found or not found.origin:
        return None
    try:
        text = (pathlib.Path(found.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    version = re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE)
    cuda = re.search(r"^cuda\b[^=]*= '(\d+)\.(\d+)", text, re.MULTILINE)
    return (version[1] if version else "?", (int(cuda[1]), int(cuda[2])) if cuda else None)


def disk_space(path: pathlib.Path) -> DiskSpace:
    """Free space where ``path`` is or would be created."""
    parents = (path, *path.parents)
    folder = next(one for one in parents if os.path.exists(one))  # noqa: PTH110  (pathlib's raises without permission)
    return DiskSpace(folder, shutil.disk_usage(folder).free, os.access(folder, os.W_OK | os.X_OK))


def shared_memory() -> tuple[int, int] | None:
    """Total and free bytes of /dev/shm."""
    try:
        usage = shutil.disk_usage(_SHARED_MEMORY)
    except OSError:
        return None
    return usage.total, usage.free


def file_limit() -> int | None:
    """The hard limit of open files of this process; None: unlimited."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return None if hard == resource.RLIM_INFINITY else hard


def listen_error(host: str, port: int) -> str | None:
    """The system's error message for listening on this address; None if it works."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family, reuse_port=False).close()
    except OSError as error:
        # Negative numbers are getaddrinfo's, which strerror does not know.
        return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
    return None


def listener(port: int) -> str | None:
    """The process that listens on a TCP port, if this user may see it."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in pathlib.Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:  # 0A: LISTEN
                    inodes.add(f"socket:[{fields[9]}]")
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # another user's process, or it ended meanwhile
            for file in (folder / "fd").iterdir():
                if str(file.readlink()) in inodes:
                    return describe(int(folder.name))
    return None


def describe(pid: int) -> str:
    """A short description of a process: its command line and pid."""
    try:
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return f"pid {pid}"
    shown = " ".join([pathlib.Path(words[0]).name, *words[1:3]]).strip()
    return f"{shown[:60] or '?'} (pid {pid})"


async def model(argv: tuple[str, ...], environment: Mapping[str, str]) -> dict[str, Any] | str:
    """The report of weights.py about an engine's model, or its error output."""
    output = await run(argv, environment, 120)
    try:
        found = json.loads(output.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        return output.stderr or "no answer"
    return found if isinstance(found, dict) else output.stderr


async def run(argv: tuple[str, ...], environment: Mapping[str, str], timeout_s: float) -> Output:
    """Run a program in its own session, and kill the session at the timeout."""
    child = await asyncio.create_subprocess_exec(
        *argv,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    talk = asyncio.create_task(child.communicate())
    try:
        await asyncio.wait((talk,), timeout=timeout_s)
        is_late = not talk.done()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        stdout, stderr = await talk
    code = None if is_late else child.returncode
    return Output(code, stdout.decode(errors="replace"), stderr.decode(errors="replace"))
