"""Requests that real clients sent, and what must hold for each (cases.tsv)."""

import csv
import pathlib
from dataclasses import dataclass

_FOLDER = pathlib.Path(__file__).parent


@dataclass(frozen=True)
class Case:
    name: str
    path: str
    status: int
    rule: str
    """What else must hold, in words."""

    @property
    def body(self) -> bytes:
        return (_FOLDER / f"{self.name}.json").read_bytes()

    def __str__(self) -> str:
        return self.name


def _read() -> tuple[Case, ...]:
    with (_FOLDER / "cases.tsv").open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return tuple(
            Case(row["file"].removesuffix(".json"), row["path"], int(row["status"]), row["what must hold"] or "")
            for row in rows
        )


CASES = _read()
