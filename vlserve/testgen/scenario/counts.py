"""The number of things that a clause expects."""

import re

from vlserve.testgen.scenario import clause_words as table
from vlserve.testgen.scenario.quotes import CJK


def counted(text: str) -> int | None:
    """The number of things that a text expects, such as 3 for "there are three rows"; 0 for "no rows"."""
    folded = text.casefold()
    number = r"(\d+(?![\d.,:%]*\d)|" + "|".join(one for one in table.NUMBERS if one.isascii()) + r"|no)"
    nouns = "|".join(sorted((one for one in table.GROUP_NOUNS if one.isascii()), key=len, reverse=True))
    english = re.search(rf"\b{number}\s+(?:\w+\s+){{0,2}}?(?:{nouns})(?:s|es)?\b", folded.replace("entries", "entrys"))
    if not english:
        english = re.search(
            rf"\bthere\s+(?:is|are|should\s+be|will\s+be)\s+(?:now\s+|only\s+|exactly\s+|still\s+|at\s+most\s+|at\s+least\s+)?"
            rf"{number}\b(?=\s+\w)|\b(?:only|exactly|at\s+most|at\s+least)\s+{number}\b|\b{number}\s+\w+\s+(?:are\s+|is\s+)?"
            r"(?:left|remains?|remaining|shown|visible|listed)\b",
            folded,
        )
    chinese = re.search(rf"(?<![第\d.€$¥])(\d+|[零一二三四五六七八九十两])\s*(?:个|条|行|项)(?![{CJK}]?钟)", folded)
    for found in (english, chinese):
        if found:
            word = next(one for one in found.groups() if one)
            if word == "no":
                return 0 if english and english.re.pattern.startswith(r"\b(\d") and _is_plural(found.group()) else None
            return int(word) if word.isdigit() else table.NUMBERS[word]
    return 0 if re.search(r"没有(?:任何)?(?:结果|记录|项目|条目)", folded) else None


def _is_plural(text: str) -> bool:
    return text.rstrip().endswith("s")
