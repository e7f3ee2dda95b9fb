"""Runs an all-reduce over several GPUs, as tensor parallelism does, in a separate program, since it imports torch.

usage: python -m vlserve.commands.doctor.allreduce RANKS [--backend nccl|gloo]     (gloo: on the CPU, for tests)

`vlserve doctor` runs it with the engine's environment and a timeout, because GPUs that cannot communicate hang. Prints
one line of JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

_BYTES = 64 * 1024**2
_ROUNDS = 5
_POLL_S = 0.1


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("ranks", type=int)
    parser.add_argument("--backend", choices=["nccl", "gloo"], default="nccl")
    parser.add_argument("--rank", type=int)
    parser.add_argument("--meeting")
    arguments = parser.parse_args()
    if arguments.rank is not None:
        _work(arguments.rank, arguments.ranks, arguments.backend, arguments.meeting)
        return 0
    with tempfile.TemporaryDirectory(prefix="vlserve-") as folder:
        command = [
            sys.executable,
            "-m",
            "vlserve.commands.doctor.allreduce",
            str(arguments.ranks),
            "--backend",
            arguments.backend,
        ]
        command += ["--meeting", os.path.join(folder, "meeting"), "--rank"]  # noqa: PTH118  (argv needs a string)
        children = [subprocess.Popen([*command, str(rank)]) for rank in range(arguments.ranks)]  # noqa: S603
        while None in (codes := [child.poll() for child in children]) and not any(codes):
            time.sleep(_POLL_S)
        for child in children:  # if one failed, the others would wait for it forever
            child.kill()
            child.wait()
    return next((code for code in codes if code), 0)


def _work(rank: int, ranks: int, backend: str, meeting: str) -> None:
    import torch
    import torch.distributed as distributed

    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if backend == "nccl":
        torch.cuda.set_device(device)
    distributed.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=ranks)
    numbers = torch.ones(_BYTES // 4, device=device)
    distributed.all_reduce(numbers)  # the first call also sets up connections
    is_right = bool((numbers == ranks).all())
    begun = time.monotonic()
    for _ in range(_ROUNDS):
        distributed.all_reduce(numbers)
    numbers.sum().item()  # waits for the GPU
    took_s = (time.monotonic() - begun) / _ROUNDS
    if rank == 0:
        print(json.dumps({"is_right": is_right, "bytes": _BYTES, "seconds": took_s}), flush=True)
    distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
