"""The doors between the rooms of vlserve/ (docs/architecture.md): imports go one way."""

import ast
import graphlib
import pathlib
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "vlserve"
HALL = {"errors", "fair_queue", "log_queue", "logs", "metrics", "resource_errors"}
# Each room, and what its modules may import besides each other and the hall: rooms, or single modules of rooms.
DOORS: dict[str, set[str]] = {
    "config": set(),
    "protocols": {"config"},
    "media": {"config", "protocols"},
    "engines": {"config", "media.pixels"},
    "gateway": {"config", "protocols", "media", "engines.view", "engines.errors"},
    "commands": {"config", "protocols", "media", "engines", "gateway"},
    "testgen": {"config", "protocols", "media", "engines.process", "gateway"},
}
# Programs of their own, which import nothing of ours.
PROGRAMS = (
    *("engines/reaper", "engines/mps_daemon", "engines/weights", "media/video_reader"),
    *("commands/compare/reference", "commands/doctor/allreduce"),
)


def imports(path: pathlib.Path) -> set[str]:
    """Dotted names of the modules that a file imports; of the package's own without its name: ``engines.view``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            is_package = node.module.startswith("vlserve") and (REPOSITORY / node.module.replace(".", "/")).is_dir()
            names = {f"{node.module}.{alias.name}" for alias in node.names} if is_package else {node.module}
            found |= {name for name in names if name != "vlserve.__version__"}
    return found


def own(path: pathlib.Path) -> set[str]:
    return {name.removeprefix("vlserve.") for name in imports(path) if name.startswith("vlserve.")}


def name_of(path: pathlib.Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


MODULES = {name_of(path): own(path) for path in PACKAGE.rglob("*.py")}


def test_every_module_is_in_a_listed_package() -> None:
    assert {name.split(".")[0] for name in MODULES} == {*DOORS, *HALL, "__init__", "cli"}


@pytest.mark.parametrize("room", DOORS)
def test_packages_import_only_what_is_allowed(room: str) -> None:
    allowed = DOORS[room] | HALL | {room}
    wrong = [
        f"{name} imports {imported}"
        for name, names in MODULES.items()
        if name.startswith(f"{room}.")
        for imported in names
        if not any(imported == door or imported.startswith(f"{door}.") for door in allowed)
    ]
    assert wrong == []


def test_top_level_modules_import_no_package() -> None:
    assert {name: MODULES[name] - HALL for name in HALL if MODULES[name] - HALL} == {}


def test_imports_have_no_cycles() -> None:
    graphlib.TopologicalSorter(MODULES).prepare()


@pytest.mark.parametrize(
    "module",
    [
        *("protocols/routing", "protocols/fields", "protocols/sse", "protocols/strict_json"),
        *(
            "engines/plan",
            "engines/vllm_arguments",
            "engines/vllm_checks",
            "engines/fetch_command",
            "engines/hang_limits",
        ),
        *("engines/mps_plan", "engines/gpu_memory", "engines/cpu_memory", "engines/model"),
        *("engines/diagnosis", "engines/restarts"),
        "commands/doctor/checks",
    ],
)
def test_pure_modules_do_no_io(module: str) -> None:
    allowed = {
        *(
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
        ),
        *("shlex", "sys", "typing"),
    }
    path = PACKAGE / f"{module}.py"
    assert {name for name in imports(path) if not name.startswith("vlserve")} <= allowed
    assert not any(word in path.read_text() for word in ("open(", ".read_", ".write_", ".exists(", "os.environ"))


def test_standalone_programs_import_nothing_from_vlserve() -> None:
    for name in PROGRAMS:
        beside = {"engines.safetensors_files"} if name == "engines/weights" else set()
        assert own(PACKAGE / f"{name}.py") == beside, name
    assert MODULES["engines.safetensors_files"] == set()


def test_reaper_needs_the_standard_library_only() -> None:
    assert not {"asyncio", "logging"} & imports(PACKAGE / "engines" / "reaper.py")


def test_gateway_imports_no_model_code() -> None:
    apart = {*(PACKAGE / f"{name}.py" for name in PROGRAMS), PACKAGE / "engines" / "compat" / "sitecustomize.py"}
    for path in set(PACKAGE.rglob("*.py")) - apart:
        assert not {name.split(".")[0] for name in imports(path)} & {"torch", "vllm", "transformers", "qwen_vl_utils"}


def test_service_imports_optional_packages_only_when_they_are_used() -> None:
    extras = {"playwright", "selenium", "pytest", "modelscope", "opentelemetry.sdk"}
    script = f"import sys, vlserve.cli; print(*{extras} & sys.modules.keys())"
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert child.stdout.split() == []
