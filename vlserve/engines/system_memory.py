"""Reads how much RAM this process and its children may use: the machine's, within cgroup limits (v1 and v2)."""

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class SystemMemory:
    total_bytes: int
    free_bytes: int
    """Includes memory that the kernel can reclaim at once, such as the page cache."""


def read(root: pathlib.Path = pathlib.Path("/")) -> SystemMemory | None:
    """Read total and free RAM; None if it cannot be read. ``root``: the folder that contains ``proc`` and ``sys``."""
    memory = {name.rstrip(":"): value * 1024 for name, value in _numbers(root / "proc" / "meminfo")}
    if not {"MemTotal", "MemAvailable"} <= memory.keys():
        return None
    total, free = memory["MemTotal"], memory["MemAvailable"]
    for limit, used in _limits(root):
        if limit < memory["MemTotal"]:  # no limit is a very large number in v1
            total, free = min(total, limit), min(free, max(0, limit - used))
    return SystemMemory(total, free)


def _limits(root: pathlib.Path) -> Iterator[tuple[int, int]]:
    """Limit and usage, in bytes, of each cgroup that contains this process."""
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
    except (OSError, ValueError):  # missing, or `max`
        return None


def _numbers(path: pathlib.Path) -> Iterator[tuple[str, int]]:
    """Read a file whose lines are a name and a number."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return
    for name, value, *_ in (line.split() for line in lines):
        yield name, int(value)
