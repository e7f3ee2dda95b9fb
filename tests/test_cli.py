"""`vlserve serve` as a process: what it refuses, and how it ends."""

import asyncio
import json
import os
import pathlib
import signal
import socket
import stat
import subprocess
import sys
import tomllib

import aiohttp
import pytest

import vlserve
from tests.conftest import REPOSITORY, session_of, until, user
from tests.test_engine import fake

FAKE = {"model": "a", "command": fake(), "env": {"PYTHONPATH": str(REPOSITORY)}}


def write(folder: pathlib.Path, **settings: object) -> str:
    path = folder / "c.yaml"
    path.write_text(json.dumps({"engines": {"text": FAKE}, **settings}))  # JSON is YAML
    return str(path)


def refused(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "vlserve.cli", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr


def test_version_is_the_packages_own_with_and_without_metadata() -> None:
    checkout = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); import vlserve; print(vlserve.__version__)"
    alone = subprocess.run([sys.executable, "-I", "-S", "-c", checkout], capture_output=True, text=True, timeout=60)
    assert (alone.stdout, alone.stderr) == (f"{vlserve.__version__}\n", "")
    shown = subprocess.run([sys.executable, "-m", "vlserve.cli", "--version"], capture_output=True, text=True)
    assert shown.stdout == f"vlserve {vlserve.__version__}\n"
    pyproject = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert "version" in pyproject["project"]["dynamic"]
    assert pyproject["tool"]["hatch"]["version"]["path"] == "vlserve/__init__.py"


def test_busy_port_is_told_at_once(tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = refused("serve", "--config", write(tmp_path), "--port", str(port))
    assert f"Cannot listen on 127.0.0.1:{port}" in message
    assert "--port" in message


def test_public_address_without_keys_is_refused(tmp_path: pathlib.Path) -> None:
    assert "--allow-unauthenticated" in refused("serve", "--config", write(tmp_path), "--host", "0.0.0.0")


def test_mistakes_in_the_config_are_told(tmp_path: pathlib.Path) -> None:
    assert "Did you mean server?" in refused("serve", "--config", write(tmp_path, sever={}))
    assert "default.yaml" in refused("serve", "--config", str(tmp_path / "none.yaml"))
    assert "Did you mean one-gpu-80g.yaml?" in refused("serve", "--config", "one-gpu-80.yaml")
    (tmp_path / "twice.yaml").write_text("server: {}\nserver: {}\n")
    assert "'server' is given twice\n  in \"twice.yaml\"" in refused("serve", "--config", str(tmp_path / "twice.yaml"))


def test_model_folder_that_is_none_is_told_at_once(tmp_path: pathlib.Path) -> None:
    message = refused("serve", "--config", write(tmp_path, engines={"text": {"model": "./txt"}}), "--port", "0")
    assert f"engines.text.model: there is no model in {tmp_path / 'txt'}" in message
    assert "clone" not in message
    demo = write(tmp_path, engines={"text": {"model": "../samples/demo-models/text"}})
    assert "The demo models come with a clone of the repository" in refused("serve", "--config", demo, "--port", "0")


def test_plan_prints_gpus_memory_and_start_lines_and_starts_nothing(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-m", "vlserve.cli", "plan", "--machine", "1xH100-80G", "--config", "one-gpu-80g.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    for engine in ("text: GPU 0, tensor_parallel_size 1", "vision: GPU 0, tensor_parallel_size 1"):
        assert engine in done.stdout
    assert "weights 14.2 + reserve" in done.stdout
    assert done.stdout.count("CUDA_VISIBLE_DEVICES=0 vllm serve --model Qwen/Qwen2.5-") == 2
    assert "24 GiB" in refused("plan", "--machine", "1x24G", "--config", "default.yaml")


@pytest.mark.parametrize(("spec", "engines"), [("1x80G", ["vision"]), ("2x80G", ["text", "vision"])])
def test_default_is_what_measured_best_for_so_many_gpus(spec: str, engines: list[str]) -> None:
    command = [sys.executable, "-m", "vlserve.cli", "plan", "--machine", spec]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert [line.split(":")[0] for line in done.stdout.splitlines() if ": GPU" in line] == engines
    assert ("--config one-gpu-80g.yaml" in done.stderr) == (len(engines) == 1)


async def start(config: str, folder: pathlib.Path, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vlserve.cli", "serve", "--config", config, "--port", "0"),
        env={**os.environ, "TMPDIR": str(folder), **environment},
        stderr=asyncio.subprocess.PIPE,
    )


async def read_until(process: asyncio.subprocess.Process, words: str) -> str:
    assert process.stderr
    seen = ""
    async with asyncio.timeout(30):
        while words not in seen:
            line = await process.stderr.readline()
            assert line, seen
            seen += line.decode()
    return seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_running_answers_finish_before_the_service_ends(
    short_folder: pathlib.Path, number: signal.Signals
) -> None:
    process = await start(write(short_folder), short_folder)
    seen = await read_until(process, "text engine: ready")
    url = seen.split("listens on ")[1].split()[0]
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{url}/v1/chat/completions", json={"messages": user("x"), "user": "slow", "stream": True}
        ) as answer,
    ):
        await answer.content.readany()
        process.send_signal(number)
        text = await answer.text()
    assert "three" in text
    assert text.endswith("data: [DONE]\n\n")
    rest = await process.communicate()
    assert process.returncode == 0
    assert b"text engine: stopped" in rest[1]
    assert not list(short_folder.glob("vlserve-*"))


async def test_a_second_signal_ends_running_answers_now_and_tells_them(short_folder: pathlib.Path) -> None:
    process = await start(write(short_folder), short_folder)
    seen = await read_until(process, "text engine: ready")
    url = seen.split("listens on ")[1].split()[0]
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{url}/v1/chat/completions", json={"messages": user("x"), "user": "drip", "stream": True}
        ) as answer,
    ):
        await answer.content.readany()
        process.send_signal(signal.SIGINT)
        await read_until(process, "ending: up to 30 s for 1 running answers")
        process.send_signal(signal.SIGINT)
        text = await answer.text()
    assert "engine_unavailable" in text.split("\n\n")[-2]
    assert "[DONE]" not in text
    async with asyncio.timeout(10):
        rest = (await process.communicate())[1]
    assert process.returncode == 0
    assert b"Traceback" not in rest


async def test_sigterm_while_vllm_is_asked_for_its_flags_leaves_nothing(short_folder: pathlib.Path) -> None:
    """A vLLM whose --help takes for ever, found on PYTHONPATH."""
    package = short_folder / "site" / "vllm" / "entrypoints"
    for module in ("openai", "cli"):
        (package / module).mkdir(parents=True)
        (package / module / "__init__.py").touch()
    for parent in (package, package.parent):
        (parent / "__init__.py").touch()
    pid_file = short_folder / "pid"
    slow = f"import os, pathlib, time\npathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))\ntime.sleep(60)\n"
    (package / "openai" / "api_server.py").write_text(slow)
    (package / "cli" / "main.py").write_text(slow)
    config = write(short_folder, engines={"text": {"model": "org/m"}})
    process = await start(
        config, short_folder, PYTHONPATH=str(short_folder / "site"), XDG_CACHE_HOME=str(short_folder / "cache")
    )
    await read_until(process, "which flags it knows")
    await until(pid_file.exists)
    await until(lambda: bool(pid_file.read_text()))
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert process.returncode == 0
    assert not pathlib.Path(f"/proc/{pid_file.read_text()}").exists()


async def test_sockets_are_for_this_user_only(short_folder: pathlib.Path) -> None:
    process = await start(write(short_folder), short_folder)
    await read_until(process, "text engine: ready")
    (run,) = short_folder.glob("vlserve-*")
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    process.terminate()
    await process.communicate()
    assert session_of(process.pid) == []
