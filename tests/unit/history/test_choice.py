"""Never another moment than was asked for."""

from __future__ import annotations

import datetime

import pytest

from i2core.api import UsageError
from i2core.history.model.rows import Moment
from i2core.history.moments.choice import Available, Nearest, check_seq, choose

S = 10**9
HAD = Available(floor=Moment(100 * S, 10), last=Moment(200 * S, 20), marks=(Moment(20 * S, 2), Moment(60 * S, 6)))
LOG = [Moment((100 + 10 * n) * S, 10 + n) for n in range(11)]


def _log(time_ns: int) -> Moment | None:
    return max((moment for moment in LOG if moment.time_ns <= time_ns), key=lambda found: found.seq, default=None)


def _chosen(seconds: float, nearest: Nearest | None = None) -> int:
    return choose(int(seconds * S), HAD, _log, where=datetime.UTC, nearest=nearest).seq


@pytest.mark.parametrize(
    ("seconds", "seq"), [(100, 10), (105, 10), (110, 11), (199.9, 19), (200, 20), (9_999, 20), (20, 2), (60, 6)]
)
def test_a_time_means_the_state_after_the_last_change_before_it(seconds: float, seq: int) -> None:
    assert _chosen(seconds) == seq


@pytest.mark.parametrize("seconds", [19.999, 20.001, 59, 61, 99.999])
def test_a_moment_that_is_gone_is_refused(seconds: float) -> None:
    with pytest.raises(UsageError):
        _chosen(seconds)


def test_a_refusal_names_both_neighbours() -> None:
    with pytest.raises(UsageError) as refused:
        _chosen(30)
    step = str(refused.value.next_step)
    assert "1970-01-01T00:00:20.000000+00:00 (--nearest before)" in step
    assert "1970-01-01T00:01:00.000000+00:00 (--nearest after)" in step
    assert (_chosen(30, Nearest.BEFORE), _chosen(30, Nearest.AFTER)) == (2, 6)
    assert (_chosen(70, Nearest.BEFORE), _chosen(70, Nearest.AFTER)) == (6, 10)


def test_before_the_history_there_is_nothing() -> None:
    for nearest in (None, Nearest.BEFORE):
        with pytest.raises(UsageError, match="begins at 1970-01-01T00:00:20"):
            _chosen(5, nearest)
    assert _chosen(5, Nearest.AFTER) == 2


def test_a_history_without_a_change_has_its_beginning() -> None:
    had = Available(floor=Moment(100 * S, 0), last=Moment(100 * S, 0))
    assert choose(150 * S, had, lambda time_ns: None, where=datetime.UTC).seq == 0
    assert had.first.seq == 0
    assert HAD.first.seq == 2


@pytest.mark.parametrize("seq", [2, 6, 10, 15, 20])
def test_numbers_that_can_be_had(seq: int) -> None:
    check_seq(seq, HAD)


@pytest.mark.parametrize(("seq", "named"), [(1, "take 2"), (3, "take 2 or 6"), (9, "take 6 or 10"), (21, "i2 cdp log")])
def test_numbers_that_cannot(seq: int, named: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_seq(seq, HAD)
    assert named in str(refused.value.next_step)
