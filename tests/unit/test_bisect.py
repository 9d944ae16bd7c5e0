"""The place where an answer turns is found with few questions, also where some versions give no answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from i2core.cli.cdp.bisect import SKIPS, Turn, find_turn


@given(st.integers(2, 100_000), st.data())
def test_one_turn_is_found_with_few_questions(count: int, data: st.DataObject) -> None:
    at = data.draw(st.integers(1, count - 1))
    asked: list[int] = []

    def ask(number: int) -> bool:
        asked.append(number)
        return number >= at

    assert find_turn(count, ask) == Turn(at - 1, at, True)
    assert len(asked) <= 2 + count.bit_length()


@given(st.lists(st.sampled_from([True, False, None]), max_size=60))
def test_what_is_found_is_a_turn(answers: list[bool | None]) -> None:
    found = find_turn(len(answers), answers.__getitem__)
    known = [answer for answer in answers if answer is not None]
    if found is not None:
        assert answers[found.before] is not found.answer and answers[found.after] is found.answer
        assert found.before < found.after
    elif len(answers) <= SKIPS and known:
        assert known[0] == known[-1]


def test_versions_without_an_answer_are_passed_over() -> None:
    answers = [False] * 5 + [None] * 9 + [True] * 3
    assert find_turn(len(answers), answers.__getitem__) == Turn(4, 14, True)
