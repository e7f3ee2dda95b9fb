"""OpenAI's Completions: checks and counts the prompts, which are texts or lists of token ids."""

from collections.abc import Iterator
from typing import Any

from vlserve.errors import InvalidRequest
from vlserve.protocols.dropped_fields import Changes
from vlserve.protocols.media_reference import Media

_WANTED = "'prompt' must be a string, a list of strings, a list of token ids, or a list of such lists, and not empty."


def find_media(tree: dict[str, Any], changes: Changes) -> Iterator[Media]:  # noqa: ARG001
    """Yields nothing: completions have no pictures. Raises InvalidRequest for a malformed prompt."""
    count(tree.get("prompt"))
    yield from ()


def count(prompt: Any) -> int:
    """The number of prompts. Raises InvalidRequest."""
    if isinstance(prompt, str) and prompt:
        return 1
    if not isinstance(prompt, list) or not prompt:
        raise InvalidRequest(_WANTED, param="prompt")
    if all(isinstance(one, str) and one for one in prompt):
        return len(prompt)
    if _are_ids(prompt):
        return 1
    if all(isinstance(one, list) and one and _are_ids(one) for one in prompt):
        return len(prompt)
    raise InvalidRequest(_WANTED, param="prompt")


def _are_ids(values: list[Any]) -> bool:
    return all(isinstance(one, int) and not isinstance(one, bool) for one in values)
