"""Plans GPU memory: assigns GPUs to engines and divides each GPU's memory between them. Pure: no I/O.

On each GPU an engine needs memory for its part of the weights, a reserve (CUDA context, CUDA graphs, activations of
the largest step, logits of the largest batch) and the KV cache. The terms of the reserve were fitted to a measurement
of both 7B models on one H100 (docs/benchmarks.md). For engines on the CPU see cpu_memory.py.

Two engines on one GPU start at the same time, and vLLM cannot measure free memory while another engine loads. So each
gets ``--kv-cache-memory-bytes``, and a ``--gpu-memory-utilization`` that covers exactly its budget, because vLLM still
checks free ≥ share × total when it starts.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from vlserve.config import extra_args
from vlserve.config.engine_settings import EngineName, EngineSettings
from vlserve.engines.model import Model
from vlserve.errors import ConfigError

GIB = 1024**3
_USABLE = 0.95
"""Share of a GPU that all its engines may use together; the rest is for the driver and fragmentation."""
_ALONE = 0.90
"""Default share of an engine that shares its GPUs with no other; vLLM sizes the KV cache within it."""
_CONTEXT_BYTES = int(0.6 * GIB)
_GRAPH_BYTES = int(0.9 * GIB)
_PROFILED_BYTES = int(1.3 * GIB)
"""The part of the reserve that vLLM's memory profiling counts. An engine that is alone on its GPUs fills its share, and
the rest of the reserve comes on top (measured on one H100 and on H200s: docs/benchmarks.md)."""
# vLLM's defaults for its server: max_num_batched_tokens and max_num_seqs (vllm/engine/arg_utils.py, 0.32).
_LARGE_GPU_BYTES, _LARGE_DEFAULTS, _SMALL_DEFAULTS = 70 * GIB, (8192, 1024), (2048, 256)
_LOGIT_COPIES = 3  # float32: logits, probabilities, and sampling's sort
_TOWER_BYTES = int(0.5 * GIB)
_UNCOUNTED = {"--quantization", "--cpu-offload-gb", "--offload-group-size"}
"""Flags with which the weights need less memory than is counted here: 16 bits for each value, or as in the files."""


@dataclass(frozen=True)
class Budget:
    """Memory of one engine on each of its GPUs, in bytes."""

    gpus: tuple[int, ...]
    gpu_bytes: int
    weights: int
    reserve: int
    kv_cache: int
    tokens: int
    """Tokens that the KV cache holds."""
    max_model_len: int
    is_shared: bool
    tensor_parallel_size: int = 1
    data_parallel_size: int = 1
    """Replicas; ``kv_cache`` and ``tokens`` are of each."""

    @property
    def total(self) -> int:
        return self.weights + self.reserve + self.kv_cache

    @property
    def share(self) -> float:
        """``--gpu-memory-utilization``, rounded up to a hundredth."""
        return math.ceil(100 * self.total / self.gpu_bytes) / 100 if self.is_shared else _ALONE

    @property
    def full_length_requests(self) -> float:
        """How many requests of ``max_model_len`` tokens the KV cache holds."""
        return self.tokens / self.max_model_len


def assign_gpus(engines: Mapping[EngineName, EngineSettings], gpu_count: int) -> dict[EngineName, tuple[int, ...]]:
    """Assign GPUs: as configured, else separate ones for each engine if there are enough, else all share the first.

    Raises ConfigError if there are fewer GPUs than an engine needs.
    """
    for name, settings in engines.items():
        needed = max([settings.gpu_count, *(gpu + 1 for gpu in settings.gpus or [])])
        if needed > gpu_count:
            why = "gpus name GPU" if settings.gpus else settings.gpu_count_reason
            most = max(settings.gpus) if settings.gpus else needed
            has = f"{gpu_count} GPU{'s' if gpu_count != 1 else ''}"
            has += f", 0 to {gpu_count - 1}" if settings.gpus and gpu_count else ""
            raise ConfigError(f"engines.{name}: {why} {most}, but this machine has {has}.")
    placed = {name: tuple(settings.gpus) for name, settings in engines.items() if settings.gpus}
    taken = {gpu for gpus in placed.values() for gpu in gpus}
    free = [gpu for gpu in range(gpu_count) if gpu not in taken]
    waiting = {name: settings for name, settings in engines.items() if name not in placed}
    if sum(settings.gpu_count for settings in waiting.values()) > len(free):
        return placed | {name: tuple(range(one.gpu_count)) for name, one in waiting.items()}
    for name, settings in waiting.items():
        placed[name] = tuple(free[: settings.gpu_count])
        free = free[settings.gpu_count :]
    return placed


def plan_memory(
    engines: Mapping[EngineName, EngineSettings],
    models: Mapping[EngineName, Model],
    gpu_bytes: int,
    gpu_count: int,
    parts: Mapping[EngineName, float],
) -> dict[EngineName, Budget]:
    """Return a budget for each engine. Raises ConfigError, with the setting to change, if an engine does not fit.

    An engine that may fit because of flags in ``extra_args`` gets none: vLLM decides. ``engines``: with their ``gpus``.
    ``parts``: of engines on a shared GPU, how they divide the memory for KV caches (engines.share).
    """
    budgets = dict[EngineName, Budget]()
    for name, settings in engines.items():
        group = sharing(name, engines)
        is_measured = len(group) == 1 and settings.kv_cache_memory_bytes is None  # by vLLM, within its share
        room = int(gpu_bytes * ((settings.gpu_memory_utilization or _ALONE) if is_measured else _USABLE))
        if is_measured:
            room += max(0, _fixed(settings, models[name], gpu_bytes)[1] - _PROFILED_BYTES)
        for other, its in group.items():
            room -= sum(_fixed(its, models[other], gpu_bytes)) + int(its.kv_cache_memory_bytes or 0)
        undecided = sum(parts[other] for other, its in group.items() if its.kv_cache_memory_bytes is None)
        kv_cache = int(settings.kv_cache_memory_bytes or max(0, room) * parts[name] / undecided)
        tokens = kv_cache // _bytes_per_token(settings, models[name])
        length = settings.max_model_len or models[name].max_position_embeddings
        if room < 0 or tokens < length:
            message = _misfit_message(name, group, models, gpu_bytes, gpu_count, room, kv_cache)
            is_cache_too_small = bool(settings.kv_cache_memory_bytes) and tokens < length
            _refuse_unless_uncounted(message, group, is_cache_too_small=is_cache_too_small)
            continue
        fixed = _fixed(settings, models[name], gpu_bytes)
        budgets[name] = Budget(
            *(tuple(settings.gpus or ()), gpu_bytes, *fixed, kv_cache, tokens, length),
            is_shared=len(group) > 1,
            tensor_parallel_size=settings.tensor_parallel_size,
            data_parallel_size=settings.data_parallel_size,
        )
        check_shares({other: share(engines[other], budgets[other]) for other in group if other in budgets})
    return budgets


def sharing(name: EngineName, engines: Mapping[EngineName, EngineSettings]) -> dict[EngineName, EngineSettings]:
    """The engines, each with its ``gpus``, that use a GPU of this one; itself included."""
    gpus = set(engines[name].gpus or ())
    return {other: one for other, one in engines.items() if gpus & set(one.gpus or ())}


def check_sized(group: Mapping[EngineName, EngineSettings]) -> bool:
    """Whether engines that share a GPU can start although their memory is not planned. Raises ConfigError.

    vLLM sizes an engine that is alone; two need both sizes, since it cannot measure them while they start together.
    """
    if len(group) == 1:
        return True
    shares = {name: one.gpu_memory_utilization for name, one in group.items() if one.gpu_memory_utilization}
    check_shares(shares)
    return len(shares) == len(group) and all(one.kv_cache_memory_bytes for one in group.values())


def check_shares(shares: Mapping[EngineName, float]) -> None:
    """Raise ConfigError if the shares of one GPU add up to more than all of it."""
    if sum(shares.values()) > 1:
        given = " and ".join(f"{value:g} ({name})" for name, value in shares.items())
        raise ConfigError(
            f"engines.{list(shares)[-1]}.gpu_memory_utilization: {given} of one GPU add up to more than 1. "
            "vLLM needs its share to be free at start; lower one, or leave both out."
        )


def _refuse_unless_uncounted(
    message: str, group: Mapping[EngineName, EngineSettings], *, is_cache_too_small: bool
) -> None:
    """Raise ConfigError for engines that do not fit, unless flags that are not counted may make them fit."""
    flags = sorted({flag for one in group.values() for flag in extra_args.flags(one.extra_args).keys() & _UNCOUNTED})
    if not flags or is_cache_too_small:
        raise ConfigError(message)
    if not check_sized(group):
        raise ConfigError(
            f"{message} This does not count {' and '.join(flags)}: if the engines fit with it, set "
            "gpu_memory_utilization and kv_cache_memory_bytes for each."
        )


def share(settings: EngineSettings, budget: Budget) -> float:
    """The ``--gpu-memory-utilization`` to start with: as configured, else as planned."""
    return settings.gpu_memory_utilization or budget.share


def _fixed(settings: EngineSettings, model: Model, gpu_bytes: int) -> tuple[int, int]:
    """Bytes of weights and of the reserve on each GPU."""
    ranks = settings.tensor_parallel_size
    tokens, seqs = _LARGE_DEFAULTS if gpu_bytes >= _LARGE_GPU_BYTES else _SMALL_DEFAULTS
    tokens, seqs = settings.max_num_batched_tokens or tokens, settings.max_num_seqs or seqs
    values = 3 * model.intermediate // ranks + 4 * model.hidden
    logits = _LOGIT_COPIES * 4 * seqs * model.vocabulary
    graphs, tower = 0 if settings.enforce_eager else _GRAPH_BYTES, _TOWER_BYTES if model.tower else 0
    reserve = _CONTEXT_BYTES + graphs + 2 * tokens * values + logits + tower
    return model.weight_bytes // (ranks * settings.pipeline_parallel_size), reserve


def _bytes_per_token(settings: EngineSettings, model: Model) -> int:
    """Bytes of KV cache per token on each GPU; a pipeline stage has that of its layers."""
    return math.ceil(model.kv_bytes_per_token(settings.tensor_parallel_size) / settings.pipeline_parallel_size)


def _misfit_message(
    name: EngineName,
    sharing: Mapping[EngineName, EngineSettings],
    models: Mapping[EngineName, Model],
    gpu_bytes: int,
    gpu_count: int,
    room: int,
    kv_cache: int,
) -> str:
    """The error message for an engine that does not fit: the setting at fault, the reason, and what to change.

    ``room``: bytes left on the GPU after everything whose size is known; negative if that is too much already."""
    settings, model = sharing[name], models[name]
    per_token = _bytes_per_token(settings, model)
    length = settings.max_model_len or model.max_position_embeddings
    tokens, needed = kv_cache // per_token, length * per_token
    short = f"{tokens:,} tokens, less than one request of max_model_len {length:,}."
    shorter = f", or max_model_len to {tokens:,} or less" if tokens else ""
    remedies = _remedies(sharing, models, gpu_count, -room if room < 0 else needed - kv_cache)
    if settings.kv_cache_memory_bytes and tokens < length:
        text = cache_too_small(f"engines.{name}.kv_cache_memory_bytes", kv_cache, tokens, size_up(needed), length)
        return text if needed - kv_cache <= room else f"{text} {remedies}"
    share = settings.gpu_memory_utilization
    if share and len(sharing) == 1 and not settings.kv_cache_memory_bytes:
        one_request = f"the KV cache of one request of max_model_len {length:,} takes {needed / GIB:.1f} GiB"
        taken = share * gpu_bytes / GIB - room / GIB  # the part that vLLM's profiling counts
        text = f"engines.{name}.gpu_memory_utilization {share:g} of a GPU of {gpu_bytes / GIB:.0f} GiB is "
        text += f"{share * gpu_bytes / GIB:.1f} GiB, but weights and the part of the reserve "
        text += f"that counts towards it take {taken:.1f} GiB"
        text += f", and {one_request}." if room < 0 else f" and leave {room / GIB:.1f} GiB of KV cache for {short}"
        least = math.ceil(100 * (share + (needed - room) / gpu_bytes)) / 100
        is_enough = least <= _USABLE
        return (
            f"{text} Set it to {least:g} or more{shorter or ', or leave it out'}."
            if is_enough
            else f"{text} {remedies}"
        )
    if room < 0:
        who = " and ".join(sharing) + (" need" if len(sharing) > 1 else " needs")
        size = f"{-room / GIB:.1f} GiB more than a GPU of {gpu_bytes / GIB:.0f} GiB has"
        return f"engines.{name}: {who} {size}. {remedies}"
    return (
        f"engines.{name}: {kv_cache / GIB:.1f} GiB of KV cache hold {short} "
        f"Set max_model_len to {tokens:,} or less. {remedies}"
    )


def size_up(size: int) -> str:
    """A size as kv_cache_memory_bytes is written in the config, rounded up."""
    return f"{math.ceil(10 * size / GIB) / 10:.1f}GiB"


def cache_too_small(setting: str, kv_cache: int, tokens: int, enough: str, length: int) -> str:
    """The error message for a KV cache, sized by ``setting``, that is too small for one request."""
    return (
        f"{setting} {kv_cache / GIB:.1f} GiB holds {tokens:,} tokens, less than one request of max_model_len "
        f"{length:,}. Set it to {enough} or more" + (f", or max_model_len to {tokens:,} or less." if tokens else ".")
    )


def _remedies(
    sharing: Mapping[EngineName, EngineSettings], models: Mapping[EngineName, Model], gpu_count: int, missing: int
) -> str:
    """List changes that make the engines fit. ``missing``: bytes by which a configured KV cache has to shrink."""
    ways = list[str]()
    caches = list[str]()
    for name, settings in sharing.items():
        model = models[name]
        most = int(settings.kv_cache_memory_bytes or 0) - missing
        length = settings.max_model_len or model.max_position_embeddings
        if most >= length * _bytes_per_token(settings, model):
            caches.append(f"of {name} at most {math.floor(10 * most / GIB) / 10:.1f}GiB")
        if not model.is_awq:
            is_known = settings.model.startswith("Qwen/Qwen2.5-")
            ways.append(f"the AWQ model {settings.model}-AWQ" if is_known else "a quantized (AWQ) model")
    if caches:
        ways.insert(0, f"kv_cache_memory_bytes {', '.join(caches)}")
    if len(sharing) > 1:
        ways.append("one engine alone (vision takes text, too)")
    widest = max(sharing.values(), key=lambda settings: settings.gpu_count)
    ranks, replicas = widest.tensor_parallel_size, widest.data_parallel_size
    if 2 * widest.gpu_count <= gpu_count:
        ways.append(f"tensor_parallel_size {2 * ranks}")
    elif replicas % 2 == 0:
        ways.append(f"tensor_parallel_size {2 * ranks} with data_parallel_size {replicas // 2}")
    ways.append("a smaller max_num_batched_tokens or max_num_seqs")
    return f"Options: {', '.join(dict.fromkeys(ways))}, or more GPUs."
