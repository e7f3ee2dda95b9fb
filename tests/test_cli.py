"""`vlserve serve` as a process: invalid configs, signals and shutdown."""

import asyncio
import json
import os
import pathlib
import re
import signal
import socket
import stat
import subprocess
import sys
import tomllib
from typing import Any

import aiohttp
import pytest

import vlserve
from tests.conftest import REPOSITORY, is_alive, session_of, until, user
from tests.engines.fleets import fake
from vlserve import cli

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


def test_busy_port_is_reported_at_once(tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = refused("serve", "--config", write(tmp_path), "--port", str(port))
    assert f"Cannot listen on 127.0.0.1:{port}: Address already in use. " in message
    assert "--port" in message
    message = refused("serve", "--config", write(tmp_path), "--host", "192.0.2.1", "--allow-unauthenticated")
    assert "Cannot assign requested address. Choose another host with --host." in message
    message = refused("serve", "--config", write(tmp_path), "--host", "x.invalid", "--allow-unauthenticated")
    assert "Choose another host with --host." in message


def test_unknown_arguments_are_reported_with_the_usage_of_their_command() -> None:
    for arguments in (("serve", "--prot", "8001"), ("serve", "configs/demo-cpu.yaml")):
        message = refused(*arguments)
        assert "usage: vlserve serve [-h] [--config CONFIG]" in message
        assert f"vlserve serve: error: unrecognized arguments: {' '.join(arguments[1:])}" in message


def test_closed_output_does_not_make_a_command_fail() -> None:
    command = f"exec {sys.executable} -m vlserve.cli key ana >&-"
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)


@pytest.mark.parametrize("arguments", [["key", "ana"], ["doctor", "--config", "no-such-file.yaml"]])
def test_output_that_nobody_reads_ends_a_command_silently(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "vlserve.cli", *arguments]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writing)
    assert done.returncode == 128 + signal.SIGPIPE
    assert "BrokenPipe" not in done.stderr
    assert "Traceback" not in done.stderr


def test_public_address_without_keys_is_refused(tmp_path: pathlib.Path) -> None:
    assert "--allow-unauthenticated" in refused("serve", "--config", write(tmp_path), "--host", "0.0.0.0")


PROBLEMS: list[tuple[dict[str, Any], str]] = [
    ({"server": {"api_keys_file": "none.txt"}}, "server.api_keys_file: cannot read"),
    ({"server": {"api_keys_file": "empty.txt"}}, "holds no key. `vlserve key NAME` makes one."),
    (
        {"server": {"port": 9419, "metrics_listen": "127.0.0.1:9419"}},
        "server.metrics_listen 127.0.0.1:9419 must have a different port from server.port",
    ),
    (
        {"server": {"metrics_listen": "0.0.0.0:9400", "api_keys_env": "SOME_KEYS"}},
        "server.metrics_listen 0.0.0.0:9400 can be read by no API key",
    ),
    ({"server": {"api_keys_file": "."}}, "Is a directory"),
    ({"server": {"api_keys_env": "NO_SUCH_KEYS"}}, "the environment variable NO_SUCH_KEYS holds no key"),
    ({"server": {"host": "0.0.0.0"}}, "server.host 0.0.0.0 can be reached from other machines and no API key is set"),
    (
        {"engines": {"text": {"model": "a", "url": "http://127.0.0.1:9", "url_api_key_env": "NO_SUCH_KEY"}}},
        "engines.text.url_api_key_env: the environment variable NO_SUCH_KEY is empty",
    ),
    ({"fetch": {"denied_domains": ["a b"]}}, "fetch.denied_domains: 'a b' is not a domain"),
    ({"files": {"folder": "."}}, "contains other files"),
    ({"files": {"folder": "empty.txt/below"}}, "files.folder: cannot use"),
]


@pytest.mark.parametrize("command", ["serve", "plan", "doctor"])
def test_plan_and_doctor_report_the_same_errors_as_serve(
    tmp_path: pathlib.Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOME_KEYS", "ana:sk-1")
    (tmp_path / "empty.txt").touch()
    for settings, message in PROBLEMS:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
        server = {"port": port, **settings.get("server", {})}
        config = write(tmp_path, **{**settings, "server": server})
        if command == "serve":  # in a process of its own: what it does not refuse, it serves
            assert message in refused(command, "--config", config), settings
            continue
        code = cli.main([command, "--config", config])
        output = capsys.readouterr()
        assert message in output.out + output.err, settings
        assert code == (1 if command == "doctor" else 2)


def test_plan_accepts_the_options_of_serve(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOME_KEYS", "ana:sk-1")
    public = ["--config", write(tmp_path), "--host", "0.0.0.0", "--port", "0"]
    assert cli.main(["plan", *public]) == 2
    assert cli.main(["plan", *public, "--api-keys-env", "SOME_KEYS"]) == 0
    assert cli.main(["plan", *public, "--allow-unauthenticated"]) == 0
    capsys.readouterr()
    assert cli.main(["doctor", *public]) == 1
    assert cli.main(["doctor", *public, "--api-keys-env", "SOME_KEYS"]) == 0
    assert "1 API key" in capsys.readouterr().out


def test_plan_for_another_machine_only_warns_of_what_is_missing_here(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path, server={"api_keys_env": "NO_SUCH_KEYS"})
    assert cli.main(["plan", "--config", config, "--machine", "2x80G"]) == 0
    assert (
        "serve would refuse this config on this machine: server.api_keys_env: the environment"
        in capsys.readouterr().err
    )


def test_mistakes_in_the_config_are_reported(tmp_path: pathlib.Path) -> None:
    assert "Did you mean server?" in refused("serve", "--config", write(tmp_path, sever={}))
    assert "default.yaml" in refused("serve", "--config", str(tmp_path / "none.yaml"))
    assert "Did you mean one-gpu-80g.yaml?" in refused("serve", "--config", "one-gpu-80.yaml")
    (tmp_path / "twice.yaml").write_text("server: {}\nserver: {}\n")
    assert "'server' is given twice\n  in \"twice.yaml\"" in refused("serve", "--config", str(tmp_path / "twice.yaml"))


def test_missing_model_folder_is_reported_at_once(tmp_path: pathlib.Path) -> None:
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


@pytest.mark.parametrize(
    ("spec", "engines", "reason"),
    [
        ("1x24G", {"vision": "0"}, "one GPU of 24 GiB has too little memory for both models"),
        ("1x48G", {"vision": "0"}, "one GPU of 48 GiB has too little memory for both models"),
        ("1x80G", {"text": "0", "vision": "0"}, "both models share the GPU of 79 GiB"),
        ("1xH200-141G", {"text": "0", "vision": "0"}, "both models share the GPU of 140 GiB"),
        ("2x80G", {"text": "0", "vision": "1"}, "one model on each"),
        ("8x80G", {"text": "0", "vision": "1"}, "one model on each"),
    ],
)
def test_default_config_depends_on_the_gpus(spec: str, engines: dict[str, str], reason: str) -> None:
    command = [sys.executable, "-m", "vlserve.cli", "plan", "--machine", spec]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    planned = re.findall(r"^(\w+): GPU (\d)", done.stdout, flags=re.MULTILINE)
    assert dict(planned) == engines
    assert reason in done.stdout.splitlines()[0]
    assert '--limit-mm-per-prompt \'{"image":8,"video":0}\'' in done.stdout
    assert ("CUDA MPS" in done.stdout) == (list(engines.values()) == ["0", "0"])
    assert ("or --config eight-gpus.yaml" in done.stdout) == spec.startswith("8x")


def test_plan_describes_replicas(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--machine", "8x80G", "--config", "eight-gpus-replicas.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "text: GPU 0, 1, 2, 3, tensor_parallel_size 1, data_parallel_size 4, 74.3 GiB on each" in lines
    assert sum(line.endswith("requests of 32,768 in each replica") for line in lines) == 2


@pytest.mark.parametrize(("spec", "preset"), [("4x24G", "tensor-parallel-4.yaml"), ("8x80G", "eight-gpus.yaml")])
def test_presets_named_for_unused_gpus_use_them_all(spec: str, preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--machine", spec]) == 0
    assert f"or --config {preset}" in capsys.readouterr().out
    assert cli.main(["plan", "--machine", spec, "--config", preset]) == 0
    assert "not used" not in capsys.readouterr().out


async def start(config: str, folder: pathlib.Path, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vlserve.cli", "serve", "--config", config, "--port", "0"),
        env={**os.environ, "TMPDIR": str(folder), **environment},
        stderr=asyncio.subprocess.PIPE,
    )


async def read_until(process: asyncio.subprocess.Process, words: str) -> str:
    assert process.stderr
    seen = ""
    async with asyncio.timeout(60):
        while words not in seen:
            line = await process.stderr.readline()
            assert line, seen
            seen += line.decode()
    return seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
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


async def test_closed_terminal_does_not_end_a_service_under_nohup(short_folder: pathlib.Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *("nohup", sys.executable, "-m", "vlserve.cli", "serve", "--config", write(short_folder), "--port", "0"),
        env={**os.environ, "TMPDIR": str(short_folder)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    seen = await read_until(process, "text engine: ready")
    process.send_signal(signal.SIGHUP)
    url = seen.split("listens on ")[1].split()[0]
    async with aiohttp.ClientSession() as session:
        body = {"messages": user("x"), "user": "slow", "stream": True}
        for _ in range(2):
            async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                assert (await answer.text()).endswith("data: [DONE]\n\n")
    process.send_signal(signal.SIGTERM)
    _, log = await process.communicate()
    assert process.returncode == 0
    assert b"text engine: stopped" in log


async def test_a_second_signal_cancels_running_answers_with_an_error(short_folder: pathlib.Path) -> None:
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
        await read_until(process, "shutting down: up to 30 s for 1 running requests")
        process.send_signal(signal.SIGINT)
        text = await answer.text()
    assert "engine_unavailable" in text.split("\n\n")[-2]
    assert "[DONE]" not in text
    async with asyncio.timeout(60):
        rest = (await process.communicate())[1]
    assert process.returncode == 0
    assert b"Traceback" not in rest


def fake_vllm(folder: pathlib.Path) -> dict[str, str]:
    """Install a vLLM that never answers, and writes its pid and arguments to ``folder``/called. Returns variables with
    which it is used."""
    package = folder / "site" / "vllm" / "entrypoints"
    for module in ("openai", "cli"):
        (package / module).mkdir(parents=True)
        (package / module / "__init__.py").touch()
    for parent in (package, package.parent):
        (parent / "__init__.py").touch()
    called = f"pathlib.Path({str(folder / 'called')!r})"
    noted = f"{called}.write_text(' '.join([str(os.getpid()), *sys.argv]))"
    slow = f"import os, pathlib, sys, time\n{noted}\ntime.sleep(1e6)\n"
    (package / "openai" / "api_server.py").write_text(slow)
    (package / "cli" / "main.py").write_text(slow)
    return {"PYTHONPATH": str(folder / "site"), "XDG_CACHE_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}


async def read_call(folder: pathlib.Path) -> tuple[int, list[str]]:
    """The pid and arguments of ``fake_vllm``."""
    await until(lambda: (folder / "called").exists() and bool((folder / "called").read_text()))
    pid, *arguments = (folder / "called").read_text().split()
    return int(pid), arguments


async def test_interrupt_while_vllm_is_asked_for_its_flags_leaves_nothing(short_folder: pathlib.Path) -> None:
    environment = fake_vllm(short_folder)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vlserve.cli", "plan"),
        *("--config", write(short_folder, engines={"text": {"model": "org/m"}})),
        env={**os.environ, **environment},
        stderr=asyncio.subprocess.PIPE,
    )
    await read_until(process, "which flags it knows")
    pid, arguments = await read_call(short_folder)
    assert "--help=all" in arguments
    process.send_signal(signal.SIGINT)
    _, output = await process.communicate()
    assert process.returncode == 130, output
    assert not is_alive(pid)


async def test_engines_start_without_asking_vllm_for_its_flags_first(short_folder: pathlib.Path) -> None:
    config = write(short_folder, engines={"text": {"model": "org/m"}})
    process = await start(config, short_folder, **fake_vllm(short_folder))
    pid, arguments = await read_call(short_folder)
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert "--uds" in arguments
    assert not any(argument.startswith("--help") for argument in arguments)
    assert process.returncode == 0
    assert not is_alive(pid)


async def test_sockets_are_accessible_to_this_user_only(short_folder: pathlib.Path) -> None:
    process = await start(write(short_folder), short_folder)
    await read_until(process, "text engine: ready")
    (run,) = short_folder.glob("vlserve-*")
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    process.terminate()
    await process.communicate()
    assert session_of(process.pid) == []
