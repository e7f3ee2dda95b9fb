"""NVIDIA GPUs and their memory, read with NVML."""

import contextlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import pynvml

log = logging.getLogger("vlserve.gpus")
_DETECT_S = 120.0  # without persistence mode the driver initializes each GPU first


class DriverTimeout(Exception):
    """The NVIDIA driver does not respond. The message names the remedy."""


class Memory(NamedTuple):
    """Bytes of one GPU's memory; ``used``: by all processes."""

    total: int
    used: int
    free: int


class GpuReader:
    """Reads the memory of GPUs with NVML, in a thread, one read at a time and with a deadline.

    A driver that does not respond is logged once, and once again when it responds.
    """

    def __init__(self, timeout_s: float, gpus: Sequence[str] | None = None) -> None:
        """``gpus``: as named in CUDA_VISIBLE_DEVICES; None: all GPUs of the machine, by their numbers."""
        self._timeout_s = timeout_s
        self._gpus = gpus
        self._lock = threading.Lock()
        self._reading: Future[dict[str, Memory]] | None = None
        self._deadline = 0.0
        self.is_stuck = False
        """Whether the last read missed the deadline."""

    def read(self) -> dict[str, Memory]:
        """The memory of each GPU that NVML can read. Empty without a driver, or if NVML misses the deadline."""
        with self._lock:
            if not self._reading or self._reading.done():
                self._reading, self._deadline = Future(), time.monotonic() + self._timeout_s
                # A daemon, because the process must be able to exit while the driver does not respond.
                thread = threading.Thread(target=_read, args=(self._gpus, self._reading), name="nvml", daemon=True)
                thread.start()
            reading, rest_s = self._reading, self._deadline - time.monotonic()
        try:
            memory = reading.result(max(0.0, rest_s))
        except TimeoutError:
            self._report(is_stuck=True)
            return {}
        self._report(is_stuck=False)
        return memory

    def free_bytes(self) -> int | None:
        """Free bytes of the fullest of ``gpus``; None if NVML cannot read all of them."""
        memory = self.read()
        if not memory or len(memory) < len(self._gpus or ()):
            return None
        return min(one.free for one in memory.values())

    def _report(self, *, is_stuck: bool) -> None:
        with self._lock:
            has_changed, self.is_stuck = self.is_stuck != is_stuck, is_stuck
        if has_changed and is_stuck:
            log.warning("NVML did not respond within %g s: the memory of the GPUs is unknown", self._timeout_s)
        elif has_changed:
            log.info("NVML responds again")


def count_gpus(environment: Mapping[str, str]) -> int:
    """Number of usable NVIDIA GPUs."""
    return len(usable_gpus(environment)[0])


def usable_gpus(environment: Mapping[str, str]) -> tuple[tuple[str, ...], int]:
    """The usable NVIDIA GPUs, as named in CUDA_VISIBLE_DEVICES, and the bytes of the smallest.

    ``((), 0)`` without NVIDIA's driver. Raises DriverTimeout if it does not respond within two minutes.
    """
    reader = GpuReader(_DETECT_S)
    sizes = {name: memory.total for name, memory in reader.read().items()}
    if reader.is_stuck:
        raise DriverTimeout(f"The NVIDIA driver did not respond within {_DETECT_S:g} s; see nvidia-smi and dmesg.")
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and sizes:
        # Names that are not numbers (UUIDs, MIG) cannot be matched here, but all GPUs of a machine are alike.
        any_size = next(iter(sizes.values()))
        sizes = {name.strip(): sizes.get(name.strip(), any_size) for name in visible.split(",") if name.strip()}
    return tuple(sizes), min(sizes.values(), default=0)


def _read(gpus: Sequence[str] | None, reading: Future[dict[str, Memory]]) -> None:
    memory: dict[str, Memory] = {}
    try:
        memory = _read_memory(gpus)
    finally:
        reading.set_result(memory)


def _read_memory(gpus: Sequence[str] | None) -> dict[str, Memory]:
    """The memory of each GPU that NVML knows and the driver has not lost."""
    memory = dict[str, Memory]()
    with contextlib.suppress(pynvml.NVMLError):  # no driver
        pynvml.nvmlInit()
        try:
            for name in map(str, range(pynvml.nvmlDeviceGetCount())) if gpus is None else gpus:
                with contextlib.suppress(pynvml.NVMLError):  # a lost GPU, or an unknown name: an abbreviated UUID
                    found = pynvml.nvmlDeviceGetMemoryInfo(_handle(name))
                    memory[name] = Memory(int(found.total), int(found.used), int(found.free))
        finally:
            pynvml.nvmlShutdown()
    return memory


def _handle(name: str) -> Any:
    return pynvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else pynvml.nvmlDeviceGetHandleByUUID(name)
