"""Holds code against what every test must be: Python that parses, has nothing for ruff to say, and holds one test."""

import ast
import asyncio
import os
import pathlib
import re
import sys
from collections.abc import Collection
from dataclasses import dataclass, field

from ruff import find_ruff_bin  # type: ignore[import-untyped]  # it has no types

from vlserve.config import load as config
from vlserve.testgen.render import SETTINGS
from vlserve.testgen.subprocesses import run_child

TIMEOUT_S = 60.0
RULES = "E,F,I,W,B,PT,S105,T20"
_FILE = "test_generated.py"


@dataclass(frozen=True)
class Checks:
    """What is wrong with code; each is empty where nothing is. ``output`` is what the children printed, by name."""

    syntax: str
    lint: str
    collection: str
    output: dict[str, str] = field(default_factory=dict)

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(one for one in (self.syntax, self.lint, self.collection) if one)

    @property
    def is_good(self) -> bool:
        return not self.problems


async def check(
    source: str, folder: pathlib.Path, timeout_s: float = TIMEOUT_S, *, variables: Collection[str] = ()
) -> Checks:
    """Write the code into a folder (which it makes) and check it there; each child has ``timeout_s`` seconds.
    ``variables`` are those of the environment that the code reads.

    Code that does not parse is given to no child. Raises OSError.
    """
    if wrong := syntax_error(source):
        return Checks(syntax=wrong, lint="", collection="")
    path = folder / _FILE
    await asyncio.to_thread(_write, path, source)
    lint_argv = [find_ruff_bin(), "check", *SETTINGS, "--select", RULES, "--output-format", "concise", path.name]
    collect_argv = [
        *(sys.executable, "-P", "-m", "pytest", "--collect-only", "-q", "--color=no"),
        # Nothing of what surrounds the folder: no settings, no conftest.py, no plugins.
        *("-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(folder), "--noconftest"),
        path.name,
    ]
    environment = config.sandbox_environment() | dict.fromkeys(variables, "x") | {"PYTHONUTF8": "1"}
    (lint_code, lint_output), (code, output) = await asyncio.gather(
        run_child(lint_argv, folder, timeout_s, environment), run_child(collect_argv, folder, timeout_s, environment)
    )
    return Checks(
        syntax="",
        lint="" if lint_code == 0 else _told("ruff", lint_code, lint_output, timeout_s),
        collection=_collection(code, output, timeout_s),
        output={"ruff": lint_output, "pytest": output},
    )


def syntax_error(source: str) -> str:
    """Why it is not Python; empty where it is."""
    try:
        ast.parse(source)
    except SyntaxError as error:
        return f"Not Python: {error.msg}, line {error.lineno}."
    except (ValueError, RecursionError, MemoryError) as error:  # NUL and lone surrogates; too deep
        return f"Not Python: {error}."
    return ""


def _write(path: pathlib.Path, source: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8", newline="")


def _collection(code: int | None, output: str, timeout_s: float) -> str:
    tests = re.findall(rf"(?m)^{re.escape(_FILE)}::\S.*$", output)
    if code == 0 and len(tests) != 1:
        return f"pytest found {len(tests)} tests, not one."
    return "" if code == 0 else _told("pytest", code, output, timeout_s)


def _told(program: str, code: int | None, output: str, timeout_s: float) -> str:
    if code is None:
        return f"{program} took longer than {timeout_s:g} s."
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    first = next((line for line in lines if re.match(r"E  |.*\b(?:error|Error)\b|\S+:\d+:\d+:", line)), "")
    return f"{program} ended with {code}: {first or (lines[-1] if lines else 'it printed nothing')}"
