"""Coding agents as npm installs them, run without a terminal against the service over fake engines.

Their prompts are too long for the demo models, so an engine that answers anything stands in; what they send has to be
accepted, and what they read understood. They run in a network namespace that reaches the service alone.
``UPDATE_DOCS=1`` writes their table and settings in docs/clients.md.
"""

import asyncio
import json
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from tests.conftest import REPOSITORY, make_short_folder
from tests.reliability.service import Service, fakes, serve
from tests.vllm import isolation

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]
in_module_loop = pytest.mark.asyncio(loop_scope="module")

PACKAGES = REPOSITORY / "tests" / "clients" / "agents" / "package.json"
DOCS = REPOSITORY / "docs" / "clients.md"
URL = f"http://127.0.0.1:{isolation.PORT}"
PLACE = "http://HOST:8000"
"""The service's address in docs/clients.md."""
ANSWER = "one two three"
_CODEX = f"""model = "auto"
model_provider = "vlserve"

[model_providers.vlserve]
name = "vlserve"
base_url = "{URL}/v1"
wire_api = "responses"
env_key = "VLSERVE_API_KEY"
"""
_OPENCODE = {
    "model": "vlserve/auto",
    "autoupdate": False,
    "share": "disabled",
    "provider": {
        "vlserve": {
            "npm": "@ai-sdk/openai-compatible",
            "options": {"baseURL": f"{URL}/v1", "apiKey": "none"},
            "models": {"auto": {"name": "auto"}},
        }
    },
}


@dataclass(frozen=True)
class Agent:
    """A program, the command that asks it, and its settings for the service."""

    name: str
    package: str
    command: tuple[str, ...]
    path: str
    """The endpoint that it uses."""
    start: str
    """The command that starts it in a terminal, for docs/clients.md."""
    environment: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    """In its home folder."""


AGENTS = [
    Agent(
        "Claude Code",
        "@anthropic-ai/claude-code",
        ("claude", "-p", "say hello", "--output-format", "json"),
        "/v1/messages",
        "claude",
        {
            "ANTHROPIC_BASE_URL": URL,
            "ANTHROPIC_MODEL": "auto",
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": "auto",
            "ANTHROPIC_AUTH_TOKEN": "none",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        },
    ),
    Agent(
        "Codex CLI",
        "@openai/codex",
        ("codex", "exec", "--skip-git-repo-check", "--json", "say hello"),
        "/v1/responses",
        "codex",
        {"VLSERVE_API_KEY": "none"},
        {".codex/config.toml": _CODEX},
    ),
    Agent(
        "Qwen Code",
        "@qwen-code/qwen-code",
        ("qwen", "--auth-type", "openai", "-p", "say hello"),
        "/v1/chat/completions",
        "qwen --auth-type openai",
        {"OPENAI_BASE_URL": f"{URL}/v1", "OPENAI_MODEL": "auto", "OPENAI_API_KEY": "none"},
    ),
    Agent(
        "OpenCode",
        "opencode-ai",
        ("opencode", "run", "-m", "vlserve/auto", "say hello"),
        "/v1/chat/completions",
        "opencode",
        {"OPENCODE_DISABLE_MODELS_FETCH": "1"},
        {".config/opencode/opencode.json": json.dumps(_OPENCODE, indent=2) + "\n"},
    ),
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("agents")
    shutil.copy(PACKAGES, folder)
    install = ("npm", "install", "--no-audit", "--no-fund", "--silent")
    subprocess.run(install, cwd=folder, check=True, timeout=600)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="service")
async def _service() -> AsyncIterator[Service]:
    with make_short_folder() as folder:
        async with serve(folder, fakes()) as service:
            yield service


def run(agent: Agent, installed: pathlib.Path, home: pathlib.Path, enter: tuple[str, ...]) -> str:
    """What the agent prints, both streams."""
    for name, text in agent.files.items():
        file = home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    program = installed / "node_modules" / ".bin" / agent.command[0]
    done = subprocess.run(
        (*enter, str(program), *agent.command[1:]),
        cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb", **agent.environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


@in_module_loop
@pytest.mark.parametrize("agent", AGENTS, ids=[agent.name for agent in AGENTS])
async def test_agent_gets_its_answer(
    agent: Agent, service: Service, installed: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    before = len(await service.whole_log())
    with isolation.isolated(int(service.url.rpartition(":")[2])) as enter:
        printed = await asyncio.to_thread(run, agent, installed, tmp_path, enter)

    assert ANSWER in printed
    requests = [line for line in (await service.whole_log())[before:].splitlines() if f"path={agent.path} " in line]
    assert requests
    assert all(" status=200 " in line for line in requests), requests


# What Open WebUI sends to an OpenAI-style connection: the list of models, an answer, and the title of the chat.
_OPEN_WEBUI: list[dict[str, Any]] = [
    {
        "stream": True,
        "model": "auto",
        "messages": [{"role": "user", "content": "hello"}],
        "stream_options": {"include_usage": True},
        "temperature": 0.8,
        "max_tokens": 128,
    },
    {
        "model": "auto",
        "messages": [{"role": "user", "content": "### Task:\nGenerate a concise title."}],
        "stream": False,
        "max_completion_tokens": 1000,
        "metadata": {"task": "title_generation", "chat_id": "1"},
    },
]


@in_module_loop
async def test_open_webui_gets_its_models_and_answers(service: Service) -> None:
    async with service.session.get(f"{service.url}/v1/models") as answer:
        assert "auto" in [one["id"] for one in (await answer.json())["data"]]
    for body in _OPEN_WEBUI:
        async with service.post(body) as answer:
            assert answer.status == 200
            assert "three" in await answer.text()


def describe(agent: Agent) -> Iterator[str]:
    """Yield the lines of docs/clients.md with the settings that the test uses."""
    yield from ("", f"### {agent.name}", "")
    for name, text in agent.files.items():
        yield from (
            f"`~/{name}`:",
            "",
            f"```{name.rpartition('.')[2]}",
            *text.replace(URL, PLACE).splitlines(),
            "```",
            "",
        )
    exports = [f"export {name}={value.replace(URL, PLACE)}" for name, value in agent.environment.items()]
    yield from ("```bash", *exports, agent.start, "```")


def test_docs_have_the_agents_and_their_settings() -> None:
    versions = json.loads(PACKAGES.read_text(encoding="utf-8"))["dependencies"]
    lines = ["| agent | version | endpoint |", "|---|---|---|"]
    lines += [f"| {one.name} | {versions[one.package]} | `{one.path}` |" for one in AGENTS]
    lines += [line for agent in AGENTS for line in describe(agent)]
    text = DOCS.read_text(encoding="utf-8")
    table = "\n".join(lines) + "\n"
    written = re.sub(r"(?<=<!-- agents -->\n).*?(?=<!-- end of agents -->)", lambda _: table, text, flags=re.DOTALL)
    if os.environ.get("UPDATE_DOCS"):
        DOCS.write_text(written, encoding="utf-8")
    assert written == text, "run: UPDATE_DOCS=1 pytest tests/gateway/test_agents.py"
