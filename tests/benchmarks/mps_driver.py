"""What the code for CUDA MPS asks of the NVIDIA driver, asked of a real one, as root and as another user.

python -u -m tests.benchmarks.mps_driver --out FOLDER [--program PATH] [--client COMMAND]

own       a control daemon and its server as `serve` starts them, a CUDA program under them, and what is left at the end
two       two of them at once, each with a CUDA program
default   a daemon of root in /tmp/nvidia-mps: whether it is found, and a CUDA program under it
broken    a control program beside a server that cannot start: how long until MPS is off, and CUDA without it

Each as root and as the user nobody, who must be able to read this checkout. Prints a JSON line per step and writes
FOLDER/mps_driver.json. Run it while no other service uses MPS. Without a GPU, --program and --client name stand-ins.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

from vlserve.engines import mps_control
from vlserve.engines.mps import Mps
from vlserve.engines.mps_plan import LOG_VARIABLE, PIPE_VARIABLE, MpsPlan

_NOBODY = 65534
_LIMIT_S = 100.0
_MULTIPLY = "import torch; a = torch.ones(2048, 2048, device='cuda'); print((a @ a).sum().item())"
_COMMANDS = ("get_default_active_thread_percentage", "get_server_list", "get_server_status {server}")


def plan(folder: pathlib.Path, program: str) -> MpsPlan:
    variables = {PIPE_VARIABLE: str(folder / "mps" / "pipe"), LOG_VARIABLE: str(folder / "mps" / "log")}
    return MpsPlan(frozenset(("text", "vision")), "", program=program, folder=folder / "mps", environment=variables)


async def use_cuda(client: list[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run the CUDA program; its last words."""
    begun = time.monotonic()
    pipe = asyncio.subprocess.PIPE
    running = await asyncio.create_subprocess_exec(
        *client, stdout=pipe, stderr=asyncio.subprocess.STDOUT, env={**os.environ, **environment}
    )
    output, _ = await running.communicate()
    words = output.decode(errors="replace").strip()[-300:]
    return {"exit_code": running.returncode, "said": words, "seconds": round(time.monotonic() - begun, 2)}


async def ask(program: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The answers of the control daemon, as they are."""
    answers, server = dict[str, str](), ""
    for template in _COMMANDS:
        command = template.format(server=server)
        done = await asyncio.to_thread(
            subprocess.run, [program], input=f"{command}\n", capture_output=True, text=True, timeout=20,
            env={**os.environ, **environment}, check=False,
        )  # fmt: skip
        answers[command] = f"{done.returncode}: {(done.stdout + done.stderr).strip()}"
        server = done.stdout.split()[0] if template == "get_server_list" and done.stdout.split() else server
    return answers


async def own(program: str, client: list[str], folder: pathlib.Path) -> dict[str, Any]:
    made = plan(folder, program)
    mps, begun = Mps(made, dict(os.environ)), time.monotonic()
    await mps.start()
    found: dict[str, Any] = {"is_on": mps.pid is not None, "started_after_s": round(time.monotonic() - begun, 2)}
    if mps.pid is not None:
        found["daemon"] = await ask(program, made.environment)
    found["cuda"] = await use_cuda(client, made.environment)
    if mps.pid is not None:
        found["daemon_after"] = await ask(program, made.environment)
    begun = time.monotonic()
    await mps.stop()
    found["ended_after_s"] = round(time.monotonic() - begun, 2)
    for log in sorted((folder / "mps" / "log").glob("*.log")):
        with contextlib.suppress(OSError):
            found[log.name] = log.read_text(errors="replace").splitlines()[-6:]
    found["left"] = [line for line in _mps_processes() if str(os.geteuid()) == line.split()[0]]
    return found


async def two(program: str, client: list[str], folder: pathlib.Path) -> dict[str, Any]:
    folders = [folder / name for name in ("one", "other")]
    for one in folders:
        one.mkdir()
    results = await asyncio.gather(*(own(program, client, one) for one in folders))
    return {
        one.name: {key: result[key] for key in ("is_on", "cuda")} for one, result in zip(folders, results, strict=True)
    }


async def default(program: str, client: list[str], folder: pathlib.Path) -> dict[str, Any]:
    """The daemon of ``default_daemon``, which is root's."""
    environment = {name: value for name, value in os.environ.items() if name != PIPE_VARIABLE}
    begun = time.monotonic()
    found: dict[str, Any] = {"found": await mps_control.find_daemon(program, environment)}
    found["seconds"] = round(time.monotonic() - begun, 2)
    found["cuda"] = await use_cuda(client, {})
    found["daemon_after"] = await ask(program, {PIPE_VARIABLE: str(mps_control.DEFAULT_FOLDER)})
    return found


async def broken(program: str, client: list[str], folder: pathlib.Path) -> dict[str, Any]:
    """A copy of the control program, with a server beside it and first in PATH that ends at once."""
    copy, server = folder / pathlib.Path(program).name, folder / "nvidia-cuda-mps-server"
    shutil.copy(program, copy)
    server.write_text("#!/bin/sh\necho cannot start >&2\nexit 1\n")
    server.chmod(0o755)
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
    return await own(str(copy), client, folder)


STEPS: dict[str, Callable[[str, list[str], pathlib.Path], Coroutine[None, None, dict[str, Any]]]] = {
    "own": own,
    "two": two,
    "default": default,
    "broken": broken,
}


def _mps_processes() -> list[str]:
    done = subprocess.run(["ps", "-eo", "uid,pid,args"], capture_output=True, text=True, check=False)
    names = ("nvidia-cuda-mps", "mps_daemon.py")
    found = [line.strip() for line in done.stdout.splitlines() if any(name in line for name in names)]
    return [line[:120] for line in found if "benchmarks" not in line]


def one_step(step: str, program: str, client: str) -> None:
    """In a process of the user who is asked for; prints the result."""
    with tempfile.TemporaryDirectory(prefix="mps-") as folder:
        print(json.dumps(asyncio.run(STEPS[step](program, client.split("\t"), pathlib.Path(folder)))), flush=True)


def as_user(user: int, step: str, program: str, client: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.mps_driver", "--step", step]
    command += ["--program", program, "--client", client]
    other: dict[str, Any] = {} if user == os.geteuid() else {"user": user, "group": user, "extra_groups": []}
    with tempfile.TemporaryDirectory(prefix="home-") as home:
        os.chown(home, user, -1)
        environment = {**os.environ, "HOME": home, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, timeout=_LIMIT_S, check=False, **other
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return {"not_done": str(error)[-300:]}
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"not_done": (done.stdout + done.stderr)[-1500:]}
    return {**found, "log": done.stderr.splitlines()[-6:]}


@contextlib.contextmanager
def default_daemon(program: str) -> Iterator[None]:
    """A control daemon where CUDA looks by default; ended with its server."""
    daemon = subprocess.Popen([program, "-f"])
    try:
        time.sleep(2)
        yield
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run([program], input=b"quit\n", timeout=10, check=False)
            daemon.wait(10)
        daemon.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(10)
        daemon.kill()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--program", default=mps_control.find_program(os.environ))
    parser.add_argument("--client", default="\t".join((sys.executable, "-c", _MULTIPLY)), help="words, tabs between")
    parser.add_argument("--steps", default="own,broken,two,default")
    parser.add_argument("--step", choices=STEPS)
    options = parser.parse_args()
    if not options.out and not options.step:
        parser.error("--out is needed")
    if not options.program:
        parser.error(f"{mps_control.PROGRAM} was not found")
    if options.step:
        one_step(options.step, options.program, options.client)
        return
    results: dict[str, Any] = {}
    for step in options.steps.split(","):
        with default_daemon(options.program) if step == "default" else contextlib.nullcontext():
            for user in (0, _NOBODY) if os.geteuid() == 0 else (os.geteuid(),):
                name = f"{step}, {'root' if user == 0 else f'user {user}'}"
                results[name] = as_user(user, step, options.program, options.client)
                print(json.dumps({"step": name, **results[name]}), flush=True)
                (options.out / "mps_driver.json").write_text(json.dumps(results, indent=1))
    print(json.dumps({"left": _mps_processes()}), flush=True)


if __name__ == "__main__":
    main()
