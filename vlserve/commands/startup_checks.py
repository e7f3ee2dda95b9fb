"""Checks that `serve` makes before it starts anything, besides the plan: API keys, addresses, folders, packages.

`plan` and `doctor` make them, too. They do not depend on other processes (a port or folder in use is not detected).
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vlserve.config import folders, keys
from vlserve.config.engine_settings import EngineName
from vlserve.config.keys import ApiKey
from vlserve.config.settings import Config
from vlserve.engines import machine
from vlserve.gateway import listeners, tracing
from vlserve.media import fetch


@dataclass(frozen=True)
class Credentials:
    api_keys: tuple[ApiKey, ...]
    url_keys: Mapping[EngineName, str | None]
    """The API keys for remote engines."""


def check(settings: Config, environ: Mapping[str, str] = os.environ) -> Credentials:
    """Run all checks of this module. Raises ConfigError for the first one that fails."""
    credentials = Credentials(read_api_keys(settings, environ), _read_url_keys(settings, environ))
    for run_check in OTHER_CHECKS.values():
        run_check(settings, environ)
    return credentials


def read_api_keys(settings: Config, environ: Mapping[str, str]) -> tuple[ApiKey, ...]:
    """Read clients' keys. Raises ConfigError if configured keys are missing, or a public address has none."""
    found = keys.read(settings.server, environ)
    keys.check_exposure(settings.server, found)
    return found


def _read_url_keys(settings: Config, environ: Mapping[str, str]) -> dict[EngineName, str | None]:
    return {name: keys.read_url_key(name, engine, environ) for name, engine in settings.engines.items()}


def _check_files(settings: Config, _: Mapping[str, str]) -> None:
    if settings.files.folder:  # if the default folder cannot be used, serve runs without files
        folders.check(settings.files.folder)


OTHER_CHECKS: Mapping[str, Callable[[Config, Mapping[str, str]], object]] = {
    "ports": lambda settings, _: listeners.check_ports(settings.server),
    "engine keys": _read_url_keys,
    "fetch": lambda settings, _: fetch.check(settings.fetch),
    "videos": lambda settings, _: machine.check_videos(settings),
    "tracing": lambda settings, _: tracing.check(settings.tracing.otlp_endpoint),
    "files": _check_files,
}
"""By their subject in the output of `doctor`; each raises ConfigError."""
