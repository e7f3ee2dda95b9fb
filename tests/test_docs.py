"""Links between the documents: each names an existing file, and a heading of it."""

import pathlib
import re

import pytest

from tests.conftest import REPOSITORY

_FOLDERS = ("docs", "configs", "samples", "tests")
_DOCUMENTS = [
    *REPOSITORY.glob("*.md"),
    *(path for folder in _FOLDERS for path in (REPOSITORY / folder).rglob("*.md") if "node_modules" not in path.parts),
]
_CODE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_LINK_TEXT = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def anchors(path: pathlib.Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them from headings that differ."""
    headings = re.findall(r"^#+ (.+)$", _CODE.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", _LINK_TEXT.sub(r"\1", one).lower()).replace(" ", "-") for one in headings}


def broken_links(path: pathlib.Path) -> list[str]:
    broken = []
    for link in _LINK.findall(_CODE.sub("", path.read_text())):
        if re.match("https?:|mailto:", link):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_between_documents_lead_to_a_file_and_a_heading(document: pathlib.Path) -> None:
    assert broken_links(document) == []


def test_broken_links_are_found(tmp_path: pathlib.Path) -> None:
    (tmp_path / "b.md").write_text("# Two words, a date\n```\n# comment\n```\n")
    page = tmp_path / "a.md"
    page.write_text(
        "[1](b.md) [2](b.md#two-words-a-date) [3](b.md#comment) [4](c.md) [5](#none) [6](https://c.example/)"
    )
    assert broken_links(page) == ["b.md#comment", "c.md", "#none"]
