"""Formats a plan for people: devices, memory, command lines."""

from collections.abc import Iterator

from vlserve.engines.gpu_memory import GIB
from vlserve.engines.machine import Machine
from vlserve.engines.plan import Plan

_ALL_GPUS = {4: "tensor-parallel-4.yaml", 8: "eight-gpus.yaml or eight-gpus-replicas.yaml"}
"""The presets that use all of so many GPUs."""


def describe(made: Plan, there: Machine) -> Iterator[str]:
    """Yield the lines of the plan's description."""
    if there.gpus:
        yield f"{len(there.gpus)} GPU{'s' if len(there.gpus) > 1 else ''} of {there.gpu_bytes / GIB:.1f} GiB"
        used = {gpu for engine in made.engines if engine.budget for gpu in engine.budget.gpus}
        if used and all(engine.budget for engine in made.engines) and len(used) < len(there.gpus):
            preset = _ALL_GPUS.get(len(there.gpus))
            hint = f", or --config {preset}" if preset else ""
            settings = "tensor_parallel_size, data_parallel_size and gpus"
            unused = len(there.gpus) - len(used)
            yield f"{unused} of them {'are' if unused > 1 else 'is'} not used; see {settings}{hint}"
    elif there.is_cpu:
        yield f"no GPU: this vLLM runs on the CPU, with {len(there.cpus)} cores"
    if not made.engines:
        yield "no engine is started here: each has a url"
    for engine in made.engines:
        yield ""
        budget = engine.budget
        planned = budget or engine.ram
        count = planned.data_parallel_size if planned else 1
        replicas, in_each = (f", data_parallel_size {count}", " in each replica") if count > 1 else ("", "")
        if budget:
            gpus, each = ", ".join(map(str, budget.gpus)), " on each" if len(budget.gpus) > 1 else ""
            size = f"{budget.total / GIB:.1f} GiB{each}"
            yield f"{engine.name}: GPU {gpus}, tensor_parallel_size {budget.tensor_parallel_size}{replicas}, {size}"
            yield (
                f"  weights {budget.weights / GIB:.1f} + reserve {budget.reserve / GIB:.1f} + KV cache "
                f"{budget.kv_cache / GIB:.1f} GiB = {budget.tokens:,} tokens, "
                f"{budget.full_length_requests:.1f} requests of {budget.max_model_len:,}{in_each}"
            )
        else:
            size = f" on the CPU, {engine.ram.total / GIB:.1f} GiB of RAM" if engine.ram else ""
            yield f"{engine.name}:{size}{replicas}"
            if ram := engine.ram:
                requests = f"{ram.full_length_requests:.1f} requests of {ram.max_model_len:,}"
                yield f"  {ram} = {ram.tokens:,} tokens, {requests}{in_each}"
        shown = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "VLLM_CPU_OMP_THREADS_BIND")
        prefix = "".join(f"{name}={engine.environment[name]} " for name in shown if name in engine.environment)
        yield f"  {prefix}{engine.command_line()}"
    if made.mps:
        yield ""
        yield made.mps.text
