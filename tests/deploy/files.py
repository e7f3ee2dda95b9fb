"""The files under configs/deploy, and the expressions in them."""

import json
import pathlib
import re
import shutil
from typing import Any

import yaml

from tests.conftest import REPOSITORY

DEPLOY = REPOSITORY / "configs" / "deploy"
RULES = DEPLOY / "prometheus" / "vlserve.rules.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "vlserve.json"
OPERATIONS = REPOSITORY / "docs" / "operations.md"


def program(name: str) -> str:
    """Return the path of an installed program; Debian has some in /usr/sbin, which may not be in PATH."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    assert found, f"{name} is not installed: see CONTRIBUTING.md"
    return found


def read(path: pathlib.Path) -> Any:
    """Return the only document of a YAML file."""
    return yaml.safe_load(path.read_text())


def rules(kind: str) -> dict[str, str]:
    """Return the expressions of the rules by name; ``kind``: record or alert."""
    every = [rule for group in read(RULES)["groups"] for rule in group["rules"]]
    return {rule[kind]: rule["expr"] for rule in every if kind in rule}


def alert_values() -> dict[str, str]:
    """Return the alerts' expressions changed so that they have a value of 0 or 1 instead of none while not firing."""
    return {name: re.sub(r" ([<>]) ", r" \1 bool ", expr) for name, expr in rules("alert").items()}


def dashboard_expressions() -> dict[str, str]:
    """Return the expressions of the dashboard by panel and reference."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "1m")
        for panel in panels
        for target in panel["targets"]
    }


def scaling_queries() -> dict[str, str]:
    """Return the queries by which Kubernetes scales the service."""
    triggers = read(DEPLOY / "kubernetes" / "keda" / "scaledobject.yaml")["spec"]["triggers"]
    namespace = ', namespace="vlserve"'  # a label that only Kubernetes adds
    queries = {f"keda {one['name']}": one["metadata"]["query"].replace(namespace, "") for one in triggers}
    for rule in read(DEPLOY / "kubernetes" / "hpa" / "adapter-values.yaml")["rules"]["custom"]:
        filled = rule["metricsQuery"].replace("<<.GroupBy>>", "instance").replace("<<.LabelMatchers>>", 'job="vlserve"')
        queries[f"hpa {rule['name']['as']}"] = filled
    return queries
