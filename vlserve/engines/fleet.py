"""The engines of a deployment: started together, ended together; GPUs that they share, the folder of their sockets."""

import asyncio
import contextlib
import pathlib
import tempfile
from collections.abc import Iterable, Mapping

from vlserve.config.engine_settings import EngineName
from vlserve.engines.engine import Engine
from vlserve.engines.plan import EnginePlan


class Fleet:
    """Every engine of the deployment: started together, ended together."""

    def __init__(self, engines: Mapping[EngineName, Engine], run_folder: pathlib.Path) -> None:
        self.engines = engines
        self.run_folder = run_folder

    def start(self) -> None:
        for engine in self.engines.values():
            engine.start()

    def drain(self) -> None:
        """Every engine: no new requests, those that run may finish."""
        for engine in self.engines.values():
            engine.drain()

    async def until_over(self) -> None:
        """Until no engine is left that could serve again."""
        await asyncio.gather(*(engine.until_over() for engine in self.engines.values()))

    async def stop(self) -> None:
        await asyncio.gather(*(engine.stop() for engine in self.engines.values()))
        with contextlib.suppress(OSError):
            self.run_folder.rmdir()


def lock_gpus(plans: Iterable[EnginePlan]) -> dict[EngineName, list[asyncio.Lock]]:
    """One lock per GPU, given to every engine on it, in an order that cannot deadlock."""
    locks: dict[int, asyncio.Lock] = {}
    return {
        plan.name: [locks.setdefault(gpu, asyncio.Lock()) for gpu in sorted(plan.budget.gpus if plan.budget else ())]
        for plan in plans
    }


def make_run_folder() -> pathlib.Path:
    """A fresh folder for the engines' sockets that only this user can enter (mode 0700)."""
    return pathlib.Path(tempfile.mkdtemp(prefix="vlserve-"))
