"""The restart policy: tables of deaths, with fixed time and randomness."""

import pytest

from vlserve.engines.restarts import Pause, Restarts

MIDDLE = 0.5  # no jitter


def pauses(deaths: list[tuple[float, float]]) -> list[Pause | None]:
    """Of deaths at a time (s) after being ready for so long (s)."""
    restarts = Restarts(lambda: MIDDLE)
    return [restarts.after(at, ready_s, is_lasting=False) for at, ready_s in deaths]


def test_backoff_doubles_to_a_minute() -> None:
    found = pauses([(100.0 * number, 0.0) for number in range(8)])
    assert found == [Pause(wait_s, False) for wait_s in (1, 2, 4, 8, 16, 32, 60, 60)]


def test_stable_run_resets_the_backoff() -> None:
    assert pauses([(0, 0), (100, 0), (200, 11), (300, 9)])[2:] == [Pause(1, False), Pause(2, False)]


def test_fifth_exit_in_a_minute_opens_the_breaker_until_a_stable_run() -> None:
    found = pauses(
        [(0, 0), (10, 0), (20, 0), (30, 0), (60, 0), (500, 0), (1500, 0), (9000, 0), (20000, 0), (30000, 11)]
    )
    assert found[3] == Pause(8, False)
    assert found[4:] == [*(Pause(wait_s, True) for wait_s in (60, 120, 240, 480, 600)), Pause(1, False)]


def test_stable_runs_never_open_the_breaker() -> None:
    assert pauses([(12.0 * number, 11) for number in range(9)]) == [Pause(1, False)] * 9


def test_five_exits_in_more_than_a_minute_do_not_open_the_breaker() -> None:
    assert pauses([(0, 0), (10, 0), (20, 0), (30, 0), (60.1, 0)])[-1] == Pause(16, False)


def test_permanent_failures_are_not_retried() -> None:
    assert Restarts().after(0, 0, is_lasting=True) is None


def words(*deaths: tuple[str, float]) -> list[bool]:
    """Whether the engine starts again after deaths with these last words, and seconds of being ready."""
    restarts = Restarts(lambda: MIDDLE)
    return [
        restarts.after(100.0 * at, ready_s, is_lasting=False, last_words=last) is not None
        for at, (last, ready_s) in enumerate(deaths)
    ]


def test_start_that_fails_twice_with_the_same_words_is_not_tried_again() -> None:
    first, second = (
        "exit code 1, ERROR 11-28 22:50:13 [core.py:8] at 0x7fe2: KeyError: 'a'",
        "exit code 1, KeyError: 'b'",
    )
    assert words((first, 0), (first.replace("13", "59").replace("0x7fe2", "0xab1c"), 0)) == [True, False]
    assert words((first, 0), (second, 0), (first, 0), ("", 0), (first, 0)) == [True] * 5
    assert words(("", 0), ("", 0)) == [True, True]


def test_engine_that_was_ready_once_is_always_tried_again() -> None:
    assert words(("", 0.5), ("exit code 1, no output", 0), ("exit code 1, no output", 0)) == [True] * 3


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 0.75), (0.5, 1.0), (0.999999, 1.25)])
def test_waits_differ_by_a_quarter(chance: float, factor: float) -> None:
    pause = Restarts(lambda: chance).after(0, 0, is_lasting=False)
    assert pause
    assert pause.wait_s == pytest.approx(factor, abs=1e-4)


def test_announced_wait_is_the_next_wait() -> None:
    restarts = Restarts(lambda: MIDDLE)
    for at in (0, 100, 200):
        expected_s = restarts.next_wait_s(0)
        pause = restarts.after(at, 0, is_lasting=False)
        assert pause
        assert pause.wait_s == expected_s
