"""Starts and stops all engines of a deployment; creates the folder for their sockets."""

import asyncio
import contextlib
import pathlib
import tempfile
from collections.abc import Mapping

from vlserve.config.engine_settings import EngineName
from vlserve.engines.engine import Engine
from vlserve.engines.mps import Mps


class Fleet:
    """All engines of the deployment, started and stopped together."""

    def __init__(self, engines: Mapping[EngineName, Engine], run_folder: pathlib.Path, mps: Mps | None = None) -> None:
        """``mps``: the control daemon that these engines use, which ends after them."""
        self.engines = engines
        self.run_folder = run_folder
        self.mps = mps

    def start(self) -> None:
        for engine in self.engines.values():
            engine.start()

    def drain(self) -> None:
        """Take no new requests; let running ones finish."""
        for engine in self.engines.values():
            engine.drain()

    async def until_over(self) -> None:
        """Wait until every engine has stopped or been given up."""
        await asyncio.gather(*(engine.until_over() for engine in self.engines.values()))

    async def stop(self) -> None:
        await asyncio.gather(*(engine.stop() for engine in self.engines.values()))
        if self.mps:
            await self.mps.stop()
        with contextlib.suppress(OSError):
            self.run_folder.rmdir()


def make_run_folder() -> pathlib.Path:
    """Create a folder for the engines' sockets that only this user can access (mode 0700)."""
    return pathlib.Path(tempfile.mkdtemp(prefix="vlserve-"))
