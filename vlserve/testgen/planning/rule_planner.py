"""Plans the steps and expectations of clauses without a model.

Every step that the elements of the page allow is a proposal; the judge's rules decide which of them a clause asks for.
A clause that two of them fit equally well is not planned.
"""

from collections.abc import Iterator, Mapping, Sequence

from vlserve.testgen.elements import CHOSEN_FROM, TURNED_ON, TYPED_INTO, Element, Look
from vlserve.testgen.judge.expectations import Expectations
from vlserve.testgen.judge.judge import held
from vlserve.testgen.judge.steps import Steps
from vlserve.testgen.judge.words import STEP_KINDS
from vlserve.testgen.plan import LONGEST_VALUE, PAGE, Assertion, Expectation, Step, tautology
from vlserve.testgen.planning import rule_values
from vlserve.testgen.planning.candidates import facts
from vlserve.testgen.scenario.button_names import CLICKED, is_called
from vlserve.testgen.scenario.clauses import Clause, key_of
from vlserve.testgen.scenario.typed_values import is_meant_by
from vlserve.testgen.scenario.wording import Pool, as_expected, has_phrase, has_word, unmeant

_MOST_DRAGGED = 20
_WITH_CREDENTIALS = frozenset({"log_in", "sign_up"})

Proposal = tuple[Step, ...]


def plan_step(
    clause: Clause, look: Look, done: Sequence[Step] = (), known: Mapping[str, Element] | None = None
) -> Proposal:
    """The steps that an action clause asks for on the page as it is now; empty if it is not understood or ambiguous.

    ``done`` are the steps before, ``known`` all elements by id that they use.
    """
    if clause.kind != "action" or clause.is_negative:
        return ()
    usable = [one for one in look.elements if not (one.is_group or one.is_inert or "disabled" in one.states)]
    elements = {**(known or {}), **{one.id: one for one in look.elements}}
    pool = Pool(tuple(look.elements), look, look)
    for tier in _tiers(clause, usable, done):
        accepted: dict[tuple[str, ...], Proposal] = {}
        for proposal in tier:
            steps = Steps((*done, *proposal), elements, pool)
            found, _ = steps.find(clause, len(done))
            if set(found) == set(range(len(done), len(done) + len(proposal))):
                accepted.setdefault(tuple(f"{one.element} {one.to}" for one in proposal), proposal)
        if accepted:
            return next(iter(accepted.values())) if len(accepted) == 1 else ()
    return ()


def plan_expectation(
    clause: Clause,
    before: Sequence[Look],
    after: Look,
    steps: Sequence[Step],
    known: Mapping[str, Element],
) -> tuple[Assertion, ...]:
    """What an expectation clause asks for and the page shows; empty if there is nothing of the kind.

    ``before`` are the looks before the last step, the first one first. All that is returned is so in ``after``; what
    was not so in the first look comes before what was. It is one expectation, or two for "only X is left".
    """
    if clause.kind != "expectation":
        return ()
    first = before[0] if before else after
    elements = {**{one.id: one for look in (*before, after) for one in look.elements}, **known}
    offered = [one for one in facts(clause, before, after) if not tautology(steps, one)]
    if steps:
        offered.sort(key=lambda one: held(one, elements, first))
    shown = {id_: as_expected(one) for id_, one in elements.items()}
    pool = Pool(tuple(shown.values()), first, after)
    found, _ = Expectations(offered, shown, pool).find(clause)
    return found


def plan_guess(
    clause: Clause, look: Look, offered: Sequence[Assertion], known: Mapping[str, Element]
) -> tuple[Assertion, ...]:
    """What a clause of a draft expects: one of the offered guesses, or a text that it quotes."""
    kind: Expectation = "no_text" if clause.verb == "gone" else "text"
    is_text = clause.verb in ("see", "gone") or (clause.verb == "contains" and not clause.is_negative)
    texts = [
        Assertion(expect=kind, element=PAGE, value=text)
        for text in clause.quoted
        if is_text and 0 < len(text) <= LONGEST_VALUE
    ]
    found, _ = Expectations([*texts, *offered], known, Pool(tuple(known.values()), look, look)).find(clause)
    return found


def is_covered_by(clause: Clause, one: Assertion, known: Mapping[str, Element], before: Look, after: Look) -> bool:
    """Whether an expectation is what a clause asks for."""
    shown = {id_: as_expected(each) for id_, each in known.items()}
    expectations = Expectations((one,), shown, Pool(tuple(shown.values()), before, after))
    return bool(expectations.find(clause)[0])


def _tiers(clause: Clause, usable: Sequence[Element], done: Sequence[Step]) -> Iterator[list[Proposal]]:
    """Proposals, in groups: a later group counts only if none of the earlier ones fits."""
    match clause.verb:
        case "tick" | "untick":
            yield _ticks(clause, usable)
        case "press":
            yield _presses(clause, usable, done)
        case "type" | "change":
            yield [*_fills(clause, usable), *_selects(clause, usable)]
            yield _made_up_fills(clause, usable)
        case "drag":
            yield _drags(clause, usable)
        case "search":
            yield _searches(clause, usable)
        case "add":
            yield _clicks_of(clause, usable)
            yield _adds(clause, usable)
        case "close":
            yield _clicks_of(clause, usable)
            yield _single(clause, usable)
        case verb if verb in STEP_KINDS:
            yield _single(clause, usable)
        case _:
            needs_credentials = clause.verb in _WITH_CREDENTIALS and not clause.left_empty
            if not needs_credentials or any(one.do == "fill" for one in done):
                yield _sent(clause, usable, done, fills_fields=False)
            yield _sent(clause, usable, done, fills_fields=True)


def _single(clause: Clause, usable: Sequence[Element]) -> list[Proposal]:
    """One step on an element that the clause names."""
    kinds = STEP_KINDS.get(clause.verb, ("click",))
    found: list[Proposal] = []
    if "select" in kinds:
        found += _selects(clause, usable)
    for one in _named(clause, usable):
        if "check" in kinds and one.role in TURNED_ON and "checked" not in one.states:
            found.append((Step(do="check", element=one.id),))
        elif clause.verb in ("double_click", "hover"):
            found.append((Step(do="double_click" if clause.verb == "double_click" else "hover", element=one.id),))
        elif "click" in kinds:
            found.append((Step(do="click", element=one.id),))
    return found


def _named(clause: Clause, usable: Sequence[Element]) -> list[Element]:
    """Elements with something of the clause in their names, or around them."""
    return [one for one in usable if len(unmeant(clause.words, clause.quoted, one)) < 1 + len(clause.words) // 2]


def _ticks(clause: Clause, usable: Sequence[Element]) -> list[Proposal]:
    found: list[Proposal] = []
    for one in usable:
        if one.role in TURNED_ON:
            found.append((Step(do="check" if clause.verb == "tick" else "uncheck", element=one.id),))
        elif {"pressed", "not_pressed"} & one.states:
            found.append((Step(do="click", element=one.id),))
    return found


def _presses(clause: Clause, usable: Sequence[Element], done: Sequence[Step]) -> list[Proposal]:
    """A key goes to the element that the clause names, else to where the focus is."""
    key = key_of(clause)
    if key is None:
        return []
    targets = [one for one in usable if one.role in TYPED_INTO | CHOSEN_FROM | CLICKED]
    named = [one for one in targets if one.name and has_phrase(one.name, clause.text)]
    last = [one for one in targets if done and one.id == done[-1].element and done[-1].do in ("fill", "press")]
    focused = [one for one in targets if "focused" in one.states]
    dialogs = [one for one in usable if one.role in ("dialog", "alertdialog")] if key == "Escape" else []
    fields = [one for one in targets if one.role in TYPED_INTO]
    chosen = next((ones for ones in (named, last, focused, dialogs, fields) if ones), [])
    return [(Step(do="press", element=one.id, value=key),) for one in chosen]


def _fields(usable: Sequence[Element]) -> list[Element]:
    return [one for one in usable if (one.role in TYPED_INTO or one.takes_text) and "readonly" not in one.states]


def _fills(clause: Clause, usable: Sequence[Element]) -> list[Proposal]:
    return [
        (Step(do="fill", element=one.id, value=value),)
        for one in _fields(usable)
        for value in rule_values.of_field(clause, one)
    ]


def _made_up_fills(clause: Clause, usable: Sequence[Element]) -> list[Proposal]:
    """For a clause that names a field and no value."""
    if clause.verb != "type" or clause.quoted or clause.numbers:
        return []
    return [(Step(do="fill", element=one.id, value=rule_values.made_up(clause, one)),) for one in _fields(usable)]


def _selects(clause: Clause, usable: Sequence[Element]) -> list[Proposal]:
    said = " | ".join((clause.text, *clause.quoted))
    return [
        (Step(do="select", element=one.id, value=option),)
        for one in usable
        if one.role in CHOSEN_FROM and not one.takes_text
        for option in one.options
        if option and has_phrase(option, said)
    ]


def _drags(clause: Clause, usable: Sequence[Element]) -> list[Proposal]:
    named = [one for one in usable if one.name and has_phrase(one.name, clause.text)][:_MOST_DRAGGED]
    return [(Step(do="drag", element=one.id, to=other.id),) for one in named for other in named if other is not one]


def _searches(clause: Clause, usable: Sequence[Element]) -> list[Proposal]:
    fields = _fields(usable)
    boxes = [one for one in fields if one.role == "searchbox"] or fields
    return [
        (Step(do="fill", element=one.id, value=value),) for one in boxes for value in rule_values.of_field(clause, one)
    ]


def _clicks_of(clause: Clause, usable: Sequence[Element]) -> list[Proposal]:
    """A click on what is called like the verb."""
    return [(Step(do="click", element=one.id),) for one in usable if is_called(one, clause.verb)]


def _adds(clause: Clause, usable: Sequence[Element]) -> list[Proposal]:
    """The new text goes into a field; then its button is clicked or, where there is none, Enter pressed."""
    buttons = [one for one in usable if is_called(one, "add")]
    found: list[Proposal] = []
    for field in _fields(usable):
        for value in rule_values.of_field(clause, field):
            fill = Step(do="fill", element=field.id, value=value)
            found += [(fill, Step(do="click", element=one.id)) for one in buttons]
            if not buttons:
                found.append((fill, Step(do="press", element=field.id, value="Enter")))
    return found


def _sent(clause: Clause, usable: Sequence[Element], done: Sequence[Step], *, fills_fields: bool) -> list[Proposal]:
    """A click on a button called like the verb, after the fields that the clause names are filled in."""
    found: list[Proposal] = []
    for one in usable:
        if not (is_called(one, clause.verb) if clause.verb else one.role in CLICKED):
            continue
        fills: Proposal = ()
        if fills_fields:
            fields = _fields(usable)
            own = [each for each in fields if one.around and each.around[:1] == one.around[:1]] or fields
            values = _values_of_fields(clause, own, done)
            fills = tuple(Step(do="fill", element=id_, value=value) for id_, value in values.items())
            if not fills:
                continue
        found.append((*fills, Step(do="click", element=one.id)))
    return found


def _values_of_fields(clause: Clause, fields: Sequence[Element], done: Sequence[Step]) -> dict[str, str]:
    """By id of a field: what is typed there."""
    filled = {one.element for one in done if one.do == "fill"}
    left_empty = [one.id for one in fields if any(is_meant_by(word, one) for word in clause.left_empty)]
    empty = [one for one in fields if one.id not in filled and one.id not in left_empty]
    values: dict[str, str] = {}
    for one in empty:
        if any(has_word(word, one.name) for word in clause.words) and (said := rule_values.next_to_name(clause, one)):
            values[one.id] = said[0]
    left = [text for text in clause.quoted if text not in values.values()]
    if clause.verb in _WITH_CREDENTIALS and (clause.words or clause.quoted):
        for one in empty:
            if one.id not in values and (not one.value or one.is_secret):
                values[one.id] = left.pop(0) if left else rule_values.made_up(clause, one)
        return {one.id: values[one.id] for one in empty if one.id in values}
    for one in empty:
        is_described = any(word in ("invalid", "wrong", "incorrect", "错误", "无效") for word in clause.words)
        if one.id not in values and is_described and any(has_word(word, one.name) for word in clause.words):
            values[one.id] = rule_values.made_up(clause, one)
    texts = [one for one in empty if one.id not in values]
    if clause.verb in ("send", "") and len(left) == 1 and len(texts) == 1:
        values[texts[0].id] = left[0]
    return values
