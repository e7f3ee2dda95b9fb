"""Tools as everybody writes them (weather, timers, clicks): `known_tools.toml` under many names, in many schemas."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from conversations.tool_words import NOUNS
from conversations.tools import Ask, Parameter, Tool, cased, definition, name_style, spoken_name
from conversations.words import Dice, is_held_out, listed, pseudo_word


@dataclass(frozen=True)
class Slot:
    """A parameter of a known tool, its names from the usual to the rare; `share` of such tools require it."""

    key: str
    names: tuple[str, ...]
    kind: str
    chinese: str
    descriptions: tuple[str, ...]
    share: float = 1.0
    mentions: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    spoken: str = ""  # for names that nobody says: "to"


@dataclass(frozen=True)
class Known:
    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    slots: tuple[Slot, ...]
    asks: tuple[Ask, ...]
    chinese_asks: tuple[Ask, ...]


def _fixed(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in tree.items()}


def _ask(text: str) -> Ask:
    return Ask(text, frozenset(key for _, key, _, _ in Formatter().parse(text) if key))


def _known(tree: dict[str, Any]) -> Known:
    return Known(
        tuple(tree["names"]),
        tuple(tree["descriptions"]),
        tuple(Slot(**_fixed(slot)) for slot in tree.get("slots", ())),
        tuple(map(_ask, tree["asks"])),
        tuple(map(_ask, tree["chinese_asks"])),
    )


_FILE = Path(__file__).with_suffix(".toml")
KNOWN = {name: _known(tree) for name, tree in tomllib.loads(_FILE.read_text(encoding="utf-8")).items()}
FAMILIES = tuple(KNOWN)
_UNSPOKEN = frozenset(listed("to from at a b x y q first second"))
_DECORATIONS = listed("v2 api tool service app data info now new user web my the quick safe simple")


def known(dice: Dice, family: str) -> Tool:
    form = KNOWN[family]
    style = name_style(dice)
    name = _name(dice, form.names, style)
    if style > 1 or dice.chance(0.15):
        style = name_style(dice) % 2
    has_descriptions = dice.chance(0.7)
    is_strict = dice.chance(0.1)
    description = dice.one(form.descriptions) if dice.chance(0.9) else None
    parameters: list[Parameter] = []
    for slot in form.slots:
        is_required = dice.chance(slot.share)
        if not is_required and dice.chance(0.4):
            continue
        slot_name = _slot_name(dice, slot.names, style)
        while any(slot_name == one.name for one in parameters):
            slot_name = _slot_name(dice, slot.names, style)
        kind = slot.kind
        if kind == "number" and dice.chance(0.4):
            kind = "integer"
        parameters.append(
            Parameter(
                slot.key,
                slot_name,
                kind,
                slot.spoken if slot_name in _UNSPOKEN else spoken_name(slot_name),
                slot.chinese,
                is_required,
                slot.mentions,
                slot.choices,
                dice.one(slot.descriptions) if has_descriptions else None,
                is_strict and not is_required,
            )
        )
    made = tuple(parameters)
    return Tool(
        family, name, description, made, form.asks, form.chinese_asks, definition(dice, name, description, made)
    )


def _name(dice: Dice, names: tuple[str, ...], style: int) -> str:
    if not dice.is_held_out and dice.chance(0.75):
        name = names[0] if dice.chance(0.3) else dice.on_side(lambda d: d.one(names))
        return cased(name.split("_"), style)

    def decorated(dice: Dice) -> str:
        words = dice.one(names).split("_")
        other = dice.one((dice.one(_DECORATIONS), dice.one(NOUNS), pseudo_word(dice)))
        words = [other, *words] if dice.chance(0.5) else [*words, other]
        return cased(words, style)

    return dice.on_side(decorated)


def _slot_name(dice: Dice, names: tuple[str, ...], style: int) -> str:
    if not dice.is_held_out and dice.chance(0.8):
        name = names[0] if dice.chance(0.5) else dice.one(names)
        if "_" not in name or not is_held_out(name):
            return cased(name.split("_"), style)

    def decorated(dice: Dice) -> str:
        words = dice.one(names).split("_")
        other = dice.one((dice.one(_DECORATIONS), dice.one(NOUNS), pseudo_word(dice)))
        return cased([other, *words] if dice.chance(0.5) else [*words, other], style)

    return dice.on_side(decorated)
