"""Starts and ends the control daemon of CUDA MPS for the engines that share a GPU."""

import asyncio
import logging
import pathlib
import sys

from vlserve.engines.mps_plan import PIPE_VARIABLE, MpsPlan
from vlserve.engines.plan import ProcessPlan
from vlserve.engines.process import Process

log = logging.getLogger("vlserve.mps")
_DAEMON = pathlib.Path(__file__).parent / "mps_daemon.py"
_START_S, _POLL_S = 10.0, 0.05
_STOP_S = 5.0  # longer than mps_daemon.py takes in the worst case


class Mps:
    """The control daemon, running or not. It starts an MPS server when the first engine connects."""

    def __init__(self, plan: MpsPlan, environment: dict[str, str]) -> None:
        """``environment``: of the daemon, in addition to the plan's variables.

        CUDA_VISIBLE_DEVICES is left out: the daemon would renumber its GPUs, and engines use the machine's numbers.
        """
        if not plan.program or not plan.folder:
            raise ValueError("no daemon is planned")
        own = {name: value for name, value in environment.items() if name != "CUDA_VISIBLE_DEVICES"}
        argv = (sys.executable, "-I", "-S", str(_DAEMON), plan.program)
        self._plan = ProcessPlan("mps", plan.folder.with_suffix(".sock"), argv, {**own, **plan.environment})
        self._control = pathlib.Path(plan.environment[PIPE_VARIABLE]) / "control"
        self._process: Process | None = None
        self._starting = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The pid of the reaper, which is the session leader."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the daemon if it does not run. Called before each start of an engine that uses it.

        If it cannot be started, this is logged, and CUDA runs without MPS.
        """
        async with self._starting:
            if self._process and not self._process.ended.done():
                return
            if self._process:
                log.warning(
                    "CUDA MPS: the control daemon has ended (%s); starting it again", self._process.ended.result()
                )
                await self._process.end(0.0)
            try:
                self._process = await Process.start(self._plan)
            except OSError as error:
                log.warning(
                    "CUDA MPS: the control daemon could not be started (%s); the engines take turns on the GPU", error
                )
                return
            waiting = asyncio.create_task(self._until_it_listens())
            try:
                await asyncio.wait(
                    (waiting, self._process.ended), timeout=_START_S, return_when=asyncio.FIRST_COMPLETED
                )
                if waiting.done() and not self._process.ended.done():
                    log.info("CUDA MPS: the control daemon is running")
                    return
            finally:
                waiting.cancel()
            why = self._process.ended.result() if self._process.ended.done() else f"not ready after {_START_S:g} s"
            log.warning("CUDA MPS: the control daemon did not start (%s); the engines take turns on the GPU", why)

    async def _until_it_listens(self) -> None:
        while not self._control.exists():  # noqa: ASYNC110  (a file of another process)
            await asyncio.sleep(_POLL_S)

    async def stop(self) -> None:
        """End the daemon with its server. The engines must have ended before."""
        if self._process:
            await self._process.end(_STOP_S)
            self._process = None
