"""What a request with tools does, in chat, responses and messages."""

from typing import Any

from tests.conftest import user
from tests.endpoints.asking import Answer, Ask
from vlserve.protocols import CHAT, RESPONSES

_CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_TIMES = "What time is it in Rome and in Oslo?"
_NAME = "get_time"
_TOLD = "The current time in a city."
MESSAGES_TOOL = {"name": _NAME, "description": _TOLD, "input_schema": _CITY}
_OPENAI_TOOL = {"name": _NAME, "description": _TOLD, "parameters": _CITY}


def _tool(ask: Ask) -> dict[str, Any]:
    if ask.protocol is CHAT:
        return {"type": "function", "function": _OPENAI_TOOL}
    return {"type": "function", **_OPENAI_TOOL} if ask.protocol is RESPONSES else MESSAGES_TOOL


def _asked(ask: Ask, text: str, **fields: Any) -> Answer:
    prompt = ask.protocol.prompt
    question = user(text) if prompt == "messages" else text
    return ask(**{prompt: question, ask.length: 160, "tools": [_tool(ask)], **fields})


def _choice(ask: Ask, kind: str) -> Any:
    """auto, none, required or named, as the protocol says it."""
    if kind == "named":
        if ask.protocol is CHAT:
            return {"type": "function", "function": {"name": _NAME}}
        return {"type": "function" if ask.protocol is RESPONSES else "tool", "name": _NAME}
    if ask.protocol in (CHAT, RESPONSES):
        return kind
    return {"type": "any" if kind == "required" else kind}


def calls_by_itself(ask: Ask) -> None:
    answers = [_asked(ask, "What time is it in Rome?", **more) for more in ({}, {"tool_choice": _choice(ask, "auto")})]
    assert set(answers[0].calls) <= {_NAME}
    assert answers[0].calls == answers[1].calls


def must_call(ask: Ask) -> None:
    assert set(_asked(ask, "Hello!", tool_choice=_choice(ask, "required")).calls) == {_NAME}


def calls_named(ask: Ask) -> None:
    assert set(_asked(ask, "Hello!", tool_choice=_choice(ask, "named")).calls) == {_NAME}


def calls_custom(ask: Ask) -> None:
    """A tool of Responses that takes any text; one with a grammar is refused."""
    tool = {"type": "custom", "name": "note", "description": "Writes a note."}
    assert set(_asked(ask, "Hello!", tools=[tool], tool_choice="required").calls) == {"note"}
    form = {"type": "grammar", "syntax": "regex", "definition": "a"}
    assert ask.try_(tools=[{**tool, "format": form}]).status == 400


def calls_none(ask: Ask) -> None:
    answer = _asked(ask, "What time is it in Rome?", tool_choice=_choice(ask, "none"))
    assert not answer.calls
    assert answer.text


def calls_one(ask: Ask) -> None:
    """Where the answer's form can be said, it is two calls."""
    if ask.protocol in (CHAT, RESPONSES):
        call = '<tool_call>\n{"name": "get_time", "arguments": {"city": "%s"}}\n</tool_call>'
        two = {"structured_outputs": {"choice": [f"{call % 'Rome'}\n{call % 'Oslo'}"]}}
        assert len(_asked(ask, _TIMES, **two, parallel_tool_calls=True).calls) == 2
        assert len(_asked(ask, _TIMES, **two, parallel_tool_calls=False).calls) == 1
    else:
        choice = {"type": "any", "disable_parallel_tool_use": True}
        assert len(_asked(ask, _TIMES, tool_choice=choice).calls) == 1


def takes_result(ask: Ask) -> None:
    """A call and what it gave are part of the prompt."""
    told = {}
    for result in ("ten o'clock", "a quarter past eleven in the evening"):
        told[result] = _asked(ask, "", **{ask.protocol.prompt: _turns(ask, result)}).prompt_tokens
    assert len(set(told.values())) == 2


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
