"""Metrics of GPU memory, with stand-ins for NVML's functions."""

import threading
from types import SimpleNamespace

import pynvml
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from vlserve.engines import gpu_metrics
from vlserve.engines.gpu_metrics import GpuMemory


def lost(error: int) -> pynvml.NVMLError:
    return pynvml.NVMLError(error)


def scrape(collector: GpuMemory | None = None) -> list[str]:
    registry = CollectorRegistry()
    registry.register(collector or GpuMemory())
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_used_and_total_memory_of_each_gpu_without_lost_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    def handle(number: int) -> int:
        if number == 1:
            raise lost(pynvml.NVML_ERROR_GPU_IS_LOST)
        return number

    for name, answer in {"Init": None, "Shutdown": None, "DeviceGetCount": 3}.items():
        monkeypatch.setattr(pynvml, f"nvml{name}", lambda *_, answer=answer: answer)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", handle)
    monkeypatch.setattr(
        pynvml, "nvmlDeviceGetMemoryInfo", lambda number: SimpleNamespace(used=10 + number, total=80 + number)
    )
    assert scrape() == [
        'vlserve_gpu_memory_used_bytes{gpu="0"} 10.0',
        'vlserve_gpu_memory_used_bytes{gpu="2"} 12.0',
        'vlserve_gpu_memory_total_bytes{gpu="0"} 80.0',
        'vlserve_gpu_memory_total_bytes{gpu="2"} 82.0',
    ]


@pytest.mark.parametrize("failing", ["nvmlInit", "nvmlDeviceGetCount"])
def test_no_samples_without_a_driver(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def fail() -> None:
        raise lost(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    for name in ("nvmlInit", "nvmlShutdown"):
        monkeypatch.setattr(pynvml, name, lambda: None)
    monkeypatch.setattr(pynvml, failing, fail)
    assert scrape() == []


def test_no_samples_when_nvml_cannot_be_shut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise lost(pynvml.NVML_ERROR_UNINITIALIZED)

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 0)
    monkeypatch.setattr(pynvml, "nvmlShutdown", fail)
    assert scrape() == []


@pytest.mark.timeout(60)
def test_scrapes_are_answered_while_nvml_blocks_and_read_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    released, reads = threading.Event(), list[threading.Thread]()

    def block() -> None:
        reads.append(threading.current_thread())
        if len(reads) == 1:
            released.wait()

    monkeypatch.setattr(gpu_metrics, "_TIMEOUT_S", 0.05)
    for name, answer in {"Shutdown": None, "DeviceGetCount": 1, "DeviceGetHandleByIndex": 0}.items():
        monkeypatch.setattr(pynvml, f"nvml{name}", lambda *_, answer=answer: answer)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda _: SimpleNamespace(used=10, total=80))
    monkeypatch.setattr(pynvml, "nvmlInit", block)
    collector = GpuMemory()
    assert scrape(collector) == []
    assert scrape(collector) == []
    assert len(reads) == 1
    released.set()
    reads[0].join()
    monkeypatch.setattr(gpu_metrics, "_TIMEOUT_S", 60.0)
    assert len(scrape(collector)) == 2
    assert len(reads) == 2
