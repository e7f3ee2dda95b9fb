"""Reads packs: zip files of pages with their pictures, as screenshots.py writes them."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

from pages.page import Page


def read_pack(path: Path) -> Iterator[tuple[Page, bytes]]:
    """The pages of a pack, each with its picture as a WebP file."""
    with zipfile.ZipFile(path) as archive:
        for number, line in enumerate(archive.read("pages.jsonl").decode().splitlines()):
            yield Page.from_tree(json.loads(line)), archive.read(f"{number:06}.webp")
