"""The Dockerfile, as far as it can be checked without a Docker engine: a linter, and the files that it copies."""

import pathlib
import re
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

HADOLINT = pathlib.Path(sys.executable).parent / "hadolint"
TEXT = (REPOSITORY / "Dockerfile").read_text()


def lint(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HADOLINT, "-"], input=text, capture_output=True, text=True, timeout=60, check=False)


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
    copied = {name for line in re.findall(r"^COPY (.+) \S+$", TEXT, re.MULTILINE) for name in line.split()}
    assert copied == allowed
    assert all((REPOSITORY / name).exists() for name in copied)


def test_runs_without_root_with_a_healthcheck_and_caches_in_one_folder() -> None:
    assert re.search(r"^USER [1-9]\d*$", TEXT, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK .*\\\n.*/health", TEXT, re.MULTILINE)
    caches = re.findall(r"(\w+(?:HOME|ROOT|DIR))=(\S+)", TEXT)
    assert len(caches) == 5
    assert all(path.startswith("/cache") for _, path in caches)
