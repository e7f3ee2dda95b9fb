"""What tools answer, as JSON or plain text, and the sentence that tells it to the user."""

import json
from typing import Any

from conversations.tool_words import BASES, QUALIFIERS
from conversations.tools import DRAWN, cased, name_style, spoken_name
from conversations.values import city, phrase
from conversations.words import ADJECTIVES, THINGS, Dice, joined, listed, plural, pseudo_word

_KEYS: dict[str, tuple[str, ...]] = {
    **{name: base.kinds for name, base in BASES.items()},
    **dict.fromkeys(listed("temperature humidity total result balance distance duration score price"), ("number",)),
    **dict.fromkeys(listed("condition weather state status answer category"), ("word",)),
    **dict.fromkeys(listed("count items_left rows visitors"), ("integer",)),
    **dict.fromkeys(listed("done sent found available paid"), ("boolean",)),
}
_KEY_NAMES = tuple(_KEYS)
_UNITS = listed("C F km m kg EUR USD celsius fahrenheit")
_WORDS = listed("Sunny Rainy Cloudy done ok sent created deleted updated ready open closed success saved started")
_ERRORS = (
    *(
        "not found",
        "no such {thing}",
        "timeout",
        "access denied",
        "invalid {thing}",
        "the server is down",
        "rate limit",
    ),
    *("{thing} not found", "the {thing} is closed", "no connection", "permission denied", "unknown {thing} {pseudo}"),
    *("bad request", "{pseudo}", "internal error", "the {thing} is locked", "quota exceeded"),
)
_SENTENCES = (
    *(
        "The {thing} is {adjective}.",
        "It is {adjective} in {city}.",
        "I found {number} {things}.",
        "The {thing} was sent.",
    ),
    *(
        "{thing} {number} is {adjective}.",
        "No {thing} was found.",
        "The {thing} {pseudo} is ready.",
        "There are {number} {things}.",
    ),
    *("{city}: {number} degrees and {adjective}.", "Your {thing} is on its way.", "All {things} are {adjective}."),
)


def outcome(dice: Dice, is_chinese: bool) -> tuple[str, str]:
    """The content of a tool message, and what the assistant says."""
    roll = dice.random.random()
    if roll < 0.52:
        return _object(dice, is_chinese)
    if roll < 0.62:
        return _plain_word(dice, is_chinese)
    if roll < 0.7:
        text = _sentence(dice)
        return text, text
    if roll < 0.76:
        value = DRAWN["integer" if dice.chance(0.5) else "number"](dice)
        return json.dumps(value), _said_result(str(value), is_chinese)
    if roll < 0.86:
        return _several(dice, is_chinese)
    return _error(dice, is_chinese)


def _said_result(value: str, is_chinese: bool) -> str:
    return f"结果是{value}。" if is_chinese else f"The result is {value}."


def _dumped(dice: Dice, tree: Any) -> str:
    if dice.chance(0.15):
        return json.dumps(tree, ensure_ascii=False, separators=(",", ":"))
    return json.dumps(tree, ensure_ascii=False, indent=2 if dice.chance(0.05) else None)


def _value(dice: Dice, key: str) -> Any:
    kind = dice.one(_KEYS[key])
    if kind == "word":
        return dice.one(ADJECTIVES)
    if kind == "choice":
        return dice.one(_UNITS) if key == "unit" else dice.one(BASES[key].choices)
    return DRAWN[kind](dice)


def _fields(dice: Dice, count: int) -> dict[str, Any]:
    style = name_style(dice) % 2
    fields = {}
    for key in dice.some(_KEY_NAMES, count):
        words = key.split("_")
        if dice.chance(0.15):
            words = [dice.one(QUALIFIERS) if dice.chance(0.5) else dice.one(THINGS), *words]
        name = cased(words, style) if dice.chance(0.93) else pseudo_word(dice)
        fields[name] = _value(dice, key)
    if "temperature" in fields and count < 3 and "unit" not in fields:
        fields["unit"] = dice.one(_UNITS[:2])
    return fields


def _object(dice: Dice, is_chinese: bool) -> tuple[str, str]:
    roll = dice.random.random()
    if roll < 0.06:
        done = dice.chance(0.7)
        said = ("完成了。" if done else "没有成功。") if is_chinese else ("It is done." if done else "It did not work.")
        return _dumped(dice, {dice.one(("success", "ok")): done}), said
    fields = _fields(dice, dice.number(1, 4) if dice.chance(0.5) else dice.number(1, 2))
    if roll < 0.15:
        inner = _fields(dice, dice.number(1, 2))
        return _dumped(dice, {dice.one(("result", "data", "output")): inner}), told(inner, is_chinese)
    if roll < 0.25:
        fields[plural(dice.one(THINGS))] = [
            dice.one(THINGS) if dice.chance(0.7) else pseudo_word(dice) for _ in range(3)
        ]
    return _dumped(dice, fields), told(fields, is_chinese)


def told(fields: dict[str, Any], is_chinese: bool) -> str:
    """`The temperature is 21 and the unit is C.`"""
    if is_chinese:
        return "，".join(f"{spoken_name(key)}是{_text(value, '、', '、')}" for key, value in fields.items()) + "。"
    parts = []
    for key, value in fields.items():
        article = "" if isinstance(value, bool) else "the "
        parts.append(f"{article}{spoken_name(key)} {'are' if isinstance(value, list) else 'is'} {_text(value)}")
    text = joined(parts)
    return f"{text[0].upper()}{text[1:]}."


def _text(value: Any, comma: str = ", ", last: str = " and ") -> str:
    if isinstance(value, list):
        return last.join((comma.join(map(str, value[:-1])), str(value[-1]))) if len(value) > 1 else str(value[0])
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _plain_word(dice: Dice, is_chinese: bool) -> tuple[str, str]:
    if dice.chance(0.12):
        return dice.one(("[]", "null", "", "{}")), "没有结果。" if is_chinese else "There is no result."
    value = dice.one((dice.one(_WORDS), dice.one(_WORDS), pseudo_word(dice), city(dice), phrase(dice)))
    return f'"{value}"' if dice.chance(0.2) else value, _said_result(value, is_chinese)


def _sentence(dice: Dice) -> str:
    text = dice.one(_SENTENCES).format(
        thing=dice.one(THINGS),
        things=plural(dice.one(THINGS)),
        adjective=dice.one(ADJECTIVES),
        city=city(dice),
        number=dice.number(2, 99),
        pseudo=pseudo_word(dice),
    )
    return text[0].upper() + text[1:]


def _several(dice: Dice, is_chinese: bool) -> tuple[str, str]:
    if dice.chance(0.5):
        values = [
            dice.one((dice.one(THINGS), pseudo_word(dice), city(dice), phrase(dice))) for _ in range(dice.number(2, 4))
        ]
        said = f"结果是{'、'.join(values)}。" if is_chinese else f"The results are {joined(values)}."
        return _dumped(dice, values), said
    keys = dice.some(_KEY_NAMES, 2)
    rows = [{key: _value(dice, key) for key in keys} for _ in range(dice.number(1, 3))]
    if len(rows) == 1:
        return _dumped(dice, rows), told(rows[0], is_chinese)
    said = " ".join(told(row, False) for row in rows)
    if is_chinese:
        return _dumped(dice, rows), f"有{len(rows)}个结果。{''.join(told(row, True) for row in rows)}"
    return _dumped(dice, rows), f"There are {len(rows)} results. {said}"


def _error(dice: Dice, is_chinese: bool) -> tuple[str, str]:
    reason = dice.one(_ERRORS).format(thing=dice.one(THINGS), pseudo=pseudo_word(dice))
    if dice.chance(0.3):
        reason = reason.capitalize()
    roll = dice.random.random()
    content = f"{dice.one(('Error: ', 'error: ', 'ERROR: ', 'Failed: '))}{reason}"
    if roll < 0.65:
        content = _dumped(dice, {"error": reason})
    elif roll < 0.8:
        content = _dumped(dice, {"error": {"message": reason}})
    elif roll < 0.87:
        content = _dumped(dice, {"status": "error", "message": reason})
    return content, f"工具失败了：{reason}。" if is_chinese else f"The tool failed: {reason}."
