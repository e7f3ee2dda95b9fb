"""Commands that download a model into the cache, or check it, before its engine starts. Pure: no I/O."""

import sys
from collections.abc import Mapping

from vlserve.config import extra_args
from vlserve.config.engine_settings import EngineSettings

FETCH = (sys.executable, "-m", "vlserve.engines.weights")
"""The program that downloads a model into the cache."""


def fetch_command(settings: EngineSettings, *more: str) -> tuple[str, ...]:
    """The command that downloads an engine's model from a hub; empty for other places, and if no weights are read."""
    given = extra_args.flags(settings.extra_args)
    is_elsewhere = settings.is_folder or settings.is_in_object_storage
    if is_elsewhere or not settings.is_vllm or not reads_weights(settings):
        return ()
    where = [f"{flag}={given[flag]}" for flag in ("--revision", "--download-dir") if flag in given]
    return (*FETCH, settings.model, *where, *more)


def check_command(settings: EngineSettings) -> tuple[str, ...]:
    """The command that checks whether an engine's model is complete, in its folder or in the cache."""
    if settings.is_folder and settings.is_vllm:
        return (*FETCH, settings.model, "--check")
    return fetch_command(settings, "--check")


def reads_weights(settings: EngineSettings) -> bool:
    """Whether the engine reads weights from the model's files; `dummy`, for one, makes random ones."""
    return extra_args.flags(settings.extra_args).get("--load-format", "auto") in ("auto", "safetensors")


def uses_modelscope(environment: Mapping[str, str]) -> bool:
    """Whether vLLM downloads from ModelScope instead of Hugging Face."""
    return environment.get("VLLM_USE_MODELSCOPE", "0").lower() not in ("", "0", "false")
