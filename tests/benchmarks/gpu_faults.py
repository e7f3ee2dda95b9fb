"""Faults on a GPU machine: how streams end, when the GPU's memory is back, when the engine is.

python -m tests.benchmarks.gpu_faults --config FILE --out FOLDER [--faults text:EngineCore:KILL,vision:APIServer:KILL]

A fault is engine:process:signal; the process is a part of its title, APIServer is the engine's first process.
Writes FOLDER/faults.json and the service's log.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from typing import Any

from tests.benchmarks.gpu import SERVICE, Memory, ask, is_ready, picture, start, stop

_STREAMS = 8
_LONGEST_S = 300


def processes(engine: str) -> dict[int, str]:
    """Pid → command line of the processes of an engine's session; the first one leads it."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    leader = next(pid for pid, line in sorted(found.items()) if "reaper.py" in line and f"/{engine}.sock" in line)
    members = {leader: found[leader]}
    for pid, line in sorted(found.items()):
        try:
            if os.getsid(pid) == leader:
                members[pid] = line
        except ProcessLookupError:
            continue
    return members


def process(engine: str, title: str) -> int:
    leader, *others = processes(engine).items()
    if title == "APIServer":
        children = pathlib.Path(f"/proc/{leader[0]}/task/{leader[0]}/children").read_text().split()
        return int(children[0])
    return next(pid for pid, line in others if title in line)


class Stream(threading.Thread):
    """One long streamed answer: its lines, and when it ended."""

    def __init__(self, model: str) -> None:
        super().__init__(daemon=True)
        self.lines: list[str] = []
        self.ended = 0.0
        messages = [{"role": "user", "content": "Count."}]
        self.body = {"model": model, "messages": messages, "max_tokens": 8000, "ignore_eos": True, "stream": True}

    def run(self) -> None:
        request = urllib.request.Request(f"{SERVICE}/v1/chat/completions", json.dumps(self.body).encode())
        try:
            with urllib.request.urlopen(request, timeout=_LONGEST_S) as answer:
                for line in answer:
                    if line.strip():
                        self.lines.append(line.decode().strip())
        except OSError as error:
            self.lines.append(repr(error))
        self.ended = time.monotonic()


def one_fault(engine: str, title: str, name: str, models: dict[str, str], log: pathlib.Path) -> dict[str, Any]:
    """Streams run, a process gets the signal, the other engine is used meanwhile; everything until it is back."""
    other = "vision" if engine == "text" else "text"
    streams = [Stream(models[engine]) for _ in range(_STREAMS)]
    for stream in streams:
        stream.start()
    while not all(len(stream.lines) > 5 or stream.ended for stream in streams):
        time.sleep(0.1)
    before, lines_before = used(), len(log.read_text(errors="replace").splitlines())
    pid = process(engine, title)
    os.kill(pid, getattr(signal, f"SIG{name}"))
    begun = time.monotonic()
    lowest, free_s, started_s, away_s = before, 0.0, 0.0, 0.0
    memory_at_start, errors, asked = 0, 0, 0
    while time.monotonic() - begun < _LONGEST_S:
        now_used, elapsed = used(), time.monotonic() - begun
        if now_used < lowest:
            lowest, free_s = now_used, elapsed
        new = "\n".join(log.read_text(errors="replace").splitlines()[lines_before:])
        if not started_s and f"{engine} engine: starting" in new:
            started_s, memory_at_start = elapsed, now_used
        if not away_s and not is_ready(engine):
            away_s = elapsed
        if started_s and is_ready(engine):
            break
        if is_ready(other):
            asked += 1
            try:
                messages = [{"role": "user", "content": "Hello"}]
                ask(SERVICE, {"model": models[other], "messages": messages, "max_tokens": 4}, 30)
            except (urllib.error.URLError, OSError):
                errors += 1
        time.sleep(0.2)
    back_s = time.monotonic() - begun
    last_lines = [stream.lines[-1] for stream in streams]
    return {
        "fault": f"{engine}:{title}:{name}",
        "streams": len(streams),
        "streams_ended_with_error": sum("engine_unavailable" in line for line in last_lines),
        "fake_dones": sum("data: [DONE]" in stream.lines for stream in streams),
        "slowest_stream_end_s": round(max(stream.ended for stream in streams) - begun, 2),
        "away_s": round(away_s, 1),
        "memory_used_mib": {"before": before, "lowest": lowest, "when_started_again": memory_at_start},
        "lowest_after_s": round(free_s, 1),
        "started_again_s": round(started_s, 1),
        "back_s": round(back_s, 1),
        "other_engine": {"asked": asked, "errors": errors},
    }


def used() -> int:
    memory = Memory()
    memory.poll()
    return max(memory.total.values())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--faults", default="text:EngineCore:KILL,vision:APIServer:KILL,vision:EngineCore:STOP")
    options = parser.parse_args()
    log = options.out / "service.log"
    service, seconds = start(options.config, log)
    models = dict(re.findall(r"(\w+) engine: ready \(after \d+ s, as ([^)]+)\)", log.read_text(errors="replace")))
    results: dict[str, Any] = {"cold_start": seconds, "faults": []}
    try:
        for fault in options.faults.split(","):
            ask(SERVICE, {"messages": [{"role": "user", "content": [_part(picture())]}], "max_tokens": 4})
            engine, title, name = fault.split(":")
            results["faults"].append(one_fault(engine, title, name, models, log))
            print(json.dumps(results["faults"][-1]), flush=True)
    finally:
        results["memory_free_after_sigterm_s"] = stop(service)
        (options.out / "faults.json").write_text(json.dumps(results, indent=1))


def _part(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


if __name__ == "__main__":
    main()
