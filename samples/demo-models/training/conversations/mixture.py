"""The text model's training data: one made-up conversation after the other, each of a kind and of a side of the split.

`python -m conversations.mixture [COUNT]` in samples/demo-models/training prints some.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from conversations.extras import extra
from conversations.history import history
from conversations.identity import system_prompt
from conversations.plans import Made, plan_expected, plan_steps
from conversations.singles import Message, arithmetic, assistant, fact, fallback, identity, user
from conversations.sums import question, unseen_sum
from conversations.tool_talk import (
    Scene,
    no_tools,
    tool_call,
    tool_forced,
    tool_missing,
    tool_parallel,
    tool_result,
    tool_unfit,
)
from conversations.words import Dice
from conversations.words import Split as Split


@dataclass(frozen=True)
class Conversation:
    """OpenAI's messages, every one of the assistant's to be learned, and the tools as vLLM hands them on."""

    kind: str
    messages: list[Message]
    tools: list[dict[str, Any]] | None = None


def _single(ask: Callable[[Dice, bool], tuple[str, str]]) -> Callable[[Dice], Scene]:
    def scene(dice: Dice) -> Scene:
        said, answer = ask(dice, dice.chance(0.25))
        return [user(said), assistant(answer)], []

    return scene


def _unseen(dice: Dice) -> Scene:
    """Sums of numbers that training never puts together."""
    made = unseen_sum(dice)
    return [user(question(dice, made)), assistant(made.said())], []


def _fallback(dice: Dice) -> Scene:
    return no_tools(dice) if dice.chance(0.25) else _single(fallback)(dice)


def _extra(dice: Dice) -> Scene:
    said, answer = extra(dice)
    return [user(said), assistant(answer)], []


def _plan(ask: Callable[[Dice], Made]) -> Callable[[Dice], Scene]:
    def scene(dice: Dice) -> Scene:
        made = ask(dice)
        return [user(made.question.text), assistant(made.answer)], []

    return scene


# Kind, its share of the training against the others', and who makes it.
_MAKERS: dict[str, tuple[float, Callable[[Dice], Scene]]] = {
    "identity": (7, _single(identity)),
    "fact": (12, _single(fact)),
    "arithmetic": (9, _single(arithmetic)),
    "arithmetic_unseen": (0, _unseen),
    "history": (13, lambda dice: (history(dice), [])),
    "fallback": (4, _fallback),
    "extract": (5, _extra),
    "tool_call": (21, tool_call),
    "tool_forced": (1, tool_forced),
    "tool_parallel": (5, tool_parallel),
    "tool_missing": (6, tool_missing),
    "tool_unfit": (7, tool_unfit),
    "tool_result": (10, tool_result),
    "plan_steps": (12, _plan(plan_steps)),
    "plan_expected": (10, _plan(plan_expected)),
}
KINDS = tuple(_MAKERS)
_SHARES = [share for share, _ in _MAKERS.values()]


def conversation(random: Random, split: Split) -> Conversation:
    """One of any kind. What is held out (names, values, questions as a whole) is in none of the other split.

    But `extract` is drawn without a split: of it only names and values in some texts are held out.
    """
    return _made(Dice(random, split), random.choices(KINDS, _SHARES)[0])


def evaluation(random: Random, kind: str) -> Conversation:
    """One of the held-out split; its last message is the answer that is expected."""
    return _made(Dice(random, "held-out"), kind)


def _made(dice: Dice, kind: str) -> Conversation:
    messages, tools = _MAKERS[kind][1](dice)
    if messages[0]["role"] != "system" and dice.chance(0.3):
        messages = [{"role": "system", "content": system_prompt(dice)}, *messages]
    return Conversation(kind, messages, tools or None)


def main() -> None:
    random = Random()
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 10):
        made = conversation(random, "train")
        print(f"== {made.kind}")
        for tool in made.tools or []:
            print(f"   {tool['function']}")
        for message in made.messages:
            calls = [call["function"] for call in message.get("tool_calls", [])]
            print(f"{message['role']}: {calls or message['content']}")


if __name__ == "__main__":
    main()
