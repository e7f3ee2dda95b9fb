"""The demo text model's training data: its content, held-out values, and valid tool calls."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "samples" / "demo-models" / "training"))

from conversations import mixture as conversations
from conversations.identity import IDENTITY
from conversations.knowledge import FACTS
from conversations.mixture import KINDS, Conversation
from conversations.sums import Sum
from conversations.words import Dice, is_held_out

pytestmark = pytest.mark.full

TYPES: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "null": type(None),
}


@pytest.fixture(scope="module")
def trained() -> list[Conversation]:
    random = Random(1)
    return [conversations.conversation(random, "train") for _ in range(20_000)]


@pytest.fixture(scope="module")
def held_out() -> list[Conversation]:
    random = Random(2)
    return [conversations.conversation(random, "held-out") for _ in range(1_500)]


def calls(made: Conversation) -> Iterator[tuple[str, dict[str, Any]]]:
    for message in made.messages:
        for call in message.get("tool_calls", ()):
            yield call["function"]["name"], json.loads(call["function"]["arguments"])


def functions(made: Conversation) -> dict[str, dict[str, Any]]:
    return {tool["function"]["name"]: tool["function"] for tool in made.tools or ()}


def parameters(made: Conversation) -> set[str]:
    found: set[str] = set()
    for function in functions(made).values():
        found.update((function["parameters"] or {}).get("properties", {}))
    return found


def said(made: Conversation) -> str:
    return "\n".join(message["content"] for message in made.messages if message["content"] is not None)


def strings(arguments: dict[str, Any]) -> Iterator[str]:
    for value in arguments.values():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str):
                yield one


def test_every_kind_occurs_and_many_have_tools(trained: list[Conversation]) -> None:
    kinds = Counter(made.kind for made in trained)
    assert set(kinds) == set(KINDS) - {"arithmetic_unseen"}
    assert min(kinds.values()) > 100
    assert 0.36 < sum(count for kind, count in kinds.items() if kind.startswith("tool")) / len(trained) < 0.46


def test_evaluated_tool_and_parameter_names_are_never_trained(
    trained: list[Conversation], held_out: list[Conversation]
) -> None:
    for names in (functions, parameters):
        seen = {name for made in trained for name in names(made)}
        kept = {name for made in held_out for name in names(made)}
        assert len(kept) > 500
        assert not seen & kept


def test_evaluated_values_are_never_trained(trained: list[Conversation], held_out: list[Conversation]) -> None:
    def values(made: list[Conversation]) -> set[str]:
        return {text for one in made for _, arguments in calls(one) for text in strings(arguments)}

    kept = {text for text in values(held_out) if " " in text or "@" in text or "/" in text}
    assert len(kept) > 200
    assert not kept & values(trained)


def test_evaluated_questions_are_never_trained(trained: list[Conversation]) -> None:
    asked = {message["content"] for made in trained for message in made.messages if message["role"] == "user"}
    random = Random(3)
    for kind in ("identity", "fact", "arithmetic", "arithmetic_unseen"):
        kept = {conversations.evaluation(random, kind).messages[-2]["content"] for _ in range(150)}
        assert not kept & asked, kind


def test_unseen_sums_are_never_trained(trained: list[Conversation]) -> None:
    random = Random(4)
    sums = {conversations.evaluation(random, "arithmetic_unseen").messages[-1]["content"] for _ in range(300)}
    assert len(sums) > 200
    answers = {message["content"] for made in trained for message in made.messages if message["role"] == "assistant"}
    assert not sums & answers
    assert all(is_right(answer) for answer in sums)


def is_right(answer: str) -> bool:
    left, right = answer.rstrip(".").split(" = ")
    a, sign, b = left.split(" ")
    return Sum(int(a), sign, int(b)).result == int(right)


def test_copied_values_are_in_the_conversation(trained: list[Conversation], held_out: list[Conversation]) -> None:
    checked = 0
    for made in (*trained, *held_out):
        text = said(made)
        for name, arguments in calls(made):
            assert name in functions(made)
            for value in strings(arguments):
                assert value in text
                checked += 1
            for value in arguments.values():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    assert str(value) in text
    assert checked > 5_000


def test_calls_fit_their_schemas(trained: list[Conversation], held_out: list[Conversation]) -> None:
    for made in (*trained, *held_out):
        for name, arguments in calls(made):
            schema = functions(made)[name]["parameters"] or {}
            properties = schema.get("properties", {})
            assert list(arguments) == [key for key in properties if key in arguments], "in the schema's order"
            assert set(schema.get("required", ())) <= set(arguments)
            for key, value in arguments.items():
                kinds = properties[key]["type"]
                allowed = [TYPES[kind] for kind in (kinds if isinstance(kinds, list) else [kinds])]
                assert any(isinstance(value, kind) for kind in allowed), (name, key, value)
                assert not isinstance(value, bool) or "boolean" in kinds
                assert value in properties[key].get("enum", [value])


def test_messages_follow_each_other_and_end_with_the_assistant(
    trained: list[Conversation], held_out: list[Conversation]
) -> None:
    after = {"": {"system", "user"}, "system": {"user"}, "user": {"assistant"}, "tool": {"tool", "assistant"}}
    for made in (*trained, *held_out):
        before: dict[str, Any] = {"role": ""}
        for message in made.messages:
            allowed = {"tool"} if before.get("tool_calls") else after.get(before["role"], {"user"})
            assert message["role"] in allowed
            before = message
        assert before["role"] == "assistant"
        for message in made.messages:
            assert message["content"] or message.get("tool_calls") or message["role"] == "tool"


def test_one_result_for_each_call(trained: list[Conversation]) -> None:
    for made in trained:
        wanted = 0
        for message in made.messages:
            assert message["role"] != "assistant" or wanted <= 0, "answered before all results were there"
            wanted -= message["role"] == "tool"
            wanted += len(message.get("tool_calls", ()))
            assert wanted >= 0


def test_forced_calls_are_those_that_vllm_allows() -> None:
    random = Random(9)
    for _ in range(200):
        made = conversations.evaluation(random, "tool_forced")
        answer = json.loads(made.messages[-1]["content"])
        if isinstance(answer, list):
            assert all(list(one) == ["name", "parameters"] and one["name"] in functions(made) for one in answer)
        else:
            assert set(answer) <= parameters(made)


def test_the_same_seed_makes_the_same_conversations() -> None:
    first, second = (
        [conversations.conversation(random, split) for split in ("train", "held-out") for _ in range(100)]
        for random in (Random(5), Random(5))
    )
    assert first == second


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_uses_held_out_data(kind: str) -> None:
    random = Random(6)
    made = [conversations.evaluation(random, kind) for _ in range(60)]
    assert {one.kind for one in made} == {kind}
    assert all(one.messages[-1]["role"] == "assistant" for one in made)
    assert all(is_held_out(name) for one in made for name in functions(one))


def test_missing_values_are_asked_for_before_a_tool_is_called() -> None:
    random = Random(7)
    asked = [conversations.evaluation(random, "tool_missing") for _ in range(200)]
    questions = [
        m["content"] for made in asked for m in made.messages if (m["content"] or "").startswith("Please tell me the")
    ]
    assert len(questions) > 100
    for _ in range(200):
        assert not list(calls(conversations.evaluation(random, "tool_unfit")))
        assert len(list(calls(conversations.evaluation(random, "tool_parallel")))) > 1


def test_every_fact_has_six_questions_and_one_answer() -> None:
    answers: dict[str, set[str]] = {}
    for fact in (*FACTS, *IDENTITY):
        assert len(set(fact.questions)) >= 6, fact
        for question in fact.questions:
            answers.setdefault(question.lower().rstrip("?.!？。"), set()).add(fact.answer)
    assert not {question: said for question, said in answers.items() if len(said) > 1}
    assert len(FACTS) > 400


def test_questions_of_the_readme_are_trained() -> None:
    known = {question: fact.answer for fact in (*FACTS, *IDENTITY) for question in fact.questions}
    assert known["Name three things to test on a sign-in page."] == (
        "A right password, a wrong password and an empty field."
    )
    assert known["Who are you?"].startswith("I am vlserve's demo text model")
    assert known["Hello"].startswith("Hello!")


def test_common_names_are_trained(trained: list[Conversation]) -> None:
    names = {name for made in trained for name in functions(made)}
    assert {"get_weather", "search_orders", "set_timer", "send_email", "convert_currency", "add", "click"} <= names
    assert {"city", "customer", "minutes", "to", "subject", "amount", "url"} <= {
        name for made in trained for name in parameters(made)
    }
    assert not any(is_held_out(name) for name in names)


def test_conversations_are_short(trained: list[Conversation]) -> None:
    sizes = sorted(len(said(made)) + len(json.dumps(made.tools, ensure_ascii=False)) for made in trained)
    assert sizes[len(sizes) // 2] < 1_000
    assert sizes[-1] < 4_000


def test_vocabulary_is_small(trained: list[Conversation]) -> None:
    """The tokenizer has 3,000 tokens, so text that is not copied has few words and characters."""
    spoken = Counter(
        word
        for made in trained
        for message in made.messages
        if message["role"] == "assistant" and message["content"]
        for word in message["content"].split()
        if word.isalpha() and word.islower() and word.isascii()
    )
    assert sum(count > 20 for count in spoken.values()) < 2_000
    characters = {character for made in trained for character in said(made) if character > "\u2fff"}
    assert len(characters) < 800


def test_every_conversation_renders_with_the_chat_template(
    trained: list[Conversation], held_out: list[Conversation]
) -> None:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda tree: json.dumps(tree, ensure_ascii=False)  # of transformers
    source = (REPOSITORY / "samples" / "demo-models" / "training" / "chat_template.jinja").read_text(encoding="utf-8")
    template = environment.from_string(source)
    for made in (*trained[:1_000], *held_out[:300]):
        text = template.render(messages=made.messages, tools=made.tools, add_generation_prompt=False)
        assert text.endswith("<|im_end|>\n")
        assert text.count("<|im_start|>assistant\n") == sum(one["role"] == "assistant" for one in made.messages)
        for name, arguments in calls(made):
            call = {"name": name, "arguments": arguments}
            assert f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>" in text


def test_random_choices_keep_to_their_split() -> None:
    for split in ("train", "held-out"):
        dice = Dice(Random(8), split)
        for _ in range(50):
            text = dice.on_side(lambda dice: str(dice.number(0, 1_000)))
            assert is_held_out(text) == (split == "held-out")
