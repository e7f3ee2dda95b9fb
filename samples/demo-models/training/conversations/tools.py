"""Tools that nobody has seen before: names, descriptions and schemas, made up anew for each conversation."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from conversations.tool_words import (
    BASE_NAMES,
    BASES,
    CHINESE_NOUNS,
    CHINESE_QUALIFIERS,
    NOUNS,
    QUALIFIERS,
    VERBS,
    Base,
    Verb,
)
from conversations.values import (
    chinese_city,
    chinese_name,
    chinese_phrase,
    city,
    clock,
    code,
    date,
    email,
    file_name,
    person,
    phrase,
    url,
)
from conversations.words import ADJECTIVES, FIRST_NAMES, THINGS, WEEKDAYS, Dice, a, plural, pseudo_word

Value = str | int | float | bool | list[str] | None


@dataclass(frozen=True)
class Parameter:
    """`key` is what it is about, whatever its name; `mentions` say its value without its name: "in {}"."""

    key: str
    name: str
    kind: str
    spoken: str
    chinese: str
    is_required: bool
    mentions: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    description: str | None = None
    is_nullable: bool = False  # a strict schema lists optional parameters as required ones that may be null


@dataclass(frozen=True)
class Ask:
    """What a user says to have the tool called; `keys` of parameters stand in it as `{key}`."""

    text: str
    keys: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Tool:
    """`family` is what it does: no two tools of one conversation do the same."""

    family: str
    name: str
    description: str | None
    parameters: tuple[Parameter, ...]
    asks: tuple[Ask, ...]
    chinese_asks: tuple[Ask, ...]
    definition: dict[str, Any]


def _symbol(dice: Dice) -> str:
    """Of a share, such as `AAPL`."""
    if dice.chance(0.4):
        return dice.one(("AAPL", "MSFT", "NVDA", "TSLA", "GOOG", "AMZN", "IBM", "SAP", "INTC", "META"))
    return dice.on_side(lambda dice: "".join(dice.one("ABCDEFGHIKLMNOPRSTVXZ") for _ in range(dice.number(3, 4))))


def _list_item(dice: Dice) -> str:
    return dice.one((*THINGS, *FIRST_NAMES)) if dice.chance(0.7) else pseudo_word(dice)


DRAWN: dict[str, Callable[[Dice], Value]] = {
    "text": phrase,
    "person": person,
    "city": city,
    "url": url,
    "email": email,
    "code": code,
    "file": file_name,
    "symbol": _symbol,
    "date": date,
    "clock": clock,
    "weekday": lambda dice: dice.one(WEEKDAYS),
    "integer": lambda dice: dice.number(0, 99) if dice.chance(0.6) else dice.number(100, 9999),
    "number": lambda dice: dice.number(0, 300) if dice.chance(0.5) else dice.number(100, 99_999) / 100,
    "boolean": lambda dice: dice.chance(0.6),
    "list": lambda dice: [dice.on_side(_list_item) for _ in range(dice.number(1, 3))],
}
_DRAWN_ZH: dict[str, Callable[[Dice], Value]] = {"text": chinese_phrase, "person": chinese_name, "city": chinese_city}
_TYPES = {"integer": "integer", "number": "number", "boolean": "boolean", "list": "array"}


def draw(dice: Dice, parameter: Parameter, is_chinese: bool) -> Value:
    """A value for it, of the wanted side of the split where it is one to copy."""
    if parameter.kind == "choice":
        return dice.one(parameter.choices)
    if is_chinese and parameter.kind in _DRAWN_ZH and dice.chance(0.75):
        return _DRAWN_ZH[parameter.kind](dice)
    return DRAWN[parameter.kind](dice)


def cased(words: list[str], style: int) -> str:
    if style == 0:
        return "_".join(words)
    if style == 1:
        return words[0] + "".join(map(str.capitalize, words[1:]))
    return "-".join(words) if style == 2 else "".join(map(str.capitalize, words))


def name_style(dice: Dice) -> int:
    roll = dice.random.random()
    return 0 if roll < 0.65 else 1 if roll < 0.88 else 2 if roll < 0.96 else 3


_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def spoken_name(name: str) -> str:
    """`customerName` and `customer_name` are said "customer name"."""
    return _HUMPS.sub(" ", name).replace("_", " ").replace("-", " ").lower()


def schema(dice: Dice, parameters: tuple[Parameter, ...], is_strict: bool = False) -> dict[str, Any]:
    """By hand as in OpenAI's documents, or as pydantic writes it, with titles and the type last."""
    is_pydantic = not is_strict and dice.chance(0.1)
    properties = {one.name: _field(dice, one, is_pydantic) for one in parameters}
    required = [one.name for one in parameters if one.is_required or one.is_nullable]
    if is_pydantic:
        ending = {"required": required} if required else {}
        return {"properties": properties, **ending, "title": f"{dice.one(NOUNS)}Arguments", "type": "object"}
    made: dict[str, Any] = {"type": "object", "properties": properties}
    if required or dice.chance(0.3):
        made["required"] = required
    if is_strict or dice.chance(0.15):
        made["additionalProperties"] = False
    return made


def _field(dice: Dice, parameter: Parameter, is_pydantic: bool) -> dict[str, Any]:
    kind: Any = _TYPES.get(parameter.kind, "string")
    fields: dict[str, Any] = {"type": [kind, "null"] if parameter.is_nullable else kind}
    if kind == "array":
        fields["items"] = {"type": "string"}
    if parameter.kind == "date" and dice.chance(0.2):
        fields["format"] = "date"
    if kind == "integer" and dice.chance(0.1):
        fields["minimum"] = 0
    if parameter.description is not None:
        fields["description"] = parameter.description
    if parameter.choices:
        fields["enum"] = [*parameter.choices, None] if parameter.is_nullable else list(parameter.choices)
    if is_pydantic:
        fields = {"title": spoken_name(parameter.name).title(), **fields}
    return fields


def definition(dice: Dice, name: str, description: str | None, parameters: tuple[Parameter, ...]) -> dict[str, Any]:
    """As vLLM hands it to the chat template: with every field, in this order."""
    is_strict = any(one.is_nullable for one in parameters) or dice.chance(0.05)
    made = schema(dice, parameters, is_strict) if parameters or dice.chance(0.8) else None
    function: dict[str, Any] = {"name": name, "description": description, "parameters": made}
    if is_strict and made:
        function["strict"] = True
    return {"type": "function", "function": function}


def parameter_name(dice: Dice, base: str, style: int, nouns: tuple[str, ...] = NOUNS) -> tuple[str, list[str]]:
    """A name for it and the words it is made of; unseen ones are always put together."""

    def compound(dice: Dice) -> str:
        roll = dice.random.random()
        if roll < 0.45:
            return f"{dice.one(nouns)}_{base}"
        return f"{dice.one(QUALIFIERS) if roll < 0.85 else pseudo_word(dice)}_{base}"

    if not dice.is_held_out and dice.chance(0.6):
        return base, [base]
    words = dice.on_side(compound).split("_")
    return cased(words, style), words


def invented_parameter(dice: Dice, style: int, noun: str, taken: set[str]) -> Parameter:
    key = dice.one(BASE_NAMES)
    while key in taken:
        key = dice.one(BASE_NAMES)
    taken.add(key)
    base = BASES[key]
    is_required = dice.chance(0.7)
    if dice.chance(0.1):
        return _pseudo_parameter(dice, key, is_required)
    name, words = parameter_name(dice, key, style, (noun,) if dice.chance(0.5) else NOUNS)
    spoken = " ".join(words)
    chinese = "".join(CHINESE_QUALIFIERS.get(w) or CHINESE_NOUNS.get(w) or w for w in words[:-1]) + base.chinese
    kind = dice.one(base.kinds) if dice.chance(0.9) or base.choices else dice.one(("text", "code", "integer", "number"))
    mentions = base.mentions if kind in base.kinds and (len(words) == 1 or dice.chance(0.3)) else ()
    choices = _choices(dice, base) if kind == "choice" else ()
    return Parameter(
        key, name, kind, spoken, chinese, is_required, mentions, choices, _explained(dice, spoken, noun, chinese)
    )


def _pseudo_parameter(dice: Dice, key: str, is_required: bool) -> Parameter:
    """Its name says nothing: what it is about stands in the description or is called by the name."""
    name = dice.on_side(pseudo_word)
    kind = dice.one(("text", "code", "integer", "number"))
    if dice.chance(0.4):
        return Parameter(key, name, kind, key, BASES[key].chinese, is_required, (), (), f"The {key}")
    return Parameter(key, name, kind, name, name, is_required)


def _choices(dice: Dice, base: Base) -> tuple[str, ...]:
    if dice.chance(0.6):
        return base.choices if dice.chance(0.5) else tuple(dice.some(base.choices, min(3, len(base.choices))))
    made = dice.some(ADJECTIVES if dice.chance(0.5) else THINGS, dice.number(2, 3))
    return (*made, pseudo_word(dice)) if dice.chance(0.4) else tuple(made)


def _explained(dice: Dice, spoken: str, noun: str, chinese: str) -> str | None:
    roll = dice.random.random()
    if roll < 0.45:
        return None
    if roll < 0.65:
        return f"The {spoken}"
    if roll < 0.78:
        return f"The {spoken} of the {noun}"
    if roll < 0.88:
        return f"{spoken.capitalize()}."
    return f"The {spoken} to use" if roll < 0.96 else chinese


_ADVICE = (
    *(
        "Call this whenever the user wants it.",
        "Use it only when asked.",
        "Returns JSON.",
        "Returns true when it worked.",
    ),
    *("Call this whenever you need to know it, for example when a customer asks for it.", "Do not guess values."),
)


def invented(dice: Dice, taken: set[str], noun: str | None = None) -> Tool:
    """A verb and a noun, or a word that does not exist with a description; `taken` are families not to be made."""
    while True:
        verb = dice.one(VERBS)
        noun = noun or dice.one(NOUNS)
        family = f"{verb.names[0]} {noun}"
        if family not in taken:
            break
        noun = None
    style = name_style(dice)
    is_pseudo = dice.chance(0.12)
    name = dice.on_side(pseudo_word) if is_pseudo else _tool_name(dice, verb, noun, style)
    description = _description(dice, verb, noun) if is_pseudo or dice.chance(0.8) else None
    if description and dice.chance(0.08):
        description = f"{description.rstrip('.')}. {dice.one(_ADVICE)}"
    roll = dice.random.random()
    count = 0 if roll < 0.1 else 1 if roll < 0.5 else 2 if roll < 0.82 else 3
    keys: set[str] = set()
    if style == 2 or dice.chance(0.15):
        style = name_style(dice) % 2
    parameters = tuple(invented_parameter(dice, style % 2, noun, keys) for _ in range(count))
    if len({one.name for one in parameters} | {one.spoken for one in parameters}) < count:
        parameters = parameters[:1]
    said = dice.one(verb.spoken)
    return Tool(
        family,
        name,
        description,
        parameters,
        (Ask(f"{said} {_object(dice, verb, noun)}"),),
        (Ask(f"{dice.one(verb.chinese)}{CHINESE_NOUNS[noun]}"),),
        definition(dice, name, description, parameters),
    )


def _tool_name(dice: Dice, verb: Verb, noun: str, style: int) -> str:
    def made(dice: Dice) -> str:
        words = [dice.one(verb.names), noun]
        roll = dice.random.random()
        if roll < 0.15 or dice.is_held_out:
            words[1:1] = [dice.one(QUALIFIERS) if roll < 0.6 else dice.one(NOUNS)]
        elif roll < 0.25:
            words.insert(0, dice.one(NOUNS) if dice.chance(0.5) else pseudo_word(dice))
        if verb.is_plural:
            words[-1] = plural(words[-1])
        if dice.chance(0.06):
            words = [*words[1:], words[0]]
        return cased(words, style)

    return dice.on_side(made)


def _object(dice: Dice, verb: Verb, noun: str) -> str:
    if verb.is_plural:
        return f"{dice.one(('', 'the ', 'my ', 'all '))}{plural(noun)}".replace("all all", "all")
    roll = dice.random.random()
    return f"the {noun}" if roll < 0.6 else a(noun) if roll < 0.85 else f"my {noun}" if roll < 0.95 else noun


def _description(dice: Dice, verb: Verb, noun: str) -> str:
    roll = dice.random.random()
    if roll < 0.08:
        return f"{dice.one(verb.chinese)}{CHINESE_NOUNS[noun]}"
    said = dice.one(verb.spoken[:1] if roll < 0.5 else verb.spoken)
    what = plural(noun) if verb.is_plural else a(noun) if dice.chance(0.6) else f"the {noun}"
    stop = "." if dice.chance(0.5) else ""
    if roll < 0.7:
        return f"{said.capitalize()} {what}{stop}"
    if roll < 0.8:
        return f"Use this to {said} {what}{stop}"
    if roll < 0.9:
        return f"{said.capitalize()} {what} in the {dice.one(NOUNS)} system{stop}"
    return f"{said.capitalize()} {what} of the user and return the result{stop}"
