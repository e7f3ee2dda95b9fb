"""Strict YAML parser for the config file: plain data, string keys, no duplicate keys, limited nesting and aliases.

Every error is a yaml.YAMLError with file, line and column.
"""

from typing import Any, cast

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.error import Mark
from yaml.reader import ReaderError

_MAX_LEVELS = 50
_MAX_NODES = 10_000  # aliases expanded: a few lines can expand to billions
_LONGEST_SHOWN = 100
_KEYS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")


def read(text: str, name: str) -> Any:
    """Parse ``text``. ``name``: the file name for messages. Raises yaml.YAMLError."""
    try:
        loader = _Loader(text)
    except ReaderError as error:  # the loader checks all characters when it is created
        error.name = name
        raise
    loader.name = name
    try:
        return loader.get_single_data()
    except (OverflowError, ValueError) as error:  # an escape that is not a character
        raise ComposerError(None, None, str(error), loader.get_mark()) from error
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._levels = 0
        self._sizes: dict[yaml.Node, int] = {}
        """The number of nodes in each complete node, aliases expanded."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        mark = event.start_mark
        self._levels += 1
        if self._levels > _MAX_LEVELS:
            raise ComposerError(None, None, f"there are more than {_MAX_LEVELS} levels", mark)
        node = super().compose_node(parent, index)
        self._levels -= 1
        if node is None:
            return None
        if not isinstance(event, yaml.AliasEvent):
            self._check(node)
        elif node not in self._sizes:
            raise ComposerError(None, None, f"*{event.anchor} refers to a value that contains it", mark)
        return node

    def _check(self, node: yaml.Node) -> None:
        """Check a node that was just composed."""
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            _check_keys(node)
            children = [one for pair in node.value for one in pair]
        else:
            _check_text(node)
        self._sizes[node] = 1 + sum(self._sizes[child] for child in children)
        if self._sizes[node] > _MAX_NODES:
            raise ComposerError(None, None, f"there are more than {_MAX_NODES} values", cast(Mark, node.start_mark))

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (AttributeError, LookupError, ValueError) as error:  # PyYAML converts before it validates
            kind = node.tag.rpartition(":")[2]
            problem = f"{node.value[:_LONGEST_SHOWN]!r} cannot be read as {kind}"
            raise ConstructorError(None, None, problem, cast(Mark, node.start_mark)) from error


def _check_keys(node: yaml.MappingNode) -> None:
    """PyYAML keeps the last of two equal keys silently, reads `on` as a boolean, and accepts lists as keys."""
    keys = set[str]()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ComposerError(None, None, f"a key must be text, not a {key.id}", key.start_mark)
        if key.tag not in _KEYS:
            problem = f"a key must be text; write {key.value[:_LONGEST_SHOWN]!r} in quotes"
            raise ComposerError(None, None, problem, key.start_mark)
        if key.value in keys:
            raise ComposerError(None, None, f"{key.value!r} is given twice", key.start_mark)
        keys.add(key.value)


def _check_text(node: yaml.Node) -> None:
    if "\0" in node.value:
        raise ComposerError(None, None, "a value must not contain the character NUL", node.start_mark)
    try:
        node.value.encode()
    except UnicodeEncodeError:
        problem = "half of a surrogate pair is not a character; write the character itself"
        raise ComposerError(None, None, problem, node.start_mark) from None
