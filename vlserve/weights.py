"""Fetches a model from the hub before its engine starts: a program of its own, which the engine's supervisor runs.

usage: python -m vlserve.weights MODEL [--revision R] [--download-dir D]

A first download of some 30 GB must not run into the engine's ready_timeout_s, and its progress should be seen. What is
in the cache already costs one question to the hub; without the hub, a complete copy in the cache is enough.
"""

import argparse
import json
import pathlib
import shutil
import sys
import threading
import time

from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.file_download import repo_folder_name

PROGRESS_S = 10.0
# The same weights in other formats, which vLLM does not read where there are safetensors.
_OTHER_FORMATS = ["*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "original/*", "consolidated*"]
_GB = 1e9


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--revision")
    parser.add_argument("--download-dir")
    arguments = parser.parse_args()
    fetch(arguments.model, arguments.revision, arguments.download_dir)
    return 0


def fetch(model: str, revision: str | None, cache: str | None) -> pathlib.Path:
    """The model's folder in the cache, complete. Raises OSError where the disk has no room, and the hub's errors."""
    folder = pathlib.Path(cache or constants.HF_HUB_CACHE)
    try:
        info = HfApi().model_info(model, revision=revision, files_metadata=True)
    except Exception as error:  # any: each version of huggingface_hub has another HTTP client
        if path := _cached(model, revision, cache):
            print(f"{model}: the hub does not answer ({error}); its copy in {folder} is used", flush=True)
            return path
        raise
    files = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []}
    ignored: list[str] = []
    if any(name.endswith(".safetensors") for name in files):
        ignored = _OTHER_FORMATS
        files = {name: size for name, size in files.items() if not any(map(pathlib.PurePath(name).match, ignored))}
    blobs = folder / repo_folder_name(repo_id=model, repo_type="model") / "blobs"
    cached = {name: try_to_load_from_cache(model, name, cache_dir=cache, revision=info.sha) for name in files}
    total, present = sum(files.values()), sum(size for name, size in files.items() if isinstance(cached[name], str))
    folder.mkdir(parents=True, exist_ok=True)
    if total - present > (free := shutil.disk_usage(folder).free):
        raise OSError(
            28,
            f"No space left on device for {model}: {(total - present) / _GB:.1f} GB are missing and "
            f"{free / _GB:.1f} GB are free in {folder} (HF_HOME names another place)",
        )
    if total > present:
        print(f"{model}: {(total - present) / _GB:.2f} GB to download into {folder}", flush=True)
    is_done = threading.Event()
    watcher = threading.Thread(target=_tell_progress, args=(model, blobs, total, is_done), daemon=True)
    watcher.start()
    try:
        path = snapshot_download(model, revision=revision, cache_dir=cache, ignore_patterns=ignored)
    finally:
        is_done.set()
    print(f"{model}: complete in {path}", flush=True)
    return pathlib.Path(path)


def _cached(model: str, revision: str | None, cache: str | None) -> pathlib.Path | None:
    """The copy in the cache, if it has every file of weights that its index names."""
    try:
        path = snapshot_download(
            model, revision=revision, cache_dir=cache, ignore_patterns=_OTHER_FORMATS, local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    folder = pathlib.Path(path)
    index = folder / "model.safetensors.index.json"
    named = set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else set()
    return folder if all((folder / name).exists() for name in named) else None


def _tell_progress(model: str, blobs: pathlib.Path, total: int, is_done: threading.Event) -> None:
    begun, before = time.monotonic(), _size(blobs)
    while not is_done.wait(PROGRESS_S):
        size = _size(blobs)
        rate = max(1.0, (size - before) / (time.monotonic() - begun))
        left = f"{(total - size) / rate:.0f} s left"
        print(f"{model}: {size / _GB:.1f} of {total / _GB:.1f} GB, {rate / 1e6:.0f} MB/s, {left}", flush=True)


def _size(blobs: pathlib.Path) -> int:
    """Bytes on disk, unfinished files included."""
    total = 0
    for path in blobs.glob("*"):
        try:
            total += path.stat().st_blocks * 512
        except OSError:  # renamed meanwhile
            continue
    return total


if __name__ == "__main__":
    sys.exit(main())
