"""What parsing changed in a request: names of keys that were left out, for ``x-vlserve-dropped``."""

import re
from collections.abc import Set
from typing import Any

_NUMBER = re.compile(r"\[\d+\]")
_MAX_KINDS = 64
_MAX_NAME_CHARACTERS = 40
_NONE: frozenset[str] = frozenset()


class Changes:
    """Collects what is left out of a request.

    Keys that differ only in the numbers of their path, such as ``messages[3].foo`` and ``messages[5].foo``, are of one
    kind; only the first one of a kind is named.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self.is_rewritten = False
        """The parsed request differs from the body as received."""

    @property
    def dropped(self) -> tuple[str, ...]:
        return tuple(self._names.values())

    def drop(self, name: str) -> None:
        """Record that the key or entry at the path ``name`` was left out."""
        self.is_rewritten = True
        if len(self._names) < _MAX_KINDS:
            self._names.setdefault(_NUMBER.sub("[]", name), name)

    def keep(self, tree: dict[str, Any], known: Set[str], where: str = "", nullable: Set[str] = _NONE) -> None:
        """Remove the keys of ``tree`` that are not in ``known``, and null values, which mean the default.

        ``where``: the path of ``tree`` in the request. ``nullable``: keys in which null is a value.
        """
        if tree.keys() <= known and None not in tree.values():
            return
        for name in list(tree):
            if name not in known:
                del tree[name]
                short = name[:_MAX_NAME_CHARACTERS]
                self.drop(f"{where}.{short}" if where else short)
            elif tree[name] is None and name not in nullable:
                del tree[name]
                self.is_rewritten = True
