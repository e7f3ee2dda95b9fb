"""The demo text model's data for testgen: answers are valid for testgen's own prompts."""

import json
import sys
from functools import lru_cache
from random import Random
from typing import Any

import jsonschema
import pytest
from tokenizers import Tokenizer

from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "samples" / "demo-models" / "training"))

from conversations.plan_clauses import made_up
from conversations.plans import Made, is_right, plan_expected, plan_steps
from conversations.words import Dice, Split

from vlserve.testgen.planning.prompts import read_expected, read_steps

pytestmark = pytest.mark.full

LONGEST = 1_000  # tokens; a training row has 1,024


@lru_cache
def made(kind: str, split: Split = "train", count: int = 2_000) -> list[Made]:
    dice = Dice(Random(1), split)
    return [(plan_steps if kind == "steps" else plan_expected)(dice) for _ in range(count)]


@pytest.mark.parametrize("kind", ["steps", "expected"])
def test_every_answer_is_allowed_by_its_question(kind: str) -> None:
    for one in made(kind):
        schema = jsonschema.Draft202012Validator(one.question.schema)
        assert schema.is_valid(json.loads(one.answer)), (one.question.text, one.answer)
        if kind == "steps":
            read_steps(one.answer)
        else:
            read_expected(one.answer, one.chosen_from)


@pytest.mark.parametrize("kind", ["steps", "expected"])
def test_prompt_and_answer_fit_a_training_row(kind: str) -> None:
    tokenizer = Tokenizer.from_file(str(REPOSITORY / "samples" / "demo-models" / "training" / "tokenizer.json"))
    assert max(len(tokenizer.encode(one.question.text + one.answer).ids) for one in made(kind)) < LONGEST


@pytest.mark.parametrize("kind", ["steps", "expected"])
def test_missing_elements_have_the_scenarios_names(kind: str) -> None:
    absent = 0
    for one in made(kind):
        tree = json.loads(one.answer)
        spoken = one.question.text.rsplit("\nScenario: ", 1)[1].split("\n", 1)[0]
        names = tree["missing" if kind == "steps" else "unlisted"]
        assert all(name in spoken for name in names), (spoken, names)
        absent += bool(names)
    assert 0.1 < absent / len(made(kind)) < 0.3


def test_evaluated_scenarios_are_never_trained() -> None:
    for kind in ("steps", "expected"):
        trained, kept = (
            {one.question.text.rsplit("\nScenario: ", 1)[1] for one in made(kind, *split)}
            for split in (("train", 2_000), ("held-out", 150))
        )
        assert len(kept) > 100
        assert not trained & kept


def test_wrong_passwords_are_typed_if_the_scenario_requires_it() -> None:
    found = [one for one in made("steps") if "with a wrong password" in one.question.text]
    assert found
    assert all("wrong-password" in one.answer or "missing" in one.answer for one in found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("E-mail", "user@example.com"),
        ("Confirm password", "correct-password"),
        ("User name", "user"),
        ("Phone number", "555 0100"),
        ("Expiry date", "2026-01-31"),
        ("Card number", "42"),
        ("Message", "Test"),
        ("Project name", "Test User"),
        ("Search people", "test"),
        ("邮箱", "user@example.com"),
        ("手机号", "555 0100"),
        ("姓名", "Test User"),
        ("街道", "Test"),
    ],
)
def test_unspecified_value_depends_on_the_field_name(name: str, value: str) -> None:
    assert made_up(name) == value


def _steps(*steps: dict[str, str]) -> str:
    return json.dumps({"steps": steps, "missing": []})


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ({"value": "Test"}, True),
        ({"value": "anything"}, True),
        ({"value": ""}, False),
        ({"element": "e2", "value": "Test"}, False),
        ({"do": "press", "value": "Enter"}, False),
    ],
)
def test_unspecified_value_may_be_any(answer: dict[str, Any], right: bool) -> None:
    expected = {"do": "fill", "element": "e1", "value": "Test"}
    prompt = "Elements:\ne1 textbox\nScenario: fill in the field\nAnswer with JSON only"
    assert is_right(prompt, _steps(expected), _steps(expected | answer)) is right


def test_specified_value_must_be_used() -> None:
    expected = {"do": "fill", "element": "e1", "value": "Ana"}
    prompt = "Scenario: enter Ana as name\nAnswer with JSON only"
    assert is_right(prompt, _steps(expected), _steps(expected))
    assert not is_right(prompt, _steps(expected), _steps(expected | {"value": "Bob"}))
    assert not is_right(prompt, _steps(expected), "no JSON")
