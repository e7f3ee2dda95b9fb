"""`vlserve doctor`: facts about this machine, and verdicts on others."""

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

from tests.conftest import REPOSITORY, is_alive, until
from tests.engines.test_engine import fake
from vlserve.commands.doctor import checks, doctor, system_info
from vlserve.commands.doctor.checks import Finding
from vlserve.commands.doctor.system_info import DiskSpace, Driver, Gpu, Output
from vlserve.config.settings import Config, Server
from vlserve.engines import machine, plan, system_memory
from vlserve.engines.gpu_memory import GIB
from vlserve.engines.machine import Vllm
from vlserve.engines.system_memory import SystemMemory

MIB = 1024**2
GPU = Gpu(0, "NVIDIA H100", 80 * GIB, 79 * GIB, (9, 0))
CUDA_13 = ("2.13.0+cu130", (13, 0))
QWEN = "Qwen/Qwen2.5-7B-Instruct"
COMPLETE = {"folder": "/hub", "free_bytes": 10**11, "missing_bytes": 0, "problems": [], "hub": None}
COMPLETE |= {"files": ["config.json", "model.safetensors", "preprocessor_config.json"]}


def text_engine(**settings: object) -> Config:
    return Config.model_validate({"engines": {"text": {"model": QWEN, **settings}}})


def verdict(finding: Finding) -> tuple[str, str]:
    return str(finding.verdict), finding.text


def two_gpus(**settings: object) -> tuple[Config, plan.Plan]:
    config = text_engine(tensor_parallel_size=2, **settings)
    there = machine.from_spec("2x80G", config)
    return config, plan.make(config, there, {}, pathlib.Path("/run/v"))


@pytest.mark.parametrize(
    ("vllm", "torch", "expected", "words"),
    [
        (Vllm("0.32.0", False, (), None), CUDA_13, "ok", "0.32.0, runs; torch 2.13.0+cu130"),
        (Vllm("0.33.1rc2", False, (), None), CUDA_13, "ok", "runs"),
        (Vllm("0.26.0", False, (), None), CUDA_13, "warning", "use 0.32 or newer"),
        (Vllm("0.25.1", False, (), None), CUDA_13, "warning", "pip install 'vllm>=0.26,<0.34'"),
        (Vllm("0.34.0", False, (), None), CUDA_13, "warning", "supports 0.26 to 0.33"),
        (Vllm("0.32.0", True, (), None), ("2.13.0+cpu", None), "ok", "for the CPU"),
        (Vllm("0.32.0", True, (), None), CUDA_13, "warning", "install torch's build for the CPU"),
    ],
)
def test_vllm(vllm: Vllm, torch: Any, expected: str, words: str) -> None:
    found = checks.judge_vllm(vllm, torch)
    assert (str(found.verdict), words in found.text) == (expected, True), found


@pytest.mark.parametrize(
    ("driver", "torch", "expected", "words"),
    [
        (None, CUDA_13, "problem", "--gpus all"),
        (Driver("580.95", (13, 0)), CUDA_13, "ok", "580.95, for CUDA up to 13.0; torch needs 13.0"),
        (Driver("570.1", (12, 8)), CUDA_13, "problem", "driver 580.65 or newer, or a vLLM that is built for CUDA 12"),
        (Driver("535.1", (12, 2)), ("2.9.0+cu128", (12, 8)), "ok", "torch needs 12.8"),  # within one major number
        (Driver("580.95", (13, 0)), ("2.13.0+cpu", None), "problem", "built for the CPU: reinstall vllm"),
    ],
)
def test_driver(driver: Driver | None, torch: Any, expected: str, words: str) -> None:
    found = checks.judge_driver(driver, torch)
    assert (str(found.verdict), words in found.text) == (expected, True), found


@pytest.mark.parametrize(
    ("change", "settings", "expected", "words"),
    [
        ({}, {}, "ok", "NVIDIA H100, 79.0 of 80.0 GiB free"),
        ({"users": ("python train.py (pid 7)",)}, {}, "ok", "used by python train.py (pid 7)"),
        ({"capability": (7, 0)}, {}, "problem", "vLLM needs compute capability 7.5, this one has 7.0"),
        ({"capability": (7, 5)}, {}, "ok", ""),
        ({"capability": (7, 5)}, {"dtype": "bfloat16"}, "problem", "set dtype: float16"),
        ({"needs_reset": True}, {}, "problem", "reset it, else replace it"),
        ({"ecc_errors": 3}, {}, "warning", "3 uncorrected memory errors"),
        ({"is_mig": True}, {}, "warning", "CUDA_VISIBLE_DEVICES"),
        ({"lost": "GPU is lost"}, {}, "problem", "lost: the driver reports 'GPU is lost'"),
    ],
)
def test_gpu(change: dict[str, Any], settings: dict[str, object], expected: str, words: str) -> None:
    found = checks.judge_gpu(dataclasses.replace(GPU, **change), text_engine(**settings))
    assert (str(found.verdict), words in found.text) == (expected, True), found


def test_broken_gpu_that_no_engine_uses_is_no_problem() -> None:
    broken = dataclasses.replace(GPU, needs_reset=True)
    assert str(checks.judge_gpu(broken, text_engine(), is_used=False).verdict) == "warning"


def test_memory_that_others_hold_is_reported_with_their_names() -> None:
    config, made = two_gpus()
    free = dataclasses.replace(GPU, number=1)
    taken = dataclasses.replace(GPU, free_bytes=30 * GIB, users=("python train.py (pid 7)",))
    (found,) = checks.judge_free_memory(config, made, [taken, free])
    assert str(found.verdict) == "problem"
    assert "GiB of GPU 0 are needed, 30.0 are free: end python train.py (pid 7)" in found.text
    assert list(checks.judge_free_memory(config, made, [dataclasses.replace(GPU, number=0), free])) == []


RESULT = '{"is_right": %s, "bytes": 67108864, "seconds": %s}\n'


@pytest.mark.parametrize(
    ("output", "expected", "words"),
    [
        (Output(0, RESULT % ("true", 0.0012), ""), "ok", "GPUs 0,1: all-reduce of 64 MiB in 1.2 ms"),
        (Output(0, "NCCL version 2.28\n" + RESULT % ("true", 0.2), ""), "warning", "which is slow"),
        (Output(0, RESULT % ("false", 0.001), ""), "problem", "all-reduce is wrong"),
        (Output(None, "", ""), "problem", "NCCL_P2P_DISABLE"),
        (Output(None, "", "x\nRuntimeError: CUDA out of memory\ny\n"), "problem", "RuntimeError: CUDA out of memory"),
        (Output(1, "", "x\nRuntimeError: NCCL error: unhandled system error\n"), "problem", "--shm-size 8g"),
        (Output(1, "", "ModuleNotFoundError: No module named 'torch'\n"), "problem", "No module named 'torch'"),
        (Output(0, "", ""), "problem", "no output"),
    ],
)
def test_nccl(output: Output, expected: str, words: str) -> None:
    (engine,) = two_gpus()[1].engines
    found = checks.judge_nccl(engine, output)
    assert (str(found.verdict), words in found.text) == (expected, True), found


@pytest.mark.parametrize(
    ("change", "settings", "expected", "words"),
    [
        ({}, {}, "ok", f"{QWEN} is complete"),
        ({"hub": "ConnectError: no route"}, {}, "ok", "the hub was not reached (ConnectError: no route)"),
        (
            {"missing_bytes": 15_200_000_000},
            {},
            "warning",
            "15.2 GB to download into /hub, 100.0 GB free: vlserve",
        ),
        (
            {"missing_bytes": 152_000_000_000},
            {},
            "problem",
            "152.0 GB to download into /hub, 100.0 GB free: free space",
        ),
        ({"missing_bytes": None, "hub": "ConnectError: no route"}, {}, "problem", "ConnectError: no route"),
        ({"problems": ["a.safetensors is cut off or damaged"]}, {}, "problem", "vlserve fetch vision --verify"),
        ({"problems": ["a.safetensors is missing"]}, {"model": "/m"}, "problem", "a.safetensors is missing: copy it"),
        ({"files": []}, {"model": "/m"}, "problem", "there is no model in /m"),
        ({"files": ["config.json"]}, {}, "problem", "no preprocessor_config.json"),
        ({"files": ["config.json", "preprocessor_config.json"]}, {}, "problem", "has no weights"),
        (
            {"files": ["config.json", "preprocessor_config.json"]},
            {"model": "/m", "extra_args": ["--load-format=dummy"]},
            "ok",
            "complete",
        ),
    ],
)
def test_weights(change: dict[str, Any], settings: dict[str, object], expected: str, words: str) -> None:
    config = Config.model_validate({"engines": {"vision": {"model": QWEN, **settings}}})
    assert config.engines.vision
    found = checks.judge_model("vision", config.engines.vision, COMPLETE | change)
    assert (str(found.verdict), words in found.text) == (expected, True), found


def test_downloads_that_fit_one_by_one_but_not_together() -> None:
    small = COMPLETE | {"missing_bytes": 15 * 10**9, "free_bytes": 20 * 10**9}
    found = checks.judge_downloads([small, small])
    assert found
    assert verdict(found) == (
        "problem",
        "30.0 GB to download into /hub for all engines, 20.0 GB free: free space, or set HF_HOME to another folder",
    )
    elsewhere = {**small, "folder": "/other"}
    assert checks.judge_downloads([small, elsewhere]) is None
    assert checks.judge_downloads([small, COMPLETE, "no answer", {**small, "missing_bytes": None}]) is None


@pytest.mark.parametrize(
    ("free_gib", "expected", "words"),
    [
        (22.0, "ok", "of RAM are needed, 22.0 of 23.0 GiB are free"),
        (12.0, "problem", "12.0 of 23.0 GiB are free: end other processes, or lower kv_cache_memory_bytes"),
    ],
)
def test_ram_that_others_hold_is_reported(free_gib: float, expected: str, words: str) -> None:
    config = text_engine(max_model_len=8192, kv_cache_memory_bytes="1GiB")
    there = machine.Machine((0, 1), Vllm("0.32.0", True, (), None), ram_bytes=23 * GIB)
    there = dataclasses.replace(there, models=machine.read_models(config))
    made = plan.make(config, there, {}, pathlib.Path("/run/v"))
    assert "text on the CPU, 2 cores, 16." in checks.judge_plan(made, there).text
    found = checks.judge_ram(made, SystemMemory(23 * GIB, int(free_gib * GIB)))
    assert found
    assert (str(found.verdict), words in found.text) == (expected, True), found
    assert checks.judge_ram(two_gpus()[1], SystemMemory(23 * GIB, GIB)) is None


@pytest.mark.parametrize(
    ("ranks", "seen", "expected", "words"),
    [
        (1, (64 * MIB, 60 * MIB), "ok", "60 of 64 MiB of /dev/shm are free, 0 are needed"),
        (2, (64 * MIB, 60 * MIB), "problem", "needs 640: in a container --shm-size 8g"),
        (2, (8 * GIB, 8 * GIB), "ok", "640 are needed"),
        (4, (1024 * MIB, 1000 * MIB), "problem", "needs 1,120"),
        (1, None, "warning", "/dev/shm is missing"),
        (2, None, "problem", "/dev/shm is missing"),
    ],
)
def test_shared_memory(ranks: int, seen: tuple[int, int] | None, expected: str, words: str) -> None:
    found = checks.judge_shared_memory(text_engine(tensor_parallel_size=ranks), seen)
    assert (str(found.verdict), words in found.text) == (expected, True), found


def space(folder: str, free_bytes: int, is_writable: bool) -> DiskSpace:
    return DiskSpace(pathlib.Path(folder), free_bytes, is_writable)


@pytest.mark.parametrize(
    ("found", "expected", "words"),
    [
        (checks.judge_port(Server(), None, None), "ok", "127.0.0.1:8000 is free"),
        (checks.judge_port(Server(), "Address already in use", "nginx (pid 7)"), "problem", "nginx (pid 7) listens"),
        (checks.judge_keys(Server(), 2), "ok", "2 API keys"),
        (checks.judge_keys(Server(host="0.0.0.0", allow_unauthenticated=True), 0), "warning", "anyone who can reach"),
        (checks.judge_cache(space("/c", 10**12, True)), "ok", "1000.0 GB free"),
        (checks.judge_cache(space("/c", 10**9, True)), "warning", "XDG_CACHE_HOME"),
        (checks.judge_cache(space("/c", 10**12, False)), "warning", "/c cannot be written"),
        (checks.judge_files_folder(text_engine(), space("/f", 10**12, True)), "ok", "for uploads"),
        (
            checks.judge_files_folder(text_engine(), space("/f", 10**9, True)),
            "warning",
            "allows 21.5",
        ),
        (
            checks.judge_files_folder(text_engine(), space("/f", 10**12, False)),
            "warning",
            "set files.",
        ),
        (checks.judge_file_limit(1024), "warning", "ulimit -n"),
        (checks.judge_file_limit(65536), "ok", "65,536"),
        (checks.judge_file_limit(None), "ok", "unlimited"),
    ],
)
def test_the_rest(found: Finding, expected: str, words: str) -> None:
    assert (str(found.verdict), words in found.text) == (expected, True), found


OTHER = dataclasses.replace(GPU, number=1, name="NVIDIA A100")


@pytest.mark.parametrize(
    ("environ", "gpus", "expected", "words"),
    [
        ({}, [GPU], "ok", "no variable causes problems"),
        ({"CUDA_VISIBLE_DEVICES": ""}, [], "ok", "no variable causes problems"),
        ({"CUDA_VISIBLE_DEVICES": ""}, [GPU], "problem", "hides every GPU"),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, [GPU], "problem", "hides every GPU"),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, [GPU], "problem", "there is no GPU 1, the last is 0"),
        ({"CUDA_VISIBLE_DEVICES": "0,0"}, [GPU], "problem", "twice"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8f3a"}, [GPU], "ok", "no variable causes problems"),
        ({}, [GPU, OTHER], "warning", "CUDA_DEVICE_ORDER=PCI_BUS_ID"),
        ({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, [GPU, OTHER], "ok", "no variable causes problems"),
        ({"CUDA_LAUNCH_BLOCKING": "1"}, [GPU], "warning", "slow"),
        ({"VLLM_USE_V1": "0"}, [GPU], "warning", "engines do not inherit VLLM_USE_V1"),
        ({"VLLM_CACHE_ROOT": "/c"}, [GPU], "ok", "no variable causes problems"),
        ({"http_proxy": "http://p:3128"}, [GPU], "warning", "no_proxy=127.0.0.1,localhost"),
        (
            {"http_proxy": "http://p:3128", "no_proxy": "example.com, localhost"},
            [GPU],
            "ok",
            "no variable causes problems",
        ),
    ],
)
def test_environment(environ: dict[str, str], gpus: list[Gpu], expected: str, words: str) -> None:
    inherited = {name: value for name, value in environ.items() if name != "VLLM_USE_V1"}
    (found,) = checks.judge_environment(environ, inherited, gpus)
    assert (str(found.verdict), words in found.text) == (expected, True), found


def test_busy_port_is_seen_with_who_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert system_info.listen_error("127.0.0.1", port) == "Address already in use"
        assert f"(pid {os.getpid()})" in (system_info.listener(port) or "")
    assert system_info.listen_error("127.0.0.1", port) is None
    assert system_info.listener(port) is None


def test_host_that_has_no_address_is_reported_in_the_systems_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_server(*_: object, **__: object) -> socket.socket:
        raise OSError(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_server", create_server)
    assert system_info.listen_error("nowhere.invalid", 8000) == "Name or service not known"


def test_room_is_that_of_the_nearest_folder_that_exists(tmp_path: pathlib.Path) -> None:
    seen = system_info.disk_space(tmp_path / "not" / "yet")
    assert (seen.folder, seen.is_writable, seen.free_bytes > 0) == (tmp_path, True, True)
    assert system_info.disk_space(tmp_path / ("x" * 300) / "y").folder == tmp_path  # where the system refuses to look


def test_this_machines_torch_and_limits_are_seen() -> None:
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


async def test_adding_up_works_over_two_processes() -> None:
    """The program that GPUs are tried with, on the CPU."""
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
        return SimpleNamespace(total=80 * GIB, free=79 * GIB)


def test_lost_gpu_hides_no_other_and_is_reported_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    Nvml(monkeypatch)
    assert machine.usable_gpus({}) == (("0",), 80 * GIB)
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


def test_command_prints_a_line_for_each_thing_and_its_exit_code_says_whether_it_is_well(tmp_path: pathlib.Path) -> None:
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


async def test_machine_with_two_gpus_is_examined_as_a_whole(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []

    async def find_vllm(*_: object, **__: object) -> Vllm:
        return Vllm("0.32.0", False, ("vllm", "serve"), None)

    async def run(argv: tuple[str, ...], environment: dict[str, str], timeout_s: float) -> Output:
        asked.append(argv)
        await asyncio.sleep(0)
        if "vlserve.engines.weights" in argv:
            return Output(0, json.dumps(COMPLETE), "")
        return Output(0, RESULT % ("true", 0.001), "")

    monkeypatch.setattr(machine, "find_vllm", find_vllm)
    monkeypatch.setattr(machine, "usable_gpus", lambda _: (("0", "1"), 80 * GIB))
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


async def test_missing_vllm_and_what_cannot_fit_are_problems(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_DISTRIBUTIONS", ("no-such-vllm",))
    monkeypatch.setattr(system_info, "driver", lambda: None)
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps({"server": {"port": 0}, "engines": {"text": {"model": "./none"}}}))
    found = await report(path)
    assert found["vllm"][0] == found["driver"][0] == found["weights text"][0] == "problem"
    assert "vLLM is not installed" in found["vllm"][1]
    assert f"there is no model in {tmp_path / 'none'}" in found["weights text"][1]

    async def find_vllm(*_: object, **__: object) -> Vllm:
        return Vllm("0.32.0", False, ("vllm", "serve"), None)

    monkeypatch.setattr(machine, "find_vllm", find_vllm)
    monkeypatch.setattr(machine, "usable_gpus", lambda _: (("0",), 8 * GIB))
    path.write_text(json.dumps({"server": {"port": 0}, "engines": {"text": {"model": QWEN}}}))
    found = await report(path, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert found["plan"][0] == "problem"
    assert "Options: " in found["plan"][1]
    assert found["weights text"][0] == "problem"
    assert "the hub cannot be reached" in found["weights text"][1]


async def test_two_large_models_without_a_gpu_are_a_problem_with_numbers(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find_vllm(*_: object, **__: object) -> Vllm:
        return Vllm("0.32.0", True, ("vllm", "serve"), None)

    monkeypatch.setattr(machine, "find_vllm", find_vllm)
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


async def test_video_without_its_library_is_a_problem_of_doctors_too(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlserve.engines.machine.find_spec", lambda name: None)
    engine = {"model": "a", "url": "http://127.0.0.1:9", "limit_mm_per_prompt": {"video": 1}}
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps({"server": {"port": 0}, "engines": {"vision": engine}}))
    found = await report(path)
    assert found["videos"][0] == "problem"
    assert "OpenCV, which is not installed" in found["videos"][1]
