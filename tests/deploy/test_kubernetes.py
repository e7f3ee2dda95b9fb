"""Kubernetes manifests: schemas, and that probes, drain, mounts, secrets and metrics match the service.

They are not applied: that needs a cluster. kustomize is imitated by kustomize.py.
"""

import json
import os
import pathlib
import re
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from tests.conftest import REPOSITORY
from tests.deploy.files import DEPLOY, RULES, read, rules
from tests.deploy.kustomize import build
from vlserve.commands import startup_checks
from vlserve.commands.arguments import make_parser
from vlserve.config import load as config
from vlserve.engines import machine, plan
from vlserve.testgen import command

FOLDER = DEPLOY / "kubernetes"
VARIANTS = {"one-gpu": "1xH100-80G", "two-gpus": "2xH100-80G", "tensor-parallel": "2x48G"}
VERSIONS = ("1.30", "1.37")
"""preStop.sleep is on by default from 1.30; the newest that the validator knows."""
CRDS = {
    (tree["x-api-version"], tree["x-kind"]): tree["schema"]
    for tree in (json.loads(path.read_text()) for path in (REPOSITORY / "tests" / "deploy" / "crds").glob("*.json"))
}


def validate(resource: dict[str, Any]) -> None:
    """Raise ValidationError for an invalid resource, or one with an unknown field."""
    if schema := CRDS.get((resource["apiVersion"], resource["kind"])):
        jsonschema.validate(resource, _closed(schema))
        return
    for version in VERSIONS:
        kubernetes_validate.validate(resource, version, strict=True)


def _closed(schema: Any) -> Any:
    """Return a CRD's schema that refuses unknown fields, as the API server does with strict field validation."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema and "additionalProperties" not in schema:
        is_metadata = not schema["properties"]
        closed["additionalProperties"] = is_metadata
    return closed


def variant(name: str) -> dict[str, dict[str, Any]]:
    """Return a variant's resources by kind; of services, the one that clients use."""
    return {one["kind"]: one for one in reversed(build(FOLDER / name))}


def pod_of(name: str) -> dict[str, Any]:
    pod: dict[str, Any] = variant(name)["StatefulSet"]["spec"]["template"]["spec"]
    return pod


def settings_of(name: str, folder: pathlib.Path) -> Any:
    (folder / "vlserve.yaml").write_text(variant(name)["ConfigMap"]["data"]["vlserve.yaml"])
    return config.load(folder / "vlserve.yaml")


@pytest.mark.parametrize("name", [*VARIANTS, "monitoring", "keda", "hpa"])
def test_resources_match_their_schemas(name: str) -> None:
    found = build(FOLDER / name)
    assert found
    for resource in found:
        validate(resource)
        assert resource["metadata"].get("namespace") == (None if resource["kind"] == "Namespace" else "vlserve")


def test_every_file_belongs_to_a_kustomization() -> None:
    for folder in FOLDER.iterdir():
        tree = read(folder / "kustomization.yaml")
        used = {*tree["resources"], *(name for one in tree.get("configMapGenerator", ()) for name in one["files"])}
        assert {path.name for path in folder.iterdir()} - {"kustomization.yaml", "adapter-values.yaml"} == used - {
            "../base"
        }


@pytest.mark.parametrize(
    ("name", "kind", "path"),
    [
        ("one-gpu", "StatefulSet", ("spec", "template", "spec", "containers", 0, "readynessProbe")),
        ("keda", "ScaledObject", ("spec", "advanced", "horizontalPodAutoscalerConfig", "behaviour")),
        ("monitoring", "ServiceMonitor", ("spec", "endpoints", 0, "intervall")),
        ("monitoring", "PrometheusRule", ("spec", "groups", 0, "rules", 0, "express")),
    ],
)
def test_schemas_refuse_unknown_fields(name: str, kind: str, path: tuple[Any, ...]) -> None:
    resource = node = variant(name)[kind]
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = {}
    with pytest.raises(jsonschema.ValidationError, match=path[-1]):
        validate(resource)


@pytest.mark.parametrize("name", VARIANTS)
def test_configuration_is_valid_and_fits_the_gpus(name: str, tmp_path: pathlib.Path) -> None:
    settings = settings_of(name, tmp_path)
    credentials = startup_checks.check(settings, {"VLSERVE_KEYS": "ana:a,prometheus:b"})
    assert {key.name for key in credentials.api_keys if key.name == "prometheus"} == {"prometheus"}
    assert settings.server.keys["prometheus"].metrics
    there = machine.from_spec(VARIANTS[name], settings)
    made = plan.make(settings, there, {}, pathlib.Path("/tmp/vlserve-XXXXXXXX"))
    used = {gpu for engine in made.engines if engine.budget for gpu in engine.budget.gpus}
    resources = pod_of(name)["containers"][0]["resources"]
    for kind in ("requests", "limits"):
        assert resources[kind]["nvidia.com/gpu"] == str(len(used))


@pytest.mark.parametrize("name", VARIANTS)
def test_probes_and_drain_fit_the_settings(name: str, tmp_path: pathlib.Path) -> None:
    settings, pod = settings_of(name, tmp_path), pod_of(name)
    container = pod["containers"][0]
    start, ready, live = (container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness"))
    longest_s = max(engine.ready_timeout_s for _, engine in settings.engines.items())
    assert start["periodSeconds"] * start["failureThreshold"] > longest_s
    assert [probe["httpGet"]["path"] for probe in (start, ready, live)] == ["/ready", "/ready", "/health"]
    assert {probe["httpGet"]["port"] for probe in (start, ready, live)} == {container["ports"][0]["name"]}
    assert container["ports"][0]["containerPort"] == settings.server.port
    grace_s, pause_s = settings.server.shutdown_grace_s, container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= pause_s + grace_s + 5
    assert grace_s >= settings.server.request_timeout_s  # scaling down lets streams end
    assert pause_s >= ready["periodSeconds"] * ready["failureThreshold"]


def test_autoscalers_and_nodes_that_leave_are_not_hindered() -> None:
    found = variant("one-gpu")
    assert "replicas" not in found["StatefulSet"]["spec"]  # kubectl apply would reset an autoscaler's
    assert "sessionAffinity" not in found["Service"]["spec"]
    assert pod_of("one-gpu")["terminationGracePeriodSeconds"] <= 600  # the most that cluster-autoscaler waits


def test_names_are_resolved_by_dns_of_the_cluster_and_of_the_node() -> None:
    allowed = [
        (to, port["port"])
        for rule in variant("one-gpu")["NetworkPolicy"]["spec"]["egress"]
        for to in rule["to"]
        for port in rule["ports"]
        if port["protocol"] == "UDP"
    ]
    resolvers: list[dict[str, Any]] = [{"namespaceSelector": {}}, {"ipBlock": {"cidr": "169.254.20.10/32"}}]
    assert allowed == [(to, port) for to in resolvers for port in (53, 5353)]


def test_pending_pods_are_not_scraped() -> None:
    [monitor, _] = build(FOLDER / "monitoring")
    [relabeling] = monitor["spec"]["endpoints"][0]["relabelings"]
    assert relabeling == {"action": "drop", "sourceLabels": ["__meta_kubernetes_pod_phase"], "regex": "Pending"}


def test_commands_are_parsed_by_the_command_line() -> None:
    pod = pod_of("one-gpu")
    parser = make_parser(command.add_arguments)
    commands = [parser.parse_args(one["args"]) for one in (*pod["initContainers"], *pod["containers"])]
    assert [one.command for one in commands] == ["fetch", "serve"]
    [mount] = [one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "config"]
    assert {one.config for one in commands} == {pathlib.Path(mount["mountPath"]) / "vlserve.yaml"}


def test_container_is_unprivileged_and_can_write_where_the_image_does() -> None:
    pod = pod_of("one-gpu")
    user = re.findall(r"^USER (\d+)$", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    assert {str(pod["securityContext"]["runAsUser"])} == set(user)
    assert pod["securityContext"]["runAsNonRoot"]
    for container in (*pod["initContainers"], *pod["containers"]):
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert not security["allowPrivilegeEscalation"]
        writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert writable == {"/cache", "/tmp", "/dev/shm"}


def test_keys_are_in_one_secret_with_the_documented_names() -> None:
    pod, [monitor, _] = pod_of("one-gpu"), build(FOLDER / "monitoring")
    sources = [one["valueFrom"]["secretKeyRef"] for one in pod["containers"][0]["env"]]
    sources.append(monitor["spec"]["endpoints"][0]["authorization"]["credentials"])
    assert {source["name"] for source in sources} == {"vlserve-keys"}
    documented = (REPOSITORY / "docs" / "operations.md").read_text()
    for source in sources:
        assert f"--from-literal={source['key']}=" in documented


def test_selectors_and_names_refer_to_each_other() -> None:
    found = build(FOLDER / "one-gpu")
    by_name = {(one["kind"], one["metadata"]["name"]): one for one in found}
    stateful = by_name["StatefulSet", "vlserve"]["spec"]
    labels = stateful["template"]["metadata"]["labels"]
    assert by_name["Service", stateful["serviceName"]]["spec"]["clusterIP"] == "None"
    for kind, path in (("NetworkPolicy", "podSelector"), ("PodDisruptionBudget", "selector")):
        assert by_name[kind, "vlserve"]["spec"][path]["matchLabels"] == labels
    assert by_name["Service", "vlserve"]["spec"]["selector"] == labels
    [monitor, _] = build(FOLDER / "monitoring")
    selected = [one for one in found if one["metadata"].get("labels") == monitor["spec"]["selector"]["matchLabels"]]
    assert [one["metadata"]["name"] for one in selected if one["kind"] == "Service"] == [
        "vlserve"
    ]  # `job` of the rules
    claims = {one["metadata"]["name"] for one in stateful["volumeClaimTemplates"]}
    volumes = claims | {one["name"] for one in stateful["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in pod_of("one-gpu")["containers"][0]["volumeMounts"]} == volumes


def test_autoscalers_scale_the_stateful_set_by_existing_metrics_and_alike() -> None:
    [scaled], [pods] = build(FOLDER / "keda"), build(FOLDER / "hpa")
    for one in (scaled, pods):
        target = one["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) == ("StatefulSet", "vlserve")
    keda, hpa = scaled["spec"], pods["spec"]
    assert keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == hpa["behavior"]
    assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == (hpa["minReplicas"], hpa["maxReplicas"])
    own = f'namespace="{scaled["metadata"]["namespace"]}"'  # not another service's load
    assert [trigger["name"] for trigger in keda["triggers"] if own not in trigger["metadata"]["query"]] == []
    targets = [metric["pods"]["target"]["averageValue"] for metric in hpa["metrics"]]
    assert [trigger["metadata"]["threshold"] for trigger in keda["triggers"]] == targets
    provided = [one["name"]["as"] for one in read(FOLDER / "hpa" / "adapter-values.yaml")["rules"]["custom"]]
    assert [metric["pods"]["metric"]["name"] for metric in hpa["metrics"]] == provided
    assert "vlserve:requests_waiting" in rules("record")


def test_rules_of_the_operator_are_those_of_prometheus() -> None:
    path = FOLDER / "monitoring" / "prometheusrule.yaml"
    head, _, _ = path.read_text().partition("spec:\n")
    body = RULES.read_text().partition("groups:\n")[2].splitlines(keepends=True)
    expected = "".join([head, "spec:\n  groups:\n", *(f"  {line}" if line.strip() else line for line in body)])
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(expected)
    assert path.read_text() == expected
