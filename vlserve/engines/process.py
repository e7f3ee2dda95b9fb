"""Starts one engine process behind its reaper, forwards its log, and ends it with all its descendants."""

import asyncio
import contextlib
import os
import pathlib
import re
import shutil
import signal
import sys
from collections import deque

from vlserve import logs
from vlserve.engines.diagnosis import Diagnosis, diagnose
from vlserve.engines.plan import ProcessPlan, scratch

REAPER = pathlib.Path(__file__).parent / "reaper.py"
COMPLETED = "exit code 0"
_KEPT_LINES = 500  # enough for two tracebacks of vLLM, one from each process
_LONGEST_CAUSE = 300
_LONGEST_LINE = 64 * 1024
_KILL_S, _DRAIN_S, _POLL_S = 5.0, 2.0, 0.1
_END_OF_LINE = re.compile(rb"\r?\n|\r")
_NO_ERROR = re.compile(r"(?:\([^)]*\)\s*)*(?:DEBUG|INFO|WARNING)\b")  # level at the start of a line
# In vLLM's outer processes, which only report that an inner one failed.
_NOT_A_CAUSE = re.compile(r"(?:Engine core|WorkerProc) initialization failed")
# A dotted name is matched from its beginning only, so that a long one is not scanned once for each part.
_CAUSE = re.compile(r"(?<![\w.])((?:\w+\.)*[A-Z][A-Za-z]*(?:Error|Exception): .+)")


class Process:
    """A running engine process. ``ended`` finishes with the reason once the process and its descendants are gone.

    ``diagnosis`` is the known cause, if any. ``last_words``: how it exited, with the error in its output; empty without
    such an error.
    """

    def __init__(
        self,
        name: str,
        plan: ProcessPlan,
        child: asyncio.subprocess.Process,
        output: asyncio.StreamReader,
        pipe: asyncio.BaseTransport,
    ) -> None:
        self._name = name
        self._plan = plan
        self._child = child
        self._pipe = pipe
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self.diagnosis: Diagnosis | None = None
        self.last_words = ""
        self.ended = asyncio.create_task(self._until_exit(output))

    @classmethod
    async def start(cls, plan: ProcessPlan, argv: tuple[str, ...] | None = None) -> "Process":
        """Start it in its own session, after creating its socket's folder (0700) and removing a stale socket.

        ``argv``: another command to run in the engine's environment.
        """
        plan.socket.parent.mkdir(mode=0o700, exist_ok=True)
        scratch(plan.socket).mkdir(mode=0o700, exist_ok=True)
        plan.socket.unlink(missing_ok=True)  # vLLM does not remove it and then fails with EADDRINUSE
        # Not asyncio's pipe, which stays open until every process that inherited its other end has exited.
        reading, writing = os.pipe()
        try:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", str(REAPER), str(plan.socket), *(argv or plan.argv)),
                env=plan.environment,
                stdin=asyncio.subprocess.PIPE,  # never written to; the reaper sees it close when this process ends
                stdout=writing,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        output = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        pipe = open(reading, "rb", buffering=0)  # noqa: PTH123, SIM115, ASYNC230  (the transport closes it)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(output), pipe)
        return cls(plan.name, plan, child, output, transport)

    @property
    def pid(self) -> int:
        """The pid of the reaper, which is the session leader."""
        return self._child.pid

    def inner(self) -> dict[int, str]:
        """Pid → title of vLLM's processes behind its server: the core, and the workers if there are several."""
        found = {}
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                title = (folder / "cmdline").read_bytes().split(b"\0")[0].decode("utf-8", "replace").strip()
                _, parent, session = _stat(int(folder.name))
                if title.startswith("VLLM::") and session == self.pid != parent:
                    found[int(folder.name)] = title
        return found

    async def end(self, grace_s: float) -> None:
        """Send SIGTERM, after ``grace_s`` SIGKILL, and wait some seconds at most for all descendants to end."""
        for patience_s in (grace_s, _KILL_S):
            if not self.ended.done():
                # The reaper forwards the first SIGTERM; at the second one it kills.
                with contextlib.suppress(ProcessLookupError):
                    self._child.send_signal(signal.SIGTERM)
                await asyncio.wait((self.ended,), timeout=patience_s)
        if not self.ended.done():
            self._kill_session()
            await asyncio.wait((self.ended,), timeout=_KILL_S)
        self._plan.socket.unlink(missing_ok=True)
        shutil.rmtree(scratch(self._plan.socket), ignore_errors=True)

    def _kill_session(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)

    async def _until_exit(self, output: asyncio.StreamReader) -> str:
        reading = asyncio.create_task(self._print_lines(output))
        while self._child.returncode is None:  # noqa: ASYNC110  (wait() also waits for pipes, which others may hold open)
            await asyncio.sleep(_POLL_S)
        if self._child.returncode < 0:
            self._kill_session()  # the reaper itself was killed and could not clean up
        await asyncio.wait((reading,), timeout=_DRAIN_S)
        reading.cancel()
        await asyncio.wait((reading,))
        self._pipe.close()
        code = self._child.returncode
        ending = _describe_exit(code)
        if not 0 <= code < 128:  # a killed process did not log why
            self.diagnosis = diagnose([ending])
            return ending
        if ending == COMPLETED:
            return ending
        self.diagnosis = self.diagnose_so_far()
        causes = [found[1] for line in reversed(self._error_lines()) if (found := _CAUSE.search(line))]
        cause = next((one for one in causes if not _NOT_A_CAUSE.search(one)), None)
        if not cause:
            return ending
        self.last_words = f"{ending}, {cause[:_LONGEST_CAUSE]}"
        return self.last_words

    def diagnose_so_far(self) -> Diagnosis | None:
        """The diagnosis of its log so far, also while it is still running."""
        return diagnose(self._error_lines())

    def _error_lines(self) -> list[str]:
        return [line for line in self._lines if not _NO_ERROR.match(line)]

    async def _print_lines(self, output: asyncio.StreamReader) -> None:
        """Print the output line by line. Progress bars end their lines with a carriage return."""
        rest = b""
        while piece := await output.read(65536):
            *lines, rest = _END_OF_LINE.split(rest + piece)
            for line in lines:
                self._print(line)
            if len(rest) > _LONGEST_LINE:
                self._print(rest)
                rest = b""
        if rest:
            self._print(rest)

    def _print(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        self._lines.append(text)
        logs.engine_line(self._name, text)


def find_ending(pid: int) -> str | None:
    """How a process ended; None while it runs, or if that is unknown.

    The exit status is known only until its parent has read it, and zero where this process may not read it.
    """
    try:
        fields = _stat_fields(pid)
    except (FileNotFoundError, ProcessLookupError):
        return "died"
    except OSError:  # a lack of file descriptors here says nothing of it
        return None
    if fields[0] not in ("Z", "X"):
        return None
    status = int(fields[49])
    return f"died: {_describe_exit(os.waitstatus_to_exitcode(status))}" if status else "died"


def _stat(pid: int) -> tuple[str, int, int]:
    """State, parent and session (proc_pid_stat(5))."""
    state, parent, _, session = _stat_fields(pid)[:4]
    return state, int(parent), int(session)


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third, the state; the 52nd is the exit status. Raises OSError."""
    line = pathlib.Path(f"/proc/{pid}/stat").read_bytes()  # with the process's name, which may be any bytes
    return line.rpartition(b")")[2].decode().split()


def _describe_exit(code: int) -> str:
    """Describe an exit code. For SIGKILL it is -9 from asyncio, and 128 + 9 from the reaper."""
    number = -code if code < 0 else code - 128
    if code == 0:
        return COMPLETED
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"exit code {code}"
