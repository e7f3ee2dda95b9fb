"""Both models on one GPU with CUDA MPS (A), without (B), and the vision model alone (C); then faults under MPS.

python -u -m tests.benchmarks.mps --config FILE --out FOLDER [--order ABCCBA] [--faults …] [--limit-s 560]

FILE serves both models. Runs tests.benchmarks.mixed and tests.benchmarks.gpu_faults, each with a time limit, and writes
their results to FOLDER as they come. Within a limit of ten minutes there is time for three turns, or for the faults:

--order ABC --faults ''        --order CBA --faults ''        --order ''
"""

import argparse
import pathlib
import subprocess
import sys
import time
from typing import Any

import yaml

_LEAST_S = 60.0
FAULTS = "text:EngineCore:KILL,vision:EngineCore:KILL,mps:control:KILL,text:EngineCore:KILL,mps:server:KILL"


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """A config that serves both models, with their folders as absolute paths."""
    tree: dict[str, Any] = yaml.safe_load(path.read_text())
    for settings in (tree["engines"]["text"], tree["engines"]["vision"]):
        if settings["model"].startswith("."):
            settings["model"] = str((path.parent / settings["model"]).resolve())
    return tree


def plan(config: pathlib.Path) -> str:
    """What `vlserve plan` prints."""
    command = [sys.executable, "-m", "vlserve.cli", "plan", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


def write_configs(base: pathlib.Path, folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """The configs A, B and C, made from ``base``."""
    tree = read_config(base)
    engines = tree["engines"]
    variants = {
        "A": {**engines, "mps": "auto"},
        "B": {**engines, "mps": "off"},
        "C": {"vision": engines["vision"]},
    }
    paths = {}
    for name, chosen in variants.items():
        paths[name] = folder / f"{name}.yaml"
        paths[name].write_text(yaml.safe_dump({**tree, "engines": chosen}))
    return paths


def run(module: str, limit_s: float, *arguments: str) -> None:
    """Run a benchmark; after its time it gets SIGINT, on which it stops its service."""
    if limit_s < _LEAST_S:
        print(f"{module}: left out for lack of time", flush=True)
        return
    child = subprocess.Popen([sys.executable, "-u", "-m", f"tests.benchmarks.{module}", *arguments])
    try:
        print(f"{module}: exit code {child.wait(limit_s)}", flush=True)
    except subprocess.TimeoutExpired:
        print(f"{module}: ended after {limit_s:.0f} s", flush=True)
        child.send_signal(2)
        child.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--order", default="ABCCBA")
    parser.add_argument("--rates", default="20:5")
    parser.add_argument("--clients", default="64:24")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--faults", default=FAULTS)
    parser.add_argument("--limit-s", type=float, default=3600)
    options = parser.parse_args()
    end = time.monotonic() + options.limit_s
    paths = write_configs(options.config, options.out)
    planned = plan(paths["A"])
    (options.out / "plan.txt").write_text(planned)
    print(planned, flush=True)
    if options.order:
        chosen = [argument for turn in options.order for argument in ("--config", str(paths[turn]))]
        load = ("--rates", options.rates, "--clients", options.clients, "--seconds", str(options.seconds))
        left_s = end - time.monotonic()
        run("mixed", left_s, *chosen, *load, "--out", str(options.out), "--limit-s", str(left_s - 30))
    if options.faults:
        left_s = end - time.monotonic()
        faults = ("--faults", options.faults, "--limit-s", str(left_s - 120))
        run("gpu_faults", left_s, "--config", str(paths["A"]), "--out", str(options.out), *faults)


if __name__ == "__main__":
    main()
