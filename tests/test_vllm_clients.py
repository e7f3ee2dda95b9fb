"""Clients as people install them, unchanged, against the service over real vLLM; docs/clients.md tells what works.

`UPDATE_DOCS=1` writes that table anew.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY, data_url, picture
from tests.vllm_service import KEYS, Service

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

CLIENTS = REPOSITORY / "tests" / "clients"
DOCS = REPOSITORY / "docs" / "clients.md"
CHECKS = ("text", "picture", "stream", "tool", "structured", "error")
# Script → the client, and its package.
SCRIPTS = {
    "openai_python.py": ("OpenAI SDK, Python: chat and responses, sync and async, `parse()`, stream helpers", "openai"),
    "openai_node.mjs": ("OpenAI SDK, Node: chat and responses", "openai"),
    "anthropic_python.py": ("Anthropic SDK, Python", "anthropic"),
    "langchain_python.py": ("LangChain `ChatOpenAI`", "langchain-openai"),
    "litellm_python.py": ("LiteLLM SDK, `openai/auto`", "litellm"),
    "instructor_python.py": ("instructor, JSON schema and tools", "instructor"),
    "vercel.mjs": ("Vercel AI SDK, `@ai-sdk/openai-compatible`", "@ai-sdk/openai-compatible"),
    "curl.sh": ("curl", "curl"),
}
found: dict[str, dict[str, str]] = {}


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the scripts, node_modules and a virtual environment, as the clients' users have them."""
    folder = tmp_path_factory.mktemp("clients")
    for file in CLIENTS.iterdir():
        shutil.copy(file, folder)
    subprocess.run((sys.executable, "-m", "venv", folder / "venv"), check=True)
    pip = (folder / "venv" / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check")
    subprocess.run((*pip, "-r", folder / "requirements.txt"), check=True)
    subprocess.run(("npm", "install", "--no-audit", "--no-fund", "--silent"), cwd=folder, check=True)
    return folder


@pytest.mark.parametrize("script", SCRIPTS)
def test_client_works(service: Service, environments: pathlib.Path, script: str) -> None:
    runner = {".py": str(environments / "venv" / "bin" / "python"), ".mjs": "node", ".sh": "bash"}
    run = subprocess.run(
        (runner[pathlib.Path(script).suffix], script),
        cwd=environments,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(environments),
            "VLSERVE_URL": service.url,
            "VLSERVE_API_KEY": KEYS["ana"],
            "PICTURE": data_url(picture(280, 280, "red")),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    found[script] = dict(re.findall(r"^(\w+)(?: |: )(.+)$", run.stdout, re.MULTILINE))
    assert found[script] == dict.fromkeys(CHECKS, "ok"), run.stderr[-4000:]


def test_docs_tell_what_works(environments: pathlib.Path) -> None:
    """After all others of this file: the table is what they found."""
    lines = [f"| client | version | {' | '.join(CHECKS)} |", f"|---|---|{'---|' * len(CHECKS)}"]
    for script, (client, package) in SCRIPTS.items():
        marks = ["yes" if found.get(script, {}).get(check) == "ok" else "no" for check in CHECKS]
        lines.append(f"| {client} | {version(environments, script, package)} | {' | '.join(marks)} |")
    text = DOCS.read_text(encoding="utf-8")
    before, _, rest = text.partition("<!-- table -->\n")
    after = rest.partition("<!-- end -->\n")[2]
    table = "\n".join(lines) + "\n"
    if os.environ.get("UPDATE_DOCS"):
        DOCS.write_text(f"{before}<!-- table -->\n{table}<!-- end -->\n{after}", encoding="utf-8")
    rows = [re.sub(r"\| [\d.]+ \|", "| |", line) for line in lines]  # newer versions come every week
    assert [re.sub(r"\| [\d.]+ \|", "| |", line) for line in rest.partition("<!-- end -->\n")[0].splitlines()] == rows


def version(environments: pathlib.Path, script: str, package: str) -> str:
    ask: tuple[str, ...]
    if script.endswith(".py"):
        ask = ("venv/bin/python", "-c", f"from importlib.metadata import version; print(version({package!r}))")
    elif script.endswith(".mjs"):
        ask = ("node", "-p", f"require('./node_modules/{package}/package.json').version")
    else:
        ask = ("curl", "--version")
    told = subprocess.run(ask, cwd=environments, capture_output=True, text=True, check=True).stdout
    return str(re.findall(r"\d[\d.]+", told)[0])
