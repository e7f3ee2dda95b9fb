"""Engines with pipeline stages and data-parallel replicas: their GPUs, memory and CUDA MPS."""

from typing import Any

import pytest

from tests.engines.test_memory import RUN, TEXT, VISION, planned
from vlserve.commands import plan_text
from vlserve.config.settings import Config
from vlserve.engines import model_files, mps_plan, plan
from vlserve.engines.gpu_memory import GIB
from vlserve.engines.machine import Machine
from vlserve.engines.vllm_installation import Vllm
from vlserve.errors import ConfigError


@pytest.mark.parametrize(
    "parallel",
    [
        {"data_parallel_size": 2},
        {"tensor_parallel_size": 2},
        {"extra_args": ["--pipeline-parallel-size", "2"]},
        {"extra_args": ["--pipeline_parallel_size=2"]},
        {"extra_args": ["-pp=2"]},
    ],
)
def test_ranks_stages_and_replicas_have_gpus_of_their_own(parallel: dict[str, Any]) -> None:
    length = {"max_model_len": 32_768}
    made = planned("3x80G", text={"model": TEXT, **length, **parallel}, vision={"model": VISION, **length})
    assert {name: one.environment["CUDA_VISIBLE_DEVICES"] for name, one in made.items()} == {
        "text": "0,1",
        "vision": "2",
    }
    assert [one.budget.is_shared for one in made.values() if one.budget] == [False, False]


def test_pipeline_stage_has_a_part_of_weights_and_cache_and_a_replica_has_all() -> None:
    def budget(**settings: Any) -> Any:
        return planned("2x80G", text={"model": TEXT, "max_model_len": 32_768, **settings})["text"].budget

    whole, replica = budget(), budget(data_parallel_size=2)
    stage = budget(extra_args=["--pipeline-parallel-size", "2"])
    assert (replica.weights, replica.tokens) == (whole.weights, whole.tokens)
    assert stage.weights == whole.weights // 2
    assert stage.tokens / stage.kv_cache == pytest.approx(2 * whole.tokens / whole.kv_cache, rel=1e-3)


def test_too_few_gpus_for_stages_and_replicas_are_refused() -> None:
    text = {"model": TEXT, "tensor_parallel_size": 2, "data_parallel_size": 2, "extra_args": ["-pp", "2"]}
    reason = "tensor_parallel_size and data_parallel_size and extra_args need 8"
    with pytest.raises(ConfigError, match=rf"engines\.text: {reason}, but this machine has 4 GPUs\."):
        planned("4x80G", text=text)
    assert planned("8x80G", text={**text, "gpus": [*range(8)], "max_model_len": 32_768})
    with pytest.raises(ValueError, match=f"gpus names 2 GPUs but {reason}; they must be equal"):
        planned("8x80G", text={**text, "gpus": [0, 1]})
    with pytest.raises(ConfigError, match=r"engines\.text: tensor_parallel_size is 4, but this machine has 2 GPUs\."):
        planned("2x80G", text={"model": TEXT, "tensor_parallel_size": 4})
    with pytest.raises(ConfigError, match=r"engines\.text: gpus name GPU 2, but .* has 2 GPUs, 0 to 1\."):
        planned("2x80G", text={"model": TEXT, "gpus": [2]})


def test_replicas_are_a_flag_of_vllm_and_a_setting_only() -> None:
    text = {"model": TEXT, "max_model_len": 32_768}
    argv = planned("2x80G", text={**text, "data_parallel_size": 2})["text"].argv
    assert argv[argv.index("--data-parallel-size") + 1] == "2"
    for setting, arguments in (
        ("data_parallel_size", ["-dp", "2"]),
        ("data_parallel_size", ["--data_parallel_size=2"]),
        ("tensor_parallel_size", ["-tp=2"]),
    ):
        for gpus in ({}, {"gpus": [0, 1]}):
            with pytest.raises(ConfigError, match=rf"is the setting {setting}; write it there"):
                planned("2x80G", text={**text, "extra_args": arguments, **gpus})


def test_message_names_a_division_of_gpus_that_has_more_memory_or_whole_heads() -> None:
    text = {"model": TEXT, "max_model_len": 32_768, "data_parallel_size": 4}
    with pytest.raises(ConfigError, match=r"Options: .*tensor_parallel_size 2 with data_parallel_size 2"):
        planned("4x16G", text=text)
    assert planned("4x24G", text={**text, "tensor_parallel_size": 2, "data_parallel_size": 2})
    with pytest.raises(ConfigError, match=r"With 8 GPUs for 2 replicas these do: 1, 2, 4\.$"):
        planned("8x80G", text={**text, "tensor_parallel_size": 3, "data_parallel_size": 2})


def test_plan_of_replicas_without_a_gpu_says_what_is_of_each() -> None:
    text = {"model": TEXT, "max_model_len": 8192, "kv_cache_memory_bytes": "1GiB", "data_parallel_size": 2}
    settings = Config.model_validate({"engines": {"text": text}})
    models = model_files.read_models(settings)
    here = Machine((0, 1), Vllm("0.32.0", True, ("vllm",), None), models=models, ram_bytes=64 * GIB)
    lines = list(plan_text.describe(plan.make(settings, here, {}, RUN), here))
    assert any(line.startswith("text: on the CPU, ") and line.endswith(", data_parallel_size 2") for line in lines)
    assert any("KV cache 2.0 GiB = 18,724 tokens" in line and line.endswith(" in each replica") for line in lines)


def test_replicas_of_an_engine_on_the_other_ones_gpus_share_a_daemon() -> None:
    replicas = {"gpus": [0, 1], "data_parallel_size": 2}
    length = {"max_model_len": 32_768}
    made = planned("2x80G", text={"model": TEXT, **length, **replicas}, vision={"model": VISION, **length, "gpus": [1]})
    assert [one.environment["CUDA_MPS_PIPE_DIRECTORY"] for one in made.values()] == ["/run/v/mps/pipe"] * 2


def test_stages_of_an_engine_of_unknown_size_are_counted() -> None:
    engines = {
        "text": {"model": "org/unknown", "extra_args": ["-pp", "2"], "env": {"CUDA_VISIBLE_DEVICES": "0,1"}},
        "vision": {"model": VISION, "env": {"CUDA_VISIBLE_DEVICES": "1"}},
    }
    settings = Config.model_validate({"engines": engines}).engines
    environments = {name: one.env for name, one in settings.items()}
    made = mps_plan.make(settings, environments, "/usr/bin/mps", None, RUN)
    assert made
    assert made.engines == {"text", "vision"}


def test_pictures_are_not_kept_for_replicas_of_an_engine() -> None:
    for settings in ({"data_parallel_size": 2}, {"extra_args": ["-asc", "2"]}):
        engines = Config.model_validate({"engines": {"vision": {"model": VISION, **settings}}}).engines
        assert engines.vision
        assert not engines.vision.keeps_pictures


@pytest.mark.parametrize(
    ("replicas", "arguments", "count"),
    [
        (1, ["-pp", "2", "--nnodes", "2"], 8),
        (8, ["--data-parallel-rank", "3"], 8),
        (8, ["-dpl", "2"], 16),
        (8, ["--data-parallel-size-local=0"], 8),
        (1, ["-pp", "two"], 8),
    ],
)
def test_ranks_on_other_machines_need_no_gpu_of_this_one(replicas: int, arguments: list[str], count: int) -> None:
    parallel = {"tensor_parallel_size": 8, "data_parallel_size": replicas, "extra_args": arguments}
    settings = {"model": TEXT, **parallel}
    text = Config.model_validate({"engines": {"text": settings}}).engines.text
    assert text
    assert text.gpu_count == count
