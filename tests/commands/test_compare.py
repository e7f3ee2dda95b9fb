"""`vlserve compare`: what counts as equal. With real engines it runs in tests/vllm/test_answers.py."""

import pytest

from tests.conftest import user
from vlserve.commands.compare.compare import Question, ServedAnswer, judge, questions

QUESTION = Question("q", user("x"))
EXPECTED = {"prompt_token_ids": [1, 2], "token_ids": [5, 6], "steps": [{"5": -0.5, "9": -2}, {"6": -0.7, "8": -0.7005}]}


@pytest.mark.parametrize(
    ("answer", "problem", "is_tie"),
    [
        (ServedAnswer([1, 2], [5, 6], [-0.5, -0.7]), None, False),
        (ServedAnswer([1, 2], [5, 6], [-0.5004, -0.7]), None, False),
        (ServedAnswer([1, 2], [5, 6], [-0.5, -0.702]), "token 2: log-probability off by 0.002", False),
        (ServedAnswer([1, 2], [5, 6], [-0.5, float("nan")]), "token 2: log-probability off by nan", False),
        (ServedAnswer([1, 2], [5, 8], [-0.5, -0.7004]), None, True),
        (ServedAnswer([1, 2], [5, 8], [-0.5, -9]), "token 2 is 8, reference 6", False),
        (ServedAnswer([1, 2], [9, 6], [-0.5, -0.7]), "token 1 is 9, reference 5", False),
        (ServedAnswer([1, 2], [7, 6], [-0.5, -0.7]), "token 1 is 7, reference 5", False),
        (ServedAnswer([1, 2, 2], [5, 6], [-0.5, -0.7]), "the prompt differs (3 tokens, reference 2)", False),
    ],
)
def test_only_equal_tokens_and_close_log_probabilities_are_equal(
    answer: ServedAnswer, problem: str | None, is_tie: bool
) -> None:
    finding = judge(QUESTION, answer, EXPECTED, 1e-3)
    assert (finding.problem, finding.is_tie, finding.is_skipped) == (problem, is_tie, False)


def test_questions_refused_by_limits_are_reported_and_not_judged() -> None:
    finding = judge(QUESTION, "too_many_images", None, 1e-3)
    assert finding.is_skipped
    assert "too_many_images" in str(finding.problem)


def test_questions_are_the_same_at_every_call_and_no_two_are_alike() -> None:
    for engine in ("text", "vision"):
        first, second = list(questions(engine)), list(questions(engine))
        assert first == second
        assert len({str(question.messages) for question in first}) == len(first)
