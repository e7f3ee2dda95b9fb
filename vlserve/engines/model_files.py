"""Reads a model's files: its shape, its picture grid, its special tokens."""

import contextlib
import json
import pathlib
from typing import Any

from vlserve.config.engine_settings import EngineName, EngineSettings
from vlserve.config.settings import Config
from vlserve.engines.model import Model, from_config, known_models
from vlserve.errors import ConfigError
from vlserve.media.pixels import Grid

QWEN_SPECIAL_TOKENS = frozenset(
    f"<|{name}|>"
    for name in (
        *("endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end", "box_start", "box_end"),
        *("quad_start", "quad_end", "vision_start", "vision_end", "vision_pad", "image_pad", "video_pad"),
    )
)
"""Of Qwen2.5 and Qwen2.5-VL, from their tokenizer.json."""


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
            f"engines.{name}.model: there is no model in {folder} (config.json cannot be read). "
            f"A relative path starts at the config's folder.{hint}"
        ) from error
    weights = [file.stat().st_size for file in folder.glob("*.safetensors")]
    size = sum(weights) if weights else None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # the index lists missing files, too
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
        size = int(index["metadata"]["total_size"])
    return from_config(tree, size)
