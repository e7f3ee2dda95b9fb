"""The dependency rule of docs/architecture.md: imports go down or sideways, never up, never in a circle."""

import ast
import graphlib
import pathlib
import re
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

ROWS = [
    {"errors", "config", "fields", "formats", "keys", "logs", "metrics", "model", "pixels", "settings", "tracing"}
    | {"authority", "exhaustion", "extra_args", "folders", "ram", "log_queue", "sse", "strict_yaml"}
    | {"engine_settings", "settings_base"},
    {"machine", "inspection", "memory", "plan", "diagnosis", "findings", "restarts"}
    | {"cpu_memory", "plan_text", "vllm_checks"},
    {
        "accounting",
        "process",
        *("probe", "remote"),
        *("activity", "engine", "fleet"),
        "admission",
        "connections",
        "listeners",
        "origins",
        "requests",
        "routing",
        "images",
        *("addresses", "resolver"),
        *("fetch", "files", "multipart", "parts", "pictures", "seen", "structured", "upstream"),
        "videos",
        *("protocols", "items", "blocks", "prompts", "events", "streams", "writer"),
    },
    {
        "app",
        "arguments",
        "batch",
        "bodies",
        "calls",
        "compare",
        "counting",
        *("doctor", "download", "startup"),
        "forms",
        "generate",
        "lines",
        "openapi",
        "page",
        "runtime",
        "schemas",
        "scrape",
        "testgen",
        "uploads",
    },
    {"cli"},
]
APART = {
    "__init__",
    "allreduce",
    "reaper",
    "reference",
    "video_reader",
    "weights",
}  # the version, and programs of their own that import nothing of ours
TESTGEN_ROWS = [
    {"elements", "plan", "result"},
    {"inventory", "questions", "snapshot", "locators", "match", "proxy"}
    | {"playwright_code", "selenium_code", "selenium_xpath"},
    {"child", "live", "mutate", "render"},
    {"check", "planning", "report", "run"},
    {"repair"},
    {"evaluate", "fixture_pages", "pipeline", "service"},
    {"asking", "command", "http", "pages", "wanted"},
]
PACKAGE = REPOSITORY / "vlserve"


def imports(path: pathlib.Path) -> set[str]:
    """Names of the vlserve modules and of the other top-level modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "vlserve":
            found |= {f"vlserve.{alias.name}" for alias in node.names if alias.name != "__version__"}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def own(path: pathlib.Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("vlserve.")}


def of_testgen(path: pathlib.Path) -> set[str]:
    """Names of the modules beside it that a file of testgen imports."""
    found = {name.removeprefix("vlserve.testgen.") for name in imports(path) if name.startswith("vlserve.testgen.")}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "vlserve.testgen":
            found |= {alias.name for alias in node.names}
    return found


# A package is one module here, whatever its files import of each other.
PACKAGES = {
    path.parent.name: set().union(*map(own, path.parent.glob("*.py"))) - {path.parent.name}
    for path in PACKAGE.glob("*/__init__.py")
}
MODULES = {path.stem: own(path) for path in PACKAGE.glob("*.py")} | PACKAGES
TESTGEN = {path.stem: of_testgen(path) for path in (PACKAGE / "testgen").glob("*.py")}


def test_every_module_has_a_row() -> None:
    assert set(MODULES) == set().union(*ROWS) | APART
    assert set(TESTGEN) == set().union(*TESTGEN_ROWS) | {"__init__", "plugin"}


def test_every_module_is_described_once_in_its_row() -> None:
    table = (REPOSITORY / "docs" / "architecture.md").read_text().split("| row | module |")[1].split("\n\n")[0]
    described = [
        (int(row), name)
        for row, names in re.findall(r"^\| (\d) \| ([^|]+) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)(?:\.py|/)`", names)
        if name != "web"  # no Python
    ]
    assert sorted(described) == sorted((row, name) for row, names in enumerate(ROWS) for name in names)


@pytest.mark.parametrize("module", sorted(set().union(*ROWS)))
def test_imports_never_go_up(module: str) -> None:
    row = next(number for number, names in enumerate(ROWS) if module in names)
    assert MODULES[module] <= set().union(*ROWS[: row + 1])


@pytest.mark.parametrize("module", sorted(set().union(*TESTGEN_ROWS)))
def test_imports_of_testgen_never_go_up(module: str) -> None:
    row = next(number for number, names in enumerate(TESTGEN_ROWS) if module in names)
    assert TESTGEN[module] <= set().union(*TESTGEN_ROWS[: row + 1])


@pytest.mark.parametrize("modules", [MODULES, TESTGEN], ids=["vlserve", "testgen"])
def test_no_circles(modules: dict[str, set[str]]) -> None:
    graphlib.TopologicalSorter(modules).prepare()


@pytest.mark.parametrize(
    "module",
    [
        *("routing", "plan", "memory", "model", "diagnosis", "findings", "restarts", "fields"),
        *("cpu_memory", "plan_text", "vllm_checks", "extra_args"),
    ],
)
def test_pure_modules_do_no_io(module: str) -> None:
    allowed = {
        "collections",
        "collections.abc",
        "dataclasses",
        "difflib",
        "enum",
        "json",
        "math",
        "pathlib",
        "random",
        "re",
        "shlex",
        "typing",
    }
    assert {name for name in imports(PACKAGE / f"{module}.py") if not name.startswith("vlserve")} <= allowed
    text = (PACKAGE / f"{module}.py").read_text()
    assert not any(word in text for word in ("open(", ".read_", ".write_", ".exists(", "os.environ"))


def test_programs_of_their_own_import_nothing_of_ours() -> None:
    for name in APART - {"__init__"}:
        assert MODULES[name] == set(), name


def test_reaper_needs_the_standard_library_only() -> None:
    assert not {"asyncio", "logging"} & imports(PACKAGE / "reaper.py")


def test_gateway_imports_no_model_code() -> None:
    apart = {PACKAGE / "reference.py", PACKAGE / "allreduce.py", PACKAGE / "compat" / "sitecustomize.py"}
    for path in set(PACKAGE.rglob("*.py")) - apart:
        assert not {name.split(".")[0] for name in imports(path)} & {"torch", "vllm", "transformers", "qwen_vl_utils"}


def test_the_service_imports_nothing_of_an_extra_before_it_is_asked_for() -> None:
    extras = {"playwright", "selenium", "pytest", "modelscope", "opentelemetry"}
    script = f"import sys, vlserve.app; print(*{extras} & sys.modules.keys())"
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert child.stdout.split() == []
