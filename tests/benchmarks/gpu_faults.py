"""Faults on a GPU machine: how streams of both engines end, when the GPU's memory is back, when the engines are.

python -m tests.benchmarks.gpu_faults --config FILE --out FOLDER [--faults text:EngineCore:KILL,mps:server:KILL]
                                      [--busy text]

A fault is engine:process:signal. The process is a part of its command line; APIServer is the engine's first process.
mps:server is the server of CUDA MPS, mps:control its control daemon; mps:client:illegal is a program on the same MPS
server that writes to an illegal address, which is fatal for all clients of the GPU. Streams run on the busy engines, by
default on both, so that each fault also shows a restart beside a busy engine; an idle engine is not asked. Writes
FOLDER/faults.json after each fault, and the service's log. With --limit-s, the faults that would begin later are left
out.
"""

import argparse
import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from tests.benchmarks.gpu import JSON, SERVICE, Memory, ask, is_ready, picture, start, stop

_STREAMS = 8
_LONGEST_S, _SETTLE_S = 240.0, 20.0
_ILLEGAL_WRITE = """
import torch
kernel = torch.cuda._compile_kernel('extern "C" __global__ void write(int* p) { p[1LL << 40] = 1; }', 'write')
memory = torch.zeros(1, dtype=torch.int32, device="cuda")
print("ready", flush=True)
input()
kernel((1, 1, 1), (1, 1, 1), (memory,))
torch.cuda.synchronize()
"""
_TITLES = {"server": "nvidia-cuda-mps-server", "control": "nvidia-cuda-mps-control -f"}


def command_lines() -> dict[int, str]:
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
    return found


def descendants(ancestor: int) -> dict[int, str]:
    """Pid → command line of a process and all its descendants."""
    lines, parents = command_lines(), dict[int, int]()
    for pid in lines:
        try:
            parents[pid] = int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    members = {ancestor}
    while more := {pid for pid, parent in parents.items() if parent in members} - members:
        members |= more
    return {pid: lines[pid] for pid in sorted(members) if pid in lines}


def process(service: int, engine: str, title: str) -> int:
    """The pid of an engine's process, among those of this service only. Raises StopIteration if there is none."""
    ours = descendants(service)
    leader = next(pid for pid, line in ours.items() if "reaper.py" in line and f"/{engine}.sock" in line)
    if title == "APIServer":
        children = pathlib.Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
        return int(children[0])
    others = [(pid, line) for pid, line in descendants(leader).items() if pid != leader]
    return next(pid for pid, line in others if _TITLES.get(title, title) in line)


def cause(service: int, fault: str) -> Callable[[], None]:
    """Prepare a fault and return the function that causes it. Raises OSError or StopIteration if it cannot be."""
    engine, title, name = fault.split(":")
    if name != "illegal":
        return functools.partial(os.kill, process(service, engine, title), getattr(signal, f"SIG{name}"))
    core = process(service, "text", "EngineCore")
    pairs = pathlib.Path(f"/proc/{core}/environ").read_bytes().decode().split("\0")
    environment = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    command, pipe = [sys.executable, "-c", _ILLEGAL_WRITE], subprocess.PIPE
    client = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
    if not client.stdout or client.stdout.readline() != "ready\n":
        raise OSError("the program did not start")

    def write() -> None:
        if client.stdin:
            print(file=client.stdin, flush=True)
        threading.Timer(_SETTLE_S, client.kill).start()

    return write


class Stream(threading.Thread):
    """One long streamed answer: its lines, and when it ended (0: it runs)."""

    def __init__(self, model: str) -> None:
        super().__init__(daemon=True)
        self.lines: list[str] = []
        self.ended = 0.0
        self.is_cancelled = False
        messages = [{"role": "user", "content": "Count."}]
        self.body = {
            "model": model,
            "messages": messages,
            "max_tokens": 8000,
            "ignore_eos": True,
            "stream": True,
            "user": "drip",
        }

    def run(self) -> None:
        request = urllib.request.Request(f"{SERVICE}/v1/chat/completions", json.dumps(self.body).encode(), JSON)
        try:
            with urllib.request.urlopen(request, timeout=_LONGEST_S) as answer:
                for line in answer:
                    if self.is_cancelled:
                        return
                    if line.strip():
                        self.lines.append(line.decode().strip())
        except OSError as error:
            self.lines.append(repr(error))
        self.ended = time.monotonic()

    def summary(self) -> str:
        """How it stands: runs, error (one error event, as it should), fake (an error and [DONE]), done, or cut."""
        if not self.ended:
            return "runs"
        is_done, has_error = "data: [DONE]" in self.lines, any('"error"' in line for line in self.lines)
        if has_error:
            return "fake" if is_done else "error"
        return "done" if is_done else "cut"


class Watch:
    """What happens to one engine after a fault."""

    def __init__(self, engine: str, model: str, *, is_busy: bool) -> None:
        self.engine, self.model = engine, model
        self.streams = [Stream(model) for _ in range(_STREAMS if is_busy else 0)]
        for stream in self.streams:
            stream.start()
        self.away_s = self.started_s = self.back_s = 0.0
        self.asked = self.errors = 0

    def poll(self, elapsed: float, log: str) -> None:
        is_up = is_ready(self.engine)
        if not is_up and not self.away_s:
            self.away_s = elapsed
        if not self.started_s and f"{self.engine} engine: starting" in log:
            self.started_s = elapsed
        if self.away_s and is_up and not self.back_s:
            self.back_s = elapsed
        if is_up and self.streams:
            self.asked += 1
            try:
                messages = [{"role": "user", "content": "Hello"}]
                ask(SERVICE, {"model": self.model, "messages": messages, "max_tokens": 4}, 30)
            except (urllib.error.URLError, OSError):
                self.errors += 1

    @property
    def is_settled(self) -> bool:
        return bool(self.back_s) if self.away_s else is_ready(self.engine)

    def summary(self, begun: float) -> dict[str, Any]:
        ended = [stream.ended - begun for stream in self.streams if stream.ended]
        kinds = [stream.summary() for stream in self.streams]
        for stream in self.streams:
            stream.is_cancelled = True
        return {
            "streams": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
            "last_lines": sorted({stream.lines[-1][:200] for stream in self.streams if stream.ended and stream.lines})[
                :3
            ],
            "slowest_stream_end_s": round(max(ended, default=0.0), 2),
            "away_s": round(self.away_s, 1),
            "started_again_s": round(self.started_s, 1),
            "back_s": round(self.back_s, 1),
            "asked": self.asked,
            "errors": self.errors,
        }


def one_fault(service: int, fault: str, models: dict[str, str], busy: list[str], log: pathlib.Path) -> dict[str, Any]:
    """Streams run on the busy engines, the fault is caused; everything until all are back."""
    strike = cause(service, fault)
    watches = {one: Watch(one, model, is_busy=one in busy) for one, model in models.items()}
    waiting_since = time.monotonic()
    while time.monotonic() - waiting_since < 60 and not all(
        len(stream.lines) > 5 or stream.ended for watch in watches.values() for stream in watch.streams
    ):
        time.sleep(0.1)
    before, lines_before = used(), len(log.read_text(errors="replace").splitlines())
    begun = time.monotonic()
    strike()
    lowest, free_s = before, 0.0
    while (elapsed := time.monotonic() - begun) < _LONGEST_S:
        if (now_used := used()) < lowest:
            lowest, free_s = now_used, elapsed
        new = "\n".join(log.read_text(errors="replace").splitlines()[lines_before:])
        for watch in watches.values():
            watch.poll(elapsed, new)
        if elapsed > _SETTLE_S and all(watch.is_settled for watch in watches.values()):
            break
        time.sleep(0.2)
    later = log.read_text(errors="replace").splitlines()[lines_before:]
    return {
        "fault": fault,
        "busy": busy,
        "memory_used_mib": {"before": before, "lowest": lowest, "after": used()},
        "lowest_after_s": round(free_s, 1),
        "engines": {one: watch.summary(begun) for one, watch in watches.items()},
        "log": [line[-300:] for line in later if re.search(r"engine: |MPS|\[mps\]|CUDA error|ERROR .*rror:", line)][
            :40
        ],
    }


def used() -> int:
    memory = Memory()
    memory.poll()
    return max(memory.total.values())


def left_behind(seen: dict[int, str], folders: set[pathlib.Path]) -> list[str]:
    """Of the service's processes and run folders, those that are still there."""
    lines = command_lines()
    processes = [f"{pid} {line[:200]}" for pid, line in seen.items() if lines.get(pid) == line]
    return [*processes, *(str(folder) for folder in folders if folder.exists())]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--faults", default="text:EngineCore:KILL,vision:APIServer:KILL,vision:EngineCore:STOP")
    parser.add_argument("--busy", default="text,vision", help="engines with streams")
    parser.add_argument("--limit-s", type=float, default=float("inf"))
    options = parser.parse_args()
    begun = time.monotonic()
    log = options.out / "service.log"
    service, seconds = start(options.config, log)
    text = log.read_text(errors="replace")
    models = dict(re.findall(r"(\w+) engine: ready \(after \d+ s, as ([^)]+)\)", text))
    folders = {pathlib.Path(found).parent for found in re.findall(r"--uds (\S+\.sock)", text)}
    results: dict[str, Any] = {"ready_s": seconds, "faults": []}
    seen = descendants(service.pid)

    def save() -> None:
        (options.out / "faults.json").write_text(json.dumps(results, indent=1))

    try:
        for fault in options.faults.split(","):
            if time.monotonic() - begun > options.limit_s:
                print(f"left out for lack of time: {fault}", flush=True)
                continue
            try:
                ask(SERVICE, {"messages": [{"role": "user", "content": [_part(picture())]}], "max_tokens": 4})
                results["faults"].append(one_fault(service.pid, fault, models, options.busy.split(","), log))
            except (OSError, StopIteration) as error:  # the next fault is tried
                results["faults"].append({"fault": fault, "not_done": repr(error)})
            seen |= descendants(service.pid)
            print(json.dumps(results["faults"][-1]), flush=True)
            save()
    finally:
        results["memory_free_after_sigterm_s"] = stop(service)
        results["left_behind"] = left_behind(seen, folders)
        print(json.dumps({name: results[name] for name in ("memory_free_after_sigterm_s", "left_behind")}), flush=True)
        save()


def _part(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


if __name__ == "__main__":
    main()
