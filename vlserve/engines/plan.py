"""Plans the engine processes: from config, machine and environment to each engine's command line. Pure: no I/O."""

import pathlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace

from vlserve.config import extra_args
from vlserve.config.engine_settings import EngineName, EngineSettings
from vlserve.config.settings import Config
from vlserve.engines import mps_plan, vllm_arguments, vllm_checks
from vlserve.engines.cpu_memory import MEASURED_SINCE, RamBudget, plan_ram
from vlserve.engines.fetch_command import fetch_command, uses_modelscope
from vlserve.engines.gpu_memory import Budget, assign_gpus, check_sized, plan_memory, share, sharing
from vlserve.engines.hang_limits import HangLimits, hang_limits
from vlserve.engines.machine import Machine
from vlserve.engines.model import Model
from vlserve.engines.mps_plan import MpsPlan
from vlserve.errors import ConfigError

_KV_BYTES = {"auto": None, "float16": 2, "bfloat16": 2, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}
"""``--kv-cache-dtype`` → bytes per value; None: as the model. So are other types, which need less."""
# sun_path is 108 bytes on Linux, including the final NUL; the names of vLLM's own sockets are UUIDs (36 bytes).
_LONGEST_SOCKET_PATH = 107 - 36


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

    ``environment``: the variables that engines inherit (config.environment). Raises ConfigError if the
    installed vLLM or this machine cannot run the config.
    """
    models = _checked_models(config, machine, environment)
    placed = _placed(config.engines.on_vllm(), machine)
    budgets = _budgets(placed, config, machine, models)
    rams = _ram_budgets(config, machine, models)
    engines = tuple(
        replace(
            _plan_engine(name, settings, config, machine, environment, run_folder / f"{name}.sock", budgets.get(name)),
            ram=rams.get(name),
        )
        for name, settings in [(name, placed.get(name, given)) for name, given in config.engines.items()]
        if not settings.url
    )
    if machine.vllm is None or machine.vllm.is_cpu:
        return Plan(engines)
    environments = {one.name: one.environment for one in engines}
    mps = mps_plan.make(config.engines, environments, machine.mps_program, machine.mps_daemon, run_folder)
    if mps is None:
        return Plan(engines)
    with_mps = {name: {**environments[name], **mps.environment} for name in mps.engines}
    return Plan(tuple(replace(one, environment=with_mps.get(one.name, one.environment)) for one in engines), mps)


def _checked_models(config: Config, machine: Machine, environment: Mapping[str, str]) -> dict[EngineName, Model]:
    """The known models, each with the longest request its engine accepts. Raises ConfigError for what vLLM would
    refuse."""
    models = dict(machine.models)
    available, unit = (len(machine.cpus), "cores") if machine.is_cpu else (len(machine.gpus), "GPUs")
    for name, settings in config.engines.on_vllm().items():
        model, longest = models.get(name), None
        if model:
            if available:
                vllm_checks.check_heads(name, settings, model, available, unit)
            longest = vllm_checks.longest_request(settings, model, machine.vllm.release if machine.vllm else None)
            model = replace(model, max_position_embeddings=longest or model.max_position_embeddings)
            kv_dtype = extra_args.flags(settings.extra_args).get("--kv-cache-dtype", "auto")
            models[name] = replace(model, kv_bytes_per_value=_KV_BYTES.get(kv_dtype))
        vllm_checks.check(name, settings, model, longest, {**environment, **settings.env})
    return models


def _placed(engines: dict[EngineName, EngineSettings], machine: Machine) -> dict[EngineName, EngineSettings]:
    """The engines with their GPUs; on the CPU as they are. Raises ConfigError if there are too few."""
    if not engines or machine.vllm is None or machine.vllm.is_cpu:
        return engines
    if not machine.gpus:
        raise ConfigError(
            "No NVIDIA GPU was found, and the installed vLLM needs one. Without a GPU, in the folder of vlserve's "
            "repository: pip install '.[cpu]'; `make demo` there serves two small models that way."
        )
    gpus = assign_gpus(engines, len(machine.gpus))
    return {name: one.model_copy(update={"gpus": list(gpus[name])}) for name, one in engines.items()}


def _budgets(
    engines: Mapping[EngineName, EngineSettings], config: Config, machine: Machine, models: Mapping[EngineName, Model]
) -> dict[EngineName, Budget]:
    if machine.vllm is None or machine.vllm.is_cpu:
        return {}
    unknown = [name for name in engines if name not in models]
    for name in unknown:
        if not check_sized(sharing(name, engines)):
            raise ConfigError(
                f"engines.{name}: the memory that {engines[name].model} needs is unknown, so it cannot be planned. "
                "Set different gpus for the engines, or gpu_memory_utilization and kv_cache_memory_bytes for each."
            )
    if unknown:
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
    if budget:
        settings = _with_budget(settings, budget)
    # For the sockets between vLLM's processes, which remain if it is killed.
    environment["VLLM_RPC_BASE_PATH"] = str(scratch(socket))
    argv, added = vllm_arguments.make(name, settings, config, machine, environment, socket)
    environment |= added | settings.env
    limits = hang_limits(settings, is_cpu=machine.is_cpu)
    return EnginePlan(name, socket, argv, environment, budget, fetch=_fetch(settings, environment), hang=limits)


def _fetch(settings: EngineSettings, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Models are downloaded ahead from Hugging Face only; from other sources vLLM loads them itself."""
    if uses_modelscope(environment) or environment.get("HF_HUB_OFFLINE") == "1":
        return ()
    return fetch_command(settings)


def _with_budget(settings: EngineSettings, budget: Budget) -> EngineSettings:
    """Add the planned memory share and, on shared GPUs, KV cache size, unless the config sets them."""
    planned: dict[str, object] = {"gpu_memory_utilization": share(settings, budget)}
    if budget.is_shared:
        planned["kv_cache_memory_bytes"] = budget.kv_cache
    return settings.model_copy(update=planned)
