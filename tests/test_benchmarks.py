"""The benchmarks that need no GPU, short."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY


@pytest.mark.full
@pytest.mark.timeout(600)
def test_bench_measures_gateways_and_writes_its_document(tmp_path: pathlib.Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text("before\n<!-- gateways -->\nold\n<!-- end of gateways -->\nafter\n")
    options = ["--gateways", "nginx;vlserve;vlserve, socket", "--cases", "small,stream,200 KB", "--clients", "2"]
    options += ["--turns", "1", "--seconds", "1", "--folder", str(tmp_path / "bench"), "--docs", str(document)]
    subprocess.run([sys.executable, "-m", "tests.benchmarks.gateways", *options], cwd=REPOSITORY, check=True)

    results = json.loads((tmp_path / "bench" / "gateways.json").read_text())
    assert list(results) == ["nginx", "vlserve", "vlserve, socket"]
    for gateway in results.values():
        assert gateway["rss_mib"] > 1
        for case in ("small", "stream", "200 KB"):
            closed, open_loop = gateway[case]["c2"], gateway[case]["open"]
            assert (closed["errors"], open_loop["errors"]) == (0, 0)
            assert closed["cpu_ms"] > 0
            assert closed["req_s"] > 1
    text = document.read_text()
    assert text.startswith("before\n<!-- gateways -->\nCPU milliseconds")
    assert text.endswith("<!-- end of gateways -->\nafter\n")
    assert "old" not in text


@pytest.mark.full
@pytest.mark.timeout(300)
def test_longest_callback_is_measured_with_and_without_pictures() -> None:
    options = ["--mb", "2", "--pictures", "2", "--quiet-s", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.longest_callback", *options],
        cwd=REPOSITORY, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for line, what in zip(done.stdout.splitlines(), ("without pictures", "with pictures"), strict=True):
        found = re.fullmatch(rf"{what}: longest iteration ([\d.]+) ms of CPU; gaps of events, .* / ([\d.]+) ms", line)
        assert found, line
        assert float(found[1]) > 0
        assert float(found[2]) > 0
