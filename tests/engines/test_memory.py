"""The memory plan: known sizes, what fits, and refusals with the number to change."""

import dataclasses
import json
import pathlib
import re
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from vlserve.config import load as config
from vlserve.config.settings import Config
from vlserve.engines import machine, model_files, plan, system_memory
from vlserve.engines.gpu_memory import GIB
from vlserve.engines.machine import Machine
from vlserve.engines.model import known_models
from vlserve.engines.plan import EnginePlan
from vlserve.engines.system_memory import SystemMemory
from vlserve.engines.vllm_installation import Vllm
from vlserve.errors import ConfigError

RUN = pathlib.Path("/run/v")
TEXT, VISION = "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct"


def planned(spec: str, **engines: dict[str, Any]) -> dict[str, EnginePlan]:
    settings = Config.model_validate({"engines": engines})
    return {one.name: one for one in plan.make(settings, machine.from_spec(spec, settings), {}, RUN).engines}


def both(spec: str, **settings: Any) -> dict[str, EnginePlan]:
    length = {"max_model_len": 32_768}
    return planned(spec, text={"model": TEXT, **length, **settings}, vision={"model": VISION, **length, **settings})


def flag(engine: EnginePlan, name: str) -> float:
    return float(engine.argv[engine.argv.index(name) + 1])


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    # Sizes of the files on the hub.
    [
        (TEXT, 15.23),
        (VISION, 16.58),
        (TEXT + "-AWQ", 5.57),
        (VISION + "-AWQ", 6.92),
        ("Qwen/Qwen2.5-72B-Instruct", 145.4),
    ],
)
def test_weights_of_known_models(name: str, gigabytes: float) -> None:
    assert known_models()[name].weight_bytes / 1e9 == pytest.approx(gigabytes, rel=0.005)


def test_kv_cache_tokens_are_vllms_own() -> None:
    """vLLM 0.26 on an H100 reported 224,688 and 187,232 tokens for 12 and 10 GiB; it rounds down to blocks of 16."""
    assert 12 * GIB // known_models()[TEXT].kv_bytes_per_token() // 16 * 16 == 224_688
    assert 10 * GIB // known_models()[VISION].kv_bytes_per_token() // 16 * 16 == 187_232


def test_memory_of_both_on_one_h100_is_what_was_measured() -> None:
    """60.9 GiB after a load, with 12 and 10 GiB of KV cache (docs/benchmarks.md)."""
    engines = planned(
        "1xH100-80G",
        text={"model": TEXT, "max_model_len": 32_768, "kv_cache_memory_bytes": "12GiB"},
        vision={"model": VISION, "max_model_len": 32_768, "kv_cache_memory_bytes": "10GiB"},
    )
    total = sum(one.budget.total for one in engines.values() if one.budget)
    assert total / GIB == pytest.approx(60.9, rel=0.05)


@pytest.mark.parametrize(
    ("spec", "ranks", "used_gib"),
    # One H100; two H200s with an engine on each; two H200s with one engine over both (docs/benchmarks.md).
    [("1x80G", 1, 74.8), ("1x141G", 1, 129.5), ("2x141G", 2, 129.7)],
)
def test_memory_of_vision_alone_is_what_was_measured(spec: str, ranks: int, used_gib: float) -> None:
    engine = {"model": VISION, "max_model_len": 32_768, "tensor_parallel_size": ranks}
    (one,) = planned(spec, vision=engine).values()
    assert one.budget
    assert one.budget.total / GIB == pytest.approx(used_gib, rel=0.02)


def test_two_engines_on_one_gpu_get_both_flags_and_fit_together() -> None:
    engines = both("1xH100-80G")
    assert {one.environment["CUDA_VISIBLE_DEVICES"] for one in engines.values()} == {"0"}
    shares = [flag(one, "--gpu-memory-utilization") for one in engines.values()]
    assert 0.9 < sum(shares) <= 1
    assert all(flag(one, "--kv-cache-memory-bytes") > 10 * GIB for one in engines.values())


@pytest.mark.parametrize(
    ("own", "expected"), [({}, 0.7), ({"kv_cache_memory_bytes": "12GiB"}, None)], ids=["both", "one-is-given"]
)
def test_share_divides_the_kv_caches_of_a_shared_gpu(own: dict[str, Any], expected: float | None) -> None:
    length = {"max_model_len": 32_768}
    engines: dict[str, Any] = {"text": {"model": TEXT, **length, **own}, "vision": {"model": VISION, **length}}
    made = planned("1xH100-80G", **engines, share={"text": 0.7, "vision": 0.3})
    caches = {name: one.budget.kv_cache for name, one in made.items() if one.budget}
    both_caches = sum(one.budget.kv_cache for one in both("1xH100-80G").values() if one.budget)
    assert sum(caches.values()) == pytest.approx(both_caches, rel=0.001)
    assert caches["text"] == pytest.approx(expected * both_caches if expected else 12 * GIB, rel=0.001)


def test_engines_on_separate_gpus_get_no_kv_cache_flag() -> None:
    engines = both("2xH100-80G")
    assert [one.environment["CUDA_VISIBLE_DEVICES"] for one in engines.values()] == ["0", "1"]
    for one in engines.values():
        assert "--kv-cache-memory-bytes" not in one.argv
        assert flag(one, "--gpu-memory-utilization") == 0.9


def test_configured_memory_share_is_used() -> None:
    caches = []
    for share in (0.5, 0.9):
        settings = {"model": TEXT, "max_model_len": 8192, "gpu_memory_utilization": share}
        (one,) = planned("1x80G", text=settings).values()
        assert flag(one, "--gpu-memory-utilization") == share
        assert one.budget
        caches.append(one.budget.kv_cache)
    assert caches[1] - caches[0] == pytest.approx(0.4 * 79.2 * GIB, rel=0.01)


def test_configured_gpus_are_kept_and_the_planner_uses_the_others() -> None:
    engines = planned(
        "3x80G",
        text={"model": TEXT, "max_model_len": 8192, "gpus": [0]},
        vision={"model": VISION, "tensor_parallel_size": 2, "max_model_len": 8192},
    )
    assert engines["vision"].environment["CUDA_VISIBLE_DEVICES"] == "1,2"


def test_one_configured_kv_size_leaves_the_rest_to_the_other_engine() -> None:
    engines = planned(
        "1x80G",
        text={"model": TEXT, "max_model_len": 8192, "kv_cache_memory_bytes": "4GiB"},
        vision={"model": VISION, "max_model_len": 8192},
    )
    assert flag(engines["text"], "--kv-cache-memory-bytes") == 4 * GIB
    assert flag(engines["vision"], "--kv-cache-memory-bytes") > 25 * GIB


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        ("1x24G", {}, r"text and vision need [\d.]+ GiB more than a GPU of 24 GiB has"),
        ("1x40G", {}, r"engines\.text: .* Set max_model_len to [\d,]+ or less|need [\d.]+ GiB more"),
        ("8x80G", {"tensor_parallel_size": 8}, r"does not divide the 28 attention heads .* these do: 1, 2, 4"),
        ("4x80G", {"tensor_parallel_size": 3}, r"does not divide"),
        ("1x80G", {"tensor_parallel_size": 2}, r"tensor_parallel_size is 2, but this machine has 1 GPU\."),
        ("2x80G", {"gpus": [5]}, r"engines\.text: gpus name GPU 5, but this machine has 2 GPUs"),
        (
            "1x80G",
            {"kv_cache_memory_bytes": "1GiB"},
            r"engines\.text\.kv_cache_memory_bytes 1\.0 GiB holds 18,724 tokens, less than one request of "
            r"max_model_len 32,768\. Set it to 1\.8GiB or more, or max_model_len to 18,724 or less\.$",
        ),
        (
            "1x80G",
            {"gpu_memory_utilization": 0.6},
            r"0\.6 \(text\) and 0\.6 \(vision\) of one GPU add up to more than 1",
        ),
        (
            "1x80G",
            {"kv_cache_memory_bytes": "30GiB"},
            r"text and vision need .* kv_cache_memory_bytes of text at most \d+\.\dGiB, of vision at most \d+\.\dGiB",
        ),
    ],
)
def test_impossible_settings_are_refused_with_the_number_to_change(
    spec: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        both(spec, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"gpu_memory_utilization": 0.1},
            r"^engines\.text\.gpu_memory_utilization 0\.1 of a GPU of 79 GiB is 7\.9 GiB, but weights and the part of "
            r"the reserve that counts towards it take 15\.5 GiB, and the KV cache of one request of max_model_len "
            r"32,768 takes 1\.8 GiB\. Set it to 0\.\d\d or more, or leave it out\.$",
        ),
        (
            {"gpu_memory_utilization": 0.21},
            r"^engines\.text\.gpu_memory_utilization 0\.21 .* and leave \d\.\d GiB of KV cache for [\d,]+ tokens, "
            r"less than one request of max_model_len 32,768\. Set it to 0\.\d\d or more, or max_model_len to [\d,]+ or "
            r"less\.$",
        ),
        (
            {"kv_cache_memory_bytes": "70GiB"},
            r"needs \d+\.\d GiB more than a GPU of 79 GiB has\. "
            r"Options: kv_cache_memory_bytes of text at most \d+\.\dGiB",
        ),
    ],
)
def test_refusal_names_the_setting_at_fault_and_the_value_that_works(settings: dict[str, Any], message: str) -> None:
    engine = {"model": TEXT, "max_model_len": 32_768, **settings}
    with pytest.raises(ConfigError, match=message) as error:
        planned("1x80G", text=engine)
    (setting,) = settings
    (least,) = re.findall(r"(?:Set it to|of text at most) ([\d.]+(?:GiB)?)", error.value.message)
    assert planned("1x80G", text={**engine, setting: float(least) if "GiB" not in least else least})


@pytest.mark.parametrize("size", ["60GiB", "35.5GiB"])  # with the smaller one, something is left, but too little
def test_size_of_another_engines_kv_cache_is_named_too(size: str) -> None:
    with pytest.raises(ConfigError, match=r"kv_cache_memory_bytes of vision at most \d+\.\dGiB"):
        planned("1x80G", text={"model": TEXT}, vision={"model": VISION, "kv_cache_memory_bytes": size})


def test_configured_kv_cache_may_exceed_the_memory_share() -> None:
    """vLLM then only checks that the share is free when it starts."""
    settings = {"model": TEXT, "gpu_memory_utilization": 0.1, "kv_cache_memory_bytes": "12GiB"}
    (one,) = planned("1x80G", text=settings).values()
    assert flag(one, "--kv-cache-memory-bytes") == 12 * GIB
    assert flag(one, "--gpu-memory-utilization") == 0.1


def test_weights_and_cache_in_float32_take_twice_as_much() -> None:
    settings = {"model": TEXT, "max_model_len": 8192, "kv_cache_memory_bytes": "4GiB"}
    (half,) = planned("1x80G", text=settings).values()
    (full,) = planned("1x80G", text={**settings, "dtype": "float32"}).values()
    assert half.budget
    assert full.budget
    assert full.budget.weights == 2 * half.budget.weights
    assert full.budget.tokens == half.budget.tokens // 2


def test_kv_cache_in_fp8_holds_twice_the_tokens() -> None:
    settings = {"model": "Qwen/Qwen2.5-VL-7B-Instruct", "kv_cache_memory_bytes": "8GiB", "max_model_len": 32_768}
    whole = planned("1x80G", vision=settings)["vision"].budget
    half = planned("1x80G", vision={**settings, "extra_args": ["--kv-cache-dtype", "fp8"]})["vision"].budget
    assert whole
    assert half
    assert half.tokens // 2 == whole.tokens
    other = planned("1x80G", vision={**settings, "extra_args": ["--kv-cache-dtype", "int8_per_token_head"]})
    assert other["vision"].budget == whole  # it takes less, with scales that are not counted


LARGE = "Qwen/Qwen2.5-14B-Instruct"


@pytest.mark.parametrize(
    "arguments", [["--quantization", "fp8"], ["-q=fp8"], ["--cpu_offload_gb", "20"], ["--offload-group-size", "8"]]
)
def test_model_that_fits_only_with_flags_that_the_plan_does_not_count_is_left_to_vllm(arguments: list[str]) -> None:
    with pytest.raises(ConfigError, match="more than a GPU of 24 GiB has"):
        planned("1x24G", text={"model": LARGE})
    text = {"model": LARGE, "extra_args": arguments}
    assert planned("1x24G", text=text)["text"].budget is None
    assert planned("1x80G", text=text)["text"].budget  # it fits in 16 bits
    apart = planned("2x24G", text=text, vision={"model": VISION, "max_model_len": 8192})
    assert apart["vision"].budget
    assert [one.environment["CUDA_VISIBLE_DEVICES"] for one in apart.values()] == ["0", "1"]
    size = {"gpu_memory_utilization": 0.45, "kv_cache_memory_bytes": "2GiB", "max_model_len": 8192}
    assert planned("1x24G", text={**text, **size}, vision={"model": VISION, **size})["text"].budget is None


@pytest.mark.parametrize(
    ("spec", "text", "vision", "message"),
    [
        ("1x24G", {"model": LARGE, "extra_args": ["--kv-cache-dtype", "fp8"]}, {}, "text needs 7.4 GiB more"),
        ("1x24G", {"extra_args": ["-q", "fp8"], "tensor_parallel_size": 2}, {}, "this machine has 1 GPU"),
        ("1x80G", {"extra_args": ["-q", "fp8"], "kv_cache_memory_bytes": "100MiB"}, {}, "holds 1,828 tokens"),
        ("1x24G", {"extra_args": ["-q", "fp8"]}, {"model": VISION}, r"more than a GPU.* not count --quantization: if"),
        (
            "2x24G",
            {"gpus": [0], "extra_args": ["-q", "fp8"]},
            {"model": VISION, "gpus": [1], "kv_cache_memory_bytes": "30GiB"},
            r"vision needs .* more than a GPU",
        ),
        (
            "1x24G",
            {"extra_args": ["-q", "fp8"], "gpu_memory_utilization": 0.9, "kv_cache_memory_bytes": "2GiB"},
            {"model": VISION, "gpu_memory_utilization": 0.9, "kv_cache_memory_bytes": "2GiB"},
            "add up to more than 1",
        ),
    ],
)
def test_flags_that_the_plan_does_not_count_hide_no_other_problem(
    spec: str, text: dict[str, Any], vision: dict[str, Any], message: str
) -> None:
    engines = {"text": {"model": TEXT, "max_model_len": 32_768, **text}}
    if vision:
        engines["vision"] = {"max_model_len": 32_768, **vision}
    with pytest.raises(ConfigError, match=message):
        planned(spec, **engines)


@pytest.mark.parametrize("spec", ["1xH200", "8xA100", "2xRTX-4090"])
def test_machine_without_the_memory_of_its_gpus_is_refused_with_what_is_missing(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"does not say how much memory each GPU has.*like 1xH100-80G or 1xH200-141G"):
        machine.read_spec(spec)


@pytest.mark.parametrize("spec", ["H100", "0x80G", "1x0G", "2", "1xH100", ""])
def test_invalid_machines_are_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="1xH100-80G"):
        machine.from_spec(spec, Config.model_validate({"engines": {"text": {"model": TEXT}}}))


def test_local_folders_are_read_with_or_without_weights(tmp_path: pathlib.Path) -> None:
    shape = {"num_hidden_layers": 28, "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28}
    tree = {**shape, "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 32768}
    (tmp_path / "config.json").write_text(json.dumps({**tree, "torch_dtype": "bfloat16", "model_type": "qwen2"}))
    settings = Config.model_validate({"engines": {"text": {"model": str(tmp_path)}}})
    assert model_files.read_models(settings)["text"].weight_bytes == known_models()[TEXT].weight_bytes
    (tmp_path / "model-1.safetensors").write_bytes(b"x" * 1000)
    (tmp_path / "model-2.safetensors").write_bytes(b"x" * 500)
    assert model_files.read_models(settings)["text"].weight_bytes == 1500
    (tmp_path / "config.json").write_text("{}")
    assert model_files.read_models(settings) == {}


PRESETS = {
    path.name: found[1]
    for path in sorted((REPOSITORY / "configs").glob("*.yaml"))
    if (found := re.search(r"^# machine: (\S+)$", path.read_text(), re.MULTILINE))
}


@pytest.mark.parametrize(("name", "spec"), PRESETS.items())
def test_presets_fit_the_machine_they_name(name: str, spec: str) -> None:
    settings = config.load(REPOSITORY / "configs" / name)
    for engine in plan.make(settings, machine.from_spec(spec, settings), {}, RUN).engines:
        assert engine.budget
        assert engine.budget.full_length_requests >= 1
        assert engine.budget.total <= engine.budget.gpu_bytes


def test_every_config_but_the_demo_names_its_machine() -> None:
    assert {path.name for path in (REPOSITORY / "configs").glob("*.yaml")} - set(PRESETS) == {"demo-cpu.yaml"}
    assert len(PRESETS) == 12


def on_cpu(ram_gib: float, release: str = "0.32.0", **engines: dict[str, Any]) -> dict[str, EnginePlan]:
    settings = Config.model_validate({"engines": engines})
    models = model_files.read_models(settings)
    here = Machine((0, 1), Vllm(release, True, ("vllm",), None), models=models, ram_bytes=int(ram_gib * GIB))
    return {one.name: one for one in plan.make(settings, here, {}, RUN).engines}


CACHE = {"kv_cache_memory_bytes": "2GiB", "max_model_len": 8192}


def test_replicas_on_the_cpu_have_their_own_weights_and_share_of_ram() -> None:
    text = {"model": TEXT, "max_model_len": 8192, "gpu_memory_utilization": 0.4}
    one, two = (on_cpu(64, text={**text, "data_parallel_size": count})["text"].ram for count in (1, 2))
    assert one
    assert two
    assert (two.weights, two.tokens) == (2 * one.weights, one.tokens)
    with pytest.raises(ConfigError, match=r"0\.6 \(text, in each of 2 workers\) add up to more than all of it"):
        on_cpu(64, text={**text, "gpu_memory_utilization": 0.6, "data_parallel_size": 2})


def test_ram_of_engines_on_the_cpu_is_weights_processes_and_kv_cache() -> None:
    engines = on_cpu(64, text={"model": TEXT, **CACHE}, vision={"model": VISION, **CACHE})
    text = engines["text"].ram
    assert text
    assert text.weights == known_models()[TEXT].weight_bytes
    assert text.kv_cache == 2 * GIB
    assert text.tokens == 2 * GIB // known_models()[TEXT].kv_bytes_per_token()
    assert text.weights + text.kv_cache < text.total < text.weights + text.kv_cache + 3 * GIB
    assert engines["text"].budget is None
    assert on_cpu(64, text={"model": "org/unknown"})["text"].ram is None
    assert on_cpu(8, "0.26.0", text={"model": TEXT})["text"].ram is None  # took memory in another way


@pytest.mark.parametrize(
    ("ram_gib", "engines", "message"),
    [
        (
            23.4,
            {"text": {"model": TEXT}, "vision": {"model": VISION}},
            r"text and vision need at least 41\.0 GiB of RAM, and this machine has 23\.4 GiB for them: "
            r"text weights 14\.2 \+ processes 1\.4 \+ KV cache 1\.8 GiB, vision weights 15\.4 \+ .*one engine alone",
        ),
        (23.4, {"text": {"model": TEXT, "dtype": "float32", **CACHE}}, r"text weights 28\.4 .* a smaller model"),
        (
            23.4,
            {"text": {"model": TEXT, "data_parallel_size": 2, **CACHE}},
            r"text weights 28\.4 .* a smaller data_parallel_size",
        ),
        (23.4, {"text": {"model": TEXT, "kv_cache_memory_bytes": "9GiB"}}, r"text needs at least .*KV cache 9\.0 GiB"),
        (
            64,
            {"text": {"model": TEXT}, "vision": {"model": VISION}},
            r"gpu_memory_utilization is a share of RAM on the CPU, and 0\.92 \(text\) and 0\.92 \(vision\) "
            r"add up to more than all of it.*Set kv_cache_memory_bytes",
        ),
        (
            64,
            {"text": {"model": TEXT}, "vision": {"model": VISION, **CACHE}},
            r"^engines\.text\.gpu_memory_utilization .* and 0\.92 \(text\) and 18\.8 GiB \(vision\) add up to more .* "
            r"Set kv_cache_memory_bytes for each engine: .* 27\.8 GiB are left",
        ),
        (
            64,
            {"text": {"model": TEXT, "gpu_memory_utilization": 0.2}},
            r"^engines\.text\.gpu_memory_utilization 0\.2 of 64\.0 GiB of RAM is 12\.8 GiB, but .* "
            r"Set it to 0\.2\d or more",
        ),
        (
            64,
            {"text": {"model": TEXT, "kv_cache_memory_bytes": "1GiB"}},
            r"^engines\.text\.kv_cache_memory_bytes 1\.0 GiB holds 18,724 tokens.* Set it to 1\.8GiB or more",
        ),
        (
            64,
            {"text": {"model": TEXT, "env": {"VLLM_CPU_KVCACHE_SPACE": "1"}}},
            r"^engines\.text\.env: VLLM_CPU_KVCACHE_SPACE 1\.0 GiB holds 18,724 tokens.* Set it to 2 or more",
        ),
    ],
)
def test_models_larger_than_ram_are_refused_with_numbers(ram_gib: float, engines: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        on_cpu(ram_gib, **engines)


def test_demo_models_fit_a_small_machine() -> None:
    settings = config.load(REPOSITORY / "configs" / "demo-cpu.yaml")
    here = Machine((0, 1), Vllm("0.32.0", True, ("vllm",), None), models=model_files.read_models(settings))
    engines = plan.make(settings, dataclasses.replace(here, ram_bytes=4 * GIB), {}, RUN).engines
    assert all(one.ram and one.ram.full_length_requests >= 1 for one in engines)


def ram_of(root: pathlib.Path, cgroup: str, **files: str) -> SystemMemory | None:
    meminfo = "MemTotal: 16777216 kB\nMemFree: 1 kB\nMemAvailable: 12582912 kB\n"  # 16 and 12 GiB
    for name, text in {"proc/meminfo": meminfo, "proc/self/cgroup": cgroup, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return system_memory.read(root)


def test_ram_is_the_machines_or_what_a_control_group_leaves_of_it(tmp_path: pathlib.Path) -> None:
    assert ram_of(tmp_path / "bare", "0::/\n") == SystemMemory(16 * GIB, 12 * GIB)
    v2 = {"memory.max": f"{8 * GIB}\n", "memory.current": f"{3 * GIB}\n", "memory.stat": f"inactive_file {GIB}\n"}
    folder = "sys/fs/cgroup/system.slice/"
    inside = {f"{folder}v.service/memory.max": "max\n", **{folder + name: text for name, text in v2.items()}}
    assert ram_of(tmp_path / "v2", "0::/system.slice/v.service\n", **inside) == SystemMemory(8 * GIB, 6 * GIB)
    v1 = {"limit_in_bytes": f"{4 * GIB}", "usage_in_bytes": f"{GIB}", "stat": "total_inactive_file 0"}
    # A container without its own cgroup namespace sees its path on the host, which is not below the mount.
    files = {f"sys/fs/cgroup/memory/memory.{name}": text for name, text in v1.items()}
    assert ram_of(tmp_path / "v1", "5:cpu:/x\n4:memory:/docker/abc\n", **files) == SystemMemory(4 * GIB, 3 * GIB)
    unlimited = {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}
    assert ram_of(tmp_path / "none", "4:memory:/\n", **unlimited) == SystemMemory(16 * GIB, 12 * GIB)
    assert system_memory.read(tmp_path) is None
    here = system_memory.read()
    assert here
    assert 0 < here.free_bytes <= here.total_bytes
