"""Reads the settings from a YAML file.

Unknown keys are refused with the most similar valid name.
"""

import difflib
import os
import pathlib
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from vlserve.config import strict_yaml
from vlserve.config.engine_settings import EngineSettings
from vlserve.config.settings import Config
from vlserve.config.settings_base import Settings, settings_type
from vlserve.errors import ConfigError

_LONGEST_SHOWN = 200  # characters of an invalid value in a message


def load(path: pathlib.Path, **server_overrides: Any) -> Config:
    """Read a YAML file; ``server_overrides`` (host, port …) take precedence over its ``server`` section.

    Raises ConfigError with the file, the setting and the most similar valid name.
    """
    try:
        tree = strict_yaml.read(path.read_text(encoding="utf-8"), path.name)
    except OSError as error:
        names = sorted(file.name for file in shipped("").glob("*.yaml"))
        near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.75)
        hint = f" Did you mean {near[0]}?" if near else f" In {shipped('')}: {', '.join(names)}."
        raise ConfigError(f"Cannot read the config file {path}: {error.strerror}.{hint}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must contain settings (`engines:` at least).")
    chosen = {key: value for key, value in server_overrides.items() if value is not None}
    section = tree.get("server") or {}
    if chosen and isinstance(section, dict):
        tree["server"] = {**section, **chosen}
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        lines = "\n".join(f"  {_explain(detail)}" for detail in error.errors())
        given = " ".join(f"--{name.replace('_', '-')}" for name in chosen)
        raise ConfigError(f"{path}{f' with {given}' if given else ''} is not valid:\n{lines}") from error
    return _with_paths_resolved(config, path.resolve().parent)


def _explain(detail: ErrorDetails) -> str:
    where = ".".join(str(part) for part in detail["loc"]) or "engines"
    if detail["type"] != "extra_forbidden":
        message = detail["msg"].removeprefix("Value error, ")
        return f"{where}: {message}" + (
            "" if detail["type"] in ("missing", "value_error") else f" (got {_shown(detail['input'])})"
        )
    known = _fields_at(detail["loc"][:-1])
    near = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1, cutoff=0.5)
    return f"{where}: there is no such setting." + (
        f" Did you mean {near[0]}?" if near else f" Settings here: {', '.join(sorted(known))}."
    )


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python refuses to format a number this long
        return "a number with too many digits"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    model: type[Settings] = Config
    for part in location:
        if part not in model.model_fields:  # a name that the operator chose
            continue
        inner = settings_type(model.model_fields[str(part)].annotation)
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _with_paths_resolved(config: Config, folder: pathlib.Path) -> Config:
    """Raises ConfigError for a folder that is written like the name of a model."""
    engines: dict[str, EngineSettings] = {}
    for name, settings in config.engines.items():
        beside = folder / settings.model / "config.json"
        if settings.is_vllm and not settings.is_folder and os.path.isfile(beside):  # noqa: PTH113  (which may raise)
            raise ConfigError(
                f"engines.{name}.model: {settings.model} would be downloaded, but there is a folder of this name. "
                f"To use it, write ./{settings.model}"
            )
        if settings.is_folder and not settings.url:
            model = (folder / settings.model).resolve()
            engines[name] = settings.model_copy(update={"model": str(model)})
    server = config.server
    if server.api_keys_file:
        server = server.model_copy(update={"api_keys_file": (folder / server.api_keys_file).resolve()})
    files = config.files
    if files.folder:
        files = files.model_copy(update={"folder": (folder / files.folder).resolve()})
    resolved = {"server": server, "files": files, "engines": config.engines.model_copy(update=engines)}
    return config.model_copy(update=resolved)


def shipped(name: str) -> pathlib.Path:
    """Path of a file in configs/, which is inside an installed package, or next to the package in a checkout."""
    package = pathlib.Path(__file__).parents[1]
    installed = package / "configs"
    return (installed if installed.exists() else package.parent / "configs") / name


def find(path: pathlib.Path) -> pathlib.Path:
    """``path``, or the shipped file of that name if ``path`` does not exist."""
    is_name = path.name == str(path) and not path.exists()
    return shipped(path.name) if is_name and shipped(path.name).exists() else path
