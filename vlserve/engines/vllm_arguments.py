"""The command line and environment of a vLLM server. Pure: no I/O."""

import difflib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from vlserve.config import extra_args
from vlserve.config.engine_settings import AUTO, EngineName, EngineSettings
from vlserve.config.settings import Config, Video
from vlserve.engines.machine import Machine
from vlserve.engines.vllm_installation import Vllm, compat_path
from vlserve.errors import ConfigError
from vlserve.media.pixels import VIDEO_MIN_PIXELS

# Reserved for the gateway: they set where an engine listens, its access control and its model name.
_OWN_FLAGS = {"--model", "--uds", "--host", "--port", "--served-model-name", "--api-key", "--root-path", "--config"}
# Settings that become flags of the same name. They are refused in extra_args, where the memory plan would miss them.
_VALUES = (
    *(
        "tensor_parallel_size",
        "data_parallel_size",
        "dtype",
        "max_model_len",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
    ),
    *("max_num_seqs", "max_num_batched_tokens"),
)
_SWITCHES = ("enable_chunked_prefill", "enforce_eager", "trust_remote_code")


def make(
    name: EngineName,
    settings: EngineSettings,
    config: Config,
    machine: Machine,
    environment: Mapping[str, str],
    socket: pathlib.Path,
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The command line of an engine's vLLM server, and the variables to add to ``environment``.

    ``settings``: with the planned memory. Raises ConfigError for flags that the installed vLLM does not have, or that
    are set elsewhere, and if vLLM is not installed.
    """
    vllm = machine.vllm
    if vllm is None:
        raise ConfigError(f"engines.{name}: vLLM is needed to start {settings.model}.")
    settings = _with_most_tokens(settings, config.request.max_tokens)
    if name == "vision" and settings.limit_mm_per_prompt.video:
        settings = _with_videos(settings, config.video)
    flags = _flags(name, settings, config.auto_aliases, vllm.flags)
    added = dict[str, str]()
    if config.tracing.otlp_endpoint:
        flags["--otlp-traces-endpoint"] = [f"{config.tracing.otlp_endpoint.rstrip('/')}/v1/traces"]
        added |= {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_SERVICE_NAME": f"vlserve-{name}"}
        if "--disable-log-stats" in extra_args.flags(settings.extra_args):
            raise ConfigError(f"engines.{name}.extra_args: traces need vLLM's statistics; remove --disable-log-stats.")
    _check_flags(name, settings, vllm, flags)
    argv = (*vllm.start, "--model", settings.model, "--uds", str(socket))
    for flag, values in flags.items():
        argv += (flag, *values)
    if vllm.is_cpu:
        added["PYTHONPATH"] = compat_path(environment)
        added |= _thread_environment(name, machine.cpus, settings)
    added |= _vllm_environment(settings, config, machine.gpus)
    return (*argv, *settings.extra_args), added


def _with_most_tokens(settings: EngineSettings, most: int | None) -> EngineSettings:
    """In vLLM ``max_new_tokens`` is both the default and the upper limit of a request's answer length."""
    if most is None:
        return settings
    given = settings.override_generation_config
    return settings.model_copy(
        update={"override_generation_config": {**given, "max_new_tokens": min(most, given.get("max_new_tokens", most))}}
    )


def _with_videos(settings: EngineSettings, video: Video) -> EngineSettings:
    """Set the number and size of video frames in ``extra_args``.

    Without a size vLLM reserves several times the memory of the largest picture for videos (seven times with
    max_model_len 131,072), which gpu_memory.py does not count.
    """
    size = {"shortest_edge": VIDEO_MIN_PIXELS, "longest_edge": video.max_pixels}
    arguments = settings.extra_args
    for flag, name, value in (
        ("--mm-processor-kwargs", "videos_kwargs", {"size": size}),
        ("--media-io-kwargs", "video", {"max_frames": video.max_frames}),
    ):
        arguments = _with_member(arguments, flag, name, value)
    return settings.model_copy(update={"extra_args": arguments})


def _with_member(arguments: list[str], flag: str, name: str, value: object) -> list[str]:
    """Add a member to a flag's JSON object. Raises ConfigError if the member exists, or the value is no JSON object."""
    others: list[str] = []
    tree: Any = {}
    left = iter(arguments)
    for argument in left:
        given, equals, written = argument.partition("=")
        given = given.replace("_", "-") if given.startswith("--") else ""
        if given.split(".")[0] != flag:
            others.append(argument)
            continue
        try:
            tree = json.loads(written if equals else next(left, ""))
        except ValueError:
            tree = None
        if given != flag or not isinstance(tree, dict) or name in tree:
            raise ConfigError(
                f"engines.vision.extra_args: with videos, {flag} must be one JSON object without {name!r}, which "
                "is set by video.max_frames and video.max_pixels."
            )
    return [*others, flag, json.dumps({**tree, name: value})]


def _flags(
    name: EngineName, settings: EngineSettings, auto_aliases: list[str], known: frozenset[str] | None
) -> dict[str, list[str]]:
    """Flag → its values (none for a switch). A setting that is not given is not passed: vLLM's default applies."""
    # An engine also accepts the name `auto`, so such requests are forwarded unchanged.
    flags: dict[str, list[str]] = {"--served-model-name": [settings.model_id, AUTO, *auto_aliases]}
    for field in _VALUES:
        value = getattr(settings, field)
        if value is not None and value != type(settings).model_fields[field].default:
            flags[_flag(field)] = [str(int(value)) if isinstance(value, int) else str(value)]
    for field in _SWITCHES:
        value = getattr(settings, field)
        if value is not None and value != type(settings).model_fields[field].default:
            flags[_flag(field) if value else _flag(f"no_{field}")] = []
    if settings.tool_call_parser:
        flags |= {"--enable-auto-tool-choice": [], "--tool-call-parser": [settings.tool_call_parser]}
    if settings.override_generation_config:
        flags["--override-generation-config"] = [json.dumps(settings.override_generation_config)]
    # If vLLM's flags are unknown: every supported version has these two.
    if known is None or "--disable-uvicorn-access-log" in known:  # the gateway logs each request in more detail
        flags["--disable-uvicorn-access-log"] = []
    # vLLM's own choice ("auto") falls back to another backend in its front end only, and then fails (0.32).
    structured = "--structured-outputs-config"
    is_chosen = structured in (flag.split(".")[0] for flag in extra_args.flags(settings.extra_args))
    if (known is None or structured in known) and not is_chosen:
        flags[structured] = [json.dumps({"backend": "xgrammar"})]
    if name == "vision":
        flags["--limit-mm-per-prompt"] = [settings.limit_mm_per_prompt.model_dump_json()]
    return flags


def _flag(field: str) -> str:
    return "--" + field.replace("_", "-")


def _check_flags(name: EngineName, settings: EngineSettings, vllm: Vllm, flags: Mapping[str, list[str]]) -> None:
    given = [flag.split(".")[0] for flag in extra_args.flags(settings.extra_args)]
    for flag in given:
        if flag in _OWN_FLAGS:
            raise ConfigError(f"engines.{name}.extra_args: {flag} is reserved for the gateway.")
        if flag in flags:
            raise ConfigError(f"engines.{name}.extra_args: {flag} is already set by {flag[2:].replace('-', '_')}.")
        if (setting := flag[2:].removeprefix("no-").replace("-", "_")) in (*_VALUES, *_SWITCHES):
            raise ConfigError(f"engines.{name}.extra_args: {flag} is the setting {setting}; write it there.")
    for flag in (*flags, *given):
        if vllm.flags is not None and flag not in vllm.flags:
            near = difflib.get_close_matches(flag, vllm.flags, n=1)
            raise ConfigError(
                f"engines.{name}: vLLM {vllm.version} has no flag {flag}."
                + (f" Did you mean {near[0]}?" if near else "")
            )


def _vllm_environment(settings: EngineSettings, config: Config, gpus: tuple[str, ...]) -> dict[str, str]:
    environment = {
        # Limits that vLLM enforces in addition to the gateway; versions that do not know one ignore it.
        "VLLM_MAX_N_SEQUENCES": str(config.request.max_n),
        "VLLM_MAX_STOP_STRINGS": str(config.request.max_stop),
        "VLLM_MAX_IMAGE_PIXELS": str(max(config.image.max_image_pixels, _frame_pixels(settings, config))),
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
    }
    if settings.is_folder:
        environment["HF_HUB_OFFLINE"] = "1"  # the model is local: no request to the hub
    if settings.gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[gpu] if gpus else str(gpu) for gpu in settings.gpus)
    return environment


def _frame_pixels(settings: EngineSettings, config: Config) -> int:
    """Pixels of the largest video frame, which vLLM checks against its limit for pictures."""
    return config.video.max_video_pixels // 2 if settings.limit_mm_per_prompt.video else 0


def _thread_environment(name: EngineName, cpus: tuple[int, ...], settings: EngineSettings) -> dict[str, str]:
    """Number of threads per rank on the CPU, not bound to cores.

    vLLM would bind each engine's threads to the same first cores, and it refuses more ranks than NUMA nodes. Two
    engines that spin on one core can starve each other for minutes (seen on Linux 6.18, where sched_yield postpones a
    task).
    """
    ranks = settings.gpu_count
    if ranks > len(cpus):
        raise ConfigError(
            f"engines.{name}: {settings.gpu_count_reason} {ranks}, but this machine has {len(cpus)} cores."
        )
    return {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(len(cpus) // ranks)}
