"""The two questions of `vlserve testgen`: what a user does on a page for a scenario, and what is expected then.

The prompts are the product's own; the pages, the scenarios and the answers are made up here.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from conversations.plan_clauses import Act, Clause, acts_of
from conversations.plan_expects import Expect, expectations, first_guess
from conversations.plan_flows import absent, flow, scenario
from conversations.plan_pages import MOST, Sheet, dialog, phrase, sheet
from conversations.plan_scenes import Scene, change, drafted, scene
from conversations.words import Dice, is_held_out
from vlserve.testgen.elements import Element, Look
from vlserve.testgen.plan import MOST_STEPS, Assertion, Step
from vlserve.testgen.planning.candidates import changes
from vlserve.testgen.planning.prompts import Question, as_json, ask_expected, ask_steps, describe

_SPOKEN = "\nScenario: "


@dataclass(frozen=True)
class Made:
    """A question, what it is answered, and the candidates that it has."""

    question: Question
    answer: str
    chosen_from: tuple[Assertion, ...] = ()


def languages(dice: Dice) -> tuple[bool, bool]:
    """Whether the page is Chinese, and the scenario."""
    roll = dice.random.random()
    return roll < 0.15, roll < 0.12 or roll > 0.99


def plan_steps(dice: Dice) -> Made:
    while True:
        page, spoken = languages(dice)
        text, made = _steps(dice, page, spoken)
        if is_held_out(text) == dice.is_held_out:
            return made


def _steps(dice: Dice, page_zh: bool, zh: bool) -> tuple[str, Made]:
    page = sheet(dice, page_zh)
    if dice.chance(0.07):
        expects = expectations(dice, [], page.elements, page.elements, zh, is_live=True, most=2)
        text = scenario(dice, [], [one.said for one in expects], zh)
        return text, _made_steps(page, text, [], None, ())
    before: list[Clause] = []
    done: list[str] = []
    if dice.chance(0.13):
        before = flow(page, zh, 1 if dice.chance(0.65) else 2)
        done, page = _after(page, acts_of(before))
    clauses: list[Clause] = []
    missing = None
    used = {act["element"] for act in acts_of(before)}
    if dice.chance(0.2):
        if dice.chance(0.5):
            clauses = flow(page, zh, 1 if dice.chance(0.7) else 2)
        lost = absent(page, zh)
        missing = lost.missing
        acts = acts_of(clauses)
        clauses.append(lost)
        if dice.chance(0.25):
            clauses += flow(page, zh, 1)
    elif not before or dice.chance(0.7):
        clauses = flow(page, zh, 1 if before and dice.chance(0.6) else 0)
        acts = acts_of(clauses)
    else:
        acts = []
    if used & {act["element"] for act in acts_of(clauses)} or len(acts) > MOST_STEPS:
        return _steps(dice, page_zh, zh)
    expects = list[Expect]()
    if dice.chance(0.8):
        live = dice.chance(0.8)
        expects = expectations(dice, [], page.elements, page.elements, zh, is_live=live, most=2, is_tail=True)
    text = scenario(dice, [one.text for one in (*before, *clauses)], [one.said for one in expects], zh)
    return text, _made_steps(page, text, acts, missing, done)


def _made_steps(page: Sheet, text: str, acts: Sequence[Act], missing: str | None, done: Sequence[str]) -> Made:
    question = ask_steps(page.elements, text, done)
    return Made(question, as_json({"steps": list(acts), "missing": as_said([missing] if missing else [], text)}))


def as_said(names: Sequence[str], text: str) -> list[str]:
    """With the capital letter that a name has where a sentence begins with it."""
    return [one if one in text else one[:1].upper() + one[1:] for one in names]


def _after(page: Sheet, acts: Sequence[Act]) -> tuple[list[str], Sheet]:
    """The steps in words, and the page that they lead to."""
    after, done = page.copy(), []
    for act in acts:
        one = next(other for other in page.elements if other.id == act["element"])
        done.append(describe(Step(do=act["do"], element=act["element"], value=act.get("value", "")), one))  # type: ignore[arg-type]
    change(after, acts)
    if acts[-1]["do"] == "click" and len(after.elements) < MOST - 5:
        roll = page.dice.random.random()
        if roll < 0.5 and page.dialog is None:
            dialog(after)
        elif roll < 0.75:
            kind = page.dice.one(("error", "success", "warning"))
            after.add("alert" if kind != "success" else "status", phrase(page.dice, kind, page.is_chinese))
    return done, after


def plan_expected(dice: Dice) -> Made:
    while True:
        page, spoken = languages(dice)
        text, made = _expected(dice, page, spoken)
        if is_held_out(text) == dice.is_held_out:
            return made


def _expected(dice: Dice, page_zh: bool, zh: bool) -> tuple[str, Made]:
    made = scene(dice, page_zh, zh)
    live = not made.steps or dice.chance(0.7)
    chosen_from, elements = _chosen_from(dice, made, live)
    known = {one.id: one for one in elements}
    expects: list[Expect] = []
    if not dice.chance(0.08):
        most = dice.random.choices((1, 2, 3), (70, 25, 5))[0]
        expects = expectations(
            dice, chosen_from, elements, made.before, zh, is_live=live, most=most, people=made.people
        )
    text = scenario(dice, made.said, [one.said for one in expects], zh)
    if not text:
        return _expected(dice, page_zh, zh)
    found = list(dict.fromkeys(number for one in expects for number in one.numbers))[:6]
    unlisted = list(dict.fromkeys(one.unlisted for one in expects if one.unlisted))
    if not expects and chosen_from:
        found = [first_guess(chosen_from, known, text)]
    question = ask_expected(chosen_from, elements, text, made.told, is_live=live)
    answer = {"expected": [f"c{number}" for number in found], "unlisted": as_said(unlisted, text)}
    return text, Made(question, as_json(answer), tuple(chosen_from))


def _chosen_from(dice: Dice, made: Scene, live: bool) -> tuple[list[Assertion], list[Element]]:
    if not live:
        return drafted(dice, made)
    after = {one.id: one for one in made.after}
    found = changes(Look(tuple(made.before)), Look(tuple(made.after)), made.steps)[: made.most]
    return found, [*made.after, *(one for one in made.before if one.id not in after)]


def is_right(prompt: str, expected: str, answer: str) -> bool:
    """The same JSON; what is typed may be anything where the scenario does not say it."""
    try:
        found = json.loads(answer)
    except ValueError:
        return False
    spoken = prompt.rsplit(_SPOKEN, 1)[-1].split("\n", 1)[0]
    return bool(_plain(json.loads(expected), found, spoken))


def _plain(expected: Any, found: Any, spoken: str) -> bool:
    if "steps" not in expected or not isinstance(found, dict) or not isinstance(found.get("steps"), list):
        return bool(expected == found)
    steps = found["steps"]
    if len(steps) != len(expected["steps"]) or not all(isinstance(one, dict) for one in steps):
        return False
    free = [
        {**one, "value": right["value"]}
        if right["do"] == "fill" and right["value"] not in spoken and isinstance(one.get("value"), str) and one["value"]
        else one
        for one, right in zip(steps, expected["steps"], strict=True)
    ]
    return bool({**found, "steps": free} == expected)
