"""Docker Compose files: the Compose schema, references between files, and the configuration of vlserve in them.

No container is started: that needs a Docker engine.
"""

import importlib.resources
import json
import pathlib
import re
import subprocess
from typing import Any

import jsonschema
import pytest

from tests.deploy.files import DEPLOY, OPERATIONS, read
from vlserve.commands import startup_checks
from vlserve.commands.arguments import make_parser
from vlserve.config import load as config
from vlserve.testgen import command

FOLDER = DEPLOY / "compose"
SERVICES = read(FOLDER / "compose.yaml")["services"]
ENVIRONMENT = dict(
    line.split("=", 1) for line in (FOLDER / "env.example").read_text().splitlines() if not line.startswith("#")
)
SCHEMA = json.loads(
    (importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json").read_text()
)
TARGETS = ("gpu", "cpu")


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml", "compose.cpu.yaml"])
def test_file_matches_the_compose_schema(name: str) -> None:
    jsonschema.validate(read(FOLDER / name), SCHEMA)


def test_schema_refuses_an_unknown_setting() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"services": {"a": {"image": "b", "stop_grace": "60s"}}}, SCHEMA)


def test_variables_are_those_of_the_example() -> None:
    used = set(re.findall(r"\$\{(\w+)", (FOLDER / "compose.yaml").read_text()))
    assert used | {"COMPOSE_FILE"} == set(ENVIRONMENT)
    for target in TARGETS:
        assert (FOLDER / f"compose.{target}.yaml").exists()
    assert ENVIRONMENT["COMPOSE_FILE"] == f"compose.yaml:compose.{ENVIRONMENT['VLSERVE_TARGET']}.yaml"


def mounts(service: dict[str, Any]) -> list[str]:
    return [mount.split(":")[0] for mount in service["volumes"]]


def test_mounted_files_and_volumes_exist() -> None:
    volumes = set(read(FOLDER / "compose.yaml")["volumes"])
    for service in SERVICES.values():
        for source in mounts(service):
            is_variable = source.startswith("${")
            assert is_variable or source in volumes or (FOLDER / source).exists(), source


@pytest.mark.parametrize("target", TARGETS)
def test_service_is_served_with_a_valid_configuration(target: str) -> None:
    [mount] = read(FOLDER / f"compose.{target}.yaml")["services"]["vlserve"]["volumes"]
    source, inside, _ = mount.split(":")
    service = SERVICES["vlserve"]
    arguments = make_parser(command.add_arguments).parse_args(service["command"])
    assert (arguments.command, arguments.config) == ("serve", pathlib.Path(inside))
    settings = config.load(FOLDER / source)
    keys = service["environment"]["VLSERVE_KEYS"]
    for name, key in (("VLSERVE_KEYS", "ana:sk-1"), ("METRICS_KEY", "sk-2")):
        keys = re.sub(rf"\$\{{{name}:\?[^}}]*\}}", key, keys)
    credentials = startup_checks.check(settings, {"VLSERVE_KEYS": keys})
    assert {key.name for key in credentials.api_keys} == {"ana", "prometheus"}
    assert service["ports"] == [f"${{VLSERVE_ADDRESS:-127.0.0.1:8000}}:{settings.server.port}"]
    assert int(service["stop_grace_period"].removesuffix("s")) > settings.server.shutdown_grace_s + 5


def test_commands_of_the_documentation_are_parsed_by_the_command_line() -> None:
    found = re.findall(r" vlserve ((?:doctor|smoke) --config \S+)", OPERATIONS.read_text())
    parsed = [make_parser(command.add_arguments).parse_args(one.split()) for one in found]
    assert {one.command for one in parsed} == {"doctor", "smoke"}
    inside = {
        read(FOLDER / f"compose.{one}.yaml")["services"]["vlserve"]["volumes"][0].split(":")[1] for one in TARGETS
    }
    assert {str(one.config) for one in parsed} == inside


def test_prometheus_reads_the_key_that_compose_provides_and_scrapes_the_service() -> None:
    [job] = read(DEPLOY / "prometheus" / "prometheus.yml")["scrape_configs"]
    [secret] = SERVICES["prometheus"]["secrets"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    assert read(FOLDER / "compose.yaml")["secrets"] == {secret: {"environment": "METRICS_KEY"}}
    assert job["static_configs"] == [{"targets": ["vlserve:8000"]}]
    assert "../prometheus:/etc/prometheus:ro" in SERVICES["prometheus"]["volumes"]


def test_nginx_gets_its_configuration_and_certificate_and_reaches_the_service() -> None:
    text = (DEPLOY / "nginx" / "vlserve.conf").read_text()
    assert "server vlserve:8000;" in text
    [folder] = {str(pathlib.PurePath(path).parent) for path in re.findall(r"ssl_certificate(?:_key)? (\S+);", text)}
    assert [mount.split(":")[-2] for mount in SERVICES["nginx"]["volumes"]] == [
        "/etc/nginx/conf.d/default.conf",
        folder,
    ]
    assert set(SERVICES["nginx"]["ports"]) == {f"{port}:{port}" for port in re.findall(r"listen (\d+)", text)}


def test_only_vlserve_and_nginx_can_be_public_and_images_have_a_version() -> None:
    for name, service in SERVICES.items():
        assert re.search(r":(v?\d[\w.]+|\$\{VLSERVE_TARGET\})$", service["image"]), name
        if name not in ("vlserve", "nginx"):
            assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name


def test_keys_and_passwords_have_no_default_and_compose_does_not_start_without_them() -> None:
    text = (FOLDER / "compose.yaml").read_text()
    for name in ("VLSERVE_KEYS", "METRICS_KEY", "GRAFANA_PASSWORD"):
        assert ENVIRONMENT[name] == ""
        uses = re.findall(rf"\$\{{{name}\b([^}}]*)\}}", text)
        assert uses
        assert {use for use in uses if not use.startswith(":?")} == set()  # an error if it is unset or empty
        assert f"{name}=" in OPERATIONS.read_text()  # how to generate it


def test_commands_of_the_documentation_set_each_secret(tmp_path: pathlib.Path) -> None:
    block = OPERATIONS.read_text().partition("cp env.example .env")[2].partition("docker compose")[0]
    (tmp_path / ".env").write_text((FOLDER / "env.example").read_text())
    subprocess.run(["bash", "-euc", block.partition("\n")[2]], cwd=tmp_path, check=True, timeout=30)
    written = dict(line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines() if line[0] != "#")
    changed = {name for name, value in written.items() if value != ENVIRONMENT[name]}
    assert changed == {"VLSERVE_KEYS", "METRICS_KEY", "GRAFANA_PASSWORD"}
    assert re.fullmatch(r"ana:sk-[0-9a-f]{48}", written["VLSERVE_KEYS"])
    assert len({written[name].removeprefix("ana:sk-") for name in changed}) == 3


def test_services_come_back_after_a_restart_and_nginx_with_vlserve() -> None:
    assert {service["restart"] for service in SERVICES.values()} == {"unless-stopped"}
    assert SERVICES["nginx"]["depends_on"]["vlserve"]["restart"] is True
