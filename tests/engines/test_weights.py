"""Downloading weights: resuming, verifying, damage, access and ModelScope."""

import asyncio
import errno
import json
import os
import pathlib
import sys

import pytest

from tests.conftest import REPOSITORY, until
from tests.engines.downloads import FILES, LARGE, WEIGHTS, environment, settings_of
from tests.fakes.fake_hub import hub_with, sha256
from vlserve.commands.doctor import checks
from vlserve.config.settings import Config
from vlserve.engines import weights


async def begin(home: pathlib.Path, endpoint: str, *arguments: str, **more: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vlserve.engines.weights", *(arguments or ("org/small",))),
        env=environment(home, endpoint) | more,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def fetch(home: pathlib.Path, endpoint: str, *arguments: str, **more: str) -> tuple[int | None, str]:
    """Exit code and output. ``more``: environment."""
    child = await begin(home, endpoint, *arguments, **more)
    async with asyncio.timeout(60):
        said = (await child.communicate())[0].decode()
    assert "Traceback" not in said
    return child.returncode, said


def blobs(home: pathlib.Path) -> dict[str, pathlib.Path]:
    return {path.name: path for path in (home / "hub" / "models--org--small" / "blobs").glob("*")}


def weights_in(home: pathlib.Path) -> bytes:
    (path,) = (home / "hub" / "models--org--small" / "snapshots").glob(f"*/{WEIGHTS}")
    return path.read_bytes()


async def test_model_is_fetched_once_without_other_formats_and_then_needs_no_hub(tmp_path: pathlib.Path) -> None:
    async with hub_with("org/small", FILES) as hub:
        code, said = await fetch(tmp_path, hub.endpoint)
        assert (code, sorted(hub.downloaded)) == (0, ["config.json", "model.safetensors"]), said
        assert "org/small: 0.00 GB to download into" in said
        assert "org/small: complete in" in said
        code, said = await fetch(tmp_path, hub.endpoint)
        assert (code, len(hub.downloaded)) == (0, 2)
    code, said = await fetch(tmp_path, hub.endpoint)
    assert code == 0, said
    assert "the hub does not answer" in said
    code, said = await fetch(tmp_path / "empty", hub.endpoint)
    assert code == 1
    assert "OSError: We couldn't connect to http://127.0.0.1" in said
    assert "has no copy" in said


async def test_interrupted_download_is_resumed(tmp_path: pathlib.Path) -> None:
    async with hub_with("org/small", LARGE) as hub:
        hub.cut_after = [11_000_000]
        code, said = await fetch(tmp_path, hub.endpoint)
    assert code == 0, said
    assert hub.begun_at[0] == 0
    assert hub.begun_at[1] >= 10_000_000
    assert weights_in(tmp_path) == LARGE[WEIGHTS]


async def test_killed_download_is_resumed_by_the_next_run(tmp_path: pathlib.Path) -> None:
    async with hub_with("org/small", LARGE) as hub:
        hub.stall_after = [11_000_000]
        child = await begin(tmp_path, hub.endpoint)
        unfinished = f"{sha256(LARGE[WEIGHTS])}{weights.UNFINISHED}"
        await until(
            lambda: unfinished in blobs(tmp_path) and blobs(tmp_path)[unfinished].stat().st_size > 9_999_999, 30
        )
        child.kill()
        await child.communicate()
        code, said = await fetch(tmp_path, hub.endpoint)
    assert code == 0, said
    assert hub.begun_at[1] >= 10_000_000
    assert "org/small: 0.01 GB to download" in said  # of 0.03
    assert weights_in(tmp_path) == LARGE[WEIGHTS]
    assert not [name for name in blobs(tmp_path) if name.endswith(weights.UNFINISHED)]


async def test_two_downloads_do_not_write_to_one_file(tmp_path: pathlib.Path) -> None:
    async with hub_with("org/small", LARGE) as hub:
        results = await asyncio.gather(fetch(tmp_path, hub.endpoint), fetch(tmp_path, hub.endpoint))
    assert [code for code, _ in results] == [0, 0], results
    assert hub.downloaded.count(WEIGHTS) == 1
    assert weights_in(tmp_path) == LARGE[WEIGHTS]


async def test_damaged_file_is_downloaded_again(tmp_path: pathlib.Path) -> None:
    async with hub_with("org/small", FILES) as hub:
        hub.damaged = 1
        code, said = await fetch(tmp_path, hub.endpoint)
    assert code == 0, said
    assert "model.safetensors arrived damaged" in said
    assert weights_in(tmp_path) == FILES[WEIGHTS]


async def test_file_that_stays_damaged_is_never_used(tmp_path: pathlib.Path) -> None:
    async with hub_with("org/small", FILES) as hub:
        hub.damaged = 9
        code, said = await fetch(tmp_path, hub.endpoint)
    assert code == 1
    assert "arrived damaged twice" in said
    assert blobs(tmp_path) == {}


async def test_verify_finds_damage_and_downloads_only_damaged_files(tmp_path: pathlib.Path) -> None:
    async with hub_with("org/small", FILES) as hub:
        await fetch(tmp_path, hub.endpoint)
        blob = blobs(tmp_path)[sha256(FILES[WEIGHTS])]
        blob.write_bytes(FILES[WEIGHTS][:-1] + b"?")
        code, said = await fetch(tmp_path, hub.endpoint)
        assert (code, len(hub.downloaded)) == (0, 2)  # not read anew at every start
        code, said = await fetch(tmp_path, hub.endpoint, "org/small", "--verify")
    assert code == 0, said
    assert "model.safetensors is damaged (its checksum is not the hub's) and was removed" in said
    assert hub.downloaded[2:] == [WEIGHTS]
    assert weights_in(tmp_path) == FILES[WEIGHTS]


@pytest.mark.parametrize("token", ["", "hf_of_someone_who_did_not_accept"])
async def test_gated_model_is_reported_with_advice(tmp_path: pathlib.Path, token: str) -> None:
    async with hub_with("org/small", FILES) as hub:
        hub.is_gated = True
        code, said = await fetch(tmp_path, hub.endpoint, **({"HF_TOKEN": token} if token else {}))
    assert code == 1
    assert f"accept it at {hub.endpoint}/org/small, then `hf auth login` here or set HF_TOKEN" in said
    assert hub.downloaded == []


def test_too_little_room_is_reported_before_anything_is_downloaded(tmp_path: pathlib.Path) -> None:
    with pytest.raises(OSError, match=r"1000000.0 GB are missing and .* GB are free in .*HF_HOME") as raised:
        weights._check_disk_space("org/m", tmp_path, 10**15)
    assert raised.value.errno == errno.ENOSPC


async def test_check_reports_missing_and_damaged_files(tmp_path: pathlib.Path) -> None:
    async def check(model: str = "org/small") -> dict[str, object]:
        code, said = await fetch(tmp_path, hub.endpoint, model, "--check")
        assert code == 0, said
        found = json.loads(said)
        assert isinstance(found, dict)
        return found

    small = Config.model_validate({"engines": {"text": {"model": "org/small"}}})
    async with hub_with("org/small", FILES) as hub:
        empty = await check()
        assert (empty["missing_bytes"], empty["problems"]) == (len(FILES[WEIGHTS]) + 2, [])
        text = str(checks.judge_model("text", settings_of(small), empty))
        assert f"org/small: 0.0 GB to download into {tmp_path / 'hub'}, " in text
        assert "vlserve fetch text does it now" in text
        assert hub.downloaded == []
        await fetch(tmp_path, hub.endpoint)
        whole = await check()
        assert (whole["missing_bytes"], whole["problems"], whole["hub"]) == (0, [], None)
        os.truncate(blobs(tmp_path)[sha256(FILES[WEIGHTS])], 1_000_000)
        assert (await check())["problems"] == ["model.safetensors is cut off or damaged"]
    offline = await check()
    assert offline["missing_bytes"] == 0
    assert offline["problems"] == ["model.safetensors is cut off or damaged"]
    assert offline["hub"]
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}')
    (folder / "1.safetensors").write_bytes(FILES[WEIGHTS])
    assert (await check(str(folder)))["problems"] == ["2.safetensors is missing"]


MODELSCOPE = {
    "__init__.py": "",
    "hub/__init__.py": "",
    "hub/api.py": """
class HubApi:
    def get_model_files(self, model_id, revision=None, recursive=True):
        names = ["config.json", "model.safetensors", "a.bin"]
        return [{"Path": name, "Size": 2} for name in names]
""",
    "hub/snapshot_download.py": """
import pathlib
def snapshot_download(model_id, revision, local_dir, ignore_patterns):
    if model_id == "org/none":
        raise RuntimeError("no such model there")
    assert "*.bin" in ignore_patterns
    folder = pathlib.Path(local_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
""",
}


async def from_modelscope(tmp_path: pathlib.Path, model: str, client: dict[str, str]) -> tuple[int | None, str]:
    for name, text in client.items():
        (tmp_path / "site" / "modelscope" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / "modelscope" / name).write_text(text)
    paths = f"{tmp_path / 'site'}:{REPOSITORY}"
    more = {"PYTHONPATH": paths, "MODELSCOPE_CACHE": str(tmp_path / "cache")}
    return await fetch(tmp_path, "http://127.0.0.1:9", model, "--from", "modelscope", **more)


async def test_modelscope_says_where_the_model_is_and_how_to_serve_it(tmp_path: pathlib.Path) -> None:
    """ModelScope's client is replaced by a stand-in."""
    code, said = await from_modelscope(tmp_path, "org/small", MODELSCOPE)
    folder = tmp_path / "cache" / "models" / "org" / "small"
    assert code == 0, said
    assert f"in the config: model: {folder} and served_model_name: org/small" in said
    assert (folder / "config.json").exists()
    code, said = await from_modelscope(tmp_path, "org/none", MODELSCOPE)
    assert code == 1
    assert "ModelScope: RuntimeError: no such model there" in said


async def test_modelscope_without_its_client_names_the_extra(tmp_path: pathlib.Path) -> None:
    missing = "raise ModuleNotFoundError(\"No module named 'modelscope'\", name='modelscope')"
    code, said = await from_modelscope(tmp_path, "org/small", {"__init__.py": missing})
    assert code == 1
    assert "pip install '.[modelscope]'" in said
