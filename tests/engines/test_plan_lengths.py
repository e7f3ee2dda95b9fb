"""Lengths of requests that a model's config allows, checked before an engine starts."""

import json
import pathlib
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.engines.plans import CARDS, CPU, CPUS, RUN, value
from vlserve.config.settings import Config
from vlserve.engines import plan
from vlserve.engines.gpu_memory import GIB
from vlserve.engines.machine import Machine
from vlserve.engines.model_files import read_models
from vlserve.engines.plan import EnginePlan
from vlserve.engines.vllm_installation import Vllm
from vlserve.errors import ConfigError

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768, "rope_theta": 1e6}
LONG = {"max_position_embeddings": 131_072, "rope_parameters": YARN}
TEXT, VISION = "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct"
ALLOWED = {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": " True "}


def for_length(engine: str, settings: dict[str, Any], version: str = "0.32.0") -> EnginePlan:
    parsed = Config.model_validate({"engines": {engine: settings}})
    vllm = Vllm(version, False, ("vllm", "serve"), None)
    return plan.make(parsed, Machine(CPUS, vllm, CARDS, 80 * GIB, read_models(parsed)), {}, RUN).engines[0]


@pytest.mark.parametrize(
    ("engine", "settings", "numbers"),
    [
        ("text", {"model": TEXT, "max_model_len": 65_536}, ("65,536", "32,768")),
        ("text", {"model": TEXT + "-AWQ", "max_model_len": 65_536}, ("65,536", "32,768")),
        ("vision", {"model": VISION, "max_model_len": 200_000}, ("200,000", "128,000")),
        ("vision", {"model": VISION + "-AWQ", "max_model_len": 200_000}, ("200,000", "128,000")),
        ("text", {"model": TEXT, "max_model_len": 131_073, "extra_args": ["--hf-overrides", json.dumps(LONG)]}, ()),
        ("text", {"model": TEXT, "max_model_len": 65_536, "env": {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "0"}}, ()),
        # YaRN's factor alone extends nothing: vLLM expects max_position_embeddings to be scaled already.
        (
            "text",
            {
                "model": TEXT,
                "max_model_len": 65_536,
                "extra_args": ["--hf-overrides", json.dumps({"rope_parameters": YARN})],
            },
            ("65,536", "32,768"),
        ),
        # The text part of a vision model has its own limit, which an override of the whole does not reach.
        (
            "vision",
            {
                "model": VISION,
                "max_model_len": 200_000,
                "extra_args": ["--hf-overrides.max_position_embeddings", "256000"],
            },
            ("200,000", "128,000"),
        ),
    ],
)
def test_max_model_len_above_the_models_is_refused_with_both_numbers(
    engine: str, settings: dict[str, Any], numbers: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as error:
        for_length(engine, settings)
    assert f"engines.{engine}.max_model_len" in error.value.message
    assert all(number in error.value.message for number in numbers)
    assert "configs/long-context-128k.yaml" in error.value.message
    assert "--hf-overrides" in error.value.message


@pytest.mark.parametrize(
    "settings",
    [
        {"model": TEXT, "max_model_len": 32_768},
        {"model": "org/unknown", "max_model_len": 10_000_000},
        {"model": TEXT, "max_model_len": 40_000, "env": ALLOWED},
        {"model": TEXT, "max_model_len": 40_000, "extra_args": ["--hf-config-path", "/elsewhere"]},
        {"model": TEXT, "max_model_len": 131_072, "extra_args": ["--hf-overrides", json.dumps(LONG)]},
        {"model": TEXT, "max_model_len": 131_072, "extra_args": [f"--hf_overrides={json.dumps(LONG)}"]},
        {"model": TEXT, "max_model_len": 65_536, "extra_args": ["--hf-overrides.max_position_embeddings", "65536"]},
        {"model": TEXT, "max_model_len": 65_536, "extra_args": ["--hf_overrides.max_position_embeddings=64K"]},
        {
            "model": TEXT,
            "max_model_len": 65_536,
            "extra_args": [f"--hf-overrides.rope_parameters.{part}" for part in ("rope_type=linear", "factor=2")],
        },
        {"model": TEXT, "max_model_len": 65_536, "extra_args": ["--hf-overrides", "not JSON: vLLM says it"]},
    ],
)
def test_lengths_that_vllm_may_accept_are_planned(settings: dict[str, Any]) -> None:
    assert value(for_length("text", settings), "--max-model-len") == str(settings["max_model_len"])


def test_yarn_lengths_are_not_checked_for_older_vllm() -> None:
    arguments = ["--hf-overrides", json.dumps({"rope_parameters": YARN})]
    assert for_length("text", {"model": TEXT, "max_model_len": 65_536, "extra_args": arguments}, "0.26.0")


@pytest.mark.parametrize(
    ("kind", "change", "arguments", "longest"),
    # Measured with vLLM 0.32's own ModelConfig.
    [
        ("text", {}, [], 4096),
        ("text", {"seq_length": 2048}, [], 2048),
        ("text", {"model_max_length": 8192}, [], 8192),
        ("text", {"rope_scaling": {"type": "linear", "factor": 2.0}}, [], 8192),
        ("text", {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}}, [], 4096),
        ("text", {"sliding_window": 1024, "use_sliding_window": True}, ["--disable-sliding-window"], 1024),
        ("text", {"sliding_window": 1024, "use_sliding_window": False}, ["--disable-sliding-window"], 4096),
        ("text", {"sliding_window": 1024, "use_sliding_window": True}, [], 4096),
        ("vision", {"text_config": {"max_position_embeddings": 8192}}, [], 8192),
    ],
)
def test_longest_request_of_a_folder_is_that_of_its_config(
    tmp_path: pathlib.Path, kind: str, change: dict[str, Any], arguments: list[str], longest: int
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    tree = json.loads((REPOSITORY / "samples" / "demo-models" / kind / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**tree, **change}))
    settings = {"model": str(folder), "extra_args": arguments}
    assert for_length("text", {**settings, "max_model_len": longest})
    with pytest.raises(ConfigError, match=f"{longest + 1:,}.*{longest:,}"):
        for_length("text", {**settings, "max_model_len": longest + 1})


@pytest.mark.parametrize(
    "change",
    [
        {"max_position_embeddings": None},
        {"intermediate_size": [1, 2]},
        {"num_hidden_layers": "2"},
        {"num_key_value_heads": None},
        {"text_config": None},
        {"rope_scaling": {"factor": "auto"}},
        {"rope_parameters": {"all": {"rope_type": "linear", "factor": None}}},
    ],
)
def test_unusual_model_config_is_left_to_vllm(tmp_path: pathlib.Path, change: dict[str, Any]) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    tree = json.loads((REPOSITORY / "samples" / "demo-models" / "text" / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**tree, **change}))
    assert for_length("text", {"model": str(folder), "max_model_len": 1024})


def test_folder_whose_config_is_no_object_holds_no_model(tmp_path: pathlib.Path) -> None:
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ConfigError, match="there is no model in"):
        for_length("text", {"model": str(tmp_path)})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"enable_chunked_prefill": False, "max_num_batched_tokens": 2048, "max_model_len": 4096},
            r"max_num_batched_tokens 2,048 is less than max_model_len 4,096",
        ),
        ({"model": TEXT, "enable_chunked_prefill": False, "max_num_batched_tokens": 2048}, r"max_model_len 32,768"),
        ({"max_num_seqs": 512, "max_num_batched_tokens": 256}, r"max_num_batched_tokens 256 is less than max_num_seqs"),
        ({"model": TEXT + "-AWQ", "dtype": "float32"}, r"engines\.text\.dtype.*AWQ.*float16 or bfloat16"),
    ],
)
def test_settings_that_vllm_refuses_at_start_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        for_length("text", {"model": "org/m", **settings})


def test_heads_are_checked_on_the_cpu_too() -> None:
    parsed = Config.model_validate({"engines": {"text": {"model": TEXT, "tensor_parallel_size": 3}}})
    with pytest.raises(ConfigError, match="does not divide the 28 attention heads"):
        plan.make(parsed, Machine(CPUS, CPU.vllm, models=read_models(parsed)), {}, RUN)
