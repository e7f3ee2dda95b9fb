"""Matching a job's picture with its live page, through the pipeline, with scripted models and a real Chromium."""

import dataclasses
from collections.abc import Iterator

import pytest

from tests.conftest import picture
from tests.fakes.testgen_models import Scripted
from tests.fakes.testgen_site import Site, html, serving
from tests.testgen.pipeline_jobs import SEEN, SIZE, a_job
from vlserve.testgen.pipeline import generate
from vlserve.testgen.result import TestgenError

pytestmark = [pytest.mark.full, pytest.mark.browser]
# Boxes on the picture, as large as Chromium draws these at 800×600.
PLACED = """
  <style>body { margin: 0 } h1, button, input { position: absolute; margin: 0; left: 40px; width: 200px; height: 30px }</style>
  <h1 style="top: 20px">Sign in</h1>
  <input aria-label="Email" style="top: 120px"> <input aria-label="Password" style="top: 220px">
  <button style="top: 320px">Sign in</button>
"""  # noqa: E501
OTHER_PAGE = [(f'{role} "{name}"', [40, top, 240, top + 30]) for role, name, top in [
    ("heading", "Invoices", 20), ("button", "Export", 120), ("link", "Archive", 220), ("textbox", "Year", 320)
]]  # fmt: skip


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving({"/placed": html(PLACED)}) as site:
        yield site


@pytest.mark.parametrize(
    ("by", "down", "named", "viewport"),
    [(1, 0, None, (800, 600)), (2, 0, None, (800, 600)), (1, -100, None, (800, 600)), (1.5, 0, (800, 600), (800, 600))],
)
async def test_the_picture_is_found_on_the_page(
    site: Site, by: float, down: int, named: tuple[int, int] | None, viewport: tuple[int, int]
) -> None:
    """Also one of a screen of two pixels for one, one that was scrolled, and one whose page size is given."""
    extra = ('button "Delete account"', [round(400 * by), round(20 * by), round(600 * by), round(50 * by)])
    seen = [
        (label, [round(left * by), round(top * by) + down, round(right * by), round(bottom * by) + down])
        for label, (left, top, right, bottom) in SEEN
    ]
    shot = picture(round(SIZE[0] * by), round(SIZE[1] * by))
    job = a_job(f"{site.origin}/placed", picture=shot, viewport=named, may_run=False)
    result = await generate(job, Scripted([*seen, extra], [], ["heading"]))
    assert tuple(result.report["viewport"]) == viewport
    ids = {(one["role"], one["name"]): one["id"] for one in result.report["elements"]}
    found = {(one["role"], one["name"]): one["matched"] for one in result.report["inventory"]}
    assert found == {**ids, ("button", "Delete account"): None}
    assert result.report["not_on_page"] == ['button "Delete account"']


async def test_picture_of_another_page_is_refused_unless_forced(site: Site) -> None:
    job = a_job(f"{site.origin}/placed", may_run=False, scenario="the heading Sign in is shown")
    with pytest.raises(TestgenError, match=r'4 names that were read .* 0 are on .*"Invoices".*--force'):
        await generate(job, Scripted(OTHER_PAGE, [], ["heading"]))
    for seen, is_forced in ((OTHER_PAGE, True), ([*SEEN[:2], *OTHER_PAGE[1:]], False)):
        job = dataclasses.replace(job, is_forced=is_forced)
        result = await generate(job, Scripted(seen, [], ["heading"]))
        assert result.report["note"].startswith("DRAFT: ")


@pytest.mark.parametrize(
    "names",
    [
        ["", "", "", ""],
        ["", "Export", "Archive", ""],
        ["?", "--", "\ufffd\ufffd", "Year"],
        ["oooo", "oooo", "oooo", "oooo"],
        ["Export", "Archive", "Year", "", "", "", ""],
    ],
)
async def test_names_that_the_model_did_not_read_are_no_evidence_of_another_page(site: Site, names: list[str]) -> None:
    """Few names, or none matched where most are empty, show that the model cannot read the picture."""
    seen = [(f'button "{name}"', [40, 40 * at, 240, 40 * at + 30]) for at, name in enumerate(names)]
    job = a_job(f"{site.origin}/placed", may_run=False, scenario="the heading Sign in is shown")
    result = await generate(job, Scripted(seen, [], ["heading"]))
    assert result.report["note"].startswith("DRAFT: ")


async def test_picture_of_another_page_with_a_few_unread_names_is_refused(site: Site) -> None:
    job = a_job(f"{site.origin}/placed", may_run=False, scenario="the heading Sign in is shown")
    with pytest.raises(TestgenError, match="4 names that were read"):
        await generate(job, Scripted([*OTHER_PAGE, ('img ""', [1, 1, 9, 9])], [], ["heading"]))
