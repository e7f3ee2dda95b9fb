"""Static checks of generated tests: the files parse, ruff reports nothing, and pytest collects one test."""

import ast
import asyncio
import os
import pathlib
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ruff import find_ruff_bin  # type: ignore[import-untyped]  # it has no types

from vlserve.config.environment import sandbox_environment
from vlserve.testgen.code.source_format import SETTINGS
from vlserve.testgen.subprocesses import run_child

TIMEOUT_S = 60.0
RULES = "E,F,I,W,B,PT,S105,T20"


@dataclass(frozen=True)
class Checks:
    """The problems of generated files; each is empty where there is none. ``output`` is that of ruff and pytest."""

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
    files: Mapping[str, str],
    test_file: str,
    folder: pathlib.Path,
    timeout_s: float = TIMEOUT_S,
    *,
    variables: Collection[str] = (),
) -> Checks:
    """Write the files into a folder, which is made, and check them there; ruff and pytest have ``timeout_s`` each.

    ``files`` are sources by relative path, the test (``test_file``) among them; ``variables`` are the environment
    variables that the test reads. Files that do not parse are given to no child. Raises OSError.
    """
    if wrong := next(filter(None, map(syntax_error, files.values())), ""):
        return Checks(syntax=wrong, lint="", collection="")
    await asyncio.to_thread(_write, folder, files)
    lint_argv = [find_ruff_bin(), "check", *SETTINGS, "--select", RULES, "--output-format", "concise", *sorted(files)]
    collect_argv = [
        *(sys.executable, "-P", "-m", "pytest", "--collect-only", "-q", "--color=no"),
        # Nothing from around the folder: no settings, no conftest.py, no plugins.
        *("-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(folder), "--confcutdir", str(folder)),
        *([] if "conftest.py" in files else ["--noconftest"]),
        test_file,
    ]
    environment = sandbox_environment() | dict.fromkeys(variables, "x") | {"PYTHONUTF8": "1"}
    (lint_code, lint_output), (code, output) = await asyncio.gather(
        run_child(lint_argv, folder, timeout_s, environment), run_child(collect_argv, folder, timeout_s, environment)
    )
    return Checks(
        syntax="",
        lint="" if lint_code == 0 else _describe("ruff", lint_code, lint_output, timeout_s),
        collection=_collection(test_file, code, output, timeout_s),
        output={"ruff": lint_output, "pytest": output},
    )


def syntax_error(source: str) -> str:
    """Why a text is not Python; empty where it is."""
    try:
        ast.parse(source)
    except SyntaxError as error:
        return f"Not Python: {error.msg}, line {error.lineno}."
    except (ValueError, RecursionError, MemoryError) as error:  # NUL and lone surrogates; too deep
        return f"Not Python: {error}."
    return ""


def _write(folder: pathlib.Path, files: Mapping[str, str]) -> None:
    for name, source in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8", newline="")


def _collection(test_file: str, code: int | None, output: str, timeout_s: float) -> str:
    tests = re.findall(rf"(?m)^{re.escape(test_file)}::\S.*$", output)
    if code == 0 and len(tests) != 1:
        return f"pytest found {len(tests)} tests, not one."
    return "" if code == 0 else _describe("pytest", code, output, timeout_s)


def _describe(program: str, code: int | None, output: str, timeout_s: float) -> str:
    if code is None:
        return f"{program} took longer than {timeout_s:g} s."
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    first = next((line for line in lines if re.match(r"E  |.*\b(?:error|Error)\b|\S+:\d+:\d+:", line)), "")
    return f"{program} ended with {code}: {first or (lines[-1] if lines else 'it printed nothing')}"
