"""Models are fetched before their engine starts, with progress, once; over a hub on the loopback address."""

import asyncio
import dataclasses
import os
import pathlib
import sys

import pytest

from tests.conftest import REPOSITORY, until
from tests.fake_hub import hub_with
from tests.test_engine import fake
from vlserve import plan, restarts
from vlserve.config import Config, EngineSettings
from vlserve.engine import Engine
from vlserve.machine import FETCH, Machine, Vllm
from vlserve.metrics import Metrics

FILES = {"config.json": b"{}", "model.safetensors": b"w" * 3_000_000, "pytorch_model.bin": b"b" * 9_000_000}


def environment(home: pathlib.Path, endpoint: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HF_HOME": str(home),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": str(REPOSITORY),
    }


def settings_of(config: Config) -> EngineSettings:
    assert config.engines.text
    return config.engines.text


async def fetch(home: pathlib.Path, endpoint: str, model: str = "org/small") -> tuple[int | None, str]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vlserve.weights", model),
        env=environment(home, endpoint),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        return (await child.wait(), (await child.stdout.read()).decode()) if child.stdout else (None, "")


async def test_model_is_fetched_once_without_other_formats_and_then_needs_no_hub(tmp_path: pathlib.Path) -> None:
    async with hub_with("org/small", FILES) as (endpoint, downloaded):
        code, said = await fetch(tmp_path, endpoint)
        assert (code, sorted(downloaded)) == (0, ["config.json", "model.safetensors"]), said
        assert "org/small: 0.00 GB to download into" in said
        assert "org/small: complete in" in said
        code, said = await fetch(tmp_path, endpoint)
        assert (code, len(downloaded)) == (0, 2)
    code, said = await fetch(tmp_path, endpoint)
    assert code == 0, said
    assert "the hub does not answer" in said
    code, said = await fetch(tmp_path / "empty", endpoint)
    assert code == 1
    assert "Error" in said


async def test_engine_starts_after_its_model_came_and_restarts_without_asking_again(
    short_folder: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(restarts, "FIRST_BACKOFF_S", 0.1)
    settings = {"model": "org/small", "command": fake("crash"), "ready_timeout_s": 5}
    config = Config.model_validate({"engines": {"text": settings}})
    async with hub_with("org/small", FILES) as (endpoint, downloaded):
        (planned,) = plan.make(config, Machine((0,), None), environment(tmp_path, endpoint), short_folder / "r").engines
        planned = dataclasses.replace(planned, fetch=(*FETCH, "org/small"))
        engine = Engine("text", settings_of(config), planned, Metrics())
        engine.start()
        said = ""

        def crashed_twice() -> bool:
            nonlocal said
            said += capfd.readouterr().err
            return said.count("Loading weights") >= 2

        await until(crashed_twice, timeout_s=60)
        await engine.stop()
    assert len(downloaded) == 2
    assert said.count("org/small: complete in") == 1
    assert said.index("org/small: complete in") < said.index("Loading weights")


async def test_model_that_is_not_on_the_hub_is_told_with_what_to_do(
    short_folder: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config.model_validate({"engines": {"text": {"model": "org/typo", "command": fake()}}})
    async with hub_with("org/small", FILES) as (endpoint, _):
        (planned,) = plan.make(config, Machine((0,), None), environment(tmp_path, endpoint), short_folder / "r").engines
        planned = dataclasses.replace(planned, fetch=(*FETCH, "org/typo"))
        engine = Engine("text", settings_of(config), planned, Metrics())
        engine.start()
        await until(lambda: "text engine: given_up" in caplog.text, timeout_s=60)
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
