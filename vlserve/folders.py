"""The folder of uploaded files: whether the service may take it."""

import os
import pathlib

from vlserve.errors import ConfigError


def check(folder: pathlib.Path) -> None:
    """Raise ConfigError where the folder cannot be used, or holds other things; makes and changes nothing."""
    try:
        nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        is_empty = not any(nearest.iterdir())  # raises where it is no folder, or may not be read
    except OSError as error:
        raise ConfigError(f"files.folder: cannot use {folder}: {error.strerror}.") from error
    # Its mode is about to change, which somebody else's folder (/tmp, a home) must be spared.
    if nearest == folder and not is_empty and not (folder / "lock").exists():
        raise ConfigError(f"files.folder: {folder} holds other things. Name an empty folder, or one to be made.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(f"files.folder: cannot use {folder}: {nearest} cannot be written.")
