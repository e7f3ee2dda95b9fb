"""RAM that this process and its children may use: the machine's, or what control groups (v1 and v2) leave of it."""

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Ram:
    total_bytes: int
    free_bytes: int
    """Includes what the kernel gives back at once, such as its cache of files."""


def read(root: pathlib.Path = pathlib.Path("/")) -> Ram | None:
    """None where the system does not tell. ``root`` holds ``proc`` and ``sys``."""
    memory = {name.rstrip(":"): value * 1024 for name, value in _numbers(root / "proc" / "meminfo")}
    if not {"MemTotal", "MemAvailable"} <= memory.keys():
        return None
    total, free = memory["MemTotal"], memory["MemAvailable"]
    for limit, used in _limits(root):
        if limit < memory["MemTotal"]:  # without a limit v1 shows a number beyond every machine
            total, free = min(total, limit), min(free, max(0, limit - used))
    return Ram(total, free)


def _limits(root: pathlib.Path) -> Iterator[tuple[int, int]]:
    """Limit and use, in bytes, of each control group that this process is in."""
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    mount = root / "sys" / "fs" / "cgroup"
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            top, limit, usage, cache = mount, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top, limit, usage = mount / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cache = "total_inactive_file"
        else:
            continue
        own = top / path.lstrip("/")
        for group in (own, *own.parents):
            if group == top.parent:
                break
            if (most := _number(group / limit)) is not None:
                used = (_number(group / usage) or 0) - dict(_numbers(group / "memory.stat")).get(cache, 0)
                yield most, max(0, used)


def _number(path: pathlib.Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # not there, or `max`
        return None


def _numbers(path: pathlib.Path) -> Iterator[tuple[str, int]]:
    """Lines of a name and a number."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return
    for name, value, *_ in (line.split() for line in lines):
        yield name, int(value)
