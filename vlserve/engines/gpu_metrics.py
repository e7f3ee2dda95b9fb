"""Prometheus metrics of the machine's NVIDIA GPUs: memory used and total, read from NVML at each scrape."""

import contextlib
from collections.abc import Iterable, Iterator

import pynvml
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class GpuMemory(Collector):
    """Memory of every GPU that NVML reports, whichever process uses it. No samples without NVIDIA's driver."""

    def describe(self) -> Iterable[Metric]:
        return ()  # registering does not ask NVML

    def collect(self) -> Iterator[Metric]:
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return
        used = GaugeMetricFamily("vlserve_gpu_memory_used_bytes", "Used memory, by all processes.", labels=("gpu",))
        total = GaugeMetricFamily("vlserve_gpu_memory_total_bytes", "Memory of the GPU.", labels=("gpu",))
        try:
            for number in range(pynvml.nvmlDeviceGetCount()):
                with contextlib.suppress(pynvml.NVMLError):  # a GPU that the driver has lost
                    memory = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(number))
                    used.add_metric([str(number)], int(memory.used))
                    total.add_metric([str(number)], int(memory.total))
        except pynvml.NVMLError:
            return
        finally:
            pynvml.nvmlShutdown()
        yield from (used, total)
