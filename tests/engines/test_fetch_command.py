"""`vlserve fetch`, and engines that fetch their model before they start."""

import asyncio
import dataclasses
import json
import pathlib
import signal
import sys

import pytest

from tests.conftest import session_of, until
from tests.engines.downloads import FILES, LARGE, WEIGHTS, environment, settings_of
from tests.engines.fleets import fake
from tests.fakes.fake_hub import hub_with
from vlserve.config.settings import Config
from vlserve.engines import plan, restarts
from vlserve.engines.engine import Engine
from vlserve.engines.fetch_command import FETCH
from vlserve.engines.machine import Machine
from vlserve.engines.vllm_installation import Vllm
from vlserve.metrics import Metrics


async def vlserve(home: pathlib.Path, endpoint: str, *arguments: str, **more: str) -> tuple[int | None, str]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vlserve.cli", *arguments),
        env=environment(home, endpoint) | {"TMPDIR": "/tmp"} | more,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        said = (await child.communicate())[0].decode()
    assert "Traceback" not in said
    return child.returncode, said


def config_of(folder: pathlib.Path, **engines: object) -> str:
    path = folder / "c.yaml"
    path.write_text(json.dumps({"engines": engines}))
    return str(path)


async def test_fetch_command_downloads_every_model_or_one(tmp_path: pathlib.Path) -> None:
    config = config_of(tmp_path, text={"model": "org/small"}, vision={"model": "./folder"})
    async with hub_with("org/small", FILES) as hub:
        code, said = await vlserve(tmp_path, hub.endpoint, "fetch", "--config", config)
        assert code == 0, said
        assert "org/small: complete in" in said
        assert f"vision: {tmp_path / 'folder'} is a folder; nothing to fetch" in said
        assert sorted(hub.downloaded) == ["config.json", WEIGHTS]
        code, said = await vlserve(tmp_path, hub.endpoint, "fetch", "vision", "--config", config)
        assert (code, "org/small" in said) == (0, False)


async def test_fetch_command_fails_if_a_model_is_unavailable(tmp_path: pathlib.Path) -> None:
    config = config_of(tmp_path, text={"model": "org/typo"})
    async with hub_with("org/small", FILES) as hub:
        code, said = await vlserve(tmp_path, hub.endpoint, "fetch", "--config", config)
        assert code == 1
        assert "There is no model of this name" in said
        code, said = await vlserve(tmp_path, hub.endpoint, "fetch", "vision", "--config", config)
        assert code == 2
        assert "engines.vision: there is no such engine in this config" in said


@pytest.mark.parametrize(("option", "more"), [(["--from=modelscope"], {}), ([], {"VLLM_USE_MODELSCOPE": "True"})])
async def test_fetch_command_does_not_verify_modelscope_downloads(
    tmp_path: pathlib.Path, option: list[str], more: dict[str, str]
) -> None:
    config = config_of(tmp_path, text={"model": "org/small"})
    arguments = ("fetch", "--verify", *option, "--config", config)
    code, said = await vlserve(tmp_path, "http://127.0.0.1:9", *arguments, **more)
    assert (code, "--verify is for Hugging Face" in said) == (2, True), said


async def test_ctrl_c_ends_a_fetch_and_leaves_no_process(tmp_path: pathlib.Path) -> None:
    config = config_of(tmp_path, text={"model": "org/small"})
    async with hub_with("org/small", LARGE) as hub:
        hub.stall_after = [1_000_000]
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "vlserve.cli", "fetch", "--config", config),
            env=environment(tmp_path, hub.endpoint) | {"TMPDIR": "/tmp"},
            stderr=asyncio.subprocess.PIPE,
        )
        await until(lambda: bool(hub.begun_at))
        children = pathlib.Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        child.send_signal(signal.SIGINT)
        async with asyncio.timeout(60):
            said = (await child.communicate())[1].decode()
    assert "Traceback" not in said
    assert len(children) == 1
    assert session_of(int(children[0])) == []


async def test_engine_starts_after_its_download_and_restarts_without_the_hub(
    short_folder: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(restarts, "FIRST_BACKOFF_S", 0.1)
    settings = {"model": "org/small", "command": fake("crash"), "ready_timeout_s": 300}
    config = Config.model_validate({"engines": {"text": settings}})
    async with hub_with("org/small", FILES) as hub:
        (planned,) = plan.make(
            config, Machine((0,), None), environment(tmp_path, hub.endpoint), short_folder / "r"
        ).engines
        planned = dataclasses.replace(planned, fetch=(*FETCH, "org/small"))
        engine = Engine("text", settings_of(config), planned, Metrics())
        engine.start()
        said = ""

        def crashed_twice() -> bool:
            nonlocal said
            said += capfd.readouterr().err
            return said.count("Loading weights") >= 2

        await until(crashed_twice)
        await engine.stop()
    assert len(hub.downloaded) == 2
    assert said.count("org/small: complete in") == 1
    assert said.index("org/small: complete in") < said.index("Loading weights")


async def test_model_missing_from_the_hub_is_reported_with_advice(
    short_folder: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config.model_validate({"engines": {"text": {"model": "org/typo", "command": fake()}}})
    async with hub_with("org/small", FILES) as hub:
        (planned,) = plan.make(
            config, Machine((0,), None), environment(tmp_path, hub.endpoint), short_folder / "r"
        ).engines
        planned = dataclasses.replace(planned, fetch=(*FETCH, "org/typo"))
        engine = Engine("text", settings_of(config), planned, Metrics())
        engine.start()
        await until(lambda: "text engine: given_up" in caplog.text)
        await engine.stop()
    assert "its model could not be fetched: exit code 1" in caplog.text
    assert "There is no model of this name" in caplog.text


@pytest.mark.parametrize(
    ("settings", "inherited", "expected"),
    [
        ({}, {}, (*FETCH, "org/m")),
        ({"extra_args": ["--revision", "v2"]}, {}, (*FETCH, "org/m", "--revision=v2")),
        (
            {"extra_args": ["--revision=v2", "--download_dir=/d"]},
            {},
            (*FETCH, "org/m", "--revision=v2", "--download-dir=/d"),
        ),
        ({"extra_args": ["--load-format", "safetensors"]}, {}, (*FETCH, "org/m")),
        ({"extra_args": ["--load-format", "dummy"]}, {}, ()),
        ({"extra_args": ["--load_format=dummy"]}, {}, ()),
        ({"model": "/models/m"}, {}, ()),
        ({}, {"HF_HUB_OFFLINE": "1"}, ()),
        ({}, {"VLLM_USE_MODELSCOPE": "True"}, ()),
    ],
)
def test_only_hub_models_are_fetched(
    settings: dict[str, object], inherited: dict[str, str], expected: tuple[str, ...]
) -> None:
    config = Config.model_validate({"engines": {"text": {"model": "org/m", **settings}}})
    machine = Machine((0,), Vllm("0.32.0", False, ("vllm",), None), ("0",), 80 * 2**30)
    (planned,) = plan.make(config, machine, inherited, pathlib.Path("/run/v")).engines
    assert planned.fetch == expected
