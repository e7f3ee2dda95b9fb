"""The part of kustomize that configs/deploy/kubernetes uses, in Python: resources, namespace, images, patches (JSON
Patch, only `replace`) and generated config maps, whose names get no hash here."""

import copy
import pathlib
from collections.abc import Callable
from typing import Any

import yaml

_CLUSTER_KINDS = ("Namespace",)


def build(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Return the resources of a folder with a kustomization.yaml. Raises ValueError for a field that is not known."""
    tree = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if unknown := tree.keys() - {"apiVersion", "kind", *_FIELDS}:
        raise ValueError(f"{folder}: {sorted(unknown)}")
    resources: list[dict[str, Any]] = []
    for field, apply in _FIELDS.items():
        if field in tree:
            apply(folder, tree[field], resources)
    return resources


def _resources(folder: pathlib.Path, names: list[str], resources: list[dict[str, Any]]) -> None:
    for path in (folder / name for name in names):
        # Anchors make shared objects, which a patch would change in every place.
        resources += build(path) if path.is_dir() else copy_all(yaml.safe_load_all(path.read_text()))


def copy_all(documents: Any) -> list[dict[str, Any]]:
    """Return the documents without objects that two places share."""
    return [_unshare(document) for document in documents]


def _unshare(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: _unshare(value) for name, value in node.items()}
    return [_unshare(value) for value in node] if isinstance(node, list) else copy.copy(node)


def _config_maps(folder: pathlib.Path, maps: list[dict[str, Any]], resources: list[dict[str, Any]]) -> None:
    for one in maps:
        data = {name: (folder / name).read_text() for name in one["files"]}
        resources.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": one["name"]}, "data": data})


def _patches(_: pathlib.Path, patches: list[dict[str, Any]], resources: list[dict[str, Any]]) -> None:
    for patch in patches:
        target = patch["target"]
        [found] = [
            one for one in resources if (one["kind"], one["metadata"]["name"]) == (target["kind"], target["name"])
        ]
        for change in yaml.safe_load(patch["patch"]):
            if change["op"] != "replace":
                raise ValueError(change)
            *parents, last = [part.replace("~1", "/") for part in change["path"].split("/")[1:]]
            node: Any = found
            for part in parents:
                node = node[int(part) if isinstance(node, list) else part]
            if last not in node:
                raise ValueError(f"nothing to replace at {change['path']}")
            node[last] = change["value"]


def _images(_: pathlib.Path, images: list[dict[str, str]], resources: list[dict[str, Any]]) -> None:
    names = {one["name"]: f"{one['newName']}:{one['newTag']}" for one in images}
    for pod in (one["spec"]["template"]["spec"] for one in resources if one["kind"] == "StatefulSet"):
        for container in (*pod["initContainers"], *pod["containers"]):
            container["image"] = names.get(container["image"], container["image"])


def _namespace(_: pathlib.Path, name: str, resources: list[dict[str, Any]]) -> None:
    for one in resources:
        if one["kind"] not in _CLUSTER_KINDS:
            one["metadata"]["namespace"] = name


_FIELDS: dict[str, Callable[[pathlib.Path, Any, list[dict[str, Any]]], None]] = {
    "resources": _resources,
    "configMapGenerator": _config_maps,
    "patches": _patches,
    "images": _images,
    "namespace": _namespace,
}
