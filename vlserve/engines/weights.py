"""Downloads one model's files into the cache, and checks them: a program that serve, fetch and doctor run.

usage: python -m vlserve.engines.weights MODEL [--revision R] [--download-dir D] [--from SOURCE] [--verify]
       python -m vlserve.engines.weights MODEL --check     (downloads nothing; prints one line of JSON)

It runs before the engine starts, so that a download of 30 GB does not count against ready_timeout_s and its progress
is logged. For a model in the cache one request is sent to the hub; if the hub is unreachable, a complete copy is used.

Large files are downloaded by ``_download``, everything else by huggingface_hub, into huggingface_hub's cache
(https://huggingface.co/docs/huggingface_hub/guides/manage-cache). huggingface_hub 2.4 cannot resume a download after
its process has ended, and verifies no checksum. Here downloads are resumed, and a file enters the cache only if its
SHA-256 is the hub's. ModelScope's own client does both.
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

from huggingface_hub import (
    HfApi,
    constants,
    get_session,
    get_token,
    hf_hub_download,
    hf_hub_url,
    hf_raise_for_status,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.utils import disable_progress_bars

from vlserve.engines.safetensors_files import inspect, is_cut_off, missing_files

PROGRESS_S = 10.0
UNFINISHED = ".unfinished"
# The same weights in other formats, which vLLM does not read if there are safetensors files.
_OTHER_FORMATS = ["*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "original/*", "consolidated*"]
_GB = 1e9
_HUB_TIMEOUT_S = 15.0
_LARGEST_BYTES = 50 * 10**9  # larger files are only in Xet storage, which huggingface_hub reads
_CONNECTIONS = 4
_CHUNK_BYTES = 2**20
_MAX_RETRIES = 6  # in a row without progress, after pauses of 1, 2, 4 … 32 s
_SHA256_DIGITS = 64


@dataclass(frozen=True)
class File:
    """A file of a model, as the hub lists it."""

    name: str
    size: int
    digest: str
    """SHA-256 of a large file, git's SHA-1 of a small one; empty if the hub does not list it."""

    @property
    def is_large(self) -> bool:
        return len(self.digest) == _SHA256_DIGITS and self.size <= _LARGEST_BYTES


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--revision")
    parser.add_argument("--download-dir")
    parser.add_argument("--from", dest="source", choices=["huggingface", "modelscope"], default="huggingface")
    parser.add_argument("--verify", action="store_true", help="also check the checksums of files in the cache")
    parser.add_argument("--check", action="store_true", help="report what is in the cache; download nothing")
    arguments = parser.parse_args()
    model, revision, cache = arguments.model, arguments.revision, arguments.download_dir
    disable_progress_bars()  # this program's output goes to a log, not to a terminal
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
            f"GatedRepoError: {model} has a licence that must be accepted: accept it at "
            f"{constants.ENDPOINT}/{model}, then `hf auth login` here or set HF_TOKEN ({_first_line(error)})"
        )
        return 1
    except RepositoryNotFoundError as error:
        print(f"RepositoryNotFoundError: {constants.ENDPOINT} has no visible model {model} ({_first_line(error)})")
        return 1
    except OSError as error:  # the disk, the connection, a damaged file
        print(f"{type(error).__name__}: {error}")
        return 1
    return 0


def fetch(model: str, revision: str | None, cache: str | None, *, verify: bool = False) -> pathlib.Path:
    """Download a model's missing files and return its folder in the cache. With ``verify`` also check the checksums of
    files that are in the cache already.

    Raises OSError if the disk is full or a file is damaged in two downloads, and huggingface_hub's errors.
    """
    folder = pathlib.Path(cache or constants.HF_HUB_CACHE)
    try:
        commit, files, ignored = _listing(model, revision)
    except Exception as error:  # any: each version of huggingface_hub has another HTTP client
        if not verify and (path := _cached(model, revision, cache)):
            print(f"{model}: the hub does not answer ({error}); using the copy in {folder}", flush=True)
            return path
        if isinstance(error, RepositoryNotFoundError):
            raise
        why = f"{type(error).__name__}: {_first_line(error)}"
        raise OSError(
            f"We couldn't connect to {constants.ENDPOINT} for {model} ({why}); {folder} has no copy"
        ) from error
    blobs = _blobs(model, commit, cache, files)
    present = {file: path for file in files if (path := _cached_path(model, commit, cache, file))}
    if verify:
        present = {file: path for file, path in present.items() if not _removed_as_damaged(model, file, path)}
    missing = [file for file in files if file not in present]
    _check_disk_space(model, folder, sum(file.size for file in missing) - _resumable_bytes(blobs, missing))
    with _progress(model, sum(file.size for file in files), lambda: _size(blobs.glob("*"))):
        blobs.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            large = [file for file in missing if file.is_large]
            list(pool.map(lambda file: _download(model, commit, file, blobs), large))
        path = pathlib.Path(snapshot_download(model, revision=revision, cache_dir=cache, ignore_patterns=ignored))
    for file in missing:
        if not file.is_large and _removed_as_damaged(model, file, path / file.name):
            raise OSError(f"{file.name} of {model} arrived damaged; fetch it again")
    checked = "every file" if verify else f"{len(missing)} new files" if missing else "nothing new"
    print(f"{model}: complete in {path} ({checked} verified against the hub's checksums)", flush=True)
    return path


def fetch_from_modelscope(model: str, revision: str | None, cache: str | None) -> pathlib.Path:
    """Download a model from ModelScope and return its folder. Its client resumes downloads and verifies SHA-256 sums.

    Raises OSError, also for any error of that client.
    """
    try:
        from modelscope.hub.api import HubApi
        from modelscope.hub.snapshot_download import snapshot_download as download
    except ModuleNotFoundError as error:
        install = "pip install '.[modelscope]' in the folder of vlserve's repository"
        raise OSError(f"ModelScope's client is missing ({error}): {install}") from error
    # The client's cache folder; its versions differ in how they name the model's folder inside it.
    own = pathlib.Path(os.environ.get("MODELSCOPE_CACHE") or pathlib.Path.home() / ".cache" / "modelscope")
    folder = pathlib.Path(cache or own) / "models" / model
    try:
        listed = HubApi().get_model_files(model, revision=revision, recursive=True)
        sizes = {entry["Path"]: int(entry.get("Size") or 0) for entry in listed if entry.get("Type") != "tree"}
        ignored = _ignored(sizes)
        wanted = {name: size for name, size in sizes.items() if not _matches(name, ignored)}
        _check_disk_space(model, folder, sum(wanted.values()) - _size(folder.rglob("*")))
        with _progress(model, sum(wanted.values()), lambda: _size(folder.rglob("*"))):
            download(model, revision=revision, local_dir=str(folder), ignore_patterns=ignored)
    except OSError:
        raise
    except Exception as error:  # any: ModelScope's client has no common class of errors
        raise OSError(f"ModelScope: {type(error).__name__}: {error}") from error
    print(f"{model}: complete in {folder} (verified against ModelScope's checksums)", flush=True)
    print(f"to serve it from there, in the config: model: {folder} and served_model_name: {model}", flush=True)
    return folder


def check(model: str, revision: str | None, cache: str | None) -> dict[str, object]:
    """Report which of a model's files are on disk; downloads nothing. ``model``: a folder, or a name on the hub.

    Keys: ``folder`` and its ``free_bytes``, ``files`` (names), ``missing_bytes`` (None: unknown), ``problems``
    (missing, truncated or damaged files), ``hub`` (the error of the request to the hub, or None).
    """
    if model.startswith("/"):
        return {"folder": model, "free_bytes": 0, "missing_bytes": 0, "hub": None, **inspect(pathlib.Path(model))}
    root = pathlib.Path(cache or constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(path for path in (root, *root.parents) if path.exists())).free
    where: dict[str, object] = {"folder": str(root), "free_bytes": free}
    try:
        commit, files, _ = _listing(model, revision)
    except Exception as error:  # noqa: BLE001  (any: each version of huggingface_hub has another HTTP client)
        path = _cached(model, revision, cache)
        seen = inspect(path) if path else {"files": [], "problems": []}
        hub = f"{type(error).__name__}: {_first_line(error)}"
        return {**where, "missing_bytes": 0 if path else None, "hub": hub, **seen}
    paths = {file: path for file in files if (path := _cached_path(model, commit, cache, file))}
    absent = [file for file in files if file not in paths]
    problems = [f"{file.name} is cut off or damaged" for file, path in paths.items() if is_cut_off(path)]
    missing = sum(file.size for file in absent)
    with contextlib.suppress(OSError):  # the hub lists a gated model's files but does not serve them
        missing -= _resumable_bytes(_blobs(model, commit, cache, files), absent)
    return {
        **where,
        "missing_bytes": missing,
        "hub": None,
        "files": [file.name for file in files],
        "problems": problems,
    }


def _listing(model: str, revision: str | None) -> tuple[str, list[File], list[str]]:
    """The commit of ``revision``, the files that vLLM needs, and the patterns of those it does not need."""
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


def _cached_path(model: str, commit: str, cache: str | None, file: File) -> pathlib.Path | None:
    path = try_to_load_from_cache(model, file.name, cache_dir=cache, revision=commit)
    return pathlib.Path(path) if isinstance(path, str) else None


def _blobs(model: str, commit: str, cache: str | None, files: list[File]) -> pathlib.Path:
    """The cache folder with this model's file contents, named by checksum; sends the hub one request."""
    if not files:
        raise OSError(f"{model} has no files on {constants.ENDPOINT}")
    name = files[0].name
    path = hf_hub_download(model, name, revision=commit, cache_dir=cache, dry_run=True).local_path
    # The documented layout: MODEL/snapshots/COMMIT/NAME is a link to MODEL/blobs/CHECKSUM.
    return pathlib.Path(path).parents[len(pathlib.PurePath(name).parts) + 1] / "blobs"


def _check_disk_space(model: str, folder: pathlib.Path, missing: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if missing > (free := shutil.disk_usage(folder).free):
        raise OSError(
            errno.ENOSPC,
            f"No space left on device for {model}: {missing / _GB:.1f} GB are missing and "
            f"{free / _GB:.1f} GB are free in {folder} (set HF_HOME, or MODELSCOPE_CACHE, to another folder)",
        )
    if missing > 0:
        print(f"{model}: {missing / _GB:.2f} GB to download into {folder}", flush=True)


def _resumable_bytes(blobs: pathlib.Path, missing: Iterable[File]) -> int:
    """Bytes of unfinished downloads that will be resumed."""
    return _size(_unfinished(blobs, file) for file in missing if file.is_large)


def _unfinished(blobs: pathlib.Path, file: File) -> pathlib.Path:
    return blobs / f"{file.digest}{UNFINISHED}"


def _download(model: str, commit: str, file: File, blobs: pathlib.Path) -> None:
    """Download one large file into the cache, or resume its download; the file's name there is its SHA-256."""
    blob, unfinished = blobs / file.digest, _unfinished(blobs, file)
    if blob.exists():
        return
    with os.fdopen(os.open(unfinished, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as out:
        # Both engines may have the same model. On file systems without locks the checksum detects interleaved writes.
        with contextlib.suppress(OSError):
            fcntl.flock(out, fcntl.LOCK_EX)
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
            print(f"{model}: {file.name} arrived damaged (its SHA-256 is not the hub's); trying again", flush=True)
            out.truncate(0)
    unfinished.unlink(missing_ok=True)
    raise OSError(f"{file.name} of {model} arrived damaged twice; a proxy or mirror may change it")


def _get(model: str, commit: str, file: File, out: BinaryIO) -> None:
    """Append a file's missing bytes to ``out``, reconnecting as often as needed."""
    pauses = 0
    while (begun := out.seek(0, os.SEEK_END)) < file.size:
        try:
            _append(hf_hub_url(model, file.name, revision=commit), begun, out)
            if out.tell() == begun:
                raise OSError("an empty response")
        except (RepositoryNotFoundError, EntryNotFoundError):  # a gated model, too
            raise
        except Exception as error:  # any: each version of huggingface_hub has another HTTP client
            out.flush()
            size = out.seek(0, os.SEEK_END)
            pauses = 0 if size > begun else pauses + 1
            if pauses > _MAX_RETRIES or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise
            print(
                f"{model}: {file.name} was interrupted at {size / _GB:.2f} of {file.size / _GB:.2f} GB "
                f"({_first_line(error)}); resuming in {2**pauses} s",
                flush=True,
            )
            time.sleep(2**pauses)
            if size > file.size:
                out.truncate(0)


def _append(url: str, begun: int, out: BinaryIO) -> None:
    """Download ``url`` from byte ``begun`` on and append it to ``out``. ``begun``: the size of ``out``."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begun}-"} if begun else {})
    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    if token:
        headers["Authorization"] = f"Bearer {token}"  # httpx removes it when it is redirected to another host
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as answer:
        hf_raise_for_status(answer)
        if begun and answer.status_code != 206:  # the server ignored Range and sends the whole file
            out.truncate(0)
            out.seek(0)
        for piece in answer.iter_bytes(_CHUNK_BYTES):
            out.write(piece)


def _removed_as_damaged(model: str, file: File, path: pathlib.Path) -> bool:
    """Remove a file whose checksum is not the hub's. Returns whether it was removed."""
    with path.open("rb") as content:
        if len(file.digest) == _SHA256_DIGITS:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        else:
            begun = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
            digest = hashlib.file_digest(content, lambda: begun).hexdigest()
    if digest == file.digest or not file.digest:
        return False
    print(f"{model}: {file.name} is damaged (its checksum is not the hub's) and was removed", flush=True)
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    return True


def _cached(model: str, revision: str | None, cache: str | None) -> pathlib.Path | None:
    """The model's folder in the cache, if every weights file of its index is in it."""
    try:
        path = snapshot_download(
            model, revision=revision, cache_dir=cache, ignore_patterns=_OTHER_FORMATS, local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    folder = pathlib.Path(path)
    return None if missing_files(folder) else folder


@contextlib.contextmanager
def _progress(model: str, total: int, size: Callable[[], int]) -> Iterator[None]:
    """Print the progress every PROGRESS_S."""
    is_done = threading.Event()
    watcher = threading.Thread(target=_print_progress, args=(model, total, size, is_done), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_done.set()


def _print_progress(model: str, total: int, size: Callable[[], int], is_done: threading.Event) -> None:
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
        except OSError:  # removed or renamed meanwhile
            continue
    return total


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


if __name__ == "__main__":
    sys.exit(main())
