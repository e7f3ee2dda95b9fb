"""Whether a value that a plan types is the one that a clause names or describes."""

import re
from collections.abc import Sequence

from vlserve.testgen.elements import Element
from vlserve.testgen.plan import Step
from vlserve.testgen.scenario.clause_words import word_set
from vlserve.testgen.scenario.clauses import Clause
from vlserve.testgen.scenario.wording import has_phrase, has_word, is_meant, is_of_role, is_same, normal

_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(?:\.[^@\s.]+)+")
MADE_UP = word_set("wrong incorrect bad fake unknown nonexistent random test invalid valid sample 错误 随机 任意")


def is_said_of(text: str, own: Sequence[str], value: str, earlier: Sequence[str]) -> bool:
    """The value stands next to the field's name; where that is not named, values stand in the order of the fills."""
    plain, wanted = normal(text), re.escape(normal(value))
    if not own:
        places = [plain.find(normal(one)) for one in (*earlier, value)]
        return places == sorted(places)
    joint = r"(?:[\s:=,]|[\"“‘'「『`]|\b(?:is|of|to|as|with|called|named|an?|the|field|box)\b|[为是框])*"
    back = r"[\"”’'」』`]?\s*(?:in|into|as|for|to)\s+(?:the\s+)?(?:\w+\s+){0,2}?"
    return any(re.search(rf"{re.escape(word)}{joint}{wanted}|{wanted}{back}{re.escape(word)}", plain) for word in own)


def tells_value(clause: Clause, own: Sequence[str]) -> bool:
    """A number follows the field's name, as in "card number 1234"."""
    return any(re.search(rf"\b{re.escape(word)}\s+(?:is\s+|of\s+)?\d", normal(clause.text)) for word in own)


def made_up(clause: Clause, words: Sequence[str], one: Element, value: str) -> tuple[list[str], list[str], str]:
    """For a value that a scenario only describes: whether it is such a one."""
    left = [word for word in words if word not in MADE_UP or has_word(word, one.name)]
    is_email = has_word("email", one.name) or has_word("e-mail", one.name) or "邮箱" in one.name or "邮件" in one.name
    is_secret = one.is_secret or any(
        has_word(word, one.name) for word in ("password", "密码", "user", "username", "用户名")
    )
    if not value.strip():
        return [], [], f"Nothing is typed into {one.description}."
    if "valid" in words and not (is_email and _EMAIL.fullmatch(value)):
        return [], [], f"Nobody can tell whether {value!r} is valid: write the value in quotation marks."
    if "invalid" in words and not ((is_email and not _EMAIL.fullmatch(value)) or (is_secret and not is_email)):
        return [], [], f"Nobody can tell whether {value!r} is invalid: write the value in quotation marks."
    return left, list(clause.quoted), ""


def possible_values(text: str) -> set[str]:
    """What may be the value that a text types, such as "Ann" in "type Ann into Name" or "set Name to Ann"."""
    found = set()
    joints = (
        r"\s+(?:into|in|to|as|for|on|with|at|using)\s+(?:the\s+)?|[:：]\s*"
        r"|\s*(?:中|里)?(?:输入|填写|填入|改为|改成|为)\s*|\s+"
    )
    ends = list(re.finditer(joints, text))
    starts = [0, *(one.end() for one in ends)]
    stops = [*(one.start() for one in ends), len(text)]
    for start in starts:
        found |= {" ".join(text[start:stop].split()) for stop in stops if stop > start}
    return found


def names_no_text(clause: Clause, value: str) -> bool:
    """A search clause that names no text."""
    return not any(is_same(value, each) for each in clause.quoted) and not has_phrase(value, clause.text)


def field_words(clause: Clause, step: Step, one: Element) -> tuple[list[str], list[str], str]:
    """What a typing clause says of its field once its value is taken out; or why the value is another one."""
    value = " ".join(step.value.split())
    quoted = [" ".join(each.split()) for each in clause.quoted]
    if value in quoted:
        quoted.remove(value)
        return list(clause.words), quoted, ""
    rest = [word for word in clause.words if word not in MADE_UP and not is_meant(word, one)]
    if quoted and not all(has_phrase(each, f"{one.name} | {one.context}") for each in quoted):
        return [], [], f"The value {value!r} is not {' or '.join(map(repr, quoted))}."
    if not rest:
        return made_up(clause, clause.words, one, value)
    if value in possible_values(clause.text) and all(has_word(word, value) for word in rest):
        return [word for word in clause.words if word not in rest], quoted, ""
    return [], [], f"The value {value!r} is not what the scenario types."


def is_meant_by(word: str, field: Element) -> bool:
    """A word of what stays empty is of this field; an empty word, or "field", is of every field."""
    return not word or has_word(word, field.name) or is_of_role(word, field.role)
