"""Generates the Markdown tables of docs/api.md from the tested rows and the gateway's definitions."""

import re
from collections.abc import Callable, Iterable, Mapping

from tests.endpoints.asking import PROTOCOLS
from tests.endpoints.faults import CODES, HEADERS, STATUSES
from tests.endpoints.left_out import LEFT_OUT
from tests.endpoints.rows import Row
from tests.endpoints.tables import TABLES
from vlserve.config.settings import Request
from vlserve.errors import EngineAway
from vlserve.protocols.protocol_definitions import CHAT, MESSAGE_TOKENS, Protocol

_EVERYWHERE = {
    field: reason
    for field, reason in CHAT.refused.items()
    if all(one.refused.get(field) == reason for one in PROTOCOLS.values())
}
_TABLE = re.compile(r"(?<=<!-- table: )(\S+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def written(text: str) -> str:
    """Return the document with regenerated tables."""
    tables: Mapping[str, Callable[[], str]] = {
        "refused": lambda: _refused(_EVERYWHERE),
        "left-out": _left_out,
        "headers": lambda: _rows("header | description", HEADERS),
        "codes": lambda: _rows("code | when", CODES),
        "statuses": _statuses,
        "ends": _ends,
    }
    return _TABLE.sub(
        lambda found: f"{found[1]}{found[2]}{tables[found[1]]() if found[1] in tables else _endpoint(found[1])}", text
    )


def bounded(protocol: Protocol) -> list[tuple[str, str]]:
    """Return (field, setting of ``request``) for each field that a setting limits."""
    settings = {**protocol.numbers, **dict.fromkeys(protocol.lists, "max_stop")}
    return [(field, setting) for field, setting in settings.items() if field in protocol.fields]


def _table(head: str, rows: Iterable[str]) -> str:
    lines = (f"| {head} |", f"|{'---|' * (head.count('|') + 1)}", *(f"| {one} |" for one in rows))
    return "\n".join(lines) + "\n"


def _rows(head: str, rows: Iterable[Row]) -> str:
    return _table(head, (f"{one.what} | {one.happens}" for one in rows))


def _refused(refused: Mapping[str, str]) -> str:
    reasons: dict[str, list[str]] = {}
    for field, reason in refused.items():
        reasons.setdefault(reason, []).append(f"`{field}`")
    return _table("refused | reason", (f"{', '.join(fields)} | {reason}" for reason, fields in reasons.items()))


def _left_out() -> str:
    return _table(
        "in | vLLM's field | here | reason",
        (
            f"{one.level} | {', '.join(f'`{name}`' for name in one.names)} | {one.outcome} | {one.reason}"
            for one in LEFT_OUT
        ),
    )


def _endpoint(path: str) -> str:
    protocol, table = PROTOCOLS[path], _rows("field | description", TABLES[path])
    own = {field: reason for field, reason in protocol.refused.items() if field not in _EVERYWHERE}
    if own and path != MESSAGE_TOKENS.path:  # refuses the same as messages
        table += f"\n{_refused(own)}"
    bounds: dict[str, list[str]] = {}
    for field, setting in bounded(protocol):
        bounds.setdefault(setting, []).append(f"`{field}`")
    at_most = "; ".join(f"{', '.join(fields)} {_most(setting)}" for setting, fields in bounds.items())
    return table + (f"\nAt most: {at_most}.\n" if at_most else "")


def _most(setting: str) -> str:
    most = getattr(Request(), setting)
    number = f"{most} entries" if setting == "max_stop" else "any" if most is None else f"{most}"
    return f"{number} (`request.{setting}`)"


def _statuses() -> str:
    rows = []
    for kind, when, _ in STATUSES:
        error = kind("")
        code = f"`{error.code}`" if error.code else "see below"
        rows.append(f"{kind.status} | {when} | `{kind.type}`, {code} | `{error.anthropic('')['error']['type']}`")
    return _table("status | when | OpenAI's `type`, `code` | Anthropic's `type`", rows)


def _ends() -> str:
    error = EngineAway("The connection to the text engine was lost.")
    ends: dict[str, list[str]] = {}
    for path, protocol in PROTOCOLS.items():
        if "stream" in protocol.fields:
            event = protocol.events(wants_usage=False).failure(error, "42f93843", 5).decode().strip()
            ends.setdefault(event, []).append(f"`{path}`")
    rows = (
        f"{', '.join(paths)} | {' '.join(f'`{line}`' for line in event.split(chr(10)))}"
        for event, paths in ends.items()
    )
    return _table("endpoint | the last event", rows)
