"""Why a plan's element is not the one that a clause means, in one sentence; empty where it is. Part of the judge."""

from collections.abc import Iterable

from vlserve.testgen.elements import Element


def listed(texts: Iterable[str]) -> str:
    return ", ".join(map(repr, texts))


def explain_missing(one: Element, missing: Iterable[str]) -> str:
    return f"{one.description} has nothing of {listed(missing)}." if missing else ""


def explain_opposite(one: Element) -> str:
    return f"{one.description} is the opposite."


def explain_rival(one: Element, rival: Element | None) -> str:
    return f"{rival.description} fits as well as {one.description}, or better: name it in full." if rival else ""
