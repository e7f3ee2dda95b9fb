"""The folders for uploaded files and for caches."""

import errno
import os
import pathlib
from collections.abc import Mapping

from vlserve.config.settings import Files
from vlserve.errors import ConfigError


def check(folder: pathlib.Path) -> None:
    """Raise ConfigError if the folder cannot be used or contains other files. Changes nothing."""
    try:
        nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        is_other = nearest == folder and not (folder / "lock").exists() and any(folder.iterdir())
    except OSError as error:
        raise ConfigError(f"files.folder: cannot use {folder}: {error.strerror}.") from error
    # The file store sets its folder's mode to 0700, which must not happen to /tmp or a home folder.
    if is_other:
        raise ConfigError(f"files.folder: {folder} contains other files. Name an empty folder or a new one.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(f"files.folder: cannot use {folder}: {nearest} cannot be written.")


def files_folder(files: Files, environ: Mapping[str, str] = os.environ) -> pathlib.Path:
    """The folder for uploaded files."""
    if files.folder:
        return files.folder
    data = pathlib.Path(environ.get("XDG_DATA_HOME") or pathlib.Path.home() / ".local" / "share")
    return data / "vlserve" / "files"


def cache_folder(environ: Mapping[str, str] = os.environ) -> pathlib.Path:
    """The folder where vlserve caches vLLM's flags ($XDG_CACHE_HOME/vlserve)."""
    return pathlib.Path(environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "vlserve"
