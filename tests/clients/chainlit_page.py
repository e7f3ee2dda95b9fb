"""The page of samples/chainlit as a browser talks to it: its web socket, and its upload for pictures."""

import asyncio
import datetime
import os
import pathlib
import uuid
from typing import Any

import aiohttp
import checks
import socketio

PAGE = os.environ["PAGE_URL"]
SHOT = pathlib.Path(os.environ["SHOT"])
ANSWER_TIMEOUT_S = 60


async def talk(question: str, shot: pathlib.Path | None = None) -> list[dict[str, Any]]:
    """What the page shows at last, in a new chat: calls (type `tool`) and answers (type `assistant_message`)."""
    session_id, steps, done = str(uuid.uuid4()), {}, asyncio.Event()

    async def show(step: dict[str, Any]) -> None:
        steps[step["id"]] = step

    async def end(*_: object) -> None:
        if any(step["type"] == "assistant_message" for step in steps.values()):
            done.set()

    async with aiohttp.ClientSession() as http:
        socket = socketio.AsyncClient(http_session=http)
        for event in ("new_message", "update_message"):
            socket.on(event, show)
        socket.on("task_end", end)
        who = {"sessionId": session_id, "clientType": "webapp"}
        await socket.connect(PAGE, socketio_path="/ws/socket.io", transports=["websocket"], auth=who)
        await socket.emit("connection_successful")
        files = []
        if shot:
            form = aiohttp.FormData()
            form.add_field("file", shot.read_bytes(), filename=shot.name, content_type="image/png")
            async with http.post(f"{PAGE}/project/file", params={"session_id": session_id}, data=form) as answer:
                answer.raise_for_status()
                files.append({"id": (await answer.json())["id"]})
        now = datetime.datetime.now(datetime.UTC).isoformat()
        message = {
            "id": str(uuid.uuid4()),
            "name": "user",
            "type": "user_message",
            "output": question,
            "createdAt": now,
        }
        await socket.emit("client_message", {"message": message, "fileReferences": files})
        await asyncio.wait_for(done.wait(), ANSWER_TIMEOUT_S)
        await socket.disconnect()
    return [step for step in steps.values() if step["type"] in ("tool", "assistant_message")]


def text() -> None:
    [answer] = asyncio.run(talk(checks.TEXT_QUESTION))
    checks.expect_word(answer["output"], "Paris")


def tool() -> None:
    call, answer = asyncio.run(talk("What is 37 times 41?"))
    checks.expect((call["type"], call["name"]), ("tool", "multiply"))
    checks.expect_word(call["output"], "1517")
    checks.expect_word(answer["output"], "1517")


def picture() -> None:
    call, *_, answer = asyncio.run(talk("Click the blue button.", SHOT))
    checks.expect((call["type"], call["name"]), ("tool", "click"))
    checks.expect_word(call["output"], '"Sign in"')
    checks.expect((answer["type"], bool(answer["output"])), ("assistant_message", True))


checks.run(text=text, tool=tool, picture=picture)
