"""Engines with pipeline stages and data-parallel copies: their GPUs, memory and CUDA MPS."""

from typing import Any

import pytest

from tests.engines.test_memory import RUN, TEXT, VISION, planned
from vlserve.config.settings import Config
from vlserve.engines import mps_plan
from vlserve.errors import ConfigError


@pytest.mark.parametrize(
    "arguments", [["--data-parallel-size", "2"], ["--data_parallel_size=2"], ["-dp", "2"], ["-pp=2"]]
)
def test_stages_and_copies_of_extra_args_have_gpus_of_their_own(arguments: list[str]) -> None:
    length = {"max_model_len": 32_768}
    made = planned("3x80G", text={"model": TEXT, **length, "extra_args": arguments}, vision={"model": VISION, **length})
    assert {name: one.environment["CUDA_VISIBLE_DEVICES"] for name, one in made.items()} == {
        "text": "0,1",
        "vision": "2",
    }
    assert [one.budget.is_shared for one in made.values() if one.budget] == [False, False]


def test_pipeline_stage_has_a_part_of_weights_and_cache_and_a_copy_has_all() -> None:
    def budget(*arguments: str) -> Any:
        return planned("2x80G", text={"model": TEXT, "max_model_len": 32_768, "extra_args": [*arguments]})[
            "text"
        ].budget

    whole, copy, stage = budget(), budget("--data-parallel-size", "2"), budget("--pipeline-parallel-size", "2")
    assert (copy.weights, copy.tokens) == (whole.weights, whole.tokens)
    assert stage.weights == whole.weights // 2
    assert stage.tokens / stage.kv_cache == pytest.approx(2 * whole.tokens / whole.kv_cache, rel=1e-3)


def test_too_few_gpus_for_stages_and_copies_are_refused() -> None:
    text = {"model": TEXT, "tensor_parallel_size": 2, "extra_args": ["-pp", "2", "--data-parallel-size", "2"]}
    message = r"engines\.text\.tensor_parallel_size needs 8 GPUs with its extra_args, but there are 4\."
    with pytest.raises(ConfigError, match=message):
        planned("4x80G", text=text)
    assert planned("8x80G", text={**text, "gpus": [*range(8)], "max_model_len": 32_768})
    with pytest.raises(ValueError, match="gpus names 2 GPUs but tensor_parallel_size and extra_args need 8"):
        planned("8x80G", text={**text, "gpus": [0, 1]})


def test_copies_of_an_engine_on_the_other_ones_gpus_share_a_daemon() -> None:
    copies = {"gpus": [0, 1], "extra_args": ["--data-parallel-size", "2"]}
    length = {"max_model_len": 32_768}
    made = planned("2x80G", text={"model": TEXT, **length, **copies}, vision={"model": VISION, **length, "gpus": [1]})
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


def test_pictures_are_not_kept_for_copies_of_an_engine() -> None:
    for arguments in (["-dp", "2"], ["--data-parallel-size=2"], ["-asc", "2"]):
        engines = Config.model_validate({"engines": {"vision": {"model": VISION, "extra_args": arguments}}}).engines
        assert engines.vision
        assert not engines.vision.keeps_pictures


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["-pp", "2", "--nnodes", "2"], 8),
        (["-dp", "8", "--data-parallel-rank", "3"], 8),
        (["-dp", "8", "-dpl", "2"], 16),
        (["-dp", "8", "--data-parallel-size-local=0"], 8),
        (["-dp", "two"], 8),
    ],
)
def test_ranks_on_other_machines_need_no_gpu_of_this_one(arguments: list[str], count: int) -> None:
    settings = {"model": TEXT, "tensor_parallel_size": 8, "extra_args": arguments}
    text = Config.model_validate({"engines": {"text": settings}}).engines.text
    assert text
    assert text.gpu_count == count
