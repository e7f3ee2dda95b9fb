"""Plans of engines: flags, environment, devices and refused settings."""

import json
import pathlib
from typing import Any

import pytest

from tests.engines.plans import CARDS, CPU, CPUS, FLAGS, RUN, value
from vlserve.config.settings import Config
from vlserve.engines import plan
from vlserve.engines.gpu_memory import GIB
from vlserve.engines.machine import Machine
from vlserve.engines.plan import EnginePlan
from vlserve.engines.vllm_installation import COMPAT, Vllm, parse_flags
from vlserve.errors import ConfigError

GPU = Machine(
    CPUS, Vllm("0.32.0", False, ("python", "-m", "vllm.entrypoints.cli.main", "serve"), FLAGS), CARDS, 80 * GIB
)


def make(settings: dict[str, Any], machine: Machine = GPU, engine: str = "text", **environment: str) -> EnginePlan:
    parsed = Config.model_validate({"engines": {engine: {"model": "org/m", **settings}}})
    (planned,) = plan.make(parsed, machine, environment, RUN).engines
    return planned


def test_settings_that_are_not_given_are_not_passed() -> None:
    planned = make({"tool_call_parser": None})
    assert planned.argv == (
        *("python", "-m", "vllm.entrypoints.cli.main", "serve", "--model", "org/m", "--uds", "/run/v/text.sock"),
        *("--served-model-name", "org/m", "auto"),
    )


def test_every_setting_becomes_its_flag() -> None:
    planned = make(
        {
            "tensor_parallel_size": 2,
            "gpus": [2, 3],
            "dtype": "bfloat16",
            "max_model_len": 8192,
            "max_num_seqs": 9,
            "gpu_memory_utilization": 0.45,
            "kv_cache_memory_bytes": "2GiB",
            "max_num_batched_tokens": 8192,
            "enable_chunked_prefill": False,
            "enforce_eager": True,
            "trust_remote_code": True,
            "override_generation_config": {"temperature": 0.2},
            "limit_mm_per_prompt": {"image": 3},
            "extra_args": ["--seed", "7"],
            "env": {"A": "b"},
        },
        engine="vision",
    )
    for flag, expected in {
        "--tensor-parallel-size": "2",
        "--dtype": "bfloat16",
        "--max-model-len": "8192",
        "--max-num-seqs": "9",
        "--gpu-memory-utilization": "0.45",
        "--kv-cache-memory-bytes": str(2 * 1024**3),
        "--seed": "7",
        "--max-num-batched-tokens": "8192",
        "--tool-call-parser": "hermes",
    }.items():
        assert value(planned, flag) == expected
    assert json.loads(value(planned, "--limit-mm-per-prompt")) == {"image": 3, "video": 0}
    assert json.loads(value(planned, "--override-generation-config")) == {"temperature": 0.2}
    assert {"--enforce-eager", "--trust-remote-code", "--no-enable-chunked-prefill"} <= set(planned.argv)
    assert planned.environment["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert planned.environment["A"] == "b"


VIDEO = {"limit_mm_per_prompt": {"video": 1}}
SIZE = {"size": {"shortest_edge": 3136, "longest_edge": 602112}}


def test_engine_without_videos_gets_no_video_flags() -> None:
    assert not {"--mm-processor-kwargs", "--media-io-kwargs"} & set(make({}, engine="vision").argv)
    # Nor the text engine, which never gets one.
    assert not {"--mm-processor-kwargs", "--limit-mm-per-prompt"} & set(make(VIDEO).argv)


@pytest.mark.parametrize(
    ("arguments", "processor"),
    [
        ([], {}),
        (["--mm-processor-kwargs", '{"use_fast": false}'], {"use_fast": False}),
        (["--mm_processor_kwargs={}", "--seed", "7"], {}),
    ],
)
def test_engine_with_videos_gets_their_size_and_frames(arguments: list[str], processor: dict[str, Any]) -> None:
    planned = make({**VIDEO, "extra_args": arguments}, engine="vision")
    assert json.loads(value(planned, "--limit-mm-per-prompt")) == {"image": 8, "video": 1}
    assert json.loads(value(planned, "--mm-processor-kwargs")) == {**processor, "videos_kwargs": SIZE}
    assert json.loads(value(planned, "--media-io-kwargs")) == {"video": {"max_frames": 32}}
    assert sum("mm" in one and "kwargs" in one for one in planned.argv) == 1
    assert "--seed" not in arguments or value(planned, "--seed") == "7"


def test_settings_of_videos_reach_the_engine() -> None:
    config = Config.model_validate(
        {
            "video": {"max_frames": 8, "max_pixels": 100352, "max_video_pixels": 200_000_000},
            "engines": {"vision": {"model": "org/m", **VIDEO}},
        }
    )
    (planned,) = plan.make(config, GPU, {}, RUN).engines
    kwargs = json.loads(value(planned, "--mm-processor-kwargs"))
    assert kwargs["videos_kwargs"]["size"]["longest_edge"] == 100352
    assert json.loads(value(planned, "--media-io-kwargs")) == {"video": {"max_frames": 8}}
    assert planned.environment["VLLM_MAX_IMAGE_PIXELS"] == "100000000"  # a frame is a picture to vLLM


@pytest.mark.parametrize(
    "arguments",
    [
        ["--mm-processor-kwargs", '{"videos_kwargs": {}}'],
        ["--mm-processor-kwargs", "no JSON"],
        ["--mm-processor-kwargs"],
        ["--mm-processor-kwargs.use_fast", "false"],
        ["--media-io-kwargs", '{"video": {"fps": 1}}'],
        ["--media-io-kwargs=[]"],
    ],
)
def test_flags_that_contradict_video_settings_are_refused(arguments: list[str]) -> None:
    with pytest.raises(ConfigError, match="must be one JSON object"):
        make({**VIDEO, "extra_args": arguments}, engine="vision")


def test_remote_code_is_off_unless_asked_for() -> None:
    assert "--trust-remote-code" not in make({}).argv


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sede", "7"], "vLLM 0.32.0 has no flag --sede. Did you mean --seed?"),
        (["--sede=7"], "has no flag --sede"),
        (["--uds", "/x"], "--uds is reserved for the gateway"),
        (["--api_key=x"], "--api-key is reserved for the gateway"),
        (["--max-model-len", "5"], "--max-model-len is already set by max_model_len"),
    ],
)
def test_impossible_flags_are_refused_before_anything_starts(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make({"extra_args": arguments, "max_model_len": 9})
    assert message in error.value.message


def test_dotted_and_joined_flags_are_known_by_their_name() -> None:
    assert make({"extra_args": ["--hf-overrides.a.b", "1", "--seed=7", "-O1"]}).argv[-4:-2] == (
        "--hf-overrides.a.b",
        "1",
    )


def test_flag_this_vllm_does_not_know_is_refused() -> None:
    old = Machine(CPUS, Vllm("0.20.0", False, ("x",), FLAGS - {"--kv-cache-memory-bytes"}), CARDS, 80 * GIB)
    with pytest.raises(ConfigError, match=r"engines\.text: vLLM 0\.20\.0 has no flag --kv-cache-memory-bytes"):
        make({"kv_cache_memory_bytes": "1GiB"}, old)


def test_optional_flag_is_passed_where_it_is_known() -> None:
    flag = "--disable-uvicorn-access-log"
    assert flag not in make({}).argv
    for known in (FLAGS | {flag}, None):
        assert flag in make({}, Machine(CPUS, Vllm("0.33.0", False, ("x",), known), CARDS, 80 * GIB)).argv


def test_cpu_engines_share_all_cores_unbound_and_get_the_compat_folder() -> None:
    planned = make({"tensor_parallel_size": 2}, CPU, PYTHONPATH="/mine")
    assert planned.environment["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert planned.environment["OMP_NUM_THREADS"] == "1"
    assert planned.environment["PYTHONPATH"] == f"{COMPAT}:/mine"
    assert make({}, CPU).environment["OMP_NUM_THREADS"] == "2"
    with pytest.raises(ConfigError, match=r"tensor_parallel_size is 3, but this machine has 2 cores"):
        make({"tensor_parallel_size": 3}, CPU)


def test_gpu_engines_get_no_cpu_settings() -> None:
    assert not {"PYTHONPATH", "OMP_NUM_THREADS"} & set(make({}).environment)


def test_command_replaces_vllms_start_line_and_needs_no_vllm() -> None:
    planned = make({"command": ["serve-it", "--socket={uds}"]}, Machine((0,), None))
    assert planned.argv == ("serve-it", "--socket=/run/v/text.sock")
    with pytest.raises(ConfigError, match="vLLM is needed"):
        make({}, Machine((0,), None))


def test_url_engines_are_not_planned() -> None:
    parsed = Config.model_validate({"engines": {"text": {"model": "m", "url": "http://h"}, "vision": {"model": "v"}}})
    assert [planned.name for planned in plan.make(parsed, GPU, {}, RUN).engines] == ["vision"]


def test_too_long_a_socket_path_is_reported() -> None:
    parsed = Config.model_validate({"engines": {"text": {"model": "m"}}})
    with pytest.raises(ConfigError, match="too long for a Unix socket"):
        plan.make(parsed, GPU, {}, pathlib.Path("/" + "x" * 120))


def test_auto_and_its_aliases_are_names_an_engine_answers_to() -> None:
    parsed = Config.model_validate({"engines": {"text": {"model": "m"}}, "auto_aliases": ["gpt-4o"]})
    (planned,) = plan.make(parsed, GPU, {}, RUN).engines
    start = planned.argv.index("--served-model-name")
    assert planned.argv[start + 1 : start + 4] == ("m", "auto", "gpt-4o")


def test_gpus_are_those_that_the_environment_shows() -> None:
    machine = Machine(CPUS, GPU.vllm, ("GPU-a", "GPU-b"), 80 * GIB)
    assert make({"gpus": [1]}, machine).environment["CUDA_VISIBLE_DEVICES"] == "GPU-b"


def test_no_gpu_is_reported_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match="No NVIDIA GPU was found"):
        make({}, Machine(CPUS, GPU.vllm))


def test_two_models_of_unknown_size_need_configured_memory() -> None:
    numbers = {"gpu_memory_utilization": 0.4, "kv_cache_memory_bytes": "2GiB"}
    for text, vision, works in (
        ({}, {}, True),  # there are several GPUs
        ({"gpus": [0]}, {"gpus": [0]}, False),
        ({"gpus": [0], **numbers}, {"gpus": [0]}, False),
        ({"gpus": [0], **numbers}, {"gpus": [0], **numbers}, True),
        ({"gpus": [0]}, {"gpus": [1]}, True),
        (numbers, numbers, True),
    ):
        engines = {"text": {"model": "org/text", **text}, "vision": {"model": "org/vision", **vision}}
        parsed = Config.model_validate({"engines": engines})
        if works:
            assert len(plan.make(parsed, GPU, {}, RUN).engines) == 2
        else:
            with pytest.raises(ConfigError, match=r"the memory that org/text needs is unknown"):
                plan.make(parsed, GPU, {}, RUN)


def test_flags_are_read_from_vllms_help() -> None:
    text = """usage: api_server.py [-h] [--not-from-usage]

  -h, --help            show this help message and exit
  --model MODEL         The model. See --not-from-prose.
                        --nor-from-here
  --enforce-eager, --no-enforce-eager
  --tensor-parallel-size TENSOR_PARALLEL_SIZE, -tp TENSOR_PARALLEL_SIZE
  -asc API_SERVER_COUNT, --api-server-count API_SERVER_COUNT
"""
    assert parse_flags(text) >= {
        *("--help", "--model", "--enforce-eager", "--no-enforce-eager", "--tensor-parallel-size", "--api-server-count")
    }
    assert not {"--not-from-usage", "--nor-from-here"} & parse_flags(text)


def with_service(settings: dict[str, Any], **engine: Any) -> EnginePlan:
    parsed = Config.model_validate({"engines": {"text": {"model": "org/m", **engine}}, **settings})
    (planned,) = plan.make(parsed, CPU, {}, RUN).engines
    return planned


def test_traces_reach_engines() -> None:
    settings = {"tracing": {"otlp_endpoint": "http://127.0.0.1:4318/"}}
    planned = with_service(settings)
    assert value(planned, "--otlp-traces-endpoint") == "http://127.0.0.1:4318/v1/traces"
    assert planned.environment["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "http/protobuf"
    assert planned.environment["OTEL_SERVICE_NAME"] == "vlserve-text"
    with pytest.raises(ConfigError, match="--disable-log-stats"):
        with_service(settings, extra_args=["--disable-log-stats"])


def test_caps_hold_in_vllm_too() -> None:
    planned = with_service(
        {"request": {"max_n": 3, "max_tokens": 100}}, override_generation_config={"temperature": 0.5}
    )
    assert planned.environment["VLLM_MAX_N_SEQUENCES"] == "3"
    assert json.loads(value(planned, "--override-generation-config")) == {"temperature": 0.5, "max_new_tokens": 100}
    smaller = with_service({"request": {"max_tokens": 100}}, override_generation_config={"max_new_tokens": 7})
    assert json.loads(value(smaller, "--override-generation-config")) == {"max_new_tokens": 7}


@pytest.mark.parametrize(
    "arguments", [["--max-model-len", "65536"], ["--max_num_seqs=9"], ["--no-enable-chunked-prefill"], ["--dtype=half"]]
)
def test_flag_that_has_a_setting_of_its_own_is_refused_with_its_name(arguments: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"is the setting (max_model_len|max_num_seqs|enable_chunked_prefill|dtype)"):
        make({"extra_args": arguments})
