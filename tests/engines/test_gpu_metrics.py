"""Metrics of GPU memory, with stand-ins for NVML's functions."""

import threading
from types import SimpleNamespace

import pynvml
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from vlserve.engines.gpu_metrics import GpuMemory
from vlserve.engines.gpus import DriverTimeout, GpuReader, usable_gpus


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
        pynvml, "nvmlDeviceGetMemoryInfo", lambda number: SimpleNamespace(used=10 + number, total=80 + number, free=70)
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


class BlockedNvml:
    """A driver that does not respond until it is released; then it has one GPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.released, self.reads = threading.Event(), list[threading.Thread]()
        for name, answer in {"Shutdown": None, "DeviceGetCount": 1, "DeviceGetHandleByIndex": 0}.items():
            monkeypatch.setattr(pynvml, f"nvml{name}", lambda *_, answer=answer: answer)
        memory = SimpleNamespace(used=10, total=80, free=70)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda _: memory)
        monkeypatch.setattr(pynvml, "nvmlInit", self._block)

    def _block(self) -> None:
        self.reads.append(threading.current_thread())
        self.released.wait()

    def release(self) -> None:
        self.released.set()
        self.reads[0].join()


@pytest.mark.timeout(120)
def test_scrapes_are_answered_while_nvml_blocks_and_the_log_has_each_change_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    nvml = BlockedNvml(monkeypatch)
    collector = GpuMemory(timeout_s=0.05)
    for _ in range(3):
        assert scrape(collector) == []
    assert len(nvml.reads) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    nvml.release()
    collector._reader._timeout_s = 60.0
    for _ in range(2):
        assert len(scrape(collector)) == 2
    assert len(nvml.reads) == 3
    assert [record.getMessage() for record in caplog.records][1:] == ["NVML responds again"]


@pytest.mark.timeout(120)
def test_a_restart_does_not_wait_for_a_driver_that_does_not_respond(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = BlockedNvml(monkeypatch)
    reader = GpuReader(0.05, ["0"])
    assert reader.free_bytes() is None
    assert reader.free_bytes() is None
    assert len(nvml.reads) == 1
    nvml.release()
    assert GpuReader(60.0, ["0"]).free_bytes() == 70


@pytest.mark.timeout(120)
def test_detection_of_gpus_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = BlockedNvml(monkeypatch)
    monkeypatch.setattr("vlserve.engines.gpus._DETECT_S", 0.05)
    with pytest.raises(DriverTimeout, match=r"did not respond within 0\.05 s; see nvidia-smi"):
        usable_gpus({})
    nvml.release()


def test_free_memory_is_unknown_when_one_of_the_gpus_is_and_survives_an_error_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def handle(number: int) -> int:
        if number == 1:
            raise lost(pynvml.NVML_ERROR_GPU_IS_LOST)
        return number

    def fail() -> None:
        raise lost(pynvml.NVML_ERROR_UNINITIALIZED)

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", fail)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", handle)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda _: 5)
    monkeypatch.setattr(
        pynvml, "nvmlDeviceGetMemoryInfo", lambda number: SimpleNamespace(total=80, used=number, free=80 - number)
    )
    assert GpuReader(60.0, ["0", "GPU-5"]).free_bytes() == 75
    assert GpuReader(60.0, ["0", "1"]).free_bytes() is None
