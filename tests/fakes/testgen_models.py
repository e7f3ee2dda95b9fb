"""Fake models for testgen: answer with a given inventory, steps and expectations."""

import json
import re
from collections.abc import Sequence
from typing import Any

from vlserve.testgen.result import ModelAnswer

Wanted = tuple[str, ...]
"""(action, name of the element) or (action, name, value)."""


class Scripted:
    """``seen``: labels with boxes, in the vision model's format. ``steps``: each is chosen once its element exists.
    ``expected``: substrings of candidate lines."""

    def __init__(
        self,
        seen: Sequence[tuple[str, list[int]]],
        steps: Sequence[Wanted] = (),
        expected: Sequence[str] = (),
        unlisted: Sequence[str] = (),
    ) -> None:
        self.seen, self.steps, self.expected, self.unlisted = seen, list(steps), expected, list(unlisted)
        self.asked: list[dict[str, Any]] = []

    async def __call__(self, body: dict[str, Any]) -> ModelAnswer:
        self.asked.append(body)
        content = body["messages"][0]["content"]
        if not isinstance(content, str):
            return ModelAnswer(json.dumps([{"bbox_2d": box, "label": label} for label, box in self.seen]), "eyes")
        tree = self._steps(content) if content.startswith("Plan") else self._expected(content)
        return ModelAnswer(json.dumps(tree), "words")

    def _steps(self, text: str) -> dict[str, Any]:
        lines = re.findall(r"^(\w+) (.*)$", text.split("Elements:\n")[1].split("\nScenario:")[0], re.MULTILINE)
        done = re.findall(r"^Done: (.*)$", text, re.MULTILINE)
        taken = len(done[0].split("; ")) if done else 0
        steps: list[dict[str, str]] = []
        for do, name, *value in self.steps[taken:]:
            found = next((id_ for id_, line in lines if name in line), None)
            if found is None:
                return {"steps": steps, "missing": [name]}
            steps.append({"do": do, "element": found, **({"value": value[0]} if value else {})})
        return {"steps": steps, "missing": []}

    def _expected(self, text: str) -> dict[str, Any]:
        lines = re.findall(r"^(c\d+) (.*)$", text, re.MULTILINE)
        chosen = [next((id_ for id_, line in lines if part in line), None) for part in self.expected]
        lost = [part for part, id_ in zip(self.expected, chosen, strict=True) if id_ is None]
        return {"expected": [id_ for id_ in chosen if id_], "unlisted": [*lost, *self.unlisted]}
