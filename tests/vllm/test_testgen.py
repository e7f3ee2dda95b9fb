"""`vlserve testgen` with both demo models and real browsers: the test of each fixture page passes, and fails under
mutation."""

import asyncio
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.vllm.service import KEYS, Service
from vlserve.testgen.evaluation import evaluate, fixture_pages
from vlserve.testgen.page import live_page

pytestmark = [pytest.mark.full, pytest.mark.engine, pytest.mark.browser, pytest.mark.timeout(600)]
PAGES = {one.page.name: one.page for one in fixture_pages.read_scenarios()}


@pytest.fixture(scope="module")
def pages_url() -> Iterator[str]:
    with fixture_pages.serve() as url:
        yield url


@pytest.fixture(scope="module")
def pictures(pages_url: str) -> dict[str, bytes]:
    return asyncio.run(evaluate.photographs(PAGES.values(), pages_url, live_page.find_browser()))


def make(service: Service, folder: pathlib.Path, picture: bytes, *options: str) -> subprocess.CompletedProcess[str]:
    shot = folder / "shot.png"
    shot.write_bytes(picture)
    command = [sys.executable, "-m", "vlserve.cli", "testgen", str(shot), "--base-url", service.url, *options]
    environment = {**os.environ, "VLSERVE_API_KEY": KEYS["ana"]}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=500)


@pytest.mark.parametrize(
    ("page", "target", "scenario"),
    [
        ("login", "playwright", "log in with a wrong password and see the error"),
        ("table", "selenium", 'search for Zoe and see "No results"'),
        ("form", "playwright", "fill in Full name, press Reset and check that Full name is empty"),
        ("modal", "selenium", 'click Delete project, then Cancel, save changes and see "Your changes were saved."'),
        ("tabs", "playwright", 'open Billing, choose the plan Pro and see "Total: €29.00"'),
        ("dark", "selenium", 'choose German as the language, save and see "Your changes were saved."'),
        ("duplicates", "playwright", "turn on Copy address and check that the Street of Billing is disabled"),
        ("iframe", "selenium", "pay with card number 1234 and see that the card was declined"),
        ("chinese", "playwright", '用错误的密码登录，看到"用户名或密码错误。"'),
        ("hidpi", "selenium", 'add the Desk lamp to the cart and see "Cart: 1"'),
    ],
)
def test_generated_test_of_each_page_passes_and_detects_mutations(
    service: Service,
    tmp_path: pathlib.Path,
    pages_url: str,
    pictures: dict[str, bytes],
    page: str,
    target: str,
    scenario: str,
) -> None:
    url = pages_url + PAGES[page].path
    # The demo model reads few Chinese words, so that it finds little of the picture on the page.
    force = ("--force",) if page == "chinese" else ()
    made = make(
        *(service, tmp_path, pictures[page], "--scenario", scenario, "--target", target, "--url", url),
        *("-o", str(tmp_path / "made"), *force),
    )
    assert made.returncode == 0, made.stderr
    (report,) = (json.loads(one.read_text()) for one in (tmp_path / "made").glob("*.report.json"))
    assert (report["mode"], report["outcome"]) == ("verified", "passed")
    assert report["assertions"]
    assert report["mutation"]["caught"] == report["mutation"]["tried"] > 0
    assert report["models"]["vision"] == "demo-vision"
    assert report["models"]["text"] in ("", "demo-text")  # plain clauses are planned without a model
    assert any(one["matched"] for one in report["inventory"])
    (code,) = (one.read_text() for one in (tmp_path / "made").glob("test_*.py"))
    assert "VERIFIED: the test passed on the live page and does all of the scenario." in code


def test_missing_elements_are_reported(
    service: Service, tmp_path: pathlib.Path, pages_url: str, pictures: dict[str, bytes]
) -> None:
    made = make(
        *(service, tmp_path, pictures["login"], "--url", f"{pages_url}/login.html"),
        *("--scenario", "click Forgot password? and see the reset form"),
    )
    assert made.returncode == 1, made.stderr
    report = json.loads(made.stdout)
    assert report["outcome"] == "no_test"
    assert any("Forgot password?" in reason for reason in report["uncovered"])


@pytest.mark.parametrize("target", ["playwright", "selenium"])
def test_a_picture_alone_gives_a_draft(
    service: Service, tmp_path: pathlib.Path, pictures: dict[str, bytes], target: str
) -> None:
    made = make(
        *(service, tmp_path, pictures["dark"], "--target", target),
        *("--scenario", "turn on Notifications and check that Save is enabled", "-o", str(tmp_path / "made")),
    )
    assert made.returncode == 0, made.stderr
    (test,) = (tmp_path / "made").glob("test_*.py")
    assert test.read_text().startswith('"""DRAFT: made from a picture alone')
    marks = sum(one.read_text().count("# UNVERIFIED") for one in (tmp_path / "made").rglob("*.py"))
    assert marks >= 3  # the address, what is turned on, what is expected
