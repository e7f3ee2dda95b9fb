"""API keys: generates them, reads them from a file or a variable, and requires them on public addresses."""

import hashlib
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from vlserve.config.authority import is_loopback
from vlserve.config.engine_settings import EngineName, EngineSettings
from vlserve.config.settings import Server
from vlserve.errors import ConfigError

ANONYMOUS = "anonymous"
"""The name of every client of a service without API keys."""
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")


@dataclass(frozen=True)
class ApiKey:
    """A client's key. Only its SHA-256 is stored, which is safe because keys are long and random."""

    name: str
    digest: bytes


def make(name: str) -> tuple[str, str]:
    """Generate a key; return it and its line for ``api_keys_file``. Raises ConfigError for a bad name."""
    _check_name(name, "the key")
    key = f"sk-{secrets.token_urlsafe(32)}"
    return key, f"{name}: {_line_value(_digest(key))}"


def read(server: Server, environ: Mapping[str, str] = os.environ) -> tuple[ApiKey, ...]:
    """Read the keys in ``api_keys_file`` and ``api_keys_env``. A name may have two keys, to replace one by the other.

    Raises ConfigError if one of these is set but contains no key.
    """
    keys = _read_file(server) + _read_variable(server, environ)
    names = [key.name for key in keys]
    if missing := next((name for name in server.keys if name not in names), None):
        remedy = f"add it to the variable {server.api_keys_env}" if server.api_keys_env else "set server.api_keys_file"
        if server.api_keys_file:
            remedy = f"create it: vlserve key {missing} >> {server.api_keys_file}"
        raise ConfigError(f"server.keys.{missing}: there is no API key of this name; {remedy}.")
    return tuple(keys)


def _read_file(server: Server) -> list[ApiKey]:
    """The file contains digests only, so that its readers cannot use the keys."""
    path, where = server.api_keys_file, "server.api_keys_file"
    if not path:
        return []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        hint = f" `vlserve key NAME >> {path}` makes it." if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(f"{where}: cannot read {path}: {reason}.{hint}") from error
    keys = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, _, rest = (part.strip() for part in line.partition(":"))
        found = _DIGEST.fullmatch(rest)
        if not found:
            plain = rest or name
            named = name if rest else f"key{number}"
            raise ConfigError(
                f"{where}: line {number} of {path} is not `name: sha256:…`. For a key in plain text write "
                f"instead: {named}: {_line_value(_digest(plain))}"
            )
        _check_name(name, f"{where}: line {number}")
        keys.append(ApiKey(name, bytes.fromhex(found[1])))
    if not keys:
        raise ConfigError(f"{where}: {path} holds no key. `vlserve key NAME` makes one.")
    return keys


def _read_variable(server: Server, environ: Mapping[str, str]) -> list[ApiKey]:
    """Entries ``key`` or ``name: key``, separated by commas."""
    variable, where = server.api_keys_env, "server.api_keys_env"
    if not variable:
        return []
    entries = [entry.strip() for entry in environ.get(variable, "").split(",") if entry.strip()]
    if not entries:
        raise ConfigError(f"{where}: the environment variable {variable} holds no key.")
    keys = []
    for number, entry in enumerate(entries, start=1):
        name, separator, key = (part.strip() for part in entry.partition(":"))
        if not separator:
            name, key = f"key{number}", entry
        if not key:
            raise ConfigError(f"{where}: entry {number} of {variable} has a name but no key.")
        _check_name(name, f"{where}: entry {number}")
        found = _DIGEST.fullmatch(key)
        keys.append(ApiKey(name, bytes.fromhex(found[1]) if found else _digest(key)))
    return keys


def _check_name(name: str, where: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: a name consists of 1 to 64 letters, digits, or the characters _ . @ -")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _line_value(digest: bytes) -> str:
    return f"sha256:{digest.hex()}"


def check_exposure(server: Server, keys: tuple[ApiKey, ...]) -> None:
    """Raise ConfigError for a public address without API keys, unless that is allowed explicitly, and for a public
    ``metrics_listen`` that no key may read."""
    listeners = {"host": server.host, "metrics_listen": server.metrics_address and server.metrics_address[0]}
    if keys:
        public = listeners["metrics_listen"]
        if public and not is_loopback(public) and not any(key.metrics for key in server.keys.values()):
            raise ConfigError(
                f"server.metrics_listen {server.metrics_listen} can be read by no API key. Allow one with "
                "server.keys: {NAME: {metrics: true}}, or listen on 127.0.0.1, where no key is needed."
            )
        return
    if server.allow_unauthenticated:
        return
    for setting, host in listeners.items():
        if host and not is_loopback(host):
            raise ConfigError(
                f"server.{setting} {host} can be reached from other machines and no API key is set. "
                "Set server.api_keys_file or server.api_keys_env, or pass --allow-unauthenticated."
            )


def read_url_key(name: EngineName, settings: EngineSettings, environ: Mapping[str, str]) -> str | None:
    """The API key for a remote engine. Raises ConfigError if the variable is set in the config but empty."""
    if not settings.url_api_key_env:
        return None
    key = environ.get(settings.url_api_key_env, "").strip()
    if not key:
        variable = settings.url_api_key_env
        raise ConfigError(f"engines.{name}.url_api_key_env: the environment variable {variable} is empty.")
    return key
