"""One memory model for ``plan`` and ``serve``: which engine goes on which GPUs, and what it takes there. Pure.

Per GPU an engine holds its part of the weights, a reserve (CUDA context, CUDA graphs, activations of the largest step,
logits of the largest batch) and the KV cache. The reserve's terms were fitted to a run of both 7B shapes on one H100
(docs/benchmarks.md).

Two engines on one GPU start together, and vLLM cannot measure free memory while another one loads. So each gets
``--kv-cache-memory-bytes``, and a ``--gpu-memory-utilization`` that covers just what it takes, because vLLM still
checks free ≥ share × total when it starts.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from vlserve.errors import ConfigError
from vlserve.model import Model
from vlserve.settings import EngineName, EngineSettings

GIB = 1024**3
_USABLE = 0.95
"""Share of a GPU that engines may take together; the rest is the driver's and fragmentation's."""
_ALONE = 0.90
"""Share of an engine that has its GPUs for itself, where none is set; vLLM measures the KV cache within it."""
_CONTEXT_BYTES = int(0.6 * GIB)
_GRAPH_BYTES = int(0.9 * GIB)
_PROFILED_BYTES = int(1.3 * GIB)
"""What vLLM's own measuring sees of the reserve. An engine alone fills its share, and the rest of the reserve comes on
top (measured on one H100 and on H200s: docs/benchmarks.md)."""
# vLLM's defaults for its server: max_num_batched_tokens and max_num_seqs (vllm/engine/arg_utils.py, 0.32).
_LARGE_GPU_BYTES, _LARGE_DEFAULTS, _SMALL_DEFAULTS = 70 * GIB, (8192, 1024), (2048, 256)
_LOGIT_COPIES = 3  # float32: logits, probabilities, and sampling's sort
_TOWER_BYTES = int(0.5 * GIB)


@dataclass(frozen=True)
class Budget:
    """What one engine takes on each of its GPUs, in bytes."""

    gpus: tuple[int, ...]
    gpu_bytes: int
    weights: int
    reserve: int
    kv_cache: int
    tokens: int
    """Tokens that the KV cache holds."""
    max_model_len: int
    is_shared: bool

    @property
    def total(self) -> int:
        return self.weights + self.reserve + self.kv_cache

    @property
    def share(self) -> float:
        """``--gpu-memory-utilization``, rounded up to a hundredth."""
        return math.ceil(100 * self.total / self.gpu_bytes) / 100 if self.is_shared else _ALONE

    @property
    def full_length_requests(self) -> float:
        """How many requests of ``max_model_len`` tokens fit at once."""
        return self.tokens / self.max_model_len


def place(engines: Mapping[EngineName, EngineSettings], gpu_count: int) -> dict[EngineName, tuple[int, ...]]:
    """GPUs of each engine: as configured, else each on its own if there are enough, else all from the first one on.

    Raises ConfigError where there are fewer GPUs than an engine needs.
    """
    for name, settings in engines.items():
        needed = max([settings.tensor_parallel_size, *(gpu + 1 for gpu in settings.gpus or [])])
        if needed > gpu_count:
            what = "gpus" if settings.gpus else "tensor_parallel_size"
            raise ConfigError(f"engines.{name}.{what} needs {needed} GPUs, but there are {gpu_count}.")
    placed = {name: tuple(settings.gpus) for name, settings in engines.items() if settings.gpus}
    taken = {gpu for gpus in placed.values() for gpu in gpus}
    free = [gpu for gpu in range(gpu_count) if gpu not in taken]
    waiting = {name: settings for name, settings in engines.items() if name not in placed}
    if sum(settings.tensor_parallel_size for settings in waiting.values()) > len(free):
        return placed | {name: tuple(range(one.tensor_parallel_size)) for name, one in waiting.items()}
    for name, settings in waiting.items():
        placed[name] = tuple(free[: settings.tensor_parallel_size])
        free = free[settings.tensor_parallel_size :]
    return placed


def plan_memory(
    engines: Mapping[EngineName, EngineSettings],
    models: Mapping[EngineName, Model],
    gpu_bytes: int,
    gpu_count: int,
) -> dict[EngineName, Budget]:
    """A budget for each engine. Raises ConfigError, with the number to change, where something cannot fit."""
    placed = place(engines, gpu_count)
    budgets = {}
    for name, settings in engines.items():
        sharing = [other for other in engines if set(placed[other]) & set(placed[name])]
        if len(sharing) > 1:
            room = int(gpu_bytes * _USABLE)
        else:
            unseen = _fixed(settings, models[name], gpu_bytes)[1] - _PROFILED_BYTES
            room = int(gpu_bytes * (settings.gpu_memory_utilization or _ALONE)) + max(0, unseen)
        for other in sharing:
            room -= sum(_fixed(engines[other], models[other], gpu_bytes))
            room -= int(engines[other].kv_cache_memory_bytes or 0)
        undecided = [other for other in sharing if engines[other].kv_cache_memory_bytes is None]
        kv_cache = int(settings.kv_cache_memory_bytes or max(0, room) // max(1, len(undecided)))
        budgets[name] = _budget(
            name, settings, models[name], placed[name], gpu_bytes, kv_cache, room, sharing, gpu_count
        )
        shares = {other: share(engines[other], budgets[other]) for other in sharing if other in budgets}
        if sum(shares.values()) > 1:
            given = " and ".join(f"{value:g} ({other})" for other, value in shares.items())
            raise ConfigError(
                f"engines.{name}.gpu_memory_utilization: {given} of one GPU are more than the whole of it. "
                "vLLM wants its share free at start; lower one, or leave both out."
            )
    return budgets


def share(settings: EngineSettings, budget: Budget) -> float:
    """The ``--gpu-memory-utilization`` to start with: as set by hand, else as planned."""
    return settings.gpu_memory_utilization or budget.share


def _budget(
    name: EngineName,
    settings: EngineSettings,
    model: Model,
    gpus: tuple[int, ...],
    gpu_bytes: int,
    kv_cache: int,
    room: int,
    sharing: list[EngineName],
    gpu_count: int,
) -> Budget:
    weights, reserve = _fixed(settings, model, gpu_bytes)
    per_token = model.kv_bytes_per_token(settings.tensor_parallel_size)
    length = settings.max_model_len or model.max_position_embeddings
    tokens = kv_cache // per_token
    who = " and ".join(sharing) + (" need" if len(sharing) > 1 else " needs")
    if room < 0:
        raise ConfigError(
            f"engines.{name}: {who} {-room / GIB:.1f} GiB more than a GPU of {gpu_bytes / GIB:.0f} GiB has. "
            + _ways_out(settings, model, sharing, gpu_count)
        )
    if tokens < length:
        raise ConfigError(
            f"engines.{name}: {kv_cache / GIB:.1f} GiB of KV cache hold {tokens:,} tokens, "
            f"less than one request of max_model_len {length:,}. Set max_model_len to {tokens:,} or less. "
            + _ways_out(settings, model, sharing, gpu_count)
        )
    return Budget(gpus, gpu_bytes, weights, reserve, kv_cache, tokens, length, is_shared=len(sharing) > 1)


def _fixed(settings: EngineSettings, model: Model, gpu_bytes: int) -> tuple[int, int]:
    """Weights and reserve on each GPU."""
    ranks = settings.tensor_parallel_size
    tokens, seqs = _LARGE_DEFAULTS if gpu_bytes >= _LARGE_GPU_BYTES else _SMALL_DEFAULTS
    tokens, seqs = settings.max_num_batched_tokens or tokens, settings.max_num_seqs or seqs
    values = 3 * model.intermediate // ranks + 4 * model.hidden
    logits = _LOGIT_COPIES * 4 * seqs * model.vocabulary
    reserve = _CONTEXT_BYTES + (0 if settings.enforce_eager else _GRAPH_BYTES) + 2 * tokens * values + logits
    return model.weight_bytes // ranks, reserve + (_TOWER_BYTES if model.tower else 0)


def _ways_out(settings: EngineSettings, model: Model, sharing: list[EngineName], gpu_count: int) -> str:
    ways = ["a smaller kv_cache_memory_bytes"] if settings.kv_cache_memory_bytes else []
    if not model.is_awq:
        is_known = settings.model.startswith("Qwen/Qwen2.5-")
        ways.append(f"the AWQ model {settings.model}-AWQ" if is_known else "a quantized (AWQ) model")
    if len(sharing) > 1:
        ways.append("one engine alone (vision takes text, too)")
    if 2 * settings.tensor_parallel_size <= gpu_count:
        ways.append(f"tensor_parallel_size {2 * settings.tensor_parallel_size}")
    return f"Ways out: {', '.join([*ways, 'a smaller max_num_batched_tokens or max_num_seqs'])}, or more GPUs."
