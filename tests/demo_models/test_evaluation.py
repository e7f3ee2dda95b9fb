"""Scoring of the demo models' answers, with hand-written right and wrong ones."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "samples" / "demo-models" / "training"))

from questions.scores import Fit, Row, centre_inside, fit, is_expected, printed

pytestmark = pytest.mark.full

ASKED = """
import random
from pages.packs import read_pack
from pathlib import Path
from conversations import mixture
from questions import dialogues
for number, (page, _) in enumerate(read_pack(Path("held-out.zip"))):
    print(dialogues.evaluation(page, random.Random(number), ["Save"]))
    print(dialogues.dialogues(page, random.Random(number), 10, ["Save"]))
    print(mixture.conversation(random.Random(number), "train"))
"""


def listed(*elements: tuple[str, tuple[int, int, int, int]]) -> str:
    return json.dumps([{"bbox_2d": box, "label": label} for label, box in elements])


SAVE = ('button "Save"', (10, 10, 50, 30))
EDIT = ('link "Edit"', (10, 100, 50, 110))
EDIT_TOO = ('link "Edit"', (10, 200, 50, 210))
ALL = listed(SAVE, EDIT, EDIT_TOO)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (ALL, Fit(3, 3, 3, 3)),
        (f" {ALL}\n", Fit(3, 3, 3, 3)),
        (listed(EDIT_TOO, EDIT, SAVE), Fit(3, 3, 3, 3)),
        (listed(SAVE), Fit(3, 1, 1, 1)),
        (listed(SAVE, SAVE), Fit(3, 2, 1, 1)),
        (listed(EDIT, EDIT), Fit(3, 2, 2, 1)),
        (listed(('button "Save"', (60, 10, 90, 30))), Fit(3, 1, 1, 0)),
        (listed(('button "save"', SAVE[1])), Fit(3, 1, 0, 0)),
        (listed(('link "Save"', SAVE[1]), EDIT), Fit(3, 2, 1, 1)),
        ("[]", Fit(3, 0, 0, 0)),
        (ALL[:-9], Fit(3, 0, 0, 0)),
        ("There is a button.", Fit(3, 0, 0, 0)),
    ],
)
def test_elements_are_scored_by_label_and_centre(answer: str, found: Fit) -> None:
    assert fit(ALL, answer) == found


def test_f1_is_computed_over_all_pages() -> None:
    both = fit(ALL, ALL) + fit(listed(SAVE), listed(EDIT))
    assert both == Fit(4, 4, 3, 3)
    assert (both.f1, both.centred) == (0.75, 1.0)
    assert (Fit().f1, Fit().centred) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("box", "is_inside"),
    [
        ((10, 10, 50, 30), True),
        ((0, 0, 100, 40), True),
        ((49, 10, 51, 30), True),
        ((50, 10, 52, 30), False),
        ((10, 31, 50, 33), False),
        ((50, 30, 10, 10), False),
    ],
)
def test_a_centre_is_inside_or_not(box: tuple[int, int, int, int], is_inside: bool) -> None:
    assert centre_inside(box, SAVE[1]) is is_inside


def calls(*made: tuple[str, str]) -> dict[str, Any]:
    return {
        "content": None,
        "tool_calls": [
            {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for n, (name, arguments) in enumerate(made)
        ],
    }


WEATHER = ("get_weather", '{"city": "北京", "days": 1, "unit": "C"}')
TIMER = ("set_timer", '{"minutes": 5}')


@pytest.mark.parametrize(
    ("answer", "is_right"),
    [
        (calls(WEATHER, TIMER), True),
        (calls(("get_weather", '{"unit":"C","days":1,"city":"\\u5317\\u4eac"}'), TIMER), True),
        (calls(TIMER, WEATHER), False),
        (calls(WEATHER), False),
        (calls(WEATHER, TIMER, TIMER), False),
        (calls(WEATHER, ("set_timer", '{"minutes": "5"}')), False),
        (calls(WEATHER, ("set_timer", '{"minutes": 5, "label": "tea"}')), False),
        (calls(WEATHER, ("set_timers", '{"minutes": 5}')), False),
        (calls(WEATHER, ("set_timer", '{"minutes": 5')), False),
        (calls(("get_weather", WEATHER[1].replace("1", "true")), TIMER), False),
        ({"content": "get_weather", "tool_calls": None}, False),
        ({"content": None, "tool_calls": []}, False),
    ],
)
def test_calls_are_equal_by_name_and_arguments(answer: dict[str, Any], is_right: bool) -> None:
    assert is_expected(calls(WEATHER, TIMER), answer) is is_right


@pytest.mark.parametrize(
    ("answer", "is_right"),
    [
        ({"content": "2 + 2 = 4.", "tool_calls": None}, True),
        ({"content": " 2 + 2 = 4.\n"}, True),
        ({"content": "2 + 2 = 5."}, False),
        ({"content": None}, False),
        (calls(TIMER), False),
        ({"content": "2 + 2 = 4."} | {"tool_calls": calls(TIMER)["tool_calls"]}, False),
    ],
)
def test_text_answers_are_equal_and_have_no_call(answer: dict[str, Any], is_right: bool) -> None:
    assert is_expected({"role": "assistant", "content": "2 + 2 = 4."}, answer) is is_right


def test_table_marks_values_below_the_threshold() -> None:
    rows = [
        Row("colours", 100, 95, 0.95, 0.95),
        Row("counts", 100, 94, 0.94, 0.95),
        Row("where", 10, 1, 0.1),
        Row("ready", None, None, 61.0, 60.0, in_seconds=True),
        Row("answer", 10, None, 1.5, 2.0, in_seconds=True),
    ]
    assert printed(rows).splitlines() == [
        "what     asked  right    share  asked for",
        "colours    100     95    95.0%      ≥ 95%",
        "counts     100     94    94.0%      ≥ 95%  below",
        "where       10      1    10.0%",
        "ready                  61.00 s     ≤ 60 s  below",
        "answer      10          1.50 s      ≤ 2 s",
    ]


def test_questions_depend_only_on_the_seed() -> None:
    """Python's hashes of strings differ between processes."""
    asked = [
        subprocess.run(
            (sys.executable, "-c", ASKED),
            check=True,
            cwd=REPOSITORY / "samples" / "demo-models" / "training",
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            stdout=subprocess.PIPE,
        ).stdout
        for seed in ("1", "2", "3")
    ]
    assert asked[0] == asked[1] == asked[2]
    assert len(asked[0].splitlines()) > 200
