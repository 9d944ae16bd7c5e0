"""Finds where the answer to a question turns, in a row of versions, with few questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

SKIPS = 16
"""Versions about which there is no answer that are passed over in one place."""


class Turn(NamedTuple):
    """Where it turns."""

    before: int
    """The last version with the answer of the oldest one."""
    after: int
    """The first one with the other answer. Between the two there may be some without any."""
    answer: bool
    """That of `after`."""


def find_turn(count: int, ask: Callable[[int], bool | None]) -> Turn | None:
    """Where the answer turns between the oldest version (0) and the newest one; one of the places if there are several.
    None: both have the same answer. `ask`: None when there is no answer about a version."""
    low, before = _answered(range(count), ask)
    high, after = _answered(range(count - 1, low, -1), ask)
    if before is None or after is None or before == after:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        around = dict.fromkeys(middle + step for near in range(SKIPS) for step in (near, -near))
        found, answer = _answered([number for number in around if low < number < high], ask)
        if answer is None:
            break
        low, high = (found, high) if answer == before else (low, found)
    return Turn(low, high, after)


def _answered(numbers: Sequence[int], ask: Callable[[int], bool | None]) -> tuple[int, bool | None]:
    """The first of these versions about which there is an answer."""
    for number in numbers[:SKIPS]:
        answer = ask(number)
        if answer is not None:
            return number, answer
    return -1, None
