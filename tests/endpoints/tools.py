"""Checks of tools in chat, responses and messages."""

from typing import Any

from tests.conftest import user
from tests.endpoints.asking import Answer, Ask
from vlserve.protocols.protocol_definitions import CHAT, MESSAGES, RESPONSES

_CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Oslo"]}},
    "required": ["city"],
    "additionalProperties": False,
}
_TIME, _TIMES = "What time is it in Rome?", "What time is it in Rome and in Oslo?"
_CALL = '<tool_call>\n{"name": "get_time", "arguments": {"city": "%s"}}\n</tool_call>'
_NAME = "get_time"
_SHORT_STRINGS = {"logit_bias": {"1": 100}}  # a quotation mark wherever it is allowed
_DESCRIPTION = "The current time in a city."
MESSAGES_TOOL = {"name": _NAME, "description": _DESCRIPTION, "input_schema": _CITY}
_OPENAI_TOOL = {"name": _NAME, "description": _DESCRIPTION, "parameters": _CITY}


def _tool(ask: Ask) -> dict[str, Any]:
    if ask.protocol is CHAT:
        return {"type": "function", "function": _OPENAI_TOOL}
    return {"type": "function", **_OPENAI_TOOL} if ask.protocol is RESPONSES else MESSAGES_TOOL


def _asked(ask: Ask, text: str, **fields: Any) -> Answer:
    prompt = ask.protocol.prompt
    question = user(text) if prompt == "messages" else text
    return ask(**{prompt: question, ask.length: 160, "tools": [_tool(ask)], **fields})


def _choice(ask: Ask, kind: str) -> Any:
    """Return ``tool_choice`` for auto, none, required or a named tool in the protocol's format."""
    if kind == "named":
        if ask.protocol is CHAT:
            return {"type": "function", "function": {"name": _NAME}}
        return {"type": "function" if ask.protocol is RESPONSES else "tool", "name": _NAME}
    if ask.protocol in (CHAT, RESPONSES):
        return kind
    return {"type": "any", "disable_parallel_tool_use": True} if kind == "required" else {"type": kind}


def _forced_text(ask: Ask, text: str) -> dict[str, Any]:
    """Return fields that force the model's text, if the protocol has such fields."""
    return {"structured_outputs": {"choice": [text]}} if "structured_outputs" in ask.protocol.fields else {}


def calls_by_itself(ask: Ask) -> None:
    """With ``auto``, the default, a call in the model's text is parsed. Messages cannot force the text."""
    said = _forced_text(ask, _CALL % "Rome")
    answers = [_asked(ask, _TIME, **said, **more) for more in ({}, {"tool_choice": _choice(ask, "auto")})]
    assert (answers[0].texts, answers[0].calls) == (answers[1].texts, answers[1].calls)
    assert not said or answers[0].calls == [_NAME]


def must_call(ask: Ask) -> None:
    """At least one call: a small model may repeat calls until the limit."""
    once = {"parallel_tool_calls": False} if ask.protocol in (CHAT, RESPONSES) else {}
    assert _asked(ask, "Hello!", tool_choice=_choice(ask, "required"), **once).calls == [_NAME]


def calls_named(ask: Ask) -> None:
    assert _asked(ask, "Hello!", tool_choice=_choice(ask, "named")).calls == [_NAME]


def calls_custom(ask: Ask) -> None:
    """A custom tool of Responses accepts any text; one with a grammar is refused."""
    tool = {"type": "custom", "name": "note", "description": "Writes a note."}
    for choice in ("required", {"type": "custom", "name": "note"}):
        answer = _asked(ask, "Hello!", tools=[tool], tool_choice=choice, parallel_tool_calls=False, **_SHORT_STRINGS)
        assert answer.calls == ["note"]
    form = {"type": "grammar", "syntax": "regex", "definition": "a"}
    assert ask.try_(tools=[{**tool, "format": form}]).status == 400


def calls_none(ask: Ask) -> None:
    said = _forced_text(ask, _CALL % "Rome")
    answer = _asked(ask, _TIME, **said, tool_choice=_choice(ask, "none"))
    assert not answer.calls
    assert answer.text
    assert not said or answer.text == _CALL % "Rome"


def calls_one(ask: Ask) -> None:
    two = _forced_text(ask, f"{_CALL % 'Rome'}\n{_CALL % 'Oslo'}")
    assert len(_asked(ask, _TIMES, **two, parallel_tool_calls=True).calls) == 2
    assert len(_asked(ask, _TIMES, **two, parallel_tool_calls=False).calls) == 1


def leaves_out_hosted(ask: Ask) -> None:
    """Hosted tools are ignored next to others; alone, or forced, they are a 400."""
    tool = _tool(ask)
    hosted = {"type": "web_search_20250305" if ask.protocol is MESSAGES else "web_search"}
    answer = ask(tools=[tool, hosted])
    assert answer.dropped == [f"tools[1] ({hosted['type']})"]
    assert answer.prompt_tokens == ask(tools=[tool]).prompt_tokens
    assert "runs no hosted tools" in ask.try_(tools=[hosted]).problem


def takes_result(ask: Ask) -> None:
    """A call and its result are part of the prompt."""
    counts = {}
    for result in ("ten o'clock", "a quarter past eleven in the evening"):
        counts[result] = _asked(ask, "", **{ask.protocol.prompt: _turns(ask, result)}).prompt_tokens
    assert len(set(counts.values())) == 2


def _turns(ask: Ask, result: str) -> list[dict[str, Any]]:
    begun, arguments = user("What time is it in Rome?"), '{"city": "Rome"}'
    if ask.protocol is CHAT:
        call = {"id": "c1", "type": "function", "function": {"name": _NAME, "arguments": arguments}}
        spoken = {"role": "assistant", "content": None, "tool_calls": [call]}
        return [*begun, spoken, {"role": "tool", "tool_call_id": "c1", "content": result}]
    if ask.protocol is RESPONSES:
        call = {"type": "function_call", "call_id": "c1", "name": _NAME, "arguments": arguments}
        return [*begun, call, {"type": "function_call_output", "call_id": "c1", "output": result}]
    call = {"type": "tool_use", "id": "c1", "name": _NAME, "input": {"city": "Rome"}}
    answered = {"type": "tool_result", "tool_use_id": "c1", "content": result}
    return [*begun, {"role": "assistant", "content": [call]}, *user(answered)]
