"""Control tokens in clients' text are neutralized or rejected, so that text cannot forge a role or a picture's place.

A tokenizer turns ``<|im_start|>`` into one token wherever it stands, also in a user's text. All strings that reach the
template are searched after parsing (``<\\u007cim_start|>`` is the same token): contents, names, tools, arguments.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal

from vlserve.errors import InvalidRequest
from vlserve.protocols.protocol_definitions import COMPLETIONS
from vlserve.protocols.request import ModelRequest
from vlserve.protocols.strict_json import dump

Mode = Literal["neutralize", "reject", "allow"]
SEPARATOR = "\u200b"
"""Inserted after a token's first character: a zero-width space is invisible, and the rest is ordinary text."""
_PICTURE_TOKEN = re.compile(r"<\|(image|video|vision)_\w+\|>")
_SMALL_BYTES = 64 * 1024
# Fields that are part of prompt_fields without being rendered into the prompt.
_NOT_RENDERED = ("model", "output_config", "add_generation_prompt", "continue_final_message")


class ControlTokens:
    """The special tokens of the engines' tokenizers, and what is done with them in clients' text."""

    def __init__(self, tokens: Collection[str], mode: Mode) -> None:
        self._mode = mode
        self._chat = _Pattern(frozenset(tokens))
        # Prompts of completions carry templates and fill-in-the-middle tokens by right.
        self._completions = _Pattern(frozenset(filter(_PICTURE_TOKEN.fullmatch, tokens)))

    def apply(self, parsed: ModelRequest) -> ModelRequest:
        """Neutralize the control tokens of a request, and count them. Raises InvalidRequest if they are rejected."""
        pattern = self._completions if parsed.protocol is COMPLETIONS else self._chat
        if self._mode == "allow" or not pattern.may_be_in(parsed.text):
            return parsed
        search = _Search(
            pattern, {id(one.parts[one.index]) for one in parsed.media}, is_rejected=self._mode == "reject"
        )
        tree = parsed.tree
        for name in parsed.protocol.prompt_fields:
            if name in tree and name not in _NOT_RENDERED:
                tree[name] = search.clean(tree[name], name)
        if not search.count:
            return parsed
        return replace(parsed, is_rewritten=True, neutralized=search.count)


@lru_cache(maxsize=8)
def control_tokens(tokens: frozenset[str], mode: Mode) -> ControlTokens:
    """One object for each set of tokens: an engine's may become known when it is ready."""
    return ControlTokens(tokens, mode)


class _Pattern:
    """Finds tokens in text."""

    def __init__(self, tokens: frozenset[str]) -> None:
        self.tokens = tokens
        longest_first = sorted(tokens, key=len, reverse=True)
        self.regex = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self.longest = max(map(len, tokens), default=0)
        shared = set.intersection(*map(set, tokens)) if tokens else set[str]()
        self._mark = ("|" if "|" in shared else min(shared, default="")).encode()

    def may_be_in(self, raw: bytes | bytearray) -> bool:
        """Whether a body may hold a token: cheap for small ones, True for others. JSON may escape any character."""
        return not 0 < len(raw) < _SMALL_BYTES or self._mark in raw or b"\\u00" in raw


class _Search:
    """One walk over the fields of a request. Lists and objects are changed in place."""

    def __init__(self, pattern: _Pattern, media: set[int], *, is_rejected: bool) -> None:
        self._pattern, self._media, self._is_rejected = pattern, media, is_rejected
        self.count = 0

    def clean(self, value: Any, where: str) -> Any:
        if isinstance(value, str):
            return self._text(value, where)
        if isinstance(value, list):
            for index, one in enumerate(value):
                value[index] = self.clean(one, f"{where}[{index}]")
            self._seams(value, where)
        elif isinstance(value, dict) and id(value) not in self._media:
            self._object(value, where)
        return value

    def _object(self, tree: dict[str, Any], where: str) -> None:
        for name, value in list(tree.items()):
            if name == "arguments" and isinstance(value, str):
                tree[name] = self._arguments(value, f"{where}.{name}")
            else:
                tree[name] = self.clean(value, f"{where}.{name}")
        if any(self._pattern.regex.search(name) for name in tree):  # names in a tool's schema reach the template, too
            items = [(self._text(name, where), value) for name, value in tree.items()]
            tree.clear()
            tree.update(items)

    def _text(self, text: str, where: str) -> str:
        if not self._pattern.regex.search(text):
            return text
        new, count = self._pattern.regex.subn(_separate, text)
        self._found(count, where)
        return new

    def _arguments(self, text: str, where: str) -> str:
        """A tool call's arguments are JSON in a string, which the engine parses before the template gets them."""
        if "\\u" not in text:
            return self._text(text, where)
        try:
            tree = json.loads(text)
        except (ValueError, RecursionError):
            return self._text(text, where)
        before = self.count
        tree = self.clean(tree, where)
        return dump(tree).decode() if self.count > before else text

    def _seams(self, parts: list[Any], where: str) -> None:
        """A template may join the texts of neighbouring parts, so a token may be split between them."""
        longest, before = self._pattern.longest, ""
        for index, part in enumerate(parts):
            name = _text_name(part)
            if name is None:
                before = ""
                continue
            text = part if name == "" else part[name]
            head = text[: longest - 1]
            joined = before + head
            is_split = any(one.start() < len(before) < one.end() for one in self._pattern.regex.finditer(joined))
            if is_split:
                self._found(1, f"{where}[{index}]")
                text = SEPARATOR + text
                if name == "":
                    parts[index] = text
                else:
                    part[name] = text
            before = (before + text)[-(longest - 1) :]

    def _found(self, count: int, where: str) -> None:
        if self._is_rejected:
            raise InvalidRequest(
                f"{where} contains a control token of the chat template, such as <|im_start|>. The setting "
                "request.control_tokens decides whether such tokens are neutralized, rejected or allowed.",
                param=where,
                code="control_token",
            )
        self.count += count


def _separate(found: re.Match[str]) -> str:
    return found[0][0] + SEPARATOR + found[0][1:]


def _text_name(part: Any) -> str | None:
    """The key of a part's text, "" for a part that is a string; None: it is something else, which separates texts."""
    if isinstance(part, str):
        return ""
    names: Mapping[str, Any] = part if isinstance(part, dict) else {}
    return next((name for name in ("text", "refusal") if isinstance(names.get(name), str)), None)
