"""The folder of uploaded files: whether the service may take it."""

import errno
import os
import pathlib

from vlserve.errors import ConfigError


def check(folder: pathlib.Path) -> None:
    """Raise ConfigError where the folder cannot be used, or holds other things; makes and changes nothing."""
    try:
        nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        is_other = nearest == folder and not (folder / "lock").exists() and any(folder.iterdir())
    except OSError as error:
        raise ConfigError(f"files.folder: cannot use {folder}: {error.strerror}.") from error
    # Its mode is about to change, which somebody else's folder (/tmp, a home) must be spared.
    if is_other:
        raise ConfigError(f"files.folder: {folder} holds other things. Name an empty folder, or one to be made.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(f"files.folder: cannot use {folder}: {nearest} cannot be written.")
