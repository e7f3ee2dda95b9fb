"""The machine that engines run on: CPU cores, RAM, GPUs, vLLM and the models; detected, or from a description."""

import asyncio
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

from vlserve.config.engine_settings import EngineName
from vlserve.config.settings import Config
from vlserve.engines import mps_control, system_memory
from vlserve.engines.gpus import usable_gpus
from vlserve.engines.model import Model
from vlserve.engines.model_files import read_models
from vlserve.engines.vllm_installation import Ask, Vllm, find_vllm
from vlserve.errors import ConfigError


@dataclass(frozen=True)
class Machine:
    cpus: tuple[int, ...]
    """Numbers of the cores this process may use."""
    vllm: Vllm | None
    gpus: tuple[str, ...] = ()
    """The usable GPUs, as named in CUDA_VISIBLE_DEVICES."""
    gpu_bytes: int = 0
    """Memory of the smallest of them."""
    models: Mapping[EngineName, Model] = field(default_factory=dict)
    """The shapes of the engines' models, as far as known."""
    ram_bytes: int = 0
    """RAM that engines may use; 0: unknown."""
    mps_program: str | None = None
    """The path of CUDA MPS's control program; None: not found."""
    mps_daemon: str | None = None
    """The pipe folder of a control daemon that runs where CUDA looks by default; None: none runs there."""

    @property
    def is_cpu(self) -> bool:
        """Whether the installed vLLM runs on the CPU."""
        return self.vllm is not None and self.vllm.is_cpu


async def observe(
    config: Config,
    *,
    cache: pathlib.Path,
    environment: Mapping[str, str],
    progress: Callable[[str], None] = lambda _: None,
    ask: Ask = "once",
) -> Machine:
    """Detect this machine. ``environment``: inherited by vLLM; ``cache`` and ``ask``: as for find_vllm.

    Raises ConfigError if a model folder contains no model, or if vLLM is needed and missing or broken.
    """
    models = read_models(config)  # first: it is fast, so that mistakes in the config are reported at once
    cpus = tuple(sorted(os.sched_getaffinity(0)))
    if not config.engines.on_vllm():
        return Machine(cpus, None)
    vllm = await find_vllm(cache, environment, progress, ask=ask)
    if vllm.is_cpu:
        memory = system_memory.read()
        return Machine(cpus, vllm, models=models, ram_bytes=memory.total_bytes if memory else 0)
    gpus, gpu_bytes = await asyncio.to_thread(usable_gpus, environment)
    program = mps_control.find_program(environment)
    daemon = await mps_control.find_daemon(program, environment)
    return Machine(cpus, vllm, gpus, gpu_bytes, models, mps_program=program, mps_daemon=daemon)


def check_videos(config: Config) -> None:
    """Raise ConfigError if videos are allowed and OpenCV, which reads them, is not installed."""
    if config.engines.vision and config.engines.vision.limit_mm_per_prompt.video and not find_spec("cv2"):
        raise ConfigError(
            "engines.vision.limit_mm_per_prompt.video: videos are read with OpenCV, which is not installed. It "
            "comes with vLLM; without vLLM: pip install opencv-python-headless."
        )


def from_spec(spec: str, config: Config) -> Machine:
    """A machine from a description such as ``1xH100-80G`` or ``2x24G``. Raises ConfigError if that is malformed."""
    count, gpu_bytes = read_spec(spec)
    gpus = tuple(str(number) for number in range(count))
    assumed = Vllm("", False, ("vllm", "serve"), None)
    return Machine((), assumed, gpus, gpu_bytes, read_models(config), mps_program=mps_control.PROGRAM)


def read_spec(spec: str) -> tuple[int, int]:
    """Parse ``2x24G``: the number of GPUs and the bytes of each. Raises ConfigError."""
    found = re.fullmatch(r"(\d+)x(?:[\w.]+-)?(\d+)G(?:i?B)?", spec, flags=re.IGNORECASE)
    if re.fullmatch(r"\d+x(?!.*\dG)[\w.-]*[a-z][\w.-]*", spec, flags=re.IGNORECASE):
        raise ConfigError(
            f"--machine {spec!r} does not say how much memory each GPU has. "
            "Write it after the name, like 1xH100-80G or 1xH200-141G."
        )
    if not found or not int(found[1]) or not int(found[2]):
        raise ConfigError(
            f"--machine {spec!r} is not a machine description. "
            "Write how many GPUs and the memory of each, like 1xH100-80G or 2x24G."
        )
    # A card of "80 GB" shows 79.2 to 80 GiB.
    return int(found[1]), int(int(found[2]) * 0.99 * 1024**3)
