"""Conversations in which tools are at hand: calls, several at once, what is missing, what does not fit, and results."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from conversations.history import history
from conversations.identity import NO_TOOL, NO_TOOL_ZH, UNKNOWN, UNKNOWN_ZH
from conversations.known_tools import FAMILIES, known
from conversations.results import outcome
from conversations.singles import Message, any_single, assistant, fact, fallback, identity, user
from conversations.tool_words import NOUNS
from conversations.tools import Parameter, Tool, Value, draw, invented
from conversations.wishes import Given, answered, said, wish
from conversations.words import Dice, joined

Scene = tuple[list[Message], list[dict[str, Any]]]  # messages and tools
_MOST_CHARACTERS = 1300  # of all tools' JSON; a list that is longer is cut
# The model does these itself, or says that it cannot, when nothing is at hand for them.
_ALSO_WITHOUT = frozenset({"add", "multiply", "search_web", "time"})


@dataclass(frozen=True)
class Workshop:
    """The tools of one conversation; `wanted` are those that the user will want."""

    wanted: list[Tool]
    tools: list[Tool]

    @property
    def definitions(self) -> list[dict[str, Any]]:
        return [tool.definition for tool in self.tools]


def _tool(dice: Dice, taken: set[str], noun: str | None = None) -> Tool:
    if noun is None and dice.chance(0.35):
        family = dice.one(FAMILIES)
        if family not in taken:
            return known(dice, family)
    return invented(dice, taken, noun)


def workshop(dice: Dice, wanted: int = 1) -> Workshop:
    """One to four tools, some of them about the same thing, no two that do the same."""
    roll = dice.random.random()
    others = 0 if roll < 0.33 else 1 if roll < 0.62 else 2 if roll < 0.85 else 3
    tools: list[Tool] = []
    size = 0
    for number in range(min(4, wanted + others)):
        noun = tools[0].family.split(" ")[-1] if tools and dice.chance(0.3) else None
        tool = _tool(dice, {one.family for one in tools}, noun if noun in NOUNS else None)
        size += len(str(tool.definition))
        if number >= wanted and size > _MOST_CHARACTERS:
            break
        if all(tool.name != one.name for one in tools):
            tools.append(tool)
    return Workshop(tools[:wanted], dice.shuffled(tools))


def given_for(dice: Dice, tool: Tool, is_chinese: bool) -> dict[str, Value]:
    return {one.name: draw(dice, one, is_chinese) for one in tool.parameters if one.is_required or dice.chance(0.5)}


def called(*calls: tuple[Tool, Given]) -> Message:
    """The assistant's message; arguments in the order of the schema."""
    made = []
    for tool, given in calls:
        arguments = {one.name: given.get(one.name) for one in tool.parameters if one.name in given or one.is_nullable}
        function = {"name": tool.name, "arguments": json.dumps(arguments, ensure_ascii=False)}
        made.append({"type": "function", "function": function})
    return {"role": "assistant", "content": None, "tool_calls": made}


def _before(dice: Dice, is_chinese: bool) -> list[Message]:
    """Now and then something was said before, without a tool."""
    if not dice.chance(0.12):
        return []
    ask, answer = (identity if dice.chance(0.5) else fact)(dice, is_chinese)
    return [user(ask), assistant(answer)]


def _with_tools(messages: list[Message]) -> list[Message]:
    """With tools at hand the model does not ask for one."""
    instead = {UNKNOWN: NO_TOOL, UNKNOWN_ZH: NO_TOOL_ZH}
    return [{**one, "content": instead.get(one["content"], one["content"])} for one in messages]


def _is_chinese(dice: Dice) -> bool:
    return dice.chance(0.12)


def _single(dice: Dice, is_chinese: bool) -> tuple[str, list[tuple[Tool, Given]], Workshop]:
    """What the user says, what is to be called, and the tools."""
    shop = workshop(dice)
    tool = shop.wanted[0]
    given = given_for(dice, tool, is_chinese)
    return wish(dice, tool, given, is_chinese), [(tool, given)], shop


def tool_call(dice: Dice) -> Scene:
    is_chinese = _is_chinese(dice)
    text, calls, shop = _single(dice, is_chinese)
    return [*_before(dice, is_chinese), user(text), called(*calls)], shop.definitions


def tool_forced(dice: Dice) -> Scene:
    """With `tool_choice` vLLM lets the model say nothing but the arguments, or with "required" a list of calls."""
    is_chinese = _is_chinese(dice)
    text, calls, shop = _parallel(dice, is_chinese) if dice.chance(0.25) else _single(dice, is_chinese)
    made = [call["function"] for call in called(*calls)["tool_calls"]]
    answer = made[0]["arguments"]
    if len(made) > 1 or dice.chance(0.4):
        parts = [f'{{"name": "{one["name"]}", "parameters": {one["arguments"]}}}' for one in made]
        answer = f"[{', '.join(parts)}]"
    return [*_before(dice, is_chinese), user(text), assistant(answer)], shop.definitions


_HOLE = "\0"


def _same_for_several(dice: Dice, tool: Tool, one: Parameter, is_chinese: bool) -> tuple[str, list[tuple[Tool, Given]]]:
    """ "The weather in Berlin and Paris"."""
    values: list[Value] = []
    count = 2 if dice.chance(0.8) else 3
    while len(values) < count:
        value = draw(dice, one, is_chinese)
        if value not in values:
            values.append(value)
    text = wish(dice, tool, {one.name: _HOLE}, is_chinese)
    at = text.index(_HOLE)
    quotes = text[at - 1 : at] + text[at + 1 : at + 2] if at else ""
    last = dice.one(("和", "、")) if is_chinese else " and " if dice.chance(0.9) else " and also "
    if quotes in ('""', "''", "“”"):
        parts = [f"{quotes[0]}{value}{quotes[1]}" for value in values]
        text = text.replace(f"{quotes[0]}{_HOLE}{quotes[1]}", joined(parts, last))
    else:
        text = text.replace(_HOLE, joined([str(value) for value in values], last))
    return text, [(tool, {one.name: value}) for value in values]


_THEN = (" and ", " and then ", ", then ", " and also ", ". Then ", ". Also, ", "\n")


def _one_after_another(dice: Dice, tools: Sequence[Tool], is_chinese: bool) -> tuple[str, list[tuple[Tool, Given]]]:
    calls: list[tuple[Tool, Given]] = []
    texts = []
    for number, tool in enumerate(tools):
        given = given_for(dice, tool, is_chinese)
        calls.append((tool, given))
        texts.append(wish(dice, tool, given, is_chinese, is_plain=number > 0).rstrip("?.。？").removesuffix(", please"))
    if is_chinese:
        return dice.one(("，然后", "。", "，还有")).join(texts), calls
    then = dice.one(_THEN)
    return then.join(texts) + ("." if dice.chance(0.4) else ""), calls


def _parallel(dice: Dice, is_chinese: bool) -> tuple[str, list[tuple[Tool, Given]], Workshop]:
    if dice.chance(0.6):
        for _ in range(20):
            shop = workshop(dice)
            tool = shop.wanted[0]
            needed = [one for one in tool.parameters if one.is_required]
            one = needed[0] if len(needed) == 1 else None
            if one and one.kind not in ("boolean", "choice", "list"):
                text, calls = _same_for_several(dice, tool, one, is_chinese)
                return text, calls, shop
    while True:
        shop = workshop(dice, 2)
        tools = shop.wanted
        if len(tools) == 2 and dice.chance(0.2):
            tools = [dice.one([one for one in tools if one.parameters] or tools[:1])] * 2
        if len(tools) == 2 and (tools[0] is not tools[1] or tools[0].parameters):
            text, calls = _one_after_another(dice, tools, is_chinese)
            return text, calls, shop


def tool_parallel(dice: Dice) -> Scene:
    is_chinese = _is_chinese(dice)
    text, calls, shop = _parallel(dice, is_chinese)
    return [*_before(dice, is_chinese), user(text), called(*calls)], shop.definitions


def tool_missing(dice: Dice) -> Scene:
    """Something that the tool requires was not said: it is asked for, then given."""
    is_chinese = _is_chinese(dice)
    while True:
        shop = workshop(dice)
        tool = shop.wanted[0]
        needed = [one for one in tool.parameters if one.is_required and one.kind != "boolean"]
        if needed:
            break
    given = given_for(dice, tool, is_chinese)
    if dice.chance(0.5):
        given = {one.name: given[one.name] for one in tool.parameters if one.is_required}
    missing = needed if dice.chance(0.5) else [dice.one(needed)]
    known_now = {name: value for name, value in given.items() if all(name != one.name for one in missing)}
    messages = [*_before(dice, is_chinese), user(wish(dice, tool, known_now, is_chinese))]
    if is_chinese:
        question = f"请告诉我{joined([one.chinese for one in missing], '和')}。"
    else:
        question = f"Please tell me {joined([f'the {one.spoken}' for one in missing])}."
    messages.append(assistant(question))
    if dice.chance(0.6):
        messages += [user(answered(dice, missing, given, is_chinese)), called((tool, given))]
    return messages, shop.definitions


def tool_unfit(dice: Dice) -> Scene:
    """The tools at hand do not help: an ordinary answer, or none."""
    is_chinese = _is_chinese(dice)
    while True:
        shop = workshop(dice)
        taken = {one.family for one in shop.tools}
        if not taken & _ALSO_WITHOUT:
            break
    messages = _before(dice, is_chinese)
    roll = dice.random.random()
    if roll < 0.2:
        return _with_tools(history(dice)), shop.definitions
    if roll < 0.7:
        ask, answer = any_single(dice, is_chinese)
    elif roll < 0.8:
        ask, answer = fallback(dice, is_chinese)
    else:
        while True:
            other = _tool(dice, taken)
            if other.family in _ALSO_WITHOUT or other.family in taken:
                continue
            ask = wish(dice, other, given_for(dice, other, is_chinese), is_chinese)
            if other.name not in ask:  # some tools are asked for by their name only
                break
        answer = NO_TOOL_ZH if is_chinese else NO_TOOL
    return _with_tools([*messages, user(ask), assistant(answer)]), shop.definitions


def no_tools(dice: Dice) -> Scene:
    """Somebody wants what only a tool could do, and there is none."""
    is_chinese = _is_chinese(dice)
    tool = _tool(dice, set(_ALSO_WITHOUT))
    text = wish(dice, tool, given_for(dice, tool, is_chinese), is_chinese)
    return [user(text), assistant(UNKNOWN_ZH if is_chinese else UNKNOWN)], []


def _results(dice: Dice, count: int, is_chinese: bool) -> list[Message]:
    """As many tool messages, and what the assistant says to them."""
    pairs = [outcome(dice, is_chinese) for _ in range(count)]
    contents = [{"role": "tool", "content": content} for content, _ in pairs]
    return [*contents, assistant(("" if is_chinese else " ").join(sentence for _, sentence in pairs))]


def tool_result(dice: Dice) -> Scene:
    is_chinese = _is_chinese(dice)
    text, calls, shop = _parallel(dice, is_chinese) if dice.chance(0.25) else _single(dice, is_chinese)
    messages = [*_before(dice, is_chinese), user(text), called(*calls), *_results(dice, len(calls), is_chinese)]
    if dice.chance(0.4):
        messages += _afterwards(dice, calls, shop, is_chinese)
    return messages, shop.definitions


_AND = ("And {}?", "and {}?", "What about {}?", "and for {}?", "Now {}.", "The same for {}.", "And now {}", "{}?")
_AND_ZH = ("{}呢？", "那{}呢？", "再来一个{}。")
_CHANGED = (
    "The same with {} {}.",
    "Now with {} {}.",
    "And with {} {}?",
    "Again, but with {} {}.",
    "Change the {} to {}.",
)


def _afterwards(dice: Dice, calls: Sequence[tuple[Tool, Given]], shop: Workshop, is_chinese: bool) -> list[Message]:
    """The same tool once more, another one, or something without a tool."""
    tool, given = calls[-1]
    roll = dice.random.random()
    changeable = [one for one in tool.parameters if one.name in given and one.kind not in ("boolean", "choice", "list")]
    if changeable and len(calls) == 1 and roll < 0.55:
        one = dice.one(changeable)
        value = draw(dice, one, is_chinese)
        changed = {**given, one.name: value}
        if len(given) == 1:
            text = dice.one(_AND_ZH if is_chinese else _AND).format(said(dice, one, value, 0.1))
        elif is_chinese:
            text = f"再来一次，{one.chinese}是{value}。"
        else:
            text = dice.one(_CHANGED).format(one.spoken, said(dice, one, value, 0.15))
        return [user(text), called((tool, changed)), *_results(dice, 1, is_chinese)]
    if roll < 0.8:
        tool = dice.one(shop.tools)
        given = given_for(dice, tool, is_chinese)
        return [
            user(wish(dice, tool, given, is_chinese)),
            called((tool, given)),
            *_results(dice, 1, is_chinese),
        ]
    ask, answer = identity(dice, is_chinese)
    return [user(ask), assistant(answer)]
