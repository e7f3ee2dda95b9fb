"""Downloads from the fake hub."""

import os
import pathlib
import random

from tests.conftest import REPOSITORY
from vlserve.config.engine_settings import EngineSettings
from vlserve.config.settings import Config

HEAD = b'{"weight":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}'


def safetensors(size: int) -> bytes:
    """A file of weights, with random ones: in equal ones a part in the wrong place would not be seen."""
    head = HEAD % (size, size)
    return len(head).to_bytes(8, "little") + head + random.Random(7).randbytes(size)


WEIGHTS = "model.safetensors"
FILES = {"config.json": b"{}", WEIGHTS: safetensors(3_000_000), "pytorch_model.bin": b"b" * 9_000_000}
LARGE = FILES | {WEIGHTS: safetensors(25_000_000)}


def environment(home: pathlib.Path, endpoint: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HF_HOME": str(home),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": str(REPOSITORY),
    }


def settings_of(config: Config) -> EngineSettings:
    assert config.engines.text
    return config.engines.text
