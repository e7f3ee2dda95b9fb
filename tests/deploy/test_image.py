"""The Dockerfile, as far as it can be checked without a Docker engine: a linter, the files that it copies, its commands
and its health check."""

import asyncio
import json
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

from tests.benchmarks.gateways.processes import free_port
from tests.conftest import REPOSITORY, OpenGateway
from vlserve.commands import startup_checks
from vlserve.commands.arguments import make_parser
from vlserve.config import load as config
from vlserve.errors import ConfigError
from vlserve.testgen import command

HADOLINT = pathlib.Path(sys.executable).parent / "hadolint"
TEXT = (REPOSITORY / "Dockerfile").read_text()
TARGETS = dict[str, str](re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM|\Z)", TEXT, re.MULTILINE | re.DOTALL))
IMAGES = ("cpu", "gpu")


def lint(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HADOLINT, "-"], input=text, capture_output=True, text=True, timeout=60, check=False)


def json_of(target: str, instruction: str) -> list[str]:
    """Return the arguments of an instruction in JSON form."""
    [found] = re.findall(rf"^ *{instruction} (\[.*\])$", TARGETS[target], re.MULTILINE)
    arguments: list[str] = json.loads(found)
    return arguments


def test_linter_finds_no_problems() -> None:
    done = lint(TEXT)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("--no-cache-dir ", "", "DL3042"),
        ("USER 10001", "USER root", "DL3002"),
        (":v0.32.0", ":latest", "DL3007"),
    ],
)
def test_linter_finds_known_problems(old: str, new: str, rule: str) -> None:
    assert old in TEXT
    assert rule in lint(TEXT.replace(old, new)).stdout


def test_copied_files_exist_and_are_not_ignored() -> None:
    allowed = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, re.MULTILINE) for name in line.split()}
    assert copied == allowed
    assert all((REPOSITORY / name).exists() for name in copied)


def test_package_is_built_from_copied_files() -> None:
    """hatchling reads these files from the build's folder."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["only-include"], project["project"]["readme"], "pyproject.toml"}
    needed |= {*project["project"]["license-files"]}
    copied = {name for line in re.findall(r"^COPY (.+) \S+$", TARGETS["source"], re.MULTILINE) for name in line.split()}
    assert needed == copied


def patterns(source: str) -> list[str]:
    """Return patterns as gitignore writes them. Those of .dockerignore are relative to the root."""
    if source == "wheel":
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
        return [*project["tool"]["hatch"]["build"]["targets"]["wheel"]["exclude"]]
    lines = (REPOSITORY / source).read_text().splitlines()
    if source == ".gitignore":
        return lines
    return [f"!/{line[1:]}" if line.startswith("!") else line if line.startswith("#") else f"/{line}" for line in lines]


@pytest.mark.parametrize("source", [".dockerignore", ".gitignore", "wheel"])
def test_secrets_of_a_deployment_are_ignored(source: str, tmp_path: pathlib.Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("\n".join(patterns(source)))
    compose = "configs/deploy/compose"
    secrets = [f"{compose}/.env", f"{compose}/.env.local", f"{compose}/tls/privkey.pem", "configs/deploy/nginx/a.key"]
    secrets += ["configs/keys.txt"] if source == "wheel" else ["configs/keys.txt", "keys.txt"]
    public = [f"{compose}/env.example", "configs/default.yaml"]
    command = ["git", "-C", str(tmp_path), "check-ignore", "--no-index", *secrets, *public]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == secrets


@pytest.mark.parametrize("target", IMAGES)
def test_runs_without_root_with_caches_in_one_folder(target: str) -> None:
    body = TARGETS[target]
    assert re.search(r"^USER [1-9]\d*$", body, re.MULTILINE)
    assert json_of(target, "VOLUME") == ["/cache"]
    caches = dict(re.findall(r"(\w*(?:HOME|ROOT|DIR))=(\S+)", body))
    assert len(caches) == 7
    assert all(path.startswith("/cache") for path in caches.values())


def test_both_targets_have_the_same_environment_and_health_check() -> None:
    blocks = {re.search(r"^ENV .*?^EXPOSE \d+$", TARGETS[name], re.MULTILINE | re.DOTALL)[0] for name in IMAGES}  # type: ignore[index]
    checks = {tuple(json_of(name, "    CMD")) for name in IMAGES}
    assert (len(blocks), len(checks)) == (1, 1)


@pytest.mark.parametrize("target", IMAGES)
def test_command_is_parsed_and_refused_without_api_keys(target: str, tmp_path: pathlib.Path) -> None:
    assert json_of(target, "ENTRYPOINT") == ["vlserve"]
    [text] = re.findall(r"^CMD (\[.*\])$", TARGETS[target], re.MULTILINE)
    arguments = make_parser(command.add_arguments).parse_args(json.loads(text))
    inside = arguments.config or pathlib.Path("/opt/vlserve/configs/default.yaml")
    path = REPOSITORY / inside.relative_to("/opt/vlserve")
    settings = config.load(path, host=arguments.host, api_keys_env=arguments.api_keys_env)
    [port] = re.findall(r"^EXPOSE (\d+)$", TARGETS[target], re.MULTILINE)
    assert settings.server.port == int(port)
    assert startup_checks.check(settings, {"VLSERVE_KEYS": "sk-1"}).api_keys
    with pytest.raises(ConfigError, match="VLSERVE_KEYS"):
        startup_checks.check(settings, {})


async def check_health(port: int) -> int:
    program, *arguments = json_of("gpu", "    CMD")
    assert program == "python3"
    moved = [argument.replace(":8000/", f":{port}/") for argument in arguments]
    process = await asyncio.create_subprocess_exec(sys.executable, *moved, stderr=asyncio.subprocess.DEVNULL)
    return await process.wait()


async def test_health_check_succeeds_only_while_the_gateway_runs(open_gateway: OpenGateway) -> None:
    async with open_gateway() as gateway:
        assert await check_health(int(gateway.url.rpartition(":")[2])) == 0
    assert await check_health(free_port()) == 1
