"""Routes of another package (testgen), which ``create_app`` adds to the gateway."""

import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fastapi import FastAPI


@dataclass(frozen=True)
class Routes:
    """Routes, and what the gateway must know of them."""

    add: Callable[[FastAPI], None]
    """Adds them to the app."""
    form_paths: tuple[str, ...]
    """Paths that accept multipart/form-data."""
    openapi: pathlib.Path
    """Their part of the OpenAPI document: a YAML file, written like openapi.yaml."""
    mode: Literal["off", "draft", "open", "run"]
    """What the page at ``/`` offers: no tests, tests of a picture alone, also of a page that is opened, also run."""
