"""Tool calls: the model calls functions of this program. `python samples/agent.py "What is 37 times 41?"`.

An agent loop: send the messages, run the model's tool calls, append their results, until the model answers with text.
With a screenshot the vision model calls the tools: `python samples/agent.py "Click the blue button." shot.png`
"""

import base64
import datetime
import json
import mimetypes
import os
import sys
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai

URL = os.environ.get("VLSERVE_URL", "http://127.0.0.1:8000/v1")
MOST_ROUNDS = 5
ZONES = {name.rpartition("/")[2].replace("_", " "): name for name in zoneinfo.available_timezones()}


def get_time(city: str) -> dict[str, str]:
    """Return the time in a city that gives a time zone its name."""
    if city not in ZONES:
        return {"error": f"There is no time zone of {city}."}
    return {"time": f"{datetime.datetime.now(zoneinfo.ZoneInfo(ZONES[city])):%H:%M}"}


def multiply(a: float, b: float) -> dict[str, float]:
    return {"result": a * b}


def click(name: str) -> dict[str, str]:
    """A real agent would click in a browser here."""
    return {"clicked": name}


def tool(function: Callable[..., Any], description: str, **parameters: str) -> dict[str, Any]:
    properties = {name: {"type": kind} for name, kind in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {
        "type": "function",
        "function": {"name": function.__name__, "description": description, "parameters": schema},
    }


FUNCTIONS: dict[str, Callable[..., Any]] = {"get_time": get_time, "multiply": multiply, "click": click}
TEXT_TOOLS = [
    tool(get_time, "Get the current time in a city", city="string"),
    tool(multiply, "Multiply two numbers", a="number", b="number"),
]
PICTURE_TOOLS = [tool(click, "Click an element by its name", name="string")]


def run(call: Any) -> str:
    """Return the result of a tool call as JSON, or its error, so that the model can try again."""
    try:
        return json.dumps(FUNCTIONS[call.function.name](**json.loads(call.function.arguments)))
    except (KeyError, TypeError, ValueError) as error:
        return json.dumps({"error": f"{type(error).__name__}: {error}"})


def answer(client: openai.OpenAI, content: Any, tools: list[dict[str, Any]]) -> str:
    messages: list[Any] = [{"role": "user", "content": content}]
    for _ in range(MOST_ROUNDS):
        options: dict[str, Any] = {"messages": messages, "tools": tools}
        said = client.chat.completions.create(model="auto", temperature=0, max_tokens=300, **options)
        message = said.choices[0].message
        messages.append(message.model_dump(include={"role", "content", "tool_calls"}, exclude_none=True))
        if not message.tool_calls:
            return message.content or ""
        for call in message.tool_calls:
            result = run(call)
            print(f"call    {call.function.name}({call.function.arguments}) = {result}")
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    return f"(no answer after {MOST_ROUNDS} rounds of calls)"


def main() -> None:
    question = sys.argv[1] if len(sys.argv) > 1 else "What time is it in Tokyo?"
    client = openai.OpenAI(base_url=URL, api_key=os.environ.get("VLSERVE_API_KEY", "none"))
    print(f"user    {question}")
    if len(sys.argv) > 2:
        data = base64.b64encode(Path(sys.argv[2]).read_bytes()).decode()
        kind = mimetypes.guess_type(sys.argv[2])[0] or "image/png"
        picture = {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}
        content: Any = [picture, {"type": "text", "text": question}]
        print(f"answer  {answer(client, content, PICTURE_TOOLS)}")
    else:
        print(f"answer  {answer(client, question, TEXT_TOOLS)}")


if __name__ == "__main__":
    try:
        main()
    except openai.APIConnectionError:
        sys.exit(f"No service answers at {URL}. Start one (make demo) or set VLSERVE_URL.")
    except openai.AuthenticationError:
        sys.exit(f"{URL} refuses this API key or requires one. Set VLSERVE_API_KEY to a valid one.")
    except openai.APIError as error:
        sys.exit(f"{URL}: {error.message}")
