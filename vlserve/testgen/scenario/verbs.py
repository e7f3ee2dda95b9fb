"""Verbs at the beginning of a clause, in English and Chinese, also inflected."""

import re

from vlserve.testgen.scenario import clause_words as table
from vlserve.testgen.scenario.quotes import is_cjk

PREPOSITION_ZH = re.compile(r"[在把将用从对向给为不以]")


def opening(phrases: str, text: str) -> tuple[str, str] | None:
    """The phrase that a text begins with, also inflected, and what follows it."""
    if is_cjk(phrases[0]):
        found = re.match(phrases, text)
        return (found.group(), text[found.end() :]) if found else None
    first = re.match(r"[A-Za-z-]+", text)
    if not first:
        return None
    for base in _bases(first.group().casefold()):
        if found := re.match(rf"(?:{phrases})(?![\w-])", f"{base}{text[first.end() :]}", re.IGNORECASE):
            return found.group().casefold(), text[first.end() + found.end() - len(base) :]
    return None


def _bases(word: str, *, is_past: bool = False) -> list[str]:
    found = [word]
    if word.endswith("s") and not word.endswith("ss"):
        found.append(word[:-1])
    if re.search("(?:s|x|ch|sh)es$", word):
        found.append(word[:-2])
    for ending in ("ing", "ed") if is_past else ("ing",):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            stem = word[: -len(ending)]
            found += [stem, f"{stem}e", *([stem[:-1]] if stem[-1:] == stem[-2:-1] else [])]
    return found


def verb_of(text: str, *, is_past: bool = False) -> tuple[str, str, str] | None:
    """Canonical verb, its words and what follows; of Chinese also after what stands before it, as in 在X中输入Y."""
    first = re.match(r"[A-Za-z-]+", text)
    if not first:
        return _chinese(text)
    word = first.group().casefold()
    best: tuple[str, int] | None = None
    for base in _bases(word, is_past=is_past):
        inflected = f"{base}{text[first.end() :]}"
        for name, phrases in table.ACTIONS.items():
            found = re.match(rf"(?:{phrases})(?![\w-])", inflected, re.IGNORECASE)
            end = found.end() - len(base) + first.end() if found else 0
            if end and (best is None or end > best[1]):
                best = name, end
    if best:
        return best[0], text[: best[1]], text[best[1] :]
    if any(base in table.OTHER_VERBS for base in _bases(word, is_past=is_past)):
        return "", text[: first.end()], text[first.end() :]
    return None


def _chinese(text: str) -> tuple[str, str, str] | None:
    found = [
        (name, match)
        for name, phrases in table.ACTIONS_ZH.items()
        for match in re.finditer(phrases, text)
        if not re.match(r"按钮|框|键(?!入)|栏|链接|页", text[match.end() :]) or not match.start()
    ]
    if PREPOSITION_ZH.match(text) or re.search(r"[框栏里中内](?:输入|填|选|点击|勾)", text):
        placed = [one for one in found if re.search(r"[中里内上框栏]\s*$", text[: one[1].start()])]
        last = max((one[1].start() for one in found if one[1].start()), default=0)
        found = placed or [one for one in found if one[1].start() <= last < one[1].end() and one[1].start()]
    else:
        found = [one for one in found if not one[1].start()]
    if not found:
        return None
    name, match = min(found, key=lambda one: (one[1].start(), -len(one[1].group())))
    return name, match.group(), f"{text[: match.start()]} {text[match.end() :]}".strip()
