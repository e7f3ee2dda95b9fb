"""`vlserve doctor` as a command: what it measures, and its report on whole machines."""

import asyncio
import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from tests.commands.machines import COMPLETE, CUDA_13, GPU, MIB, QWEN, RESULT, two_gpus, verdict
from tests.conftest import REPOSITORY, is_alive, until
from tests.engines.fleets import fake
from vlserve.commands.doctor import checks, doctor, system_info
from vlserve.commands.doctor.system_info import Driver, Output
from vlserve.engines import system_memory, vllm_installation
from vlserve.engines.gpu_memory import GIB
from vlserve.engines.gpus import DriverTimeout, usable_gpus
from vlserve.engines.system_memory import SystemMemory
from vlserve.engines.vllm_installation import Vllm


def test_busy_port_is_reported_with_its_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert system_info.listen_error("127.0.0.1", port) == "Address already in use"
        assert f"(pid {os.getpid()})" in (system_info.listener(port) or "")
    assert system_info.listen_error("127.0.0.1", port) is None
    assert system_info.listener(port) is None


def test_unresolvable_host_is_reported_with_the_system_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_server(*_: object, **__: object) -> socket.socket:
        raise OSError(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_server", create_server)
    assert system_info.listen_error("nowhere.invalid", 8000) == "Name or service not known"


def test_free_space_is_that_of_the_nearest_existing_folder(tmp_path: pathlib.Path) -> None:
    seen = system_info.disk_space(tmp_path / "not" / "yet")
    assert (seen.folder, seen.is_writable, seen.free_bytes > 0) == (tmp_path, True, True)
    assert system_info.disk_space(tmp_path / ("x" * 300) / "y").folder == tmp_path  # where the system refuses to look


def test_torch_and_limits_of_this_machine_are_read() -> None:
    torch = system_info.torch_build()
    assert torch
    assert torch[0][0].isdigit()
    size, free = system_info.shared_memory() or (0, 0)
    assert 0 < free <= size


async def test_program_that_hangs_is_ended_with_its_children(tmp_path: pathlib.Path) -> None:
    script = f"sleep 60 & echo $! > {tmp_path / 'pid'}; wait"
    output = await system_info.run(("sh", "-c", script), {"PATH": os.environ["PATH"]}, 0.5)
    assert output.code is None
    child = int((tmp_path / "pid").read_text())
    await until(lambda: not is_alive(child))


async def test_allreduce_works_over_two_processes() -> None:
    """The NCCL check's program, run on the CPU."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    output = await system_info.run((*system_info.ALL_REDUCE, "2", "--backend", "gloo"), environment, 120)
    (engine,) = two_gpus()[1].engines
    assert str(checks.judge_nccl(engine, output).verdict) in ("ok", "warning"), output
    assert "all-reduce of 64 MiB" in checks.judge_nccl(engine, output).text


async def test_process_that_fails_ends_the_others_and_is_reported(tmp_path: pathlib.Path) -> None:
    fails = "import os, sys\nif sys.orig_argv[-2:] == ['--rank', '1']:\n"
    fails += "    os.write(2, b'RuntimeError: GPU 1 is broken\\n')\n    os._exit(3)\n"
    (tmp_path / "sitecustomize.py").write_text(fails)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}", "OMP_NUM_THREADS": "1"}
    output = await system_info.run((*system_info.ALL_REDUCE, "2", "--backend", "gloo"), environment, 60)
    (engine,) = two_gpus()[1].engines
    assert output.code == 3
    assert "GPUs 0,1 failed in an all-reduce: RuntimeError: GPU 1 is broken" in checks.judge_nccl(engine, output).text


class Nvml:
    """A driver with three GPUs. GPU 1 has fallen off the bus, GPU 2 does so during the query."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answers: dict[str, Any] = {
            "Init": None,
            "Shutdown": None,
            "DeviceGetCount": 3,
            "DeviceGetCudaComputeCapability": (9, 0),
            "DeviceGetMigMode": (0, 0),
            "DeviceGetTotalEccErrors": 0,
            "DeviceGetRemappedRows": (0, 0, 0, 0),
            "DeviceGetComputeRunningProcesses": [],
            "DeviceGetName": "NVIDIA H100",
        }
        for name, answer in answers.items():
            monkeypatch.setattr(pynvml, f"nvml{name}", lambda *_, answer=answer: answer)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", self.handle)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", self.memory)

    def handle(self, number: int) -> int:
        if number == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return number

    def memory(self, handle: int) -> SimpleNamespace:
        if handle == 2:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)
        return SimpleNamespace(total=80 * GIB, used=GIB, free=79 * GIB)


def test_lost_gpu_is_reported_and_other_gpus_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    Nvml(monkeypatch)
    assert usable_gpus({}) == (("0",), 80 * GIB)
    seen = system_info.gpus()
    assert seen[0] == GPU
    config, made = two_gpus()
    said = [str(checks.judge_gpu(gpu, config)) for gpu in seen]
    assert said[0].startswith("ok ")
    for number in (1, 2):
        assert said[number].startswith(f"problem  gpu {number}          lost: ")
        assert f"nvidia-smi --gpu-reset -i {number}" in said[number]
    assert list(checks.judge_free_memory(config, made, seen)) == []
    (environment,) = checks.judge_environment({}, {}, seen)
    assert environment.text == "no variable causes problems"


def run_doctor(folder: pathlib.Path, **settings: Any) -> tuple[int, str]:
    path = folder / "c.yaml"
    path.write_text(json.dumps({"engines": {"text": {"model": "a", "command": fake()}}, **settings}))
    command = [sys.executable, "-m", "vlserve.cli", "doctor", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout


def test_command_prints_a_line_per_check_and_exits_1_on_a_problem(tmp_path: pathlib.Path) -> None:
    code, said = run_doctor(tmp_path, server={"port": 0})
    assert code == 0, said
    assert {line.split()[0] for line in said.splitlines()} <= {"ok", "warning"}
    for subject in ("config", "plan", "port", "keys", "shared memory", "files", "cache", "open files"):
        assert f" {subject}  " in said
    with socket.create_server(("127.0.0.1", 0)) as server:
        code, said = run_doctor(tmp_path, server={"port": server.getsockname()[1]})
    assert code == 1
    assert "problem  port           cannot listen on 127.0.0.1" in said
    code, said = run_doctor(tmp_path, server={"host": "0.0.0.0", "port": 0})
    assert (code, "problem  keys " in said) == (1, True)
    code, said = run_doctor(tmp_path, sever={})
    assert (code, "Did you mean server?" in said) == (1, True)


async def report(path: pathlib.Path, **environ: str) -> dict[str, tuple[str, str]]:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), **environ}
    return {found.subject: verdict(found) async for found in doctor.examine(path, environ)}


async def test_report_covers_both_gpus_of_a_machine(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    async def find_vllm(*_: object, **__: object) -> Vllm:
        return Vllm("0.32.0", False, ("vllm", "serve"), None)

    async def run(argv: tuple[str, ...], environment: dict[str, str], timeout_s: float) -> Output:
        asked.append(argv)
        await asyncio.sleep(0)
        if "vlserve.engines.weights" in argv:
            return Output(0, json.dumps(COMPLETE), "")
        return Output(0, RESULT % ("true", 0.001), "")

    monkeypatch.setattr(doctor, "find_vllm", find_vllm)
    monkeypatch.setattr(doctor, "usable_gpus", lambda _: (("0", "1"), 80 * GIB))
    monkeypatch.setattr(system_info, "gpus", lambda: (GPU, dataclasses.replace(GPU, number=1, ecc_errors=1)))
    monkeypatch.setattr(system_info, "driver", lambda: Driver("570.1", (12, 8)))
    monkeypatch.setattr(system_info, "torch_build", lambda: CUDA_13)
    monkeypatch.setattr(system_info, "shared_memory", lambda: (64 * MIB, 64 * MIB))
    monkeypatch.setattr(system_info, "run", run)
    path = tmp_path / "c.yaml"
    path.write_text(
        json.dumps({"server": {"port": 0}, "engines": {"text": {"model": QWEN, "tensor_parallel_size": 2}}})
    )
    found = await report(path, HF_HOME=str(tmp_path))
    assert {subject: one[0] for subject, one in found.items() if one[0] != "ok"} == {
        "driver": "problem",
        "gpu 1": "warning",
        "shared memory": "problem",
    } | {subject: one[0] for subject, one in found.items() if subject == "files" and one[0] != "ok"}
    assert "text on GPU 0, 1" in found["plan"][1]
    assert found["nccl"][0] == "ok"
    assert found["weights text"][1] == f"{QWEN} is complete"
    assert (*system_info.ALL_REDUCE, "2") in asked


async def test_missing_vllm_and_models_that_do_not_fit_are_problems(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_installation, "_DISTRIBUTIONS", ("no-such-vllm",))
    monkeypatch.setattr(system_info, "driver", lambda: None)
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps({"server": {"port": 0}, "engines": {"text": {"model": "./none"}}}))
    found = await report(path)
    assert found["vllm"][0] == found["driver"][0] == found["weights text"][0] == "problem"
    assert "vLLM is not installed" in found["vllm"][1]
    assert f"there is no model in {tmp_path / 'none'}" in found["weights text"][1]

    async def find_vllm(*_: object, **__: object) -> Vllm:
        return Vllm("0.32.0", False, ("vllm", "serve"), None)

    monkeypatch.setattr(doctor, "find_vllm", find_vllm)
    monkeypatch.setattr(doctor, "usable_gpus", lambda _: (("0",), 8 * GIB))
    path.write_text(json.dumps({"server": {"port": 0}, "engines": {"text": {"model": QWEN}}}))
    found = await report(path, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert found["plan"][0] == "problem"
    assert "Options: " in found["plan"][1]
    assert found["weights text"][0] == "problem"
    assert "the hub cannot be reached" in found["weights text"][1]


async def test_driver_that_does_not_respond_leaves_the_other_checks(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def usable_gpus(_: object) -> Any:
        raise DriverTimeout("The NVIDIA driver did not respond within 120 s.")

    monkeypatch.setattr(doctor, "usable_gpus", usable_gpus)
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps({"server": {"port": 0}, "engines": {"text": {"model": QWEN}}}))
    found = await report(path)
    assert found["driver"] == (
        "problem",
        "The NVIDIA driver did not respond within 120 s. vLLM, plan and weights are not checked.",
    )
    assert found["port"][0] == "ok"
    assert "plan" not in found


async def test_two_large_models_without_a_gpu_are_a_problem_with_numbers(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find_vllm(*_: object, **__: object) -> Vllm:
        return Vllm("0.32.0", True, ("vllm", "serve"), None)

    monkeypatch.setattr(doctor, "find_vllm", find_vllm)
    monkeypatch.setattr(system_memory, "read", lambda: SystemMemory(23 * GIB, 22 * GIB))
    engines: dict[str, dict[str, Any]] = {"text": {"model": QWEN}, "vision": {"model": "Qwen/Qwen2.5-VL-7B-Instruct"}}
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps({"server": {"port": 0}, "engines": engines}))
    found = await report(path, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert found["plan"][0] == "problem"
    assert "of RAM, and this machine has 23.0 GiB for them" in found["plan"][1]
    engines["text"] |= {"max_model_len": 4096, "kv_cache_memory_bytes": "1GiB"}
    path.write_text(json.dumps({"server": {"port": 0}, "engines": {"text": engines["text"]}}))
    found = await report(path, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert (found["plan"][0], found["memory"][0]) == ("ok", "ok")


async def test_video_without_its_library_is_a_problem(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlserve.engines.machine.find_spec", lambda name: None)
    engine = {"model": "a", "url": "http://127.0.0.1:9", "limit_mm_per_prompt": {"video": 1}}
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps({"server": {"port": 0}, "engines": {"vision": engine}}))
    found = await report(path)
    assert found["videos"][0] == "problem"
    assert "OpenCV, which is not installed" in found["videos"][1]
