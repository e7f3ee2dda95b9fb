"""A chat page with the tools of samples/agent.py; drop a screenshot on it to ask about it.

python3 -m venv .venv-chainlit && .venv-chainlit/bin/pip install -r samples/chainlit/requirements.txt
.venv-chainlit/bin/chainlit run samples/chainlit/app.py --port 8010
"""

import base64
import os
import sys
from pathlib import Path
from typing import Any

import chainlit
import openai

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import agent


@chainlit.on_chat_start
def begin() -> None:
    chainlit.user_session.set("messages", [])


@chainlit.on_message
async def on_message(message: chainlit.Message) -> None:
    """The loop of samples/agent.py, streamed, with a step on the page for each tool call."""
    messages: list[Any] = chainlit.user_session.get("messages")
    shots = [element for element in message.elements if (element.mime or "").startswith("image/")]
    content: list[Any] = [picture(Path(shot.path), shot.mime) for shot in shots]
    messages.append({"role": "user", "content": [*content, {"type": "text", "text": message.content}]})
    has_picture = any(part["type"] == "image_url" for one in messages for part in parts(one))
    tools = agent.PICTURE_TOOLS if has_picture else agent.TEXT_TOOLS
    client = openai.AsyncOpenAI(base_url=agent.URL, api_key=os.environ.get("VLSERVE_API_KEY", "none"))
    for _ in range(agent.MOST_ROUNDS):
        shown = chainlit.Message("")
        try:
            async with client.chat.completions.stream(
                model="auto", messages=messages, tools=tools, temperature=0, max_tokens=300
            ) as stream:
                async for event in stream:
                    if event.type == "content.delta":
                        await shown.stream_token(event.delta)
                said = (await stream.get_final_completion()).choices[0].message
        except openai.APIError as error:
            await chainlit.Message(f"The service did not answer: {error.message}").send()
            return
        messages.append(said.model_dump(include={"role", "content", "tool_calls"}, exclude_none=True))
        if not said.tool_calls:
            await shown.send()
            return
        for call in said.tool_calls:
            async with chainlit.Step(name=call.function.name, type="tool") as step:
                step.input, step.output = call.function.arguments, agent.run(call)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": step.output})
    await chainlit.Message(f"(no answer after {agent.MOST_ROUNDS} rounds of calls)").send()


def parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def picture(path: Path, mime: str) -> dict[str, Any]:
    data = base64.b64encode(path.read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:{mime};base64,{data}"}}
