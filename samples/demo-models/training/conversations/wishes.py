"""What a user says to have a tool called, with every given value in it as it is to be copied."""

from collections.abc import Callable, Mapping, Sequence

from conversations.tools import Ask, Parameter, Tool, Value
from conversations.words import Dice, joined

Given = Mapping[str, Value]  # by the parameter's name
_LEADS = (
    *(
        "Please ",
        "Please ",
        "Can you ",
        "Could you ",
        "I want to ",
        "I need to ",
        "I would like to ",
        "Help me ",
        "Now ",
    ),
    *("Can you please ", "Hi, ", "Hi, please ", "I'd like to ", "Would you "),
)
_SOME_LEADS = ("Please ", "Hi, ", "Hi, please ", "Now ")
_FEW_LEADS = ("Hi, ", "Hello, ", "Quick: ")
_NAMED = frozenset(
    {
        "weather",
        "time",
        "current",
        "price",
        "timer",
        "screenshot",
        "kitchen",
        "bedroom",
        "bathroom",
        "office",
        "garden",
        "hall",
    }
)
_LEADS_ZH = ("请", "请", "帮我", "请帮我", "我想", "我要", "麻烦", "现在", "你好，请")
_QUESTION_LEADS = ("Please tell me: ", "Hi, ", "Tell me, ", "I want to know: ", "Quick question: ", "Hello! ")
_INTERROGATIVES = ("what", "how", "which", "is", "who", "where", "when", "will", "do", "does", "are", "should", "any")
_QUOTED = frozenset({"text", "person", "code", "file", "url", "city"})


def wish(dice: Dice, tool: Tool, given: Given, is_chinese: bool, *, is_plain: bool = False) -> str:
    """`is_plain` without "please" and the like, as it goes on after something else."""
    if not is_chinese and dice.chance(0.06):
        return _direct(dice, tool, given)
    asks = [ask for ask in (tool.chinese_asks if is_chinese else tool.asks) if ask.keys <= _keys(tool, given)]
    # The more an ask says, the more natural it is; what it leaves out is said behind it.
    most = max(len(ask.keys) for ask in asks)
    fullest = [ask for ask in asks if len(ask.keys) == most]
    ask = dice.one(fullest if dice.chance(0.8) else asks)
    return (_chinese if is_chinese else _english)(dice, tool, given, ask, is_plain)


def _keys(tool: Tool, given: Given) -> set[str]:
    return {one.key for one in tool.parameters if one.name in given}


def said(dice: Dice, parameter: Parameter, value: Value, quote: float = 0.3) -> str:
    """A value as it stands in a sentence."""
    if isinstance(value, bool):
        return dice.one(("true", "yes", "on") if value else ("false", "no", "off"))
    if isinstance(value, list):
        return joined([f'"{one}"' for one in value]) if dice.chance(0.2) else joined(value)
    if parameter.kind in _QUOTED and dice.chance(quote + (0.25 if parameter.kind == "text" else 0)):
        return f"'{value}'" if dice.chance(0.25) else f'"{value}"'
    return str(value)


def _split(tool: Tool, given: Given, ask: Ask) -> tuple[list[Parameter], list[Parameter]]:
    """What stands in the ask, and the rest."""
    there = [one for one in tool.parameters if one.name in given]
    return [one for one in there if one.key in ask.keys], [one for one in there if one.key not in ask.keys]


def _english(dice: Dice, tool: Tool, given: Given, ask: Ask, is_plain: bool) -> str:
    inside, rest = _split(tool, given, ask)
    text = ask.text.format_map({one.key: said(dice, one, given[one.name]) for one in inside}) if inside else ask.text
    if not inside and len(rest) == 1 and _goes_unnamed(tool, rest[0]) and dice.chance(0.35):
        text += f" {dice.one(('', '', 'for ', 'with '))}{said(dice, rest[0], given[rest[0].name])}"
        rest = []
    text += _mentions(dice, rest, given)
    is_question = text.split(" ", 1)[0].lower() in _INTERROGATIVES
    if is_question:
        if dice.chance(0.2) and not is_plain:
            text = dice.one(_QUESTION_LEADS) + text
        return (text if is_plain else _started(dice, text)) + ("?" if dice.chance(0.85) else "")
    start = text.split(" ", 1)[0].lower()
    leads = _FEW_LEADS if start in _NAMED or not start.isalpha() else _SOME_LEADS if " me " in text[:9] else _LEADS
    lead = dice.one(leads) if dice.chance(0.5) and not is_plain else ""
    is_bare = is_plain or (ask.text.startswith("{") and not lead)  # a value keeps its case
    end = "?" if lead.startswith(("C", "W")) and dice.chance(0.8) else "." if dice.chance(0.6) else ""
    if not lead and not is_plain and dice.chance(0.1):
        end = ", please."
    if "\n" in text:
        end = ""
    return (text if is_bare else _started(dice, lead + text)) + end


def _goes_unnamed(tool: Tool, one: Parameter) -> bool:
    """Whether "delete the order A-7" can mean only this parameter."""
    if one.kind in ("boolean", "choice", "list"):
        return False
    return len(tool.parameters) == 1 or [other for other in tool.parameters if other.is_required] == [one]


def _started(dice: Dice, text: str) -> str:
    return text if dice.chance(0.25) else text[0].upper() + text[1:]


def _mentions(dice: Dice, rest: Sequence[Parameter], given: Given) -> str:
    """`with title "x" and priority high` and its like."""
    text, named = "", []
    used: set[str] = set()
    for one in dice.shuffled(rest) if dice.chance(0.3) else rest:
        value = given[one.name]
        natural = dice.one(one.mentions) if one.mentions and one.kind != "boolean" and dice.chance(0.6) else ""
        preposition = natural.split("{", 1)[0]
        if natural and preposition not in used:
            used.add(preposition)
            text += " " + natural.format(said(dice, one, value))
        else:
            named.append(one)
    return text + (_named(dice, named, given) if named else "")


def _named(dice: Dice, rest: Sequence[Parameter], given: Given) -> str:
    quote = 0.15 if len(rest) == 1 else 0.45
    names = [one.name if dice.chance(0.2) else one.spoken for one in rest]
    values = [said(dice, one, given[one.name], quote) for one in rest]
    pairs = list(zip(names, values, strict=True))
    roll = dice.random.random()
    if roll < 0.45:
        return " with " + joined([f"{dice.one(('', '', 'the '))}{name} {value}" for name, value in pairs])
    if roll < 0.6:
        return f"{dice.one((': ', ', ', '. '))}" + ", ".join(f"{name}: {value}" for name, value in pairs)
    if roll < 0.75:
        return ", " + joined([f"the {name} is {value}" for name, value in pairs])
    if roll < 0.85:
        return " with " + joined([f"{value} as {dice.one(('', 'the '))}{name}" for name, value in pairs])
    if roll < 0.93:
        return f"{dice.one((' with ', ', ', ' using '))}" + joined([f"{name}={value}" for name, value in pairs])
    return "\n" + "\n".join(f"{name}: {value}" for name, value in pairs)


def _direct(dice: Dice, tool: Tool, given: Given) -> str:
    """By the tool's own name."""
    there = [one for one in tool.parameters if one.name in given]
    lead = dice.one(("Call", "Use", "Run", "Please call", "Use the tool", "Call the function", "call", "Execute"))
    if dice.chance(0.3) and there:
        return (
            f"{lead} {tool.name}({', '.join(f'{one.name}={said(dice, one, given[one.name], 0.7)}' for one in there)})"
        )
    return f"{lead} {tool.name}{_named(dice, there, given) if there else ''}{'.' if dice.chance(0.5) else ''}"


def _chinese(dice: Dice, tool: Tool, given: Given, ask: Ask, is_plain: bool) -> str:
    inside, rest = _split(tool, given, ask)

    def value_of(one: Parameter) -> str:
        value = given[one.name]
        if isinstance(value, bool):
            return dice.one(("是", "true")) if value else dice.one(("否", "false"))
        if isinstance(value, list):
            return "、".join(value)
        return f"“{value}”" if one.kind == "text" and dice.chance(0.4) else str(value)

    text = ask.text.format_map({one.key: value_of(one) for one in inside}) if inside else ask.text
    parts = [
        f"{one.chinese if dice.chance(0.85) else one.name}{dice.one(('是', '：', '为', '是'))}{value_of(one)}"
        for one in rest
    ]
    if parts:
        text += "，" + "，".join(parts)
    is_question = ask.text.endswith(("吗", "多少", "几点", "怎么样", "什么", "如何", "哪里"))
    if dice.chance(0.5) and not is_plain:
        text = dice.one(("请问", "你好，", "请问，") if is_question else _LEADS_ZH) + text
    return text + ("？" if is_question and dice.chance(0.8) else "。" if not is_question and dice.chance(0.7) else "")


def answered(dice: Dice, parameters: Sequence[Parameter], given: Given, is_chinese: bool) -> str:
    """What the user says when asked for missing values."""
    if len(parameters) == 1:
        one = parameters[0]
        value = said(dice, one, given[one.name], 0.1)
        if is_chinese:
            return dice.one((value, value, f"{one.chinese}是{value}", f"{one.chinese}是{value}。", f"是{value}。"))
        stop = "." if dice.chance(0.3) else ""
        return dice.one(
            (
                *(value, value, value, f"It is {value}{stop}", f"The {one.spoken} is {value}{stop}", f"it's {value}"),
                *(f"{one.spoken}: {value}", f"Take {value}{stop}", f"{value}, please.", f"{one.spoken} {value}"),
            )
        )
    if is_chinese:
        return "，".join(f"{one.chinese}是{said(dice, one, given[one.name], 0)}" for one in parameters)
    form: Callable[[str, str], str] = dice.one(
        (
            lambda name, value: f"{name}: {value}",
            lambda name, value: f"the {name} is {value}",
            lambda name, value: f"{name} {value}",
        )
    )
    parts = [form(one.spoken, said(dice, one, given[one.name])) for one in parameters]
    text = ", ".join(parts) if dice.chance(0.5) else joined(parts)
    return _started(dice, text)
