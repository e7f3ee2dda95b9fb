"""Prometheus' configuration and rules, and Grafana's dashboard: checked by promtool, without a running Prometheus."""

import importlib.util
import json
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.deploy.files import (
    DASHBOARD,
    DEPLOY,
    OPERATIONS,
    RULES,
    alert_values,
    dashboard_expressions,
    program,
    read,
    rules,
    scaling_queries,
)
from vlserve.engines.gpu_metrics import GpuMemory
from vlserve.errors import EngineAway, EngineFailed, EngineTimeout, ServiceExhausted
from vlserve.metrics import Metrics

UNIT_TESTS = REPOSITORY / "tests" / "deploy" / "rules.test.yml"


def promtool(*arguments: str, folder: pathlib.Path = RULES.parent) -> subprocess.CompletedProcess[str]:
    command = [program("promtool"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_configuration_is_valid_and_loads_the_rules(tmp_path: pathlib.Path) -> None:
    text = (RULES.parent / "prometheus.yml").read_text()
    (tmp_path / "key").write_text("sk-x")
    (tmp_path / "prometheus.yml").write_text(text.replace("/run/secrets/metrics_key", "key"))
    shutil.copy(RULES, tmp_path)
    done = promtool("check", "config", "prometheus.yml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{len(rules('record')) + len(rules('alert'))} rules found" in done.stdout


def run_unit_tests(folder: pathlib.Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / RULES.name).write_text(text)
    shutil.copy(UNIT_TESTS, folder)
    return promtool("test", "rules", UNIT_TESTS.name, folder=folder)


def test_unit_tests_of_the_rules_pass(tmp_path: pathlib.Path) -> None:
    done = run_unit_tests(tmp_path, RULES.read_text())
    assert done.returncode == 0, done.stdout + done.stderr


def test_unit_tests_fail_for_a_changed_rule(tmp_path: pathlib.Path) -> None:
    text = RULES.read_text()
    assert "kv_cache_usage:ratio > 0.95" in text
    done = run_unit_tests(tmp_path, text.replace("kv_cache_usage:ratio > 0.95", "kv_cache_usage:ratio > 0.98"))
    assert done.returncode == 1
    assert "VlserveKvCacheFull" in done.stdout + done.stderr


def test_every_rule_has_a_unit_test() -> None:
    tests = read(UNIT_TESTS)["tests"]
    cases = [case for test in tests for case in test.get("alert_rule_test", ())]
    for expected in (True, False):  # each alert fires in one test and not in another
        assert {case["alertname"] for case in cases if bool(case["exp_alerts"]) is expected} == set(rules("alert"))
    values = {case["expr"] for test in tests for case in test.get("promql_expr_test", ())}
    assert values == set(rules("record"))


def test_every_alert_is_explained_in_the_documentation() -> None:
    lines = OPERATIONS.read_text().splitlines()
    assert {name for name in rules("alert") if not any(line.startswith(f"| `{name}` |") for line in lines)} == set()


def test_every_metric_is_documented_and_those_in_use_exist() -> None:
    own = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in [*Metrics().registry.collect(), *GpuMemory().collect()]
    }
    documented = set(re.findall(r"`(vlserve_\w+_\w+)`", OPERATIONS.read_text().partition("\n## Metrics\n")[2]))
    own |= {"vlserve_gpu_memory_used_bytes", "vlserve_gpu_memory_total_bytes"}  # not collected without a GPU
    limits = {"vlserve_requests_in_flight_limit", "vlserve_requests_queued_limit"}  # documented as `…_limit`
    assert documented == own - limits
    expressions = [*rules("record").values(), *rules("alert").values(), *dashboard_expressions().values()]
    used = {
        name.removesuffix("_bucket") for one in expressions for name in re.findall(r"\bvlserve_(?!engine\b)\w+", one)
    }
    assert used <= own


def test_errors_that_alerts_watch_start_at_zero() -> None:
    metrics = Metrics()
    metrics.set_state("text", "starting")
    text = metrics.render({}).decode()
    for error in (EngineFailed, EngineAway, EngineTimeout, ServiceExhausted):
        assert f'vlserve_requests_refused_total{{code="{error.code}",status="{error.status}"}} 0.0' in text
        assert f'vlserve_stream_errors_total{{code="{error.code}",vlserve_engine="text"}} 0.0' in text
    assert 'vlserve_requests_refused_total{code="image_fetch_failed",status="400"} 0.0' in text


def test_metrics_of_vllm_exist_in_the_installed_version() -> None:
    found = importlib.util.find_spec("vllm")
    assert found
    assert found.origin
    text = (pathlib.Path(found.origin).parent / "v1" / "metrics" / "loggers.py").read_text()
    existing = set(re.findall(r'"(vllm:\w+)"', text))
    expressions = [*rules("record").values(), *dashboard_expressions().values(), *scaling_queries().values()]
    used = {name for one in expressions for name in re.findall(r"vllm:\w+", one)}
    assert len(used) >= 5
    assert {re.sub("_(bucket|total)$", "", name) for name in used} <= existing


def test_expressions_of_the_dashboard_and_of_alerts_are_valid(tmp_path: pathlib.Path) -> None:
    every = [*dashboard_expressions().values(), *alert_values().values()]
    groups = [{"name": "all", "rules": [{"record": f"x:{n}", "expr": expr} for n, expr in enumerate(every)]}]
    (tmp_path / "all.yml").write_text(yaml.safe_dump({"groups": groups}))
    done = promtool("check", "rules", "all.yml", folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_dashboard_uses_only_its_data_source_and_recorded_names() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    [variable] = dashboard["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
    identifiers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(identifiers)) == len(identifiers)
    sources = [source["datasource"]["uid"] for panel in dashboard["panels"] for source in (panel, *panel["targets"])]
    assert set(sources) == {"${datasource}"}
    words = {word for expr in dashboard_expressions().values() for word in expr.replace("(", " ").split()}
    recorded = {word for word in words if word.startswith("vlserve:")}
    assert recorded
    assert {word.rstrip(")") for word in recorded} <= set(rules("record"))


@pytest.mark.parametrize("name", ["dashboards/vlserve.yml", "datasources/prometheus.yml"])
def test_grafana_is_provisioned_where_compose_mounts_the_files(name: str) -> None:
    mounts = read(DEPLOY / "compose" / "compose.yaml")["services"]["grafana"]["volumes"]
    targets = {mount.split(":")[0]: mount.split(":")[1] for mount in mounts if mount.startswith("../")}
    assert targets["../grafana/provisioning"] == "/etc/grafana/provisioning"
    provisioned = read(DEPLOY / "grafana" / "provisioning" / name)
    assert provisioned["apiVersion"] == 1
    if name.startswith("dashboards"):
        [provider] = provisioned["providers"]
        assert targets["../grafana/dashboards"] == provider["options"]["path"]
    else:
        [source] = provisioned["datasources"]
        assert source["url"] == "http://prometheus:9090"
