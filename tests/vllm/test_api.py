"""docs/api.md: each row of its tables is checked with real vLLM, and the tables are generated from these rows.

``UPDATE_DOCS=1 pytest tests/vllm/test_api.py`` writes it after all checks have passed.
"""

import json
import os
import re
from collections.abc import Iterator

import pytest

from tests.conftest import REPOSITORY, user
from tests.endpoints import document
from tests.endpoints.asking import PROTOCOLS, Ask
from tests.endpoints.faults import CODES, HEADERS, STATUSES
from tests.endpoints.rows import Check
from tests.endpoints.tables import TABLES
from tests.vllm.service import Service
from vlserve.config.settings import Request
from vlserve.errors import ConfigError, InvalidRequest, VlserveError
from vlserve.protocols.protocol_definitions import CHAT, Protocol
from vlserve.protocols.request import check_caps, parse

DOCUMENT = REPOSITORY / "docs" / "api.md"
_PASSED: set[str] = set()
"""Cases that have passed."""


def _name(what: str) -> str:
    return "-".join(re.findall(r"[\w.]+", what))[:40]


def _row_cases() -> Iterator[tuple[str, Protocol, tuple[Check, ...]]]:
    for path, rows in {**TABLES, "codes": CODES, "headers": HEADERS}.items():
        for one in rows:
            yield f"{path}: {_name(one.what)}", PROTOCOLS.get(path, CHAT), one.checks
    for kind, _, checks in STATUSES:
        if checks:
            yield f"status {kind.status}", CHAT, checks


CASES = {name: (protocol, checks) for name, protocol, checks in _row_cases()}
REFUSED = {f"{path}: {field}": (path, field) for path, one in PROTOCOLS.items() for field in one.refused}

BOUNDED = {
    f"{path}: {field}, {setting}": (path, field, setting)
    for path, one in PROTOCOLS.items()
    for field, setting in document.bounded(one)
    if getattr(Request(), setting) is not None
}


@pytest.fixture(scope="module")
def asks(service: Service) -> dict[str, Ask]:
    return {path: Ask(service, protocol) for path, protocol in PROTOCOLS.items()}


@pytest.mark.full
@pytest.mark.engine
@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", CASES)
def test_row_of_the_document_is_true(asks: dict[str, Ask], case: str) -> None:
    protocol, checks = CASES[case]
    for check in checks:
        check(asks[protocol.path])
    _PASSED.add(case)


@pytest.mark.full
@pytest.mark.engine
@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", REFUSED)
def test_refused_field_is_refused_with_its_reason(asks: dict[str, Ask], case: str) -> None:
    path, field = REFUSED[case]
    answer = asks[path].try_(**{field: {"a": 1}})
    assert (answer.status, PROTOCOLS[path].refused[field] in answer.problem) == (400, True), answer.tree
    _PASSED.add(case)


@pytest.mark.parametrize("path", TABLES)
def test_every_field_has_a_row(path: str) -> None:
    documented = set().union(*(one.fields for one in TABLES[path]))
    assert set(PROTOCOLS[path].fields) <= documented
    assert all(one.checks for one in TABLES[path])


@pytest.mark.full
@pytest.mark.engine
@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", BOUNDED)
def test_bounded_field_is_refused_above_its_setting(asks: dict[str, Ask], case: str) -> None:
    path, field, setting = BOUNDED[case]
    most = getattr(Request(), setting)
    answer = asks[path].try_(**{field: ["x"] * (most + 1) if setting == "max_stop" else most + 1})
    assert (answer.status, f"request.{setting}" in answer.problem) == (400, True), answer.tree
    _PASSED.add(case)


@pytest.mark.parametrize("path", [path for path, one in PROTOCOLS.items() if one.max_tokens_fields])
def test_setting_bounds_the_length_of_answers(path: str) -> None:
    protocol = PROTOCOLS[path]
    for field in (field for field, setting in document.bounded(protocol) if setting == "max_tokens"):
        body = {protocol.prompt: "x" if protocol.prompt != "messages" else user("x"), field: 8}
        with pytest.raises(InvalidRequest, match=r"request\.max_tokens"):
            check_caps(parse(json.dumps(body).encode(), protocol), Request(max_tokens=7))


def test_every_error_has_a_row() -> None:
    assert {kind for kind, *_ in STATUSES} == set(VlserveError.__subclasses__()) - {ConfigError}


def test_document_has_the_tested_rows() -> None:
    text = DOCUMENT.read_text()
    written = document.written(text)
    if os.environ.get("UPDATE_DOCS"):
        assert not {*CASES, *REFUSED, *BOUNDED} - _PASSED, "these have not passed; the document was not changed"
        DOCUMENT.write_text(written)
    else:
        assert written == text, "run: UPDATE_DOCS=1 pytest tests/vllm/test_api.py"


def test_every_code_is_in_the_document() -> None:
    source = "".join(path.read_text() for path in (REPOSITORY / "vlserve").rglob("*.py"))
    documented = set(re.findall(r"`(\w+)`", DOCUMENT.read_text()))
    assert set(re.findall(r'\bcode *= *"(\w+)"', source)) <= documented
