"""Fetches a model before its engine starts: a program of its own, for `vlserve serve`, `fetch` and `doctor` alike.

usage: python -m vlserve.weights MODEL [--revision R] [--download-dir D] [--from SOURCE] [--verify]
       python -m vlserve.weights MODEL --check          (fetches nothing; one line of JSON about what is there)

A first download of some 30 GB must not run into the engine's ready_timeout_s, and its progress should be seen. What is
in the cache already costs one question to the hub; without the hub, a complete copy in the cache is enough.

Large files come through ``_download``, everything else through huggingface_hub, whose cache both fill. huggingface_hub
alone begins a file anew when its process ended in the middle of it, and compares no checksum: here such a file is
continued, and gets its place in the cache only when its SHA-256 is the hub's. ModelScope's own client does both.
"""

import argparse
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO

from huggingface_hub import HfApi, constants, hf_hub_url, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import build_hf_headers, disable_progress_bars

PROGRESS_S = 10.0
# The same weights in other formats, which vLLM does not read where there are safetensors.
_OTHER_FORMATS = ["*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "original/*", "consolidated*"]
_GB = 1e9
_HUB_TIMEOUT_S = 15.0
_LARGEST_BYTES = 50 * 10**9  # more does not come over plain HTTP; huggingface_hub has another way for it
_AT_ONCE = 4
_PATIENCE = 6  # pauses of 1, 2, 4 … 32 s without any new byte; huggingface_hub's own retries come on top of each
_SHA256_DIGITS = 64


@dataclass(frozen=True)
class File:
    """A file of a model, as the hub announces it."""

    name: str
    size: int
    digest: str
    """SHA-256 of a large file, git's SHA-1 of a small one; empty where the hub does not tell."""

    @property
    def is_large(self) -> bool:
        return len(self.digest) == _SHA256_DIGITS and self.size <= _LARGEST_BYTES


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--revision")
    parser.add_argument("--download-dir")
    parser.add_argument("--from", dest="source", choices=["huggingface", "modelscope"], default="huggingface")
    parser.add_argument("--verify", action="store_true", help="read what is there already and compare it, too")
    parser.add_argument("--check", action="store_true", help="only look")
    arguments = parser.parse_args()
    model, revision, cache = arguments.model, arguments.revision, arguments.download_dir
    disable_progress_bars()  # bars are for terminals; this program's lines go to a log
    if arguments.check:
        print(json.dumps(check(model, revision, cache)))
        return 0
    try:
        if arguments.source == "modelscope":
            fetch_from_modelscope(model, revision, cache)
        else:
            fetch(model, revision, cache, verify=arguments.verify)
    except GatedRepoError as error:
        print(
            f"GatedRepoError: {model} is given only to those who accepted its licence: accept it at "
            f"{constants.ENDPOINT}/{model}, then `hf auth login` here or set HF_TOKEN ({_first_line(error)})"
        )
        return 1
    except RepositoryNotFoundError as error:
        print(f"RepositoryNotFoundError: {constants.ENDPOINT} shows no model {model} ({_first_line(error)})")
        return 1
    except OSError as error:  # the disk, the connection, a damaged file: its words say it
        print(f"{type(error).__name__}: {error}")
        return 1
    return 0


def fetch(model: str, revision: str | None, cache: str | None, *, verify: bool = False) -> pathlib.Path:
    """The model's folder in the cache, complete. With ``verify`` files that are there already are read and compared.

    Raises OSError where the disk has no room or a file comes damaged twice, and the hub's errors.
    """
    folder = pathlib.Path(cache or constants.HF_HUB_CACHE)
    try:
        commit, files, ignored = _listing(model, revision)
    except Exception as error:  # any: each version of huggingface_hub has another HTTP client
        if not verify and (path := _cached(model, revision, cache)):
            print(f"{model}: the hub does not answer ({error}); its copy in {folder} is used", flush=True)
            return path
        if isinstance(error, RepositoryNotFoundError):
            raise
        why = f"{type(error).__name__}: {_first_line(error)}"
        raise OSError(
            f"We couldn't connect to {constants.ENDPOINT} for {model} ({why}); {folder} has no copy"
        ) from error
    blobs = folder / repo_folder_name(repo_id=model, repo_type="model") / "blobs"
    present = {file: path for file in files if (path := _place(model, commit, cache, file))}
    if verify:
        present = {file: path for file, path in present.items() if not _removed_as_damaged(model, file, path)}
    missing = [file for file in files if file not in present]
    _check_room(model, folder, sum(file.size for file in missing) - _begun(blobs, missing))
    with _progress(model, sum(file.size for file in files), lambda: _size(blobs.glob("*"))):
        blobs.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            large = [file for file in missing if file.is_large]
            list(pool.map(lambda file: _download(model, commit, file, blobs), large))
        path = pathlib.Path(snapshot_download(model, revision=revision, cache_dir=cache, ignore_patterns=ignored))
    for file in missing:
        if not file.is_large and _removed_as_damaged(model, file, path / file.name):
            raise OSError(f"{file.name} of {model} came damaged; fetch it again")
    checked = "every file" if verify else f"{len(missing)} new files" if missing else "nothing new"
    print(f"{model}: complete in {path} ({checked} compared with the hub's checksums)", flush=True)
    return path


def fetch_from_modelscope(model: str, revision: str | None, cache: str | None) -> pathlib.Path:
    """The model's folder in ModelScope's cache. Its client continues files and compares their SHA-256 by itself.

    Raises OSError, also for what goes wrong in that client.
    """
    try:
        from modelscope.hub.api import HubApi
        from modelscope.hub.snapshot_download import snapshot_download as download
    except ModuleNotFoundError as error:
        raise OSError(f"ModelScope's client cannot be used ({error}): pip install 'vlserve[modelscope]'") from error
    # Where the client looks, too; its versions name a folder of their own differently.
    own = pathlib.Path(os.environ.get("MODELSCOPE_CACHE") or pathlib.Path.home() / ".cache" / "modelscope")
    folder = pathlib.Path(cache or own) / "models" / model
    try:
        listed = HubApi().get_model_files(model, revision=revision, recursive=True)
        sizes = {entry["Path"]: int(entry.get("Size") or 0) for entry in listed if entry.get("Type") != "tree"}
        ignored = _ignored(sizes)
        wanted = {name: size for name, size in sizes.items() if not _matches(name, ignored)}
        _check_room(model, folder, sum(wanted.values()) - _size(folder.rglob("*")))
        with _progress(model, sum(wanted.values()), lambda: _size(folder.rglob("*"))):
            download(model, revision=revision, local_dir=str(folder), ignore_patterns=ignored)
    except OSError:
        raise
    except Exception as error:  # any: ModelScope's client has no common class of errors
        raise OSError(f"ModelScope: {type(error).__name__}: {error}") from error
    print(f"{model}: complete in {folder} (compared with ModelScope's checksums)", flush=True)
    print(f"to serve it from there, in the config: model: {folder} and served_model_name: {model}", flush=True)
    return folder


def check(model: str, revision: str | None, cache: str | None) -> dict[str, object]:
    """What is there of a model, a folder's or the hub's; asks the hub what belongs to it, fetches nothing.

    ``folder`` and its ``free_bytes``, ``files`` (names), ``missing_bytes`` (None: unknown), ``problems`` (what is wrong
    with files that are there), ``hub`` (why the hub could not be asked).
    """
    if model.startswith("/"):
        return {"folder": model, "free_bytes": 0, "missing_bytes": 0, "hub": None, **_look(pathlib.Path(model))}
    root = pathlib.Path(cache or constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(path for path in (root, *root.parents) if path.exists())).free
    place: dict[str, object] = {"folder": str(root), "free_bytes": free}
    try:
        commit, files, _ = _listing(model, revision)
    except Exception as error:  # noqa: BLE001  (any: each version of huggingface_hub has another HTTP client)
        path = _cached(model, revision, cache)
        seen = _look(path) if path else {"files": [], "problems": []}
        hub = f"{type(error).__name__}: {_first_line(error)}"
        return {**place, "missing_bytes": 0 if path else None, "hub": hub, **seen}
    paths = {file: path for file in files if (path := _place(model, commit, cache, file))}
    blobs = root / repo_folder_name(repo_id=model, repo_type="model") / "blobs"
    absent = [file for file in files if file not in paths]
    problems = [f"{file.name} is cut off or damaged" for file, path in paths.items() if _is_cut_off(path)]
    missing = sum(file.size for file in absent) - _begun(blobs, absent)
    return {
        **place,
        "missing_bytes": missing,
        "hub": None,
        "files": [file.name for file in files],
        "problems": problems,
    }


def _listing(model: str, revision: str | None) -> tuple[str, list[File], list[str]]:
    """The commit that ``revision`` is now, the files that vLLM needs of it, and the patterns of the others."""
    info = HfApi().model_info(model, revision=revision, files_metadata=True, timeout=_HUB_TIMEOUT_S)
    files = [
        File(sibling.rfilename, sibling.size or 0, (sibling.lfs.sha256 if sibling.lfs else sibling.blob_id) or "")
        for sibling in info.siblings or []
    ]
    ignored = _ignored([file.name for file in files])
    return info.sha or "", [file for file in files if not _matches(file.name, ignored)], ignored


def _ignored(names: Iterable[str]) -> list[str]:
    return _OTHER_FORMATS if any(name.endswith(".safetensors") for name in names) else []


def _matches(name: str, patterns: list[str]) -> bool:
    return any(map(pathlib.PurePath(name).match, patterns))


def _place(model: str, commit: str, cache: str | None, file: File) -> pathlib.Path | None:
    path = try_to_load_from_cache(model, file.name, cache_dir=cache, revision=commit)
    return pathlib.Path(path) if isinstance(path, str) else None


def _check_room(model: str, folder: pathlib.Path, missing: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if missing > (free := shutil.disk_usage(folder).free):
        raise OSError(
            errno.ENOSPC,
            f"No space left on device for {model}: {missing / _GB:.1f} GB are missing and "
            f"{free / _GB:.1f} GB are free in {folder} (HF_HOME names another place, of ModelScope MODELSCOPE_CACHE)",
        )
    if missing > 0:
        print(f"{model}: {missing / _GB:.2f} GB to download into {folder}", flush=True)


def _begun(blobs: pathlib.Path, missing: Iterable[File]) -> int:
    """Bytes of unfinished files that will be continued."""
    return _size(_unfinished(blobs, file) for file in missing if file.is_large)


def _unfinished(blobs: pathlib.Path, file: File) -> pathlib.Path:
    return blobs / f"{file.digest}.incomplete"


def _download(model: str, commit: str, file: File, blobs: pathlib.Path) -> None:
    """One large file into the cache, continued where an earlier run ended; its name there is its SHA-256."""
    blob, unfinished = blobs / file.digest, _unfinished(blobs, file)
    if blob.exists():
        return
    with os.fdopen(os.open(unfinished, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as out:
        with contextlib.suppress(OSError):  # a file system without locks: the checksum tells when two wrote one file
            fcntl.flock(out, fcntl.LOCK_EX)  # both engines may have the same model
        if blob.exists():
            unfinished.unlink(missing_ok=True)
            return
        for _ in range(2):
            if out.seek(0, os.SEEK_END) > file.size:
                out.truncate(0)
            _get(model, commit, file, out)
            out.seek(0)
            if hashlib.file_digest(out, "sha256").hexdigest() == file.digest:
                unfinished.replace(blob)
                return
            print(f"{model}: {file.name} came damaged (its SHA-256 is not the hub's); once more", flush=True)
            out.truncate(0)
    unfinished.unlink(missing_ok=True)
    raise OSError(f"{file.name} of {model} came damaged twice; a proxy or mirror in between may change it")


def _get(model: str, commit: str, file: File, out: BinaryIO) -> None:
    """Append to ``out`` what it lacks, over as many connections as that takes."""
    pauses = 0
    while (begun := out.seek(0, os.SEEK_END)) < file.size:
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        try:
            # The hub's own address every time: the one it redirects to is signed and expires.
            url = hf_hub_url(model, file.name, revision=commit)
            http_get(url, out, resume_size=begun, headers=headers, expected_size=file.size)
        except (RepositoryNotFoundError, EntryNotFoundError):  # also where a licence must be accepted
            raise
        except Exception as error:  # any: each version of huggingface_hub has another HTTP client
            out.flush()
            size = out.seek(0, os.SEEK_END)
            pauses = 0 if size > begun else pauses + 1
            if pauses > _PATIENCE or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise
            print(
                f"{model}: {file.name} was cut off at {size / _GB:.2f} of {file.size / _GB:.2f} GB "
                f"({_first_line(error)}); going on in {2**pauses} s",
                flush=True,
            )
            time.sleep(2**pauses)
            if size > file.size:
                out.truncate(0)


def _removed_as_damaged(model: str, file: File, path: pathlib.Path) -> bool:
    """Whether a file is not what the hub says it is; then it is removed."""
    with path.open("rb") as content:
        if len(file.digest) == _SHA256_DIGITS:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        else:
            begun = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
            digest = hashlib.file_digest(content, lambda: begun).hexdigest()
    if digest == file.digest or not file.digest:
        return False
    print(f"{model}: {file.name} is damaged and removed (its checksum is not the hub's)", flush=True)
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    return True


def _cached(model: str, revision: str | None, cache: str | None) -> pathlib.Path | None:
    """The copy in the cache, if it has every file of weights that its index names."""
    try:
        path = snapshot_download(
            model, revision=revision, cache_dir=cache, ignore_patterns=_OTHER_FORMATS, local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    folder = pathlib.Path(path)
    return None if _absent(folder) else folder


def _look(folder: pathlib.Path) -> dict[str, object]:
    problems = [f"{name} is missing" for name in _absent(folder)]
    problems += [f"{path.name} is cut off or damaged" for path in sorted(folder.glob("*")) if _is_cut_off(path)]
    return {"files": sorted(path.name for path in folder.glob("*")), "problems": problems}


def _absent(folder: pathlib.Path) -> list[str]:
    """Files of weights that the index names and that are not there."""
    index = folder / "model.safetensors.index.json"
    named = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else []
    return [name for name in named if not (folder / name).exists()]


def _is_cut_off(path: pathlib.Path) -> bool:
    """Whether a safetensors file has not the length that its head tells; others are not looked at."""
    if path.suffix != ".safetensors":
        return False
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                return True
            head = json.loads(file.read(length))
        end = max((entry["data_offsets"][1] for name, entry in head.items() if name != "__metadata__"), default=0)
        return path.stat().st_size != 8 + length + int(end)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return True


@contextlib.contextmanager
def _progress(model: str, total: int, size: Callable[[], int]) -> Iterator[None]:
    """Tell every PROGRESS_S how far it is."""
    is_done = threading.Event()
    watcher = threading.Thread(target=_tell_progress, args=(model, total, size, is_done), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_done.set()


def _tell_progress(model: str, total: int, size: Callable[[], int], is_done: threading.Event) -> None:
    begun, before = time.monotonic(), size()
    while not is_done.wait(PROGRESS_S):
        now = size()
        rate = max(1.0, (now - before) / (time.monotonic() - begun))
        left = f"{max(0, total - now) / rate:.0f} s left"
        print(f"{model}: {now / _GB:.1f} of {total / _GB:.1f} GB, {rate / 1e6:.0f} MB/s, {left}", flush=True)


def _size(paths: Iterable[pathlib.Path]) -> int:
    """Bytes on disk, unfinished files included."""
    total = 0
    for path in paths:
        try:
            total += path.stat().st_blocks * 512
        except OSError:  # not there, or renamed meanwhile
            continue
    return total


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


if __name__ == "__main__":
    sys.exit(main())
