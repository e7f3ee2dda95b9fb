"""Machines and settings that `vlserve doctor` examines in the tests."""

import pathlib

from vlserve.commands.doctor.checks import Finding
from vlserve.commands.doctor.system_info import Gpu
from vlserve.config.settings import Config
from vlserve.engines import machine, plan
from vlserve.engines.gpu_memory import GIB

MIB = 1024**2
GPU = Gpu(0, "NVIDIA H100", 80 * GIB, 79 * GIB, (9, 0))
CUDA_13 = ("2.13.0+cu130", (13, 0))
QWEN = "Qwen/Qwen2.5-7B-Instruct"
COMPLETE = {"folder": "/hub", "free_bytes": 10**11, "missing_bytes": 0, "problems": [], "hub": None}


COMPLETE |= {"files": ["config.json", "model.safetensors", "preprocessor_config.json"]}


def text_engine(**settings: object) -> Config:
    return Config.model_validate({"engines": {"text": {"model": QWEN, **settings}}})


def verdict(finding: Finding) -> tuple[str, str]:
    return str(finding.verdict), finding.text


def two_gpus(**settings: object) -> tuple[Config, plan.Plan]:
    config = text_engine(tensor_parallel_size=2, **settings)
    there = machine.from_spec("2x80G", config)
    return config, plan.make(config, there, {}, pathlib.Path("/run/v"))


RESULT = '{"is_right": %s, "bytes": 67108864, "seconds": %s}\n'
