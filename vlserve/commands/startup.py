"""What `serve` refuses before anything starts, beside the plan: API keys, addresses, folders, packages.

`plan` and `doctor` ask the same. What depends on what else runs (a port, a folder in use) is not looked at.
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
    """Of engines that run elsewhere."""


def check(settings: Config, environ: Mapping[str, str] = os.environ) -> Credentials:
    """Everything here. Raises ConfigError for the first thing that is not well."""
    credentials = Credentials(read_api_keys(settings, environ), _read_url_keys(settings, environ))
    for look in OTHER_CHECKS.values():
        look(settings, environ)
    return credentials


def read_api_keys(settings: Config, environ: Mapping[str, str]) -> tuple[ApiKey, ...]:
    """Clients' keys. Raises ConfigError where those that are named are missing, or a public address has none."""
    found = keys.read(settings.server, environ)
    keys.check_exposure(settings.server, found)
    return found


def _read_url_keys(settings: Config, environ: Mapping[str, str]) -> dict[EngineName, str | None]:
    return {name: keys.read_url_key(name, engine, environ) for name, engine in settings.engines.items()}


def _check_files(settings: Config, _: Mapping[str, str]) -> None:
    if settings.files.folder:  # where the default one cannot be used, serve goes on without files
        folders.check(settings.files.folder)


OTHER_CHECKS: Mapping[str, Callable[[Config, Mapping[str, str]], object]] = {
    "ports": lambda settings, _: listeners.check_ports(settings.server),
    "engine keys": _read_url_keys,
    "fetch": lambda settings, _: fetch.check(settings.fetch),
    "videos": lambda settings, _: machine.check_videos(settings),
    "tracing": lambda settings, _: tracing.check(settings.tracing.otlp_endpoint),
    "files": _check_files,
}
"""By the subject that `doctor` gives them; each raises ConfigError."""
