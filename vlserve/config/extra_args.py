"""Parses ``extra_args`` as vLLM's command line does: ``--a b``, ``--a=b``, underscores, short names, dotted members."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

# Short names of flags that are read here or that are settings (vllm/engine/arg_utils.py, vllm/entrypoints, 0.32).
_LONG_NAMES = {
    "-tp": "--tensor-parallel-size",
    "-pp": "--pipeline-parallel-size",
    "-pcp": "--prefill-context-parallel-size",
    "-dp": "--data-parallel-size",
    "-dpl": "--data-parallel-size-local",
    "-dpn": "--data-parallel-rank",
    "-n": "--nnodes",
    "-q": "--quantization",
    "-asc": "--api-server-count",
}
_MULTIPLIERS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def flags(arguments: Sequence[str]) -> dict[str, str]:
    """Flag, by its long name → its first value. If a flag is repeated, the last one counts."""
    return dict(_pairs(arguments))


def json_object(arguments: Sequence[str], flag: str) -> dict[str, Any] | None:
    """The JSON object that vLLM reads for ``flag``: from its dotted members if there are any, else from its value.

    ``{}`` if neither is given; None if the value is not a JSON object."""
    tree: dict[str, Any] = {}
    for given, value in _pairs(arguments):
        if given.startswith(f"{flag}."):
            _set(tree, given.split(".")[1:], _member(value))
    if tree:
        return tree
    try:
        value = json.loads(flags(arguments).get(flag, "{}"))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        flag, equals, value = argument.partition("=")
        flag = _LONG_NAMES.get(flag, flag)
        if flag.startswith("--"):
            name, dot, members = flag.partition(".")
            yield name.replace("_", "-") + dot + members, value if equals else following


def _set(tree: dict[str, Any], path: list[str], value: object) -> None:
    for name in path[:-1]:
        inner = tree.setdefault(name, {})
        tree = inner if isinstance(inner, dict) else {}
    tree[path[-1]] = value


def _member(written: str) -> object:
    """Parse a dotted member's value: JSON, a number such as 64K, or text."""
    try:
        return json.loads(written)
    except ValueError:
        number = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgGtT])", written.strip())
        return int(float(number[1]) * _MULTIPLIERS[number[2]]) if number else written
