"""Unmodified clients against the service with real vLLM; docs/clients.md lists the results.

Versions are pinned, and the clients run in a network namespace that reaches only the service, so that new releases and
telemetry have no effect. `UPDATE_DOCS=1` writes the table.
"""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.conftest import REPOSITORY, data_url, picture
from tests.vllm import isolation
from tests.vllm.service import KEYS, LOGIN, SAMPLES, Service, wait_until

pytestmark = [pytest.mark.full, pytest.mark.engine, pytest.mark.timeout(1200)]

CLIENTS = REPOSITORY / "tests" / "clients"
DOCS = REPOSITORY / "docs" / "clients.md"
URL = f"http://127.0.0.1:{isolation.PORT}"
PAGE_PORT = isolation.PORT + 1
CHECKS = ("text", "picture", "stream", "tool", "structured", "error")
# Environment → its requirements; clients with conflicting pins have their own.
REQUIREMENTS = {
    "clients": CLIENTS / "requirements.txt",
    "litellm": CLIENTS / "requirements-litellm.txt",
    "instructor": CLIENTS / "requirements-instructor.txt",
    "chainlit": CLIENTS / "requirements-chainlit.txt",
}
# Script → client, package, and environment.
SCRIPTS = {
    "openai_python.py": (
        "OpenAI SDK, Python: chat; responses, but for tools; sync, async; `parse()`; stream helpers",
        "openai",
        "clients",
    ),
    "openai_node.mjs": ("OpenAI SDK, Node: chat, a text of responses", "openai", "clients"),
    "anthropic_python.py": ("Anthropic SDK, Python", "anthropic", "clients"),
    "langchain_python.py": ("LangChain `ChatOpenAI`", "langchain-openai", "clients"),
    "litellm_python.py": ("LiteLLM SDK, `openai/auto`", "litellm", "litellm"),
    "instructor_python.py": ("instructor, JSON schema and tools", "instructor", "instructor"),
    "vercel.mjs": ("Vercel AI SDK, `@ai-sdk/openai-compatible`", "@ai-sdk/openai-compatible", "clients"),
    "curl.sh": ("curl", "curl", "clients"),
}


@dataclass
class Environments:
    """A folder with the scripts, node_modules, and a virtual environment for each file of requirements."""

    folder: pathlib.Path
    enter: tuple[str, ...]
    """What is put before a command so that it reaches only the service."""
    found: dict[str, dict[str, str]] = field(default_factory=dict)

    def bin(self, name: str) -> pathlib.Path:
        return self.folder / name / "bin"

    def install(self) -> None:
        """Install with uv, which takes a tenth of pip's time and shares packages between environments. uv and Node
        have their own certificates, which may differ from the machine's, as behind a proxy."""
        subprocess.run((sys.executable, "-m", "venv", self.folder / "uv"), check=True)
        options = ("--quiet", "--no-input", "--disable-pip-version-check")
        subprocess.run((self.bin("uv") / "python", "-m", "pip", "install", *options, "uv"), check=True)
        uv = str(self.bin("uv") / "uv")
        for name, requirements in REQUIREMENTS.items():
            subprocess.run((uv, "venv", "--quiet", "--python", sys.executable, self.folder / name), check=True)
            python = str(self.bin(name) / "python")
            install = (uv, "pip", "install", "--quiet", "--system-certs", "--python", python, "-r", requirements)
            subprocess.run(install, check=True)
        self.run("clients", "npm", "install", "--no-audit", "--no-fund", "--silent")

    def run(self, name: str, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command with an environment's programs first in PATH."""
        path = f"{self.bin(name)}:{self.bin('clients')}:{os.environ['PATH']}"
        settings = {**os.environ, "PATH": path, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        settings |= {"NODE_OPTIONS": "--use-system-ca", **environment}
        return subprocess.run(
            command, cwd=self.folder, env=settings, capture_output=True, text=True, timeout=300, check=not environment
        )

    def checks(self, name: str, script: str, **environment: str) -> dict[str, str]:
        """Run a script that reaches only the service; return check → `ok`, or the problem."""
        runner = {".py": "python", ".mjs": "node", ".sh": "bash"}[pathlib.Path(script).suffix]
        environment |= {"VLSERVE_URL": URL, "VLSERVE_API_KEY": KEYS["ana"]}
        environment |= {"PICTURE": data_url(picture(280, 280, "red"))}
        done = self.run(name, *self.enter, runner, script, **environment)
        print(done.stderr[-4000:])
        return dict(re.findall(r"^(\w+)(?: |: )(.+)$", done.stdout, re.MULTILINE))

    def version(self, name: str, script: str, package: str) -> str:
        command: tuple[str, ...]
        if script.endswith(".py"):
            command = ("python", "-c", f"from importlib.metadata import version; print(version({package!r}))")
        elif script.endswith(".mjs"):
            command = ("node", "-p", f"require('./node_modules/{package}/package.json').version")
        else:
            return "any"  # it belongs to the machine
        return str(re.findall(r"\d[\d.]+", self.run(name, *command).stdout)[0])


@pytest.fixture(scope="module")
def enter(service: Service) -> Iterator[tuple[str, ...]]:
    with isolation.isolated(int(service.url.rpartition(":")[2])) as words:
        yield words


@pytest.fixture(scope="module")
def environments(enter: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environments]:
    made = Environments(tmp_path_factory.mktemp("clients"), enter)
    for file in CLIENTS.iterdir():
        if file.is_file():
            shutil.copy(file, made.folder)
    made.install()
    yield made
    shutil.rmtree(made.folder)


@pytest.fixture(scope="module")
def page(environments: Environments) -> Iterator[str]:
    """Yield the URL of the sample's page in the namespace."""
    url = f"http://127.0.0.1:{PAGE_PORT}"
    log = environments.folder / "page.log"
    command = (environments.bin("chainlit") / "chainlit", "run", SAMPLES / "chainlit" / "app.py", "--headless")
    settings = {"VLSERVE_URL": f"{URL}/v1", "VLSERVE_API_KEY": KEYS["ana"]}
    settings |= {"CHAINLIT_APP_ROOT": str(environments.folder)}
    with log.open("w") as file:
        process = subprocess.Popen(
            (*environments.enter, *command, "--host", "127.0.0.1", "--port", str(PAGE_PORT)),
            cwd=environments.folder, env={**os.environ, **settings}, stdout=file, stderr=file,
        )  # fmt: skip

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        curl = (*environments.enter, "curl", "--silent", "--fail", "--output", os.devnull, f"{url}/health")
        return subprocess.run(curl, check=False).returncode == 0

    try:
        wait_until(answers, 300)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        print(log.read_text()[-4000:])


@pytest.mark.parametrize("target", ["192.0.2.1:80", "127.0.0.1:another port"])
def test_clients_reach_only_the_service(enter: tuple[str, ...], target: str) -> None:
    connect = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 60)"
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = target.replace("another port", str(other.getsockname()[1]))
        command = (*enter, sys.executable, "-c", connect)
        for place, is_reached in ((address, False), (f"127.0.0.1:{isolation.PORT}", True)):
            done = subprocess.run((*command, *place.split(":")), capture_output=True, text=True, check=False)
            assert (done.returncode == 0) is is_reached, done.stderr
            assert is_reached or re.search("Network is unreachable|Connection refused", done.stderr), done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_client_works(environments: Environments, script: str) -> None:
    environments.found[script] = environments.checks(SCRIPTS[script][2], script)
    assert environments.found[script] == dict.fromkeys(CHECKS, "ok")


def test_docs_list_the_results(environments: Environments) -> None:
    """The table has the results of the tests above, with major versions."""
    if set(environments.found) != set(SCRIPTS):
        pytest.fail("it needs what test_client_works finds: run the whole file")
    lines = [f"| client | major version | {' | '.join(CHECKS)} |", f"|---|---|{'---|' * len(CHECKS)}"]
    for script, (client, package, name) in SCRIPTS.items():
        marks = ["yes" if environments.found[script].get(check) == "ok" else "no" for check in CHECKS]
        major = environments.version(name, script, package).partition(".")[0]
        lines.append(f"| {client} | {major} | {' | '.join(marks)} |")
    text = DOCS.read_text(encoding="utf-8")
    table = "\n".join(lines) + "\n"
    written = re.sub(r"(?<=<!-- table -->\n).*?(?=<!-- end -->)", lambda _: table, text, flags=re.DOTALL)
    if os.environ.get("UPDATE_DOCS"):
        DOCS.write_text(written, encoding="utf-8")
    assert written == text, "run: UPDATE_DOCS=1 pytest tests/vllm/test_clients.py"


def test_sample_page_answers_calls_tools_and_accepts_pictures(environments: Environments, page: str) -> None:
    found = environments.checks("chainlit", "chainlit_page.py", PAGE_URL=page, SHOT=str(LOGIN))
    assert found == dict.fromkeys(("text", "tool", "picture"), "ok")
