"""Routes of another package (testgen) that ``create_app`` adds to the gateway."""

import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fastapi import FastAPI


@dataclass(frozen=True)
class Routes:
    """Routes with their form paths, OpenAPI document and mode."""

    add: Callable[[FastAPI], None]
    """Adds them to the app."""
    form_paths: tuple[str, ...]
    """Paths that accept multipart/form-data."""
    openapi: pathlib.Path
    """Their part of the OpenAPI document: a YAML file in the format of openapi.yaml."""
    mode: Literal["off", "draft", "open", "run"]
    """What the page at ``/`` offers: no tests, tests from a picture, tests checked on the page, tests run there."""
