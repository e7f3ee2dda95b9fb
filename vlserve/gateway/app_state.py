"""Shared state of one application."""

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

from vlserve.config.engine_settings import EngineName
from vlserve.config.settings import Config
from vlserve.engines.view import EngineView
from vlserve.errors import EngineAway, shutdown_error
from vlserve.gateway.admission import Admission
from vlserve.gateway.engine_client import EngineClient
from vlserve.gateway.tracing import Tracing
from vlserve.media.file_store import FileStore
from vlserve.media.load import Pictures
from vlserve.media.picture_cache import PictureCache
from vlserve.metrics import Metrics


@dataclass(frozen=True)
class Runtime:
    """What all requests of an application share."""

    config: Config
    engines: Mapping[EngineName, EngineView]
    clients: Mapping[EngineName, EngineClient]
    admission: Admission
    metrics: Metrics
    pictures: Pictures
    threads: Executor
    """For metrics and the JSON of large requests and answers; never for disk or network I/O."""
    picture_caches: Mapping[EngineName, PictureCache]
    """Of engines that cache pictures by name."""
    store: FileStore | None
    served: Mapping[EngineName, str]
    """Engine → model name."""
    tracing: Tracing
    salts: Mapping[str, str]
    """Key name → ``cache_salt``, which separates its prompts from those of other keys in an engine's prefix cache."""
    started: int
    """Unix time in seconds."""


def check_ready(name: EngineName, engine: EngineView) -> None:
    """Raise EngineAway, with the cause if it is known, unless this engine is ready."""
    if engine.is_ready:
        return
    if engine.state in ("draining", "stopped"):
        raise shutdown_error()
    cause = f" {engine.diagnosis.cause}" if engine.diagnosis else ""
    raise EngineAway(
        f"The {name} engine is not ready (state: {engine.state}).{cause} Please try again later.",
        retry_after_s=engine.retry_after_s(),
    )
