"""Several GPUs: tensor parallelism against data parallelism on the same GPUs, then both models over all of them.

python -u -m tests.benchmarks.parallel --config FILE --gpus 4 --out FOLDER [--parts compare,both,split,replicas,faults]

FILE serves both models; their parallel sizes and GPUs are set here, for the first --gpus GPUs of the machine:

compare   the text model alone with tensor_parallel_size (A) and data_parallel_size (B), in the order A B B A:
          throughput of many clients, and the time to first token of one
both      each model over all GPUs, four at most (tensor-parallel-4.yaml)
split     each model over half of them (eight-gpus.yaml)
replicas  a replica of each model on each GPU of its half (eight-gpus-replicas.yaml)
faults    as the last of these three, with kill -9 of a worker of each model

The other parts measure starts, memory (planned in FOLDER/*-plan.txt) and throughput beside the engines directly. Runs
tests.benchmarks.mixed, gpu and gpu_faults, each with a time limit; their results are in FOLDER as they come. On fewer
than four GPUs `split` and `replicas` are the same.
"""

import argparse
import pathlib
import time
from typing import Any

import yaml

from tests.benchmarks.mps import plan, read_config, run

PARTS = ("compare", "both", "split", "replicas", "faults")
_WIDEST = 4  # tensor_parallel_size: the 7B models have four KV heads


def variants(tree: dict[str, Any], gpus: int) -> dict[str, dict[str, Any]]:
    """The configs by name, made from the one that serves both models."""
    single = {"tensor_parallel_size": 1, "data_parallel_size": 1}
    text, vision = ({**tree["engines"][name], **single} for name in ("text", "vision"))
    shared = {name: value for name, value in tree["engines"].items() if name not in ("text", "vision")}
    widest, half = min(gpus, _WIDEST), min(gpus // 2, _WIDEST)
    first, second, wide = list(range(half)), list(range(half, 2 * half)), list(range(widest))

    def both(size: str, number: int, gpus_of_text: list[int], gpus_of_vision: list[int]) -> dict[str, Any]:
        return {
            "text": {**text, size: number, "gpus": gpus_of_text},
            "vision": {**vision, size: number, "gpus": gpus_of_vision},
        }

    engines = {
        "tensor": {"text": {**text, "tensor_parallel_size": widest, "gpus": wide}},
        "data": {"text": {**text, "data_parallel_size": widest, "gpus": wide}},
        "both": both("tensor_parallel_size", widest, wide, wide),
        "split": both("tensor_parallel_size", half, first, second),
        "replicas": both("data_parallel_size", half, first, second),
    }
    return {name: {**tree, "engines": {**shared, **chosen}} for name, chosen in engines.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=pathlib.Path, required=True)
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--clients", default="512:0,1:0", help="of `compare`; text : pictures")
    parser.add_argument("--throughput", default="text:512:2048,vision:64:400", help="of the other parts")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--limit-s", type=float, default=3600)
    options = parser.parse_args()
    parts, end = options.parts.split(","), time.monotonic() + options.limit_s
    if options.gpus < 2:
        parser.error("--gpus: at least two")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    paths = {}
    for name, config in variants(read_config(options.config), options.gpus).items():
        paths[name] = options.out / f"{name}.yaml"
        paths[name].write_text(yaml.safe_dump(config))
        (options.out / f"{name}-plan.txt").write_text(plan(paths[name]))
    last = "both"
    for part in parts:
        left_s = end - time.monotonic()
        folder = options.out / part
        folder.mkdir(exist_ok=True)
        if part == "compare":
            order = [word for name in ("tensor", "data", "data", "tensor") for word in ("--config", str(paths[name]))]
            load = ("--rates", "", "--clients", options.clients, "--seconds", str(options.seconds))
            run("mixed", left_s, *order, *load, "--out", str(folder), "--limit-s", str(left_s - 30))
        elif part == "faults":
            # Without tensor or data parallelism vLLM has no worker processes.
            title = "EngineCore" if options.gpus < 4 and last != "both" else "Worker"
            faults = ("--faults", f"text:{title}:KILL,vision:{title}:KILL", "--limit-s", str(left_s - 120))
            run("gpu_faults", left_s, "--config", str(paths[last]), "--out", str(folder), *faults)
        else:
            last = part
            run("gpu", left_s, "--config", str(paths[part]), "--out", str(folder), "--throughput", options.throughput)


if __name__ == "__main__":
    main()
