"""Each finding of `vlserve doctor`: its verdict and its message."""

import dataclasses
import pathlib
from typing import Any

import pytest

from tests.commands.machines import COMPLETE, CUDA_13, GPU, MIB, QWEN, RESULT, text_engine, two_gpus, verdict
from vlserve.commands.doctor import checks
from vlserve.commands.doctor.checks import Finding
from vlserve.commands.doctor.system_info import DiskSpace, Driver, Gpu, Output
from vlserve.config.settings import Config, Server
from vlserve.engines import machine, model_files, plan
from vlserve.engines.gpu_memory import GIB
from vlserve.engines.system_memory import SystemMemory
from vlserve.engines.vllm_installation import Vllm


def space(folder: str, free_bytes: int, is_writable: bool) -> DiskSpace:
    return DiskSpace(pathlib.Path(folder), free_bytes, is_writable)


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


def test_gpu_memory_of_other_processes_is_reported_with_their_names() -> None:
    config, made = two_gpus()
    free = dataclasses.replace(GPU, number=1)
    taken = dataclasses.replace(GPU, free_bytes=30 * GIB, users=("python train.py (pid 7)",))
    (found,) = checks.judge_free_memory(config, made, [taken, free])
    assert str(found.verdict) == "problem"
    assert "GiB of GPU 0 are needed, 30.0 are free: end python train.py (pid 7)" in found.text
    assert list(checks.judge_free_memory(config, made, [dataclasses.replace(GPU, number=0), free])) == []


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


def test_nccl_of_replicas_names_the_gpus_of_the_first() -> None:
    config = text_engine(tensor_parallel_size=2, data_parallel_size=2)
    (engine,) = plan.make(config, machine.from_spec("4x80G", config), {}, pathlib.Path("/run/v")).engines
    assert checks.judge_nccl(engine, Output(None, "", "")).text.startswith("GPUs 0,1 did not finish")


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


def test_downloads_are_added_up_against_the_free_space() -> None:
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
def test_ram_of_other_processes_is_reported(free_gib: float, expected: str, words: str) -> None:
    config = text_engine(max_model_len=8192, kv_cache_memory_bytes="1GiB")
    there = machine.Machine((0, 1), Vllm("0.32.0", True, (), None), ram_bytes=23 * GIB)
    there = dataclasses.replace(there, models=model_files.read_models(config))
    made = plan.make(config, there, {}, pathlib.Path("/run/v"))
    assert "text on the CPU, 2 cores, 16." in checks.judge_plan(made, there).text
    found = checks.judge_ram(made, SystemMemory(23 * GIB, int(free_gib * GIB)))
    assert found
    assert (str(found.verdict), words in found.text) == (expected, True), found
    assert checks.judge_ram(two_gpus()[1], SystemMemory(23 * GIB, GIB)) is None


@pytest.mark.parametrize(
    ("ranks", "replicas", "seen", "expected", "words"),
    [
        (1, 1, (64 * MIB, 60 * MIB), "ok", "60 of 64 MiB of /dev/shm are free, 0 are needed"),
        (2, 1, (64 * MIB, 60 * MIB), "problem", "need 640: in a container --shm-size 8g"),
        (2, 1, (8 * GIB, 8 * GIB), "ok", "640 are needed"),
        (4, 1, (1024 * MIB, 1000 * MIB), "problem", "need 1,120"),
        (1, 2, (64 * MIB, 60 * MIB), "problem", "need 800"),
        (2, 2, (8 * GIB, 8 * GIB), "ok", "1,280 are needed"),
        (1, 1, None, "warning", "/dev/shm is missing"),
        (2, 1, None, "problem", "/dev/shm is missing"),
    ],
)
def test_shared_memory(ranks: int, replicas: int, seen: tuple[int, int] | None, expected: str, words: str) -> None:
    settings = text_engine(tensor_parallel_size=ranks, data_parallel_size=replicas)
    found = checks.judge_shared_memory(settings, seen)
    assert (str(found.verdict), words in found.text) == (expected, True), found


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
def test_other_findings(found: Finding, expected: str, words: str) -> None:
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
