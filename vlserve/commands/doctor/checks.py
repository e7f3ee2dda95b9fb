"""Evaluates the facts that `vlserve doctor` has collected: a verdict and advice for each. Pure: no I/O."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vlserve.commands.doctor.system_info import DiskSpace, Driver, Gpu, Output
from vlserve.config.engine_settings import EngineName, EngineSettings
from vlserve.config.settings import Config, Server
from vlserve.engines.diagnosis import diagnose
from vlserve.engines.fetch_command import reads_weights
from vlserve.engines.gpu_memory import GIB, share
from vlserve.engines.machine import Machine
from vlserve.engines.plan import EnginePlan, Plan
from vlserve.engines.system_memory import SystemMemory
from vlserve.engines.vllm_installation import Vllm

OLDEST_VLLM, NEWEST_VLLM, ADVISED_VLLM = (0, 26), (0, 33), (0, 32)
NCCL_TIMEOUT_S = 90.0
_MIB = 1024**2
_GB = 1e9
# The first driver for each CUDA (docs.nvidia.com, CUDA compatibility); it also runs newer minor versions.
_FIRST_DRIVERS = {11: "450.80", 12: "525.60", 13: "580.65"}
_OLDEST_CAPABILITY, _BFLOAT16_CAPABILITY = (7, 5), (8, 0)
# vLLM's message queues to and from the workers: 10 chunks of 16 and of 24 MiB (multiproc_executor.py, 0.32).
_QUEUE_BYTES, _WORKER_QUEUE_BYTES = 160 * _MIB, 240 * _MIB
_COMPILED_BYTES = 2 * 10**9  # compile caches of vLLM, torch and triton for both models
_ENOUGH_FILES = 4096
_SLOW_BYTES_PER_S = 1e9
_PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    verdict: Verdict
    subject: str
    text: str
    """What was found, and what to do about it."""

    @property
    def is_problem(self) -> bool:
        return self.verdict is Verdict.PROBLEM

    def __str__(self) -> str:
        return f"{self.verdict:<8} {self.subject:<14} {self.text}"


_OK, _WARNING, _PROBLEM = Verdict.OK, Verdict.WARNING, Verdict.PROBLEM


def judge_vllm(vllm: Vllm, torch: tuple[str, tuple[int, int] | None] | None) -> Finding:
    """Judge the installed vLLM, which has just run to print its flags."""
    what = f"{vllm.version}{', for the CPU' if vllm.is_cpu else ''}, runs; torch {torch[0] if torch else 'not found'}"
    version = vllm.release or OLDEST_VLLM
    if not OLDEST_VLLM <= version <= NEWEST_VLLM:
        oldest, newest, after = map(_dotted, (OLDEST_VLLM, NEWEST_VLLM, (NEWEST_VLLM[0], NEWEST_VLLM[1] + 1)))
        made_for = f"vlserve supports {oldest} to {newest}: pip install 'vllm>={oldest},<{after}'"
        return Finding(_WARNING, "vllm", f"{what}; {made_for}")
    if version < ADVISED_VLLM:
        return Finding(_WARNING, "vllm", f"{what}; use {_dotted(ADVISED_VLLM)} or newer for untrusted clients")
    if torch and torch[1] and vllm.is_cpu:
        return Finding(_WARNING, "vllm", f"{what}, which is built for CUDA: install torch's build for the CPU")
    return Finding(_OK, "vllm", what)


def judge_driver(driver: Driver | None, torch: tuple[str, tuple[int, int] | None] | None) -> Finding:
    if driver is None:
        return Finding(
            _PROBLEM,
            "driver",
            "no NVIDIA driver found: install it (check with nvidia-smi); start a container with --gpus all. "
            "Without a GPU, in the folder of vlserve's repository: pip install '.[cpu]'",
        )
    what = f"{driver.version}, for CUDA up to {_dotted(driver.cuda)}"
    cuda = torch[1] if torch else None
    if torch and not cuda:
        return Finding(_PROBLEM, "driver", f"{what}, but torch {torch[0]} is built for the CPU: reinstall vllm")
    if cuda and cuda[0] > driver.cuda[0]:
        first = _FIRST_DRIVERS.get(cuda[0])
        newer = f"driver {first} or newer" if first else "a newer driver"
        return Finding(
            _PROBLEM,
            "driver",
            f"{what}, but torch is built for CUDA {_dotted(cuda)}: install {newer}, "
            f"or a vLLM that is built for CUDA {driver.cuda[0]}",
        )
    return Finding(_OK, "driver", f"{what}; torch needs {_dotted(cuda)}" if cuda else what)


def judge_gpu(gpu: Gpu, settings: Config, *, is_used: bool = True) -> Finding:
    """Judge one GPU. Faults of a GPU that the plan does not use are only warnings."""
    bad = _PROBLEM if is_used else _WARNING
    if gpu.lost:
        return Finding(
            bad,
            f"gpu {gpu.number}",
            f"lost: the driver reports {gpu.lost!r} (see dmesg, NVRM: Xid): stop its processes and reset it "
            f"(nvidia-smi --gpu-reset -i {gpu.number}) or restart the machine, else replace it",
        )
    what = f"{gpu.name}, {gpu.free_bytes / GIB:.1f} of {gpu.total_bytes / GIB:.1f} GiB free"
    if gpu.users:
        what += f", used by {', '.join(gpu.users)}"
    subject = f"gpu {gpu.number}"
    dtypes = {engine.dtype for engine in settings.engines.on_vllm().values()}
    if gpu.capability < _OLDEST_CAPABILITY:
        return Finding(
            bad, subject, f"{what}; vLLM needs compute capability 7.5, this one has {_dotted(gpu.capability)}"
        )
    if gpu.needs_reset:
        return Finding(bad, subject, f"{what}; memory rows failed: stop its processes and reset it, else replace it")
    if gpu.ecc_errors:
        return Finding(
            _WARNING, subject, f"{what}; {gpu.ecc_errors} uncorrected memory errors: monitor it (nvidia-smi -q -d ECC)"
        )
    if gpu.is_mig:
        return Finding(
            _WARNING, subject, f"{what}; split with MIG: set CUDA_VISIBLE_DEVICES to one instance (nvidia-smi -L)"
        )
    if gpu.capability < _BFLOAT16_CAPABILITY and "bfloat16" in dtypes:
        return Finding(bad, subject, f"{what}; no support for bfloat16: set dtype: float16")
    return Finding(_OK, subject, what)


def judge_plan(made: Plan, there: Machine) -> Finding:
    parts = []
    for engine in made.engines:
        if engine.budget:
            gpus = ", ".join(map(str, engine.budget.gpus))
            requests = f"{engine.budget.full_length_requests:.1f} requests of {engine.budget.max_model_len:,} tokens"
            parts.append(f"{engine.name} on GPU {gpus}, {engine.budget.total / GIB:.1f} GiB, {requests}")
        elif there.is_cpu:
            size = f", {engine.ram.total / GIB:.1f} GiB" if engine.ram else ""
            parts.append(f"{engine.name} on the CPU, {len(there.cpus)} cores{size}")
        else:
            parts.append(f"{engine.name}, memory not planned")
    return Finding(_OK, "plan", "; ".join(parts) or "no engine is started here")


def judge_mps(made: Plan) -> Finding | None:
    """Judge CUDA MPS; None if no engines share a GPU."""
    if not made.mps:
        return None
    return Finding(_WARNING if made.mps.is_missing else _OK, "mps", made.mps.text)


def judge_free_memory(settings: Config, made: Plan, seen: Sequence[Gpu]) -> Iterator[Finding]:
    """Find GPUs with less free memory than the shares that vLLM needs at its start."""
    engines = dict(settings.engines.items())
    needed: dict[str, float] = {}
    for engine in made.engines:
        if engine.budget:
            for gpu in engine.environment.get("CUDA_VISIBLE_DEVICES", "").split(","):
                part = share(engines[engine.name], engine.budget) * engine.budget.gpu_bytes
                needed[gpu] = needed.get(gpu, 0) + part
    for gpu_seen in seen:
        asked = needed.get(str(gpu_seen.number), 0)
        if asked > gpu_seen.free_bytes and not gpu_seen.lost:
            users = ", ".join(gpu_seen.users) or "processes that are not visible from here"
            yield Finding(
                _PROBLEM,
                "gpu memory",
                f"{asked / GIB:.1f} GiB of GPU {gpu_seen.number} are needed, {gpu_seen.free_bytes / GIB:.1f} are free: "
                f"end {users}, choose other gpus, or lower gpu_memory_utilization",
            )


def judge_ram(made: Plan, seen: SystemMemory | None) -> Finding | None:
    """Judge free RAM for engines on the CPU; None if the need or the RAM is unknown."""
    needed = sum(engine.ram.total for engine in made.engines if engine.ram)
    if not needed or not seen:
        return None
    what = f"{needed / GIB:.1f} GiB of RAM are needed, "
    what += f"{seen.free_bytes / GIB:.1f} of {seen.total_bytes / GIB:.1f} GiB are free"
    if needed > seen.free_bytes:
        lower = "lower kv_cache_memory_bytes or gpu_memory_utilization"
        return Finding(_PROBLEM, "memory", f"{what}: end other processes, or {lower}")
    return Finding(_OK, "memory", what)


def judge_nccl(engine: EnginePlan, output: Output) -> Finding:
    """Judge an all-reduce on an engine's GPUs; of several replicas, on those of the first."""
    ranks = engine.budget.tensor_parallel_size if engine.budget else None
    gpus = ",".join(engine.environment.get("CUDA_VISIBLE_DEVICES", "").split(",")[:ranks])
    lines = output.stderr.strip().splitlines()
    error = next((line.strip() for line in reversed(lines) if "Error" in line), None)
    if output.code is None and not error:
        return Finding(
            _PROBLEM,
            "nccl",
            f"GPUs {gpus} did not finish an all-reduce within {NCCL_TIMEOUT_S:g} s: try env: {{NCCL_P2P_DISABLE: '1'}} "
            "(virtual machines, PCIe switches); NCCL_DEBUG: INFO logs where it hangs",
        )
    found = re.search(r'\{"is_right": (true|false), "bytes": (\d+), "seconds": ([\d.e-]+)\}', output.stdout)
    if output.code != 0 or not found:
        known = diagnose(lines)
        last = error or (lines[-1] if lines else "no output")
        return Finding(_PROBLEM, "nccl", f"GPUs {gpus} failed in an all-reduce: {last[:200]}. {known or ''}".rstrip())
    if found[1] == "false":
        return Finding(_PROBLEM, "nccl", f"GPUs {gpus}: all-reduce is wrong: try env: {{NCCL_P2P_DISABLE: '1'}}")
    rate = int(found[2]) / max(float(found[3]), 1e-9)
    what = f"GPUs {gpus}: all-reduce of {int(found[2]) / _MIB:.0f} MiB in {1000 * float(found[3]):.1f} ms"
    if rate < _SLOW_BYTES_PER_S:
        return Finding(_WARNING, "nccl", f"{what}, which is slow: tensor_parallel_size 1 may be faster here")
    return Finding(_OK, "nccl", what)


def judge_model(name: EngineName, settings: EngineSettings, seen: Mapping[str, Any] | str) -> Finding:
    subject = f"weights {name}"
    if isinstance(seen, str):
        last = (seen.strip().splitlines() or ["no answer"])[-1]
        return Finding(_PROBLEM, subject, f"{settings.model} could not be checked: {last}")
    again = "copy it again" if settings.is_folder else f"vlserve fetch {name} --verify"
    if problems := seen["problems"]:
        return Finding(_PROBLEM, subject, f"{settings.model}: {', '.join(problems)}: {again}")
    if seen["missing_bytes"] is None:
        return Finding(
            _PROBLEM,
            subject,
            f"{settings.model} is not in {seen['folder']}, and the hub cannot be reached ({seen['hub']}): "
            "check HF_ENDPOINT, proxies and HF_TOKEN, or use a folder",
        )
    if missing := seen["missing_bytes"]:
        free = seen["free_bytes"]
        what = f"{settings.model}: {missing / _GB:.1f} GB to download into {seen['folder']}, {free / _GB:.1f} GB free"
        if missing > free:
            return Finding(_PROBLEM, subject, f"{what}: free space, or set HF_HOME to another folder")
        return Finding(_WARNING, subject, f"{what}: vlserve fetch {name} does it now, serve at its start")
    if settings.is_folder and "config.json" not in seen["files"]:
        return Finding(_PROBLEM, subject, f"there is no model in {settings.model}: it has no config.json")
    needed = ["config.json", *(["preprocessor_config.json"] if name == "vision" else [])]
    if absent := [file for file in needed if file not in seen["files"]]:
        return Finding(_PROBLEM, subject, f"{settings.model} has no {' and no '.join(absent)}: {again}")
    has_weights = any(file.endswith((".safetensors", ".bin", ".pt", ".gguf")) for file in seen["files"])
    if not has_weights and reads_weights(settings):
        return Finding(_PROBLEM, subject, f"{settings.model} has no weights (*.safetensors): {again}")
    unseen = f"; the hub was not reached ({seen['hub']})" if seen["hub"] else ""
    return Finding(_OK, subject, f"{settings.model} is complete{unseen}")


def judge_downloads(seen: Sequence[Mapping[str, Any] | str]) -> Finding | None:
    """Find models that fit on the disk one by one, but not together; None if there is no problem."""
    missing: dict[str, int] = {}
    free: dict[str, int] = {}
    for one in seen:
        if not isinstance(one, str) and one["missing_bytes"] and one["missing_bytes"] <= one["free_bytes"]:
            missing[one["folder"]] = missing.get(one["folder"], 0) + one["missing_bytes"]
            free[one["folder"]] = one["free_bytes"]
    for folder, size in missing.items():
        if size > free[folder]:
            return Finding(
                _PROBLEM,
                "disk",
                f"{size / _GB:.1f} GB to download into {folder} for all engines, {free[folder] / _GB:.1f} GB free: "
                "free space, or set HF_HOME to another folder",
            )
    return None


def judge_keys(server: Server, count: int) -> Finding:
    if count:
        return Finding(_OK, "keys", f"{count} API key{'s' if count > 1 else ''}")
    if server.allow_unauthenticated:
        return Finding(_WARNING, "keys", f"none: anyone who can reach {server.host} has access (allow_unauthenticated)")
    return Finding(_OK, "keys", f"none; {server.host} is reachable from this machine only")


def judge_port(server: Server, why: str | None, listener: str | None) -> Finding:
    where = f"{server.host}:{server.port}"
    if why is None:
        return Finding(_OK, "port", f"{where} is free" if server.port else f"a free one on {server.host}")
    return _cannot_listen("port", where, why, listener)


def judge_metrics_listen(server: Server, why: str | None, listener: str | None) -> Finding:
    if why is None:
        return Finding(_OK, "metrics_listen", f"{server.metrics_listen} is free")
    return _cannot_listen("metrics_listen", str(server.metrics_listen), why, listener)


def _cannot_listen(setting: str, where: str, why: str, listener: str | None) -> Finding:
    who = f", {listener} listens on that port" if listener else ""
    remedy = f"end it, or choose another server.{setting}"
    return Finding(_PROBLEM, setting, f"cannot listen on {where}: {why}{who}: {remedy}")


def judge_shared_memory(settings: Config, seen: tuple[int, int] | None) -> Finding:
    """Judge /dev/shm. An engine's workers communicate through it, and NCCL does if GPUs have no peer access."""
    remedy = "in a container --shm-size 8g or --ipc host, in Kubernetes an emptyDir with medium: Memory on /dev/shm"
    needed = 0
    for engine in settings.engines.on_vllm().values():
        ranks = engine.tensor_parallel_size * engine.pipeline_parallel_size
        if ranks * engine.data_parallel_size > 1:  # vLLM then has workers for a single rank, too
            needed += max(1, engine.gpu_count // ranks) * (_QUEUE_BYTES + _WORKER_QUEUE_BYTES * ranks)
    if seen is None:
        verdict = _PROBLEM if needed else _WARNING
        return Finding(verdict, "shared memory", f"/dev/shm is missing: {remedy}")  # noqa: S108  (a message)
    size, free = seen
    what = f"{free / _MIB:,.0f} of {size / _MIB:,.0f} MiB of /dev/shm are free"
    if free < needed:
        return Finding(_PROBLEM, "shared memory", f"{what}, vLLM's workers need {needed / _MIB:,.0f}: {remedy}")
    return Finding(_OK, "shared memory", f"{what}, {needed / _MIB:,.0f} are needed")


def judge_files_folder(settings: Config, seen: DiskSpace) -> Finding:
    what = f"{seen.free_bytes / _GB:.1f} GB free in {seen.folder} for uploads"
    if not seen.is_writable:
        return Finding(
            _WARNING, "files", f"{seen.folder} cannot be written: no files can be uploaded; set files.folder"
        )
    if seen.free_bytes < settings.files.max_total_bytes:
        most = f"files.max_total_bytes allows {settings.files.max_total_bytes / _GB:.1f}"
        return Finding(_WARNING, "files", f"{what}, but {most}: lower it, or set files.folder")
    return Finding(_OK, "files", what)


def judge_cache(seen: DiskSpace) -> Finding:
    what = f"{seen.free_bytes / _GB:.1f} GB free in {seen.folder} for vLLM's compile caches"
    if not seen.is_writable:
        return Finding(
            _WARNING,
            "cache",
            f"{seen.folder} cannot be written: every start is as slow as the first; set XDG_CACHE_HOME",
        )
    if seen.free_bytes < _COMPILED_BYTES:
        return Finding(_WARNING, "cache", f"{what}, up to {_COMPILED_BYTES / _GB:.0f} GB needed: set XDG_CACHE_HOME")
    return Finding(_OK, "cache", what)


def judge_file_limit(limit: int | None) -> Finding:
    if limit is not None and limit < _ENOUGH_FILES:
        return Finding(
            _WARNING,
            "open files",
            f"{limit:,} at most, one per client: ulimit -n 65536 (systemd: LimitNOFILE)",
        )
    return Finding(_OK, "open files", "unlimited" if limit is None else f"up to {limit:,}")


def judge_environment(
    environ: Mapping[str, str], inherited: Mapping[str, str], seen: Sequence[Gpu]
) -> Iterator[Finding]:
    """Judge environment variables. ``inherited``: those that engines inherit."""
    count = 0
    for finding in (*_cuda_variables(environ, seen), *_other_variables(environ, inherited)):
        count += 1
        yield finding
    if not count:
        yield Finding(_OK, "environment", "no variable causes problems")


def _cuda_variables(environ: Mapping[str, str], seen: Sequence[Gpu]) -> Iterator[Finding]:
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and seen:
        names = [name.strip() for name in visible.split(",")]
        shown = f"CUDA_VISIBLE_DEVICES={visible!r}"
        if names in ([""], ["-1"]):
            yield Finding(_PROBLEM, "environment", f"{shown} hides every GPU: unset it")
        elif len(set(names)) < len(names):
            yield Finding(_PROBLEM, "environment", f"{shown} names a GPU twice")
        elif beyond := [name for name in names if name.lstrip("-").isdigit() and not 0 <= int(name) < len(seen)]:
            yield Finding(_PROBLEM, "environment", f"{shown}: there is no GPU {beyond[0]}, the last is {len(seen) - 1}")
    if len({gpu.name for gpu in seen if not gpu.lost}) > 1 and environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        yield Finding(
            _WARNING,
            "environment",
            "the GPUs differ, and CUDA numbers them in another order than nvidia-smi: set CUDA_DEVICE_ORDER=PCI_BUS_ID",
        )
    if environ.get("CUDA_LAUNCH_BLOCKING", "0") != "0":
        yield Finding(_WARNING, "environment", "CUDA_LAUNCH_BLOCKING makes every engine slow: unset it")


def _other_variables(environ: Mapping[str, str], inherited: Mapping[str, str]) -> Iterator[Finding]:
    if not_inherited := sorted(name for name in environ if name.startswith("VLLM_") and name not in inherited):
        yield Finding(
            _WARNING,
            "environment",
            f"engines do not inherit {', '.join(not_inherited)}: set it in env: of an engine, or unset it",
        )
    proxies = [name for name in _PROXIES if environ.get(name)]
    exempt = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if proxies and not {"127.0.0.1", "localhost", "*"} & {name.strip() for name in exempt.split(",")}:
        yield Finding(
            _WARNING,
            "environment",
            f"{proxies[0]} is set: curl and SDKs on this machine send requests to this service through the proxy; set "
            "no_proxy=127.0.0.1,localhost",
        )


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
