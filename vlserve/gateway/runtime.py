"""What all requests of an app share."""

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

import aiohttp

from vlserve.config.engine_settings import EngineName
from vlserve.config.settings import Config
from vlserve.engines.view import EngineView
from vlserve.errors import EngineAway, service_ends
from vlserve.gateway.admission import Admission
from vlserve.gateway.tracing import Tracing
from vlserve.media.files import FileStore
from vlserve.media.load import Pictures
from vlserve.media.picture_cache import PictureCache
from vlserve.metrics import Metrics


@dataclass(frozen=True)
class Runtime:
    """One per app."""

    config: Config
    engines: Mapping[EngineName, EngineView]
    sessions: Mapping[EngineName, aiohttp.ClientSession]
    admission: Admission
    metrics: Metrics
    pictures: Pictures
    threads: Executor
    """For metrics and the JSON of large requests and answers. Nothing that may wait for a disk or a network."""
    seen: Mapping[EngineName, PictureCache]
    """Only of engines that keep pictures under names."""
    store: FileStore | None
    served: Mapping[EngineName, str]
    tracing: Tracing
    salts: Mapping[str, str]
    """Key name → what separates its prompts from other keys' in an engine's prefix cache."""
    started: int


def check_ready(name: EngineName, engine: EngineView) -> None:
    """Raise EngineAway, with what is known of the cause, where this engine cannot take a request."""
    if engine.is_ready:
        return
    if engine.state in ("draining", "stopped"):
        raise service_ends()
    cause = f" {engine.diagnosis.cause}" if engine.diagnosis else ""
    raise EngineAway(
        f"The {name} engine is not ready (state: {engine.state}).{cause} Please try again later.",
        retry_after_s=engine.retry_after_s(),
    )
