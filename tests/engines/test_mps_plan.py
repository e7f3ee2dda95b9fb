"""CUDA MPS: when it is used."""

import pathlib
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from vlserve.commands import plan_text
from vlserve.commands.doctor import checks
from vlserve.config.engine_settings import EngineName
from vlserve.config.settings import Config
from vlserve.engines import mps_control, plan
from vlserve.engines.gpu_memory import GIB
from vlserve.engines.machine import Machine
from vlserve.engines.model import known_models
from vlserve.engines.plan import Plan
from vlserve.engines.vllm_installation import Vllm

CONTROL = REPOSITORY / "tests" / "fakes" / "fake_mps_control.py"
RUN = pathlib.Path("/run/v")
MODELS: dict[EngineName, str] = {"text": "Qwen/Qwen2.5-7B-Instruct", "vision": "Qwen/Qwen2.5-VL-7B-Instruct"}


def planned(
    gpus: int,
    *,
    program: str | None = "/usr/bin/mps",
    daemon: str | None = None,
    is_cpu: bool = False,
    environment: Any = None,
    **engines: Any,
) -> Plan:
    settings = {name: {"model": model, "max_model_len": 32_768} for name, model in MODELS.items()}
    mps = engines.pop("mps", "auto")
    settings = {name: {**one, **engines.get(name, {})} for name, one in settings.items()}
    parsed = Config.model_validate({"engines": {**settings, "mps": mps}})
    models = {name: known_models()[model] for name, model in MODELS.items()}
    names = tuple(str(number) for number in range(gpus))
    vllm = Vllm("0.32.0", is_cpu, ("vllm", "serve"), None)
    here = Machine((0, 1), vllm, names, 80 * GIB, models, mps_program=program, mps_daemon=daemon)
    return plan.make(parsed, here, environment or {}, RUN)


def pipes(made: Plan) -> list[str | None]:
    return [one.environment.get("CUDA_MPS_PIPE_DIRECTORY") for one in made.engines]


def test_engines_on_one_gpu_share_a_daemon() -> None:
    made = planned(1)
    assert made.mps
    assert made.mps.program == "/usr/bin/mps"
    assert pipes(made) == ["/run/v/mps/pipe"] * 2
    assert {one.environment["CUDA_MPS_LOG_DIRECTORY"] for one in made.engines} == {"/run/v/mps/log"}


def test_engines_on_the_same_two_gpus_share_a_daemon() -> None:
    both = {"tensor_parallel_size": 2, "gpus": [0, 1]}
    assert pipes(planned(2, text=both, vision=both)) == ["/run/v/mps/pipe"] * 2


@pytest.mark.parametrize("options", [{"gpus": 2}, {"gpus": 0, "is_cpu": True}])
def test_engines_that_share_no_gpu_get_none(options: dict[str, Any]) -> None:
    made = planned(**options)
    assert made.mps is None
    assert pipes(made) == [None, None]


def test_off_starts_none() -> None:
    made = planned(1, mps="off")
    assert made.mps
    assert (made.mps.program, pipes(made)) == (None, [None, None])


@pytest.mark.parametrize("mps", ["auto", "off"])
def test_daemon_of_the_environment_is_used_and_not_doubled(mps: str) -> None:
    made = planned(1, mps=mps, environment={"CUDA_MPS_PIPE_DIRECTORY": "/mps/pipe"})
    assert made.mps
    assert (made.mps.program, pipes(made)) == (None, ["/mps/pipe"] * 2)
    assert "/mps/pipe" in made.mps.text


@pytest.mark.parametrize("mps", ["auto", "off"])
def test_daemon_at_the_default_folder_is_used_and_not_doubled(mps: str) -> None:
    made = planned(1, mps=mps, daemon="/tmp/nvidia-mps")
    assert made.mps
    assert (made.mps.program, pipes(made)) == (None, [None, None])
    assert "/tmp/nvidia-mps is used" in made.mps.text


def test_plan_and_doctor_report_a_missing_program_and_its_remedy() -> None:
    made = planned(1, program=None)
    assert pipes(made) == [None, None]
    text = "\n".join(plan_text.describe(made, Machine((0,), None)))
    finding = checks.judge_mps(made)
    assert finding
    assert finding.verdict is checks.Verdict.WARNING
    for seen in (text, finding.text):
        assert "1.2 to 1.4 times as many pictures" in seen
        assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in seen
    available = checks.judge_mps(planned(1))
    assert available
    assert (available.verdict, "/usr/bin/mps" in available.text) == (checks.Verdict.OK, True)
    assert checks.judge_mps(planned(2)) is None


def test_program_is_found_in_path(tmp_path: pathlib.Path) -> None:
    assert mps_control.find_program({"PATH": str(tmp_path)}) is None
    (tmp_path / mps_control.PROGRAM).symlink_to(CONTROL)
    assert mps_control.find_program({"PATH": str(tmp_path)}) == str(tmp_path / mps_control.PROGRAM)
