"""Prometheus metrics of the machine's NVIDIA GPUs: memory used and total, read from NVML at each scrape."""

from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vlserve.engines.gpus import GpuReader

_TIMEOUT_S = 1.0


class GpuMemory(Collector):
    """Memory of every GPU that NVML reports, whichever process uses it.

    No samples without NVIDIA's driver, or while it takes longer than a second to respond.
    """

    def __init__(self, timeout_s: float = _TIMEOUT_S) -> None:
        self._reader = GpuReader(timeout_s)

    def describe(self) -> Iterable[Metric]:
        return ()  # registering does not ask NVML

    def collect(self) -> Iterator[Metric]:
        used = GaugeMetricFamily("vlserve_gpu_memory_used_bytes", "Used memory, by all processes.", labels=("gpu",))
        total = GaugeMetricFamily("vlserve_gpu_memory_total_bytes", "Memory of the GPU.", labels=("gpu",))
        for name, memory in self._reader.read().items():
            used.add_metric([name], memory.used)
            total.add_metric([name], memory.total)
        if used.samples:
            yield from (used, total)
