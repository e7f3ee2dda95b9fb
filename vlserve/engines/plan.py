"""Plans the engine processes: from config, machine and environment to each engine's command line. Pure: no I/O."""

import difflib
import json
import pathlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vlserve.config.engine_settings import AUTO, EngineName, EngineSettings
from vlserve.config.settings import Config, Video
from vlserve.engines import extra_args, mps_plan, vllm_checks
from vlserve.engines.cpu_memory import MEASURED_SINCE, RamBudget, plan_ram
from vlserve.engines.gpu_memory import Budget, plan_memory, share
from vlserve.engines.machine import FETCH, Machine, Vllm, compat_path
from vlserve.engines.model import Model
from vlserve.engines.mps_plan import MpsPlan
from vlserve.errors import ConfigError
from vlserve.media.pixels import VIDEO_MIN_PIXELS

# Reserved for the gateway: they set where an engine listens, its access control and its model name.
_OWN_FLAGS = {"--model", "--uds", "--host", "--port", "--served-model-name", "--api-key", "--root-path", "--config"}
# sun_path is 108 bytes on Linux, including the final NUL; the names of vLLM's own sockets are UUIDs (36 bytes).
_LONGEST_SOCKET_PATH = 107 - 36
# Settings that become flags of the same name. They are refused in extra_args, where the memory plan would miss them.
_VALUES = (
    *("tensor_parallel_size", "dtype", "max_model_len", "gpu_memory_utilization", "kv_cache_memory_bytes"),
    *("max_num_seqs", "max_num_batched_tokens"),
)
_SWITCHES = ("enable_chunked_prefill", "enforce_eager", "trust_remote_code")
_FIRST_USE_S = 600.0


@dataclass(frozen=True)
class HangLimits:
    """How many seconds an engine may be silent before it counts as hung."""

    usual_s: float
    first_use_s: float
    """In the first minutes after it became ready, while kernels are compiled and CUDA graphs captured on first use."""

    def at(self, ready_s: float) -> float:
        """The limit for a silence that began ``ready_s`` seconds after the engine became ready."""
        return self.first_use_s if ready_s < _FIRST_USE_S else self.usual_s


def hang_limits(settings: EngineSettings, *, is_cpu: bool) -> HangLimits | None:
    """Resolve ``hang_after_s``: a number applies from the start; None: hangs are not detected."""
    given = settings.hang_after_s
    if given is None:
        return None
    if given != "auto":
        return HangLimits(given, given)
    return HangLimits(30.0, 30.0) if is_cpu else HangLimits(120.0, 360.0)


@dataclass(frozen=True)
class ProcessPlan:
    """One process to start: its socket, command line and complete environment."""

    name: str
    socket: pathlib.Path
    argv: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class EnginePlan(ProcessPlan):
    """One engine process to start."""

    name: EngineName
    budget: Budget | None = None
    """Its GPU memory; None on the CPU, and for models whose shape is unknown."""
    ram: RamBudget | None = None
    """Its RAM on the CPU; None on GPUs, and for models whose shape is unknown."""
    fetch: tuple[str, ...] = ()
    """The command that downloads its model before the start; empty if there is nothing to download."""
    hang: HangLimits | None = None

    def command_line(self) -> str:
        """The command line, quoted for a shell."""
        return shlex.join(self.argv)


@dataclass(frozen=True)
class Plan:
    engines: tuple[EnginePlan, ...]
    mps: MpsPlan | None = None
    """How engines on the same GPU use CUDA MPS; None where no GPU is shared."""


def make(config: Config, machine: Machine, environment: Mapping[str, str], run_folder: pathlib.Path) -> Plan:
    """Plan every engine that vlserve starts itself (not those with a ``url``).

    ``environment``: the variables that engines inherit (config.load.engine_environment). Raises ConfigError if the
    installed vLLM or this machine cannot run the config.
    """
    models = _checked_models(config, machine, environment)
    budgets = _budgets(config, machine, models)
    rams = _ram_budgets(config, machine, models)
    engines = tuple(
        replace(
            _plan_engine(name, settings, config, machine, environment, run_folder / f"{name}.sock", budgets.get(name)),
            ram=rams.get(name),
        )
        for name, settings in config.engines.items()
        if not settings.url
    )
    if machine.vllm is None or machine.vllm.is_cpu:
        return Plan(engines)
    environments = {one.name: one.environment for one in engines}
    mps = mps_plan.make(config.engines, environments, machine.mps_program, run_folder)
    if mps is None:
        return Plan(engines)
    with_mps = {name: {**environments[name], **mps.environment} for name in mps.engines}
    return Plan(tuple(replace(one, environment=with_mps.get(one.name, one.environment)) for one in engines), mps)


def _checked_models(config: Config, machine: Machine, environment: Mapping[str, str]) -> dict[EngineName, Model]:
    """The known models, each with the longest request its engine accepts. Raises ConfigError for what vLLM would
    refuse."""
    models = dict(machine.models)
    is_cpu = machine.vllm is not None and machine.vllm.is_cpu
    available, unit = (len(machine.cpus), "cores") if is_cpu else (len(machine.gpus), "GPUs")
    for name, settings in config.engines.on_vllm().items():
        model, longest = models.get(name), None
        if model:
            if available:
                vllm_checks.check_heads(name, settings, model, available, unit)
            longest = vllm_checks.longest_request(settings, model, machine.vllm.release if machine.vllm else None)
            models[name] = replace(model, max_position_embeddings=longest or model.max_position_embeddings)
        vllm_checks.check(name, settings, model, longest, {**environment, **settings.env})
    return models


def _budgets(config: Config, machine: Machine, models: Mapping[EngineName, Model]) -> dict[EngineName, Budget]:
    engines = config.engines.on_vllm()
    if not engines or machine.vllm is None or machine.vllm.is_cpu:
        return {}
    if not machine.gpus:
        raise ConfigError(
            "No NVIDIA GPU was found, and the installed vLLM needs one. Without a GPU: pip install 'vlserve[cpu]'; "
            "`make demo` serves two small models that way."
        )
    if unknown := [name for name in engines if name not in models]:
        gpus = [gpu for one in engines.values() for gpu in one.gpus or []]
        are_apart = all(one.gpus for one in engines.values()) and len(gpus) == len(set(gpus))
        are_sized = all(one.gpu_memory_utilization and one.kv_cache_memory_bytes for one in engines.values())
        if len(engines) > 1 and not are_apart and not are_sized:
            raise ConfigError(
                f"engines.{unknown[0]}.model: the size of {engines[unknown[0]].model} is unknown, so its memory "
                "cannot be planned. Set different gpus for the engines, "
                "or gpu_memory_utilization and kv_cache_memory_bytes for each."
            )
        return {}
    return plan_memory(engines, models, machine.gpu_bytes, len(machine.gpus), config.engines.share.parts())


def _ram_budgets(config: Config, machine: Machine, models: Mapping[EngineName, Model]) -> dict[EngineName, RamBudget]:
    vllm = machine.vllm
    if vllm is None or not vllm.is_cpu or not machine.ram_bytes or (vllm.release or MEASURED_SINCE) < MEASURED_SINCE:
        return {}
    return plan_ram(config.engines.on_vllm(), models, machine.ram_bytes)


def scratch(socket: pathlib.Path) -> pathlib.Path:
    """The folder for an engine's temporary files, next to its socket."""
    return socket.with_suffix("")


def _plan_engine(
    name: EngineName,
    settings: EngineSettings,
    config: Config,
    machine: Machine,
    environment: Mapping[str, str],
    socket: pathlib.Path,
    budget: Budget | None,
) -> EnginePlan:
    if len(str(socket).encode()) > _LONGEST_SOCKET_PATH:
        raise ConfigError(f"The socket path {socket} is too long for a Unix socket; set TMPDIR to a shorter folder.")
    environment = {**environment, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if settings.command:
        argv = tuple(part.replace("{uds}", str(socket)) for part in settings.command)
        limits = hang_limits(settings, is_cpu=False)  # the command may run anything
        return EnginePlan(name, socket, argv, {**environment, **settings.env}, hang=limits)
    if machine.vllm is None:
        raise ConfigError(f"engines.{name}: vLLM is needed to start {settings.model}.")
    if budget:
        settings = _with_budget(settings, budget)
    settings = _with_most_tokens(settings, config.request.max_tokens)
    if name == "vision" and settings.limit_mm_per_prompt.video:
        settings = _with_videos(settings, config.video)
    flags = _flags(name, settings, config.auto_aliases, machine.vllm.flags)
    if config.tracing.otlp_endpoint:
        flags["--otlp-traces-endpoint"] = [f"{config.tracing.otlp_endpoint.rstrip('/')}/v1/traces"]
        environment |= {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_SERVICE_NAME": f"vlserve-{name}"}
        if "--disable-log-stats" in extra_args.flags(settings.extra_args):
            raise ConfigError(f"engines.{name}.extra_args: traces need vLLM's statistics; remove --disable-log-stats.")
    _check_flags(name, settings, machine.vllm, flags)
    argv = (*machine.vllm.start, "--model", settings.model, "--uds", str(socket))
    for flag, values in flags.items():
        argv += (flag, *values)
    if machine.vllm.is_cpu:
        environment["PYTHONPATH"] = compat_path(environment)
        environment |= _thread_environment(name, machine.cpus, settings.tensor_parallel_size)
    # The sockets between vLLM's processes, which remain if it is killed.
    environment["VLLM_RPC_BASE_PATH"] = str(scratch(socket))
    environment |= _vllm_environment(settings, config, machine.gpus)
    environment |= settings.env
    argv += tuple(settings.extra_args)
    limits = hang_limits(settings, is_cpu=machine.vllm.is_cpu)
    fetch = _fetch(settings, environment)
    return EnginePlan(name, socket, argv, environment, budget, fetch=fetch, hang=limits)


def _fetch(settings: EngineSettings, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Models are downloaded ahead from Hugging Face only; from other sources vLLM loads them itself."""
    if uses_modelscope(environment) or environment.get("HF_HUB_OFFLINE") == "1":
        return ()
    return fetch_command(settings)


def uses_modelscope(environment: Mapping[str, str]) -> bool:
    """Whether vLLM downloads from ModelScope instead of Hugging Face."""
    return environment.get("VLLM_USE_MODELSCOPE", "0").lower() not in ("", "0", "false")


def fetch_command(settings: EngineSettings, *more: str) -> tuple[str, ...]:
    """The command that downloads an engine's model; empty for folders, and if no weights are read."""
    given = extra_args.flags(settings.extra_args)
    if settings.is_folder or not settings.is_vllm or not reads_weights(settings):
        return ()
    where = [f"{flag}={given[flag]}" for flag in ("--revision", "--download-dir") if flag in given]
    return (*FETCH, settings.model, *where, *more)


def reads_weights(settings: EngineSettings) -> bool:
    """Whether the engine reads weights from the model's files; `dummy`, for one, makes random ones."""
    return extra_args.flags(settings.extra_args).get("--load-format", "auto") in ("auto", "safetensors")


def check_command(settings: EngineSettings) -> tuple[str, ...]:
    """The command that checks whether an engine's model is complete, in its folder or in the cache."""
    if settings.is_folder and settings.is_vllm:
        return (*FETCH, settings.model, "--check")
    return fetch_command(settings, "--check")


def _with_budget(settings: EngineSettings, budget: Budget) -> EngineSettings:
    """Add the planned GPUs, memory share and, on shared GPUs, KV cache size, unless the config sets them."""
    planned: dict[str, object] = {
        "gpus": list(budget.gpus),
        "gpu_memory_utilization": share(settings, budget),
    }
    if budget.is_shared:
        planned["kv_cache_memory_bytes"] = budget.kv_cache
    return settings.model_copy(update=planned)


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


def _thread_environment(name: EngineName, cpus: tuple[int, ...], ranks: int) -> dict[str, str]:
    """Number of threads per rank on the CPU, not bound to cores.

    vLLM would bind each engine's threads to the same first cores, and it refuses more ranks than NUMA nodes. Two
    engines that spin on one core can starve each other for minutes (seen on Linux 6.18, where sched_yield postpones a
    task).
    """
    if ranks > len(cpus):
        raise ConfigError(f"engines.{name}.tensor_parallel_size is {ranks} but this machine has {len(cpus)} cores.")
    return {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(len(cpus) // ranks)}
