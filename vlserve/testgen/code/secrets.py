"""Passwords in a plan: code and reports get the names of environment variables in their place."""

import json
import re
from collections.abc import Callable, Sequence

from vlserve.testgen.code.naming import words
from vlserve.testgen.elements import Element
from vlserve.testgen.plan import Plan

_SHORT = 4  # a shorter value may be part of any word
_WORD = re.compile(r"[A-Za-z]+")


def required(name: str) -> str:
    """Source of an expression that reads an environment variable."""
    return f"required({name!r})"


def environment(plan: Plan, elements: Sequence[Element]) -> dict[str, str]:
    """Variable → value: the environment that a run of the test needs."""
    return {name: value for (_, value), name in Secrets(plan, elements).variables.items()}


class Secrets:
    """The values that must not be in the code, and the environment variables that replace them.

    A value is hidden outside its own field, too: in the scenario, in other fields, in texts of the page that came
    after the steps. Exceptions: a value that is part of the field's own name (``password`` in Password), and, in texts
    of the page, a plain word (``wrong``), which pages contain anyway.
    """

    def __init__(self, plan: Plan, elements: Sequence[Element], variable: Callable[[str], str] = required) -> None:
        """``variable`` returns the source of an expression for the value of an environment variable."""
        self._variable = variable
        self.used: set[str] = set()
        """Names of the variables in the expressions that were returned."""
        fields = {one.id: one for one in elements if one.is_secret}
        typed = [(one.element, one.value) for one in plan.steps if one.do in ("fill", "select")]
        typed += [(one.element, one.value) for one in plan.assertions if one.expect in ("value", "contains")]
        typed = list(dict.fromkeys(one for one in typed if one[0] in fields))
        has_several = len({id_ for id_, _ in typed}) > 1
        self.variables: dict[tuple[str, str], str] = {}
        """Element id and value → name of the variable."""
        self._hidden: dict[str, str] = {}
        for id_, value in typed:
            stem = f"TEST_{(words(fields[id_].name) if has_several else '').upper() or 'PASSWORD'}"
            numbered = (f"{stem}_{number}" for number in range(2, len(typed) + 2))
            name = next(one for one in (stem, *numbered) if one not in self.variables.values())
            self.variables[id_, value] = name
            if value.casefold() not in fields[id_].name.casefold():
                self._hidden.setdefault(value, name)
        # pytest and JSON escape some characters.
        self._spelled = {
            spelled: name
            for value, name in self._hidden.items()
            for spelled in (value, repr(value)[1:-1], json.dumps(value)[1:-1])
        }
        long = [one for one in self._hidden if len(one) >= _SHORT]
        self._in_typed = _any_of(long)
        self._in_shown = _any_of([one for one in long if not _WORD.fullmatch(one)])
        self._in_text = _any_of(list(self._spelled))

    def typed(self, element: Element, value: str) -> str:
        """Source of an expression for a value that is typed into an element."""
        name = self.variables.get((element.id, value)) or self._hidden.get(value)
        return self._read(name) if name else self._literal(value, self._in_typed)

    def expected(self, element: Element, value: str) -> str:
        """Source of an expression for a value that is expected of an element."""
        name = self.variables.get((element.id, value))
        return self._read(name) if name else self.shown(value)

    def shown(self, text: str) -> str:
        """Source of an expression for a text of the page."""
        name = None if _WORD.fullmatch(text) else self._hidden.get(text)
        return self._read(name) if name else self._literal(text, self._in_shown)

    def masked(self, text: str) -> str:
        """The text for a reader, with ``$TEST_PASSWORD`` in the place of a secret."""
        return self._in_text.sub(lambda found: f"${self._spelled[found[0]]}", text) if self._in_text else text

    def _literal(self, text: str, inside: re.Pattern[str] | None) -> str:
        pieces = inside.split(text) if inside else [text]  # each second one is a secret
        parts = [self._read(self._hidden[one]) if place % 2 else repr(one) for place, one in enumerate(pieces) if one]
        return " + ".join(parts) or "''"

    def _read(self, name: str) -> str:
        self.used.add(name)
        return self._variable(name)


def _any_of(values: Sequence[str]) -> re.Pattern[str] | None:
    """Finds each of the values, a short one only as a whole word; one group, so that `re.split` keeps them."""
    parts = [
        re.escape(one) if len(one) >= _SHORT else rf"(?<!\w){re.escape(one)}(?!\w)"
        for one in sorted(values, key=len, reverse=True)
    ]
    return re.compile(f"({'|'.join(parts)})") if parts else None
