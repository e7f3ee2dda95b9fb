"""``vlserve doctor``: checks whether ``serve`` would work here, and reports what to change.

system_info.py and modules of engines/ collect the facts, checks.py evaluates them.
"""

import asyncio
import dataclasses
import importlib.util
import os
import pathlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from vlserve.commands import startup_checks
from vlserve.commands.doctor import checks, system_info
from vlserve.commands.doctor.checks import Finding, Verdict
from vlserve.config import load as config
from vlserve.config.environment import engine_environment
from vlserve.config.folders import cache_folder, files_folder
from vlserve.config.settings import Config
from vlserve.engines import mps_control, plan, system_memory
from vlserve.engines.fetch_command import check_command, uses_modelscope
from vlserve.engines.gpus import DriverTimeout, usable_gpus
from vlserve.engines.machine import Machine
from vlserve.engines.model_files import read_models
from vlserve.engines.vllm_installation import find_vllm
from vlserve.errors import ConfigError

# A placeholder of the same length as the real folder; never created.
_RUN_FOLDER = pathlib.Path("/tmp/vlserve-XXXXXXXX")  # noqa: S108


async def examine(
    path: pathlib.Path, environ: Mapping[str, str] = os.environ, **server_overrides: Any
) -> AsyncIterator[Finding]:
    """Check everything that the config at ``path`` needs on this machine; yield each finding as soon as it is known.

    ``server_overrides``: as for config.load.
    """
    try:
        settings = config.load(path, **server_overrides)
    except ConfigError as error:
        yield Finding(Verdict.PROBLEM, "config", error.message)
        return
    yield Finding(Verdict.OK, "config", str(path))
    environment = engine_environment(environ)
    seen: tuple[system_info.Gpu, ...] = ()
    try:
        await asyncio.to_thread(usable_gpus, environment)  # has a deadline, unlike what follows
    except DriverTimeout as error:
        yield Finding(Verdict.PROBLEM, "driver", f"{error} vLLM, plan and weights are not checked.")
    else:
        seen = system_info.gpus()
        async for finding in _engines(settings, cache_folder(environ), environment, seen):
            yield finding
    server = settings.server
    why = system_info.listen_error(server.host, server.port)
    yield checks.judge_port(server, why, system_info.listener(server.port) if why else None)
    if server.metrics_address:
        host, port = server.metrics_address
        why = system_info.listen_error(host, port)
        yield checks.judge_metrics_listen(server, why, system_info.listener(port) if why else None)
    yield _keys(settings, environ)
    problems = list(_startup_problems(settings, environ))
    for finding in problems:
        yield finding
    yield checks.judge_shared_memory(settings, system_info.shared_memory())
    if "files" not in (finding.subject for finding in problems):
        yield checks.judge_files_folder(settings, system_info.disk_space(files_folder(settings.files, environ)))
    yield checks.judge_cache(system_info.disk_space(cache_folder(environ)))
    yield checks.judge_file_limit(system_info.file_limit())
    for finding in checks.judge_environment(environ, environment, seen):
        yield finding


async def _engines(
    settings: Config, cache: pathlib.Path, environment: Mapping[str, str], seen: tuple[system_info.Gpu, ...]
) -> AsyncIterator[Finding]:
    """Check vLLM, GPUs or CPU, the plan, and the models."""
    memory = system_memory.read()
    there = Machine(tuple(sorted(os.sched_getaffinity(0))), None, ram_bytes=memory.total_bytes if memory else 0)
    is_needed = bool(settings.engines.on_vllm())
    if is_needed:
        try:
            there = dataclasses.replace(there, vllm=await find_vllm(cache, environment, ask="always"))
        except ConfigError as error:
            yield Finding(Verdict.PROBLEM, "vllm", error.message)
    torch = system_info.torch_build()
    if there.vllm:
        yield checks.judge_vllm(there.vllm, torch)
    on_gpus = is_needed and not there.is_cpu
    if on_gpus:
        yield checks.judge_driver(system_info.driver(), torch)
        visible, smallest = await asyncio.to_thread(usable_gpus, environment)
        program = mps_control.find_program(environment)
        daemon = await mps_control.find_daemon(program, environment)
        there = dataclasses.replace(there, gpus=visible, gpu_bytes=smallest, mps_program=program, mps_daemon=daemon)
    made = None
    if there.vllm or not is_needed:
        try:
            made = _plan(settings, there, environment)
        except ConfigError as error:
            yield Finding(Verdict.PROBLEM, "plan", error.message)
        else:
            yield checks.judge_plan(made, there)
            for found in (checks.judge_ram(made, memory), checks.judge_mps(made)):
                if found:
                    yield found
    if on_gpus:
        planned = {gpu for one in (made.engines if made else ()) if one.budget for gpu in one.budget.gpus}
        used = {there.gpus[gpu] for gpu in planned} or set(there.gpus)
        for gpu in seen:
            yield checks.judge_gpu(gpu, settings, is_used=str(gpu.number) in used or not used)
    if made:
        async for finding in _gpus_together(settings, made, seen):
            yield finding
    looked = []
    for name, engine in settings.engines.items():
        own = {**environment, **engine.env}
        if engine.is_vllm and engine.is_in_object_storage:
            yield Finding(Verdict.OK, f"weights {name}", f"not checked: vLLM reads them from {engine.model}")
        elif not engine.is_folder and uses_modelscope(own):
            yield Finding(Verdict.OK, f"weights {name}", "not checked: vLLM loads them from ModelScope")
        elif argv := check_command(engine):
            if importlib.util.find_spec("huggingface_hub") is None:
                text = "not checked: huggingface_hub, a part of vLLM, is missing"
                yield Finding(Verdict.WARNING, f"weights {name}", text)
                continue
            looked.append(await system_info.model(argv, own))
            yield checks.judge_model(name, engine, looked[-1])
    if found := checks.judge_downloads(looked):
        yield found


def _plan(settings: Config, there: Machine, environment: Mapping[str, str]) -> plan.Plan:
    there = dataclasses.replace(there, models=read_models(settings))
    return plan.make(settings, there, environment, _RUN_FOLDER)


async def _gpus_together(
    settings: Config, made: plan.Plan, seen: tuple[system_info.Gpu, ...]
) -> AsyncIterator[Finding]:
    for finding in checks.judge_free_memory(settings, made, seen):
        yield finding
    together = {one.budget.gpus: one for one in made.engines if one.budget and one.budget.tensor_parallel_size > 1}
    for engine in together.values():
        command = (*system_info.ALL_REDUCE, str(engine.budget.tensor_parallel_size if engine.budget else 1))
        yield checks.judge_nccl(engine, await system_info.run(command, engine.environment, checks.NCCL_TIMEOUT_S))


def _keys(settings: Config, environ: Mapping[str, str]) -> Finding:
    try:
        found = startup_checks.read_api_keys(settings, environ)
    except ConfigError as error:
        return Finding(Verdict.PROBLEM, "keys", error.message)
    return checks.judge_keys(settings.server, len(found))


def _startup_problems(settings: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The other checks that `serve` makes at its start."""
    for subject, check in startup_checks.OTHER_CHECKS.items():
        try:
            check(settings, environ)
        except ConfigError as error:
            yield Finding(Verdict.PROBLEM, subject, error.message)
