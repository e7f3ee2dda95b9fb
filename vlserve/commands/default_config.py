"""Chooses the config of commands without ``--config``, from the number of GPUs and their memory."""

import pathlib
from collections.abc import Mapping

from vlserve.config import load as config
from vlserve.engines import gpus, machine
from vlserve.engines.gpu_memory import GIB

_BOTH_ON_ONE_BYTES = 70 * GIB
"""Cards of 80 GB have 79 to 80 GiB; on those of 48 GB little is left for the KV caches."""


def choose(
    given: pathlib.Path | None, environment: Mapping[str, str], spec: str | None = None
) -> tuple[pathlib.Path, str]:
    """Return the path of the config, and one sentence why it was chosen; empty if it was ``given``.

    ``spec``: a machine such as ``1xH100-80G`` instead of this one. Raises ConfigError if that is malformed.
    """
    if given:
        return config.find(given), ""
    count, gpu_bytes = _gpus(environment) if spec is None else machine.read_spec(spec)
    if count == 1 and gpu_bytes < _BOTH_ON_ONE_BYTES:
        why = (
            f"one GPU of {gpu_bytes / GIB:.0f} GiB has too little memory for both models and their KV caches, so the "
            "vision model serves text, too (vision-only.yaml); both in 4 bits: --config low-memory-awq.yaml"
        )
        return config.shipped("vision-only.yaml"), why
    why = "two GPUs or more: one model on each (default.yaml)"
    if count == 1:
        why = (
            f"both models share the GPU of {gpu_bytes / GIB:.0f} GiB (default.yaml); the vision model alone, which "
            "answers text as well, has more KV cache: --config vision-only.yaml"
        )
    return config.shipped("default.yaml"), why if count else ""


def _gpus(environment: Mapping[str, str]) -> tuple[int, int]:
    names, gpu_bytes = gpus.usable_gpus(environment)
    return len(names), gpu_bytes
