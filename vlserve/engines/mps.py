"""Starts and ends the control daemon of CUDA MPS for the engines that share a GPU."""

import asyncio
import contextlib
import logging
import os
import pathlib
import signal
import sys

from vlserve.engines import mps_control
from vlserve.engines.mps_control import MpsError
from vlserve.engines.mps_plan import LOG_VARIABLE, PIPE_VARIABLE, MpsPlan
from vlserve.engines.plan import ProcessPlan
from vlserve.engines.process import Process, find_ending

log = logging.getLogger("vlserve.mps")
_DAEMON = pathlib.Path(__file__).parent / "mps_daemon.py"
_SERVER = b"nvidia-cuda-mps-server"
_START_S, _POLL_S = 10.0, 0.05
_WATCH_S = 0.2
_STOP_S = 5.0  # longer than mps_daemon.py takes in the worst case


class Mps:
    """The control daemon and its MPS server, running or not."""

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
        self._log = pathlib.Path(plan.environment[LOG_VARIABLE]) / "server.log"
        self._program = plan.program
        self._process: Process | None = None
        self._server = 0
        self._watching: asyncio.Task[None] | None = None
        self._has_served = self._is_off = False
        self._starting = asyncio.Lock()
        self._next_end = asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int | None:
        """The pid of the reaper, which is the session leader."""
        return self._process.pid if self._process else None

    async def start(self) -> asyncio.Future[str]:
        """Start the daemon and its server if the daemon does not run. Called before each start of an engine.

        Returns a future that is set when they have ended; the engine must then be restarted. If they cannot be started,
        this is logged, and CUDA runs without MPS: for good, unless they have worked before.
        """
        async with self._starting:
            if self._is_off or (self._watching and not await self._is_refusing()):
                return self._next_end
            try:
                await self._start()
            except MpsError as error:
                self._is_off = not self._has_served
                when = "is off for this run" if self._is_off else "is off until the next start of an engine"
                log.warning("CUDA MPS %s: %s; the engines take turns on the GPU", when, error)
                await self.stop()  # with a daemon, CUDA would fail instead of running without MPS
                return self._next_end
            self._has_served = True
            self._watching = asyncio.create_task(self._watch(self._runner(), self._server))
            log.info("CUDA MPS: the control daemon and its server are running")
            return self._next_end

    async def _is_refusing(self) -> bool:
        """Whether the server takes no more clients, or has ended. The other engines are then ended, too.

        After a fatal error of one client, such as an illegal memory access, all clients on its GPU have lost their
        contexts, and the server accepts new ones only when they have all ended
        (https://docs.nvidia.com/deploy/mps, "Client Early Termination"). An idle engine does not notice.
        """
        try:
            await mps_control.check_server(self._program, self._server, self._plan.environment)
        except MpsError as error:
            if self._watching:  # it has not ended meanwhile
                self._watching.cancel()
                self._end(f"its server, {self._server}, reports a fatal error ({error})")
        return self._watching is None

    def _end(self, why: str) -> None:
        """Set the future of ``start``."""
        log.error("CUDA MPS: %s; it is restarted with the engines", why)
        self._watching = None
        end, self._next_end = self._next_end, asyncio.get_running_loop().create_future()
        end.set_result("CUDA MPS has ended")

    def _runner(self) -> int:
        """The pid of mps_daemon.py, which ends with the daemon, at once; the reaper's, where Linux does not name it."""
        reaper = self.pid or 0
        with contextlib.suppress(OSError):
            children = pathlib.Path(f"/proc/{reaper}/task/{reaper}/children").read_text().split()
            return int(next(iter(children), reaper))
        return reaper

    async def _watch(self, runner: int, server: int) -> None:
        """Set the future of ``start`` when the daemon or its server has ended: its clients have then lost their GPU.

        They may not notice: on an H200 (driver 580.159) one of two engines ended when the server was killed, and the
        other one hung; on an H100 both hung without the daemon. An engine that started without a daemon may be a client
        of the next.
        """
        parts = {server: f"its server, {server},", runner: "its control daemon"}
        ended = list[str]()
        while not ended:
            await asyncio.sleep(_WATCH_S)
            ended = [f"{part} {how}" for pid, part in parts.items() if (how := find_ending(pid))]
        self._end(" and ".join(ended))

    async def _start(self) -> None:
        """Raises MpsError."""
        if self._process and (self._server or find_ending(self._process.pid)):  # it has served, or its start failed
            await self.stop()
        if not self._process:
            try:
                self._process = await Process.start(self._plan)
            except OSError as error:
                raise MpsError(f"the control daemon could not be started ({error})") from None
        waiting = asyncio.create_task(self._until_it_answers())
        ended = self._process.ended
        try:
            await asyncio.wait((waiting, ended), timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            await asyncio.wait((waiting,))
        if ended.done() or waiting.cancelled():
            why = ended.result() if ended.done() else f"not ready after {_START_S:g} s"
            raise MpsError(f"the control daemon did not start ({why})")
        waiting.result()
        try:
            self._server = await mps_control.start_server(self._program, self._plan.environment)
        except MpsError as error:
            line = await asyncio.to_thread(_last_line, self._log)
            raise MpsError(f"the control daemon cannot start its server ({error}{line})") from None

    async def _until_it_answers(self) -> None:
        while True:
            with contextlib.suppress(MpsError):  # it does not listen yet
                if self._control.exists():
                    return await mps_control.check_daemon(self._program, self._plan.environment)
            await asyncio.sleep(_POLL_S)

    async def stop(self) -> None:
        """End the daemon with its server. Engines that use it must have ended before, or have lost the GPU."""
        if self._watching:
            self._watching.cancel()
            self._watching = None
        if self._process:
            await self._process.end(_STOP_S)
            self._process = None
        _kill_server(self._server)
        self._server = 0


def _kill_server(pid: int) -> None:
    """It is in a session of its own: if the reaper was killed, nothing else ends it."""
    with contextlib.suppress(OSError):
        if _SERVER in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)


def _last_line(log_file: pathlib.Path) -> str:
    """The last line of a log, as part of a sentence; empty if there is none."""
    try:
        lines = log_file.read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return next((f": {line.strip()}" for line in reversed(lines) if line.strip()), "")
