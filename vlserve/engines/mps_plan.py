"""Plans CUDA MPS for engines that share a GPU. Pure: no I/O.

Without MPS the GPU runs the kernels of one process at a time, with it those of all. Figures: docs/benchmarks.md, "Both
models on one H100, with and without CUDA MPS".
"""

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from vlserve.config.engine_settings import EngineName, Engines, EngineSettings

PIPE_VARIABLE, LOG_VARIABLE = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
GAIN = (
    "first tokens would come as soon as from one model alone, and 1.2 to 1.4 times as many pictures would be answered"
)
_INSTALL = (
    "nvidia-cuda-mps-control was not found: it comes with the NVIDIA driver (Debian and Ubuntu: nvidia-compute-utils); "
    "in a container set NVIDIA_DRIVER_CAPABILITIES=compute,utility"
)


@dataclass(frozen=True)
class MpsPlan:
    """How the engines that share a GPU use MPS. ``environment``: variables for these engines."""

    engines: frozenset[EngineName]
    text: str
    """One sentence for people."""
    is_missing: bool = False
    """Whether the control program was not found."""
    program: str | None = None
    """The control program to start; None if none is started."""
    folder: pathlib.Path | None = None
    """Folder of the daemon's pipes and logs; None if none is started."""
    environment: Mapping[str, str] = field(default_factory=dict)


def make(
    settings: Engines,
    environments: Mapping[EngineName, Mapping[str, str]],
    program: str | None,
    daemon: str | None,
    run_folder: pathlib.Path,
) -> MpsPlan | None:
    """Plan MPS for the engines that have a GPU in common; None if there are none.

    ``environments``: of the engines. ``program``: the control program, if it was found. ``daemon``: the pipe folder of
    a control daemon that CUDA uses by default, if one runs.
    """
    gpus = {name: _gpus(one, environments[name]) for name, one in settings.on_vllm().items()}
    engines = frozenset(
        name for name, own in gpus.items() if any(own & others for other, others in gpus.items() if other != name)
    )
    if not engines:
        return None
    if existing := next((found for name in gpus if (found := environments[name].get(PIPE_VARIABLE))), None):
        return MpsPlan(engines, f"CUDA MPS: the control daemon at {existing} ({PIPE_VARIABLE}) is used")
    if daemon:
        return MpsPlan(engines, f"CUDA MPS: the control daemon at {daemon} is used, which was already running")
    if settings.mps == "off":
        return MpsPlan(engines, f"CUDA MPS is off (engines.mps); with it {GAIN}")
    if program is None:
        return MpsPlan(engines, f"without CUDA MPS the engines take turns on the GPU; with it {GAIN}. {_INSTALL}", True)
    folder = run_folder / "mps"
    variables = {PIPE_VARIABLE: str(folder / "pipe"), LOG_VARIABLE: str(folder / "log")}
    text = f"CUDA MPS ({program}): the engines compute on the GPU at the same time"
    return MpsPlan(engines, text, program=program, folder=folder, environment=variables)


def _gpus(settings: EngineSettings, environment: Mapping[str, str]) -> frozenset[str]:
    """The GPUs that vLLM uses: the first ones of CUDA_VISIBLE_DEVICES, or of the machine."""
    ranks = settings.gpu_count
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    named = visible.split(",") if visible is not None else map(str, range(ranks))
    return frozenset([gpu.strip() for gpu in named if gpu.strip()][:ranks])
