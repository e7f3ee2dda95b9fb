"""Prometheus metrics of the machine's NVIDIA GPUs: memory used and total, read from NVML at each scrape."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future

import pynvml
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

log = logging.getLogger("vlserve.gpu_metrics")

_TIMEOUT_S = 1.0


class GpuMemory(Collector):
    """Memory of every GPU that NVML reports, whichever process uses it. No samples without NVIDIA's driver.

    NVML is read in a thread, by one scrape at a time. There are no samples while a read takes longer than a second.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reading: Future[list[Metric]] | None = None
        self._deadline = 0.0

    def describe(self) -> Iterable[Metric]:
        return ()  # registering does not ask NVML

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            if not self._reading or self._reading.done():
                self._reading, self._deadline = Future(), time.monotonic() + _TIMEOUT_S
                # A daemon, because the process must be able to exit while the driver does not respond.
                threading.Thread(target=_read, args=(self._reading,), name="nvml", daemon=True).start()
            reading, rest_s = self._reading, self._deadline - time.monotonic()
        try:
            yield from reading.result(max(0.0, rest_s))
        except TimeoutError:
            log.warning("NVML does not respond: /metrics has no memory of GPUs")


def _read(reading: Future[list[Metric]]) -> None:
    metrics: list[Metric] = []
    try:
        metrics = _gpu_memory()
    finally:
        reading.set_result(metrics)


def _gpu_memory() -> list[Metric]:
    """Return the metrics of all GPUs, or an empty list if NVML cannot be read."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    used = GaugeMetricFamily("vlserve_gpu_memory_used_bytes", "Used memory, by all processes.", labels=("gpu",))
    total = GaugeMetricFamily("vlserve_gpu_memory_total_bytes", "Memory of the GPU.", labels=("gpu",))
    try:
        for number in range(pynvml.nvmlDeviceGetCount()):
            with contextlib.suppress(pynvml.NVMLError):  # a GPU that the driver has lost
                memory = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(number))
                used.add_metric([str(number)], int(memory.used))
                total.add_metric([str(number)], int(memory.total))
    except pynvml.NVMLError:
        return []
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    return [used, total]
