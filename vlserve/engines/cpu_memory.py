"""Plans RAM for engines on the CPU: weights, processes and KV cache of each engine. Pure: no I/O.

vLLM 0.32 allocates a KV cache of the configured size (``kv_cache_memory_bytes``, or VLLM_CPU_KVCACHE_SPACE in an
engine's ``env``), or else fills its share of RAM (``gpu_memory_utilization``, which must be free when it starts).
For GPU memory see gpu_memory.py; system_memory.py reads how much RAM there is.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from vlserve.config.engine_settings import EngineName, EngineSettings
from vlserve.engines.gpu_memory import GIB, cache_too_small, size_up
from vlserve.engines.model import Model
from vlserve.errors import ConfigError

MEASURED_SINCE = (0, 32)
"""The first vLLM whose RAM is planned; older versions allocate it in another way."""
_DEFAULT_SHARE = 0.92
# Measured without the model: server and engine core 0.8 GiB together, each worker 0.6.
_SERVER_BYTES, _WORKER_BYTES = int(0.8 * GIB), int(0.6 * GIB)
_SPACE_VARIABLE = "VLLM_CPU_KVCACHE_SPACE"


@dataclass(frozen=True)
class RamBudget:
    """RAM of one engine, in bytes, all its workers together."""

    weights: int
    processes: int
    kv_cache: int
    tokens: int
    """Tokens that the KV cache holds, of one replica."""
    max_model_len: int
    data_parallel_size: int

    @property
    def total(self) -> int:
        return self.weights + self.processes + self.kv_cache

    @property
    def full_length_requests(self) -> float:
        """How many requests of ``max_model_len`` tokens the KV cache of one replica holds."""
        return self.tokens / self.max_model_len

    def __str__(self) -> str:
        parts = f"weights {self.weights / GIB:.1f} + processes {self.processes / GIB:.1f}"
        return f"{parts} + KV cache {self.kv_cache / GIB:.1f} GiB"


def plan_ram(
    engines: Mapping[EngineName, EngineSettings], models: Mapping[EngineName, Model], ram_bytes: int
) -> dict[EngineName, RamBudget]:
    """Return a budget for each engine whose model is known. Raises ConfigError, with the setting to change, if the
    engines do not fit."""
    known = {name: settings for name, settings in engines.items() if name in models}
    least = {name: _budget(settings, models[name], _space(settings)) for name, settings in known.items()}
    if sum(budget.total for budget in least.values()) > ram_bytes:
        raise ConfigError(_too_large_message(known, least, ram_bytes))
    shares = {name: _share(settings) for name, settings in known.items() if _space(settings) is None}
    sized = {name: budget.total for name, budget in least.items() if name not in shares}
    workers = {name: known[name].tensor_parallel_size * known[name].data_parallel_size for name in shares}
    shared = sum(share * workers[name] for name, share in shares.items())
    if shares and shared * ram_bytes + sum(sized.values()) > ram_bytes:
        each = {name: f", in each of {count} workers" if count > 1 else "" for name, count in workers.items()}
        given = [f"{share:g} ({name}{each[name]})" for name, share in shares.items()]
        given += [f"{size / GIB:.1f} GiB ({name})" for name, size in sized.items()]
        left = (ram_bytes - sum(budget.total for budget in least.values())) / GIB
        raise ConfigError(
            f"engines.{next(iter(shares))}.gpu_memory_utilization is a share of RAM on the CPU, and "
            f"{' and '.join(given)} add up to more than all of it (default: {_DEFAULT_SHARE}). Set "
            "kv_cache_memory_bytes for each engine: "
            f"after one request of max_model_len for each, {left:.1f} GiB are left."
        )
    return {name: _filled(name, known[name], models[name], budget, ram_bytes) for name, budget in least.items()}


def _filled(name: EngineName, settings: EngineSettings, model: Model, least: RamBudget, ram_bytes: int) -> RamBudget:
    """``least`` with the KV cache that the engine will allocate. Raises ConfigError if that is too small."""
    space = _space(settings)
    ranks = settings.tensor_parallel_size
    needed = least.max_model_len * model.kv_bytes_per_token(ranks)
    if space is not None:
        budget = _budget(settings, model, space)
        if budget.tokens < budget.max_model_len:
            in_env = _SPACE_VARIABLE in settings.env
            where = f"engines.{name}.{f'env: {_SPACE_VARIABLE}' if in_env else 'kv_cache_memory_bytes'}"
            enough_space = str(math.ceil(needed / GIB)) if in_env else size_up(needed)
            raise ConfigError(cache_too_small(where, space, budget.tokens, enough_space, budget.max_model_len))
        return budget
    share, taken = _share(settings), model.weight_bytes // ranks + _WORKER_BYTES
    budget = _budget(settings, model, max(0, int(share * ram_bytes) - taken))
    if budget.tokens < budget.max_model_len:
        enough = math.ceil(100 * (taken + needed) / ram_bytes) / 100
        raise ConfigError(
            f"engines.{name}.gpu_memory_utilization {share:g} of {ram_bytes / GIB:.1f} GiB of RAM is "
            f"{share * ram_bytes / GIB:.1f} GiB, but weights and process take {taken / GIB:.1f} GiB and one request of "
            f"max_model_len {budget.max_model_len:,} {needed / GIB:.1f} GiB of KV cache. Set it to {enough:g} or more, "
            "or set kv_cache_memory_bytes."
        )
    return budget


def _budget(settings: EngineSettings, model: Model, space: int | None) -> RamBudget:
    """A budget with ``space`` bytes of KV cache per worker; None: enough for one request of max_model_len."""
    ranks, replicas = settings.tensor_parallel_size, settings.data_parallel_size
    length = settings.max_model_len or model.max_position_embeddings
    per_token = model.kv_bytes_per_token(ranks)
    space = length * per_token if space is None else space
    workers = ranks * replicas
    processes = _SERVER_BYTES + workers * _WORKER_BYTES
    return RamBudget(replicas * model.weight_bytes, processes, workers * space, space // per_token, length, replicas)


def _space(settings: EngineSettings) -> int | None:
    """The configured size of each worker's KV cache, if any."""
    in_env = settings.env.get(_SPACE_VARIABLE, "")
    if in_env.isascii() and in_env.isdigit():
        return int(in_env) * GIB
    return settings.kv_cache_memory_bytes


def _share(settings: EngineSettings) -> float:
    return settings.gpu_memory_utilization or _DEFAULT_SHARE


def _too_large_message(
    engines: Mapping[EngineName, EngineSettings], least: Mapping[EngineName, RamBudget], ram_bytes: int
) -> str:
    needed = sum(budget.total for budget in least.values())
    parts = ", ".join(f"{name} {budget}" for name, budget in least.items())
    who = " and ".join(least) + (" need" if len(least) > 1 else " needs")
    ways = ["a smaller kv_cache_memory_bytes"] if any(_space(one) for one in engines.values()) else []
    ways += ["a smaller data_parallel_size"] if any(one.data_parallel_size > 1 for one in engines.values()) else []
    ways += ["a smaller max_model_len", "a smaller model (demo-cpu.yaml has two)"]
    ways += ["one engine alone (vision takes text, too)"] if len(least) > 1 else []
    return (
        f"This vLLM runs on the CPU, where {who} at least {needed / GIB:.1f} GiB of RAM, and this machine has "
        f"{ram_bytes / GIB:.1f} GiB for them: {parts}. Options: {', '.join(ways)}, or more RAM (in a container, "
        "its limit)."
    )
