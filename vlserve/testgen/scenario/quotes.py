"""Quoted texts of a scenario, taken out while it is split: one private character stands for each."""

import re
from collections.abc import Sequence

QUOTES = {'"': '"', "“": "”", "„": "”", "‘": "’", "`": "`", "「": "」", "『": "』", "«": "»", "《": "》", "'": "'"}
MARK = 0xE000
MARKS = "\ue000-\uf8ff"
CJK = "\u3400-\u9fff"
AND = "\uf8f0"
"""An "and" that separates nothing, as in "drag and drop"."""
_MOST = 1000


def mask(scenario: str) -> tuple[str, list[str]]:
    """With one private character for each quoted text, and these texts with their quotation marks."""
    text = re.sub(f"[{MARKS}]", " ", scenario).replace("\r", "\n")
    out, quotes, at = [], list[str](), 0
    while at < len(text):
        end = _closing(text, at) if text[at] in QUOTES else -1
        if end > at + 1 and len(quotes) < _MOST:
            out.append(chr(MARK + len(quotes)))
            quotes.append(text[at : end + 1])
            at = end + 1
        else:
            out.append(text[at])
            at += 1
    return "".join(out), quotes


def _closing(text: str, start: int) -> int:
    opening, closing = text[start], QUOTES[text[start]]
    if opening in "'‘" and start and re.match(r"[^\W_]", text[start - 1]) and not is_cjk(text[start - 1]):
        return -1  # an apostrophe
    depth = 0
    for at in range(start + 1, len(text)):
        after = text[at + 1 : at + 2]
        if text[at] == "\n" and opening == "'":
            return -1
        if opening != closing and text[at] == opening:
            depth += 1
        elif text[at] == closing and text[at - 1] != "\\":
            if closing in "'’" and re.match(r"[^\W_]", after) and not is_cjk(after):
                continue  # an apostrophe within
            if not depth:
                return at
            depth -= 1
    return -1


def is_cjk(char: str) -> bool:
    return bool(re.match(f"[{CJK}]", char))


def unmasked(masked: str, quotes: Sequence[str]) -> str:
    text = " ".join(masked.replace(AND, "and").split())
    return re.sub(f"[{MARKS}]", lambda one: quotes[ord(one.group()) - MARK], text)
