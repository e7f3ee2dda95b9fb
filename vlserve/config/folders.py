"""Checks the folder for uploaded files."""

import errno
import os
import pathlib

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
