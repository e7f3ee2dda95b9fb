"""``vlserve fetch``: downloads the models of a config's engines, running weights.py for each of them."""

import asyncio
import importlib.util
import logging
import pathlib
from collections.abc import Mapping, Sequence

from vlserve.config.engine_settings import EngineName, EngineSettings
from vlserve.config.settings import Config
from vlserve.engines.fetch_command import fetch_command, uses_modelscope
from vlserve.engines.fleet import make_run_folder
from vlserve.engines.plan import EnginePlan
from vlserve.engines.process import COMPLETED, Process
from vlserve.engines.vllm_installation import NOT_INSTALLED
from vlserve.errors import ConfigError

log = logging.getLogger("vlserve.download")

_STOP_S = 3.0


async def download(
    config: Config,
    names: Sequence[EngineName],
    environment: Mapping[str, str],
    source: str | None = None,
    *,
    verify: bool = False,
) -> bool:
    """Download the models of these engines one after the other. Returns whether all are complete.

    ``environment``: that of the engines. ``source``: ``huggingface`` or ``modelscope``; default: as vLLM.
    Raises ConfigError without the hub's client, for an engine that is not in the config, in offline mode
    (HF_HUB_OFFLINE=1), and for ``verify`` with ModelScope.
    """
    engines = dict(config.engines.items())
    if missing := [name for name in names if name not in engines]:
        raise ConfigError(f"engines.{missing[0]}: there is no such engine in this config.")
    is_complete = True
    for name in names:
        settings = engines[name]
        if reason := _nothing_to_fetch(settings):
            log.info("%s: %s", name, reason)
            continue
        if importlib.util.find_spec("huggingface_hub") is None:  # vLLM installs it
            raise ConfigError(NOT_INSTALLED)
        own = {**environment, **settings.env, "TQDM_DISABLE": "1"}  # ModelScope's progress bars
        chosen = source or ("modelscope" if uses_modelscope(own) else "huggingface")
        if chosen == "huggingface" and own.get("HF_HUB_OFFLINE") == "1":
            raise ConfigError("HF_HUB_OFFLINE=1 forbids requests to the hub; unset it to fetch.")
        if chosen == "modelscope" and verify:
            raise ConfigError("--verify is for Hugging Face; ModelScope's client compares checksums itself.")
        more = ["--from=modelscope"] if chosen == "modelscope" else ["--verify"] if verify else []
        is_complete &= await _run(name, fetch_command(settings, *more), own)
    return is_complete


def _nothing_to_fetch(settings: EngineSettings) -> str | None:
    if settings.url:
        return f"{settings.url} is a server that loads its own model; nothing to fetch"
    if settings.command:
        return "its command loads the model itself; nothing to fetch"
    if settings.is_folder:
        return f"{settings.model} is a folder; nothing to fetch"
    if settings.is_in_object_storage:
        return f"vLLM reads {settings.model} at each start; nothing to fetch"
    return None if fetch_command(settings) else "its load format reads no weights; nothing to fetch"


async def _run(name: EngineName, argv: tuple[str, ...], environment: Mapping[str, str]) -> bool:
    folder = make_run_folder()
    process = await Process.start(EnginePlan(name, pathlib.Path(folder, f"{name}.sock"), argv, environment))
    try:
        ending = await asyncio.shield(process.ended)
    finally:
        await process.end(_STOP_S)
        folder.rmdir()
    if ending == COMPLETED:
        return True
    log.error("%s: its model could not be fetched: %s", name, ending)
    if process.diagnosis:
        log.error("%s: %s", name, process.diagnosis)
    return False
