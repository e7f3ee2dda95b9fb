"""The engines' command lines and environments."""

import json
import pathlib
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from vlserve.config.settings import Config
from vlserve.engines import plan
from vlserve.engines.machine import COMPAT, Machine, Vllm, parse_flags, read_models
from vlserve.engines.memory import GIB
from vlserve.engines.plan import EnginePlan
from vlserve.errors import ConfigError

FLAGS = frozenset(
    "--" + name
    for name in (
        "model uds served-model-name tensor-parallel-size dtype max-model-len gpu-memory-utilization seed hf-overrides"
        " kv-cache-memory-bytes max-num-seqs max-num-batched-tokens enable-chunked-prefill no-enable-chunked-prefill"
        " enforce-eager trust-remote-code override-generation-config limit-mm-per-prompt enable-auto-tool-choice"
        " tool-call-parser otlp-traces-endpoint disable-log-stats mm-processor-kwargs media-io-kwargs"
    ).split()
)
CPUS = (0, 1, 2, 3)
CARDS = ("0", "1", "2", "3")
GPU = Machine(
    CPUS, Vllm("0.32.0", False, ("python", "-m", "vllm.entrypoints.cli.main", "serve"), FLAGS), CARDS, 80 * GIB
)
CPU = Machine((0, 1), Vllm("0.32.0", True, ("python", "-m", "vllm.entrypoints.openai.api_server"), FLAGS))
RUN = pathlib.Path("/run/v")


def make(settings: dict[str, Any], machine: Machine = GPU, engine: str = "text", **environment: str) -> EnginePlan:
    parsed = Config.model_validate({"engines": {engine: {"model": "org/m", **settings}}})
    (planned,) = plan.make(parsed, machine, environment, RUN).engines
    return planned


def value(planned: EnginePlan, flag: str) -> str:
    return planned.argv[planned.argv.index(flag) + 1]


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
def test_flags_that_say_otherwise_about_videos_are_refused(arguments: list[str]) -> None:
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
def test_flags_that_cannot_work_are_refused_before_anything_starts(arguments: list[str], message: str) -> None:
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
    with pytest.raises(ConfigError, match=r"tensor_parallel_size is 3 but this machine has 2 cores"):
        make({"tensor_parallel_size": 3}, CPU)


def test_gpu_engines_get_no_cpu_settings() -> None:
    assert not {"PYTHONPATH", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"} & set(make({}).environment)


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


def test_two_models_of_unknown_size_need_numbers_by_hand() -> None:
    numbers = {"gpu_memory_utilization": 0.4, "kv_cache_memory_bytes": "2GiB"}
    for text, vision, works in (
        ({}, {}, False),
        ({"gpus": [0]}, {"gpus": [0]}, False),
        ({"gpus": [0]}, {"gpus": [1]}, True),
        (numbers, numbers, True),
    ):
        engines = {"text": {"model": "org/text", **text}, "vision": {"model": "org/vision", **vision}}
        parsed = Config.model_validate({"engines": engines})
        if works:
            assert len(plan.make(parsed, GPU, {}, RUN).engines) == 2
        else:
            with pytest.raises(ConfigError, match=r"size of org/text is unknown"):
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
def test_longer_than_the_model_is_refused_with_both_numbers_and_the_way_out(
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
def test_what_vllm_takes_or_may_take_is_planned(settings: dict[str, Any]) -> None:
    assert value(for_length("text", settings), "--max-model-len") == str(settings["max_model_len"])


def test_older_vllm_scales_yarn_itself_and_is_left_to_say_so() -> None:
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
def test_odd_config_of_a_model_is_left_to_vllm(tmp_path: pathlib.Path, change: dict[str, Any]) -> None:
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
def test_what_vllm_refuses_at_its_start_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        for_length("text", {"model": "org/m", **settings})


def test_heads_are_checked_on_the_cpu_too() -> None:
    parsed = Config.model_validate({"engines": {"text": {"model": TEXT, "tensor_parallel_size": 3}}})
    with pytest.raises(ConfigError, match="does not divide the 28 attention heads"):
        plan.make(parsed, Machine(CPUS, CPU.vllm, models=read_models(parsed)), {}, RUN)


@pytest.mark.parametrize(
    "arguments", [["--max-model-len", "65536"], ["--max_num_seqs=9"], ["--no-enable-chunked-prefill"], ["--dtype=half"]]
)
def test_flag_that_has_a_setting_of_its_own_is_refused_with_its_name(arguments: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"is the setting (max_model_len|max_num_seqs|enable_chunked_prefill|dtype)"):
        make({"extra_args": arguments})
