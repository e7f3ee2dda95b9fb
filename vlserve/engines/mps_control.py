"""CUDA MPS's control program: finds it, sends commands to a control daemon, and finds a daemon that already runs."""

import asyncio
import contextlib
import os
import pathlib
import shutil
import stat
from collections.abc import Mapping

from vlserve.engines.mps_plan import PIPE_VARIABLE

PROGRAM = "nvidia-cuda-mps-control"
DEFAULT_FOLDER = pathlib.Path("/tmp/nvidia-mps")  # noqa: S108  (where CUDA looks without CUDA_MPS_PIPE_DIRECTORY)
# Of distributions, GKE's driver mount, and NixOS.
_DRIVER_FOLDERS = ("/usr/bin", "/usr/local/nvidia/bin", "/opt/bin", "/run/current-system/sw/bin")
_SERVER_S, _ANSWER_S, _POLL_S = 10.0, 2.0, 0.1


class MpsError(Exception):
    """The control daemon or its server does not work; the message is the reason."""


def find_program(environment: Mapping[str, str]) -> str | None:
    """Find the control program in PATH and in the driver's folders."""
    folders = [environment.get("PATH", ""), *_DRIVER_FOLDERS]  # an empty entry is the current folder
    return shutil.which(PROGRAM, path=os.pathsep.join(filter(None, folders)))


async def find_daemon(program: str | None, environment: Mapping[str, str]) -> str | None:
    """The pipe folder of a daemon that CUDA uses without CUDA_MPS_PIPE_DIRECTORY; None if there is none.

    The daemon must answer, and belong to root or to this user: others cannot start a server for this user.
    """
    if not program or environment.get(PIPE_VARIABLE):
        return None
    try:
        control = (DEFAULT_FOLDER / "control").lstat()
    except OSError:
        return None
    is_pipe = stat.S_ISSOCK(control.st_mode) or stat.S_ISFIFO(control.st_mode)
    if not is_pipe or control.st_uid not in (0, os.geteuid()):
        return None
    try:
        async with asyncio.timeout(_ANSWER_S):
            await check_daemon(program, {**environment, PIPE_VARIABLE: str(DEFAULT_FOLDER)})
    except (MpsError, TimeoutError):
        return None
    return str(DEFAULT_FOLDER)


async def check_daemon(program: str, environment: Mapping[str, str]) -> None:
    """Ask the daemon for a setting that it has without a server, too. Raises MpsError if there is no answer."""
    await _ask(program, "get_default_active_thread_percentage", environment)


async def start_server(program: str, environment: Mapping[str, str]) -> int:
    """Make the daemon create this user's server, wait until it runs, and return its pid. Raises MpsError.

    The daemon would create it for its first client, which could not use CUDA if that failed.
    """
    server = ""
    try:
        async with asyncio.timeout(_SERVER_S):
            await _ask(program, f"start_server -uid {os.geteuid()}", environment)
            while True:
                server = (await _ask(program, "get_server_list", environment)).partition("\n")[0].strip()
                if server.isdigit() and not await _is_initializing(program, server, environment):
                    break
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        if not server.isdigit():  # else it is only slow
            raise MpsError(f"there was no server after {_SERVER_S:g} s") from None
    return int(server)


async def check_server(program: str, server: int, environment: Mapping[str, str]) -> None:
    """Raise MpsError if the server accepts no clients because of a fatal error of one."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_ANSWER_S):
            await _is_initializing(program, str(server), environment)


async def _is_initializing(program: str, server: str, environment: Mapping[str, str]) -> bool:
    """Raises MpsError if the server has failed. Only recent drivers know the command."""
    try:
        status = await _ask(program, f"get_server_status {server}", environment)
    except MpsError:
        return False
    if "FAULT" in status:
        raise MpsError(f"its state is {status}")
    return "INITIALIZING" in status


async def _ask(program: str, command: str, environment: Mapping[str, str]) -> str:
    """Send a command to the daemon and return its answer. Raises MpsError."""
    pipe = asyncio.subprocess.PIPE
    try:
        control = await asyncio.create_subprocess_exec(
            program, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT, env=environment
        )
    except OSError as error:
        raise MpsError(f"{program}: {error}") from None
    try:
        output, _ = await control.communicate(f"{command}\n".encode())
    finally:
        if control.returncode is None:
            control.kill()
            await control.wait()
    answer = output.decode(errors="replace").strip()
    if control.returncode:
        raise MpsError(f"{command}: {answer or f'exit code {control.returncode}'}")
    return answer
