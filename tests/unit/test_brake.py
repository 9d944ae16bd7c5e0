"""The mass-delete brake, without clock or disk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.api import Kind, Record
from i2core.rule.backup.replica.brake import DAY_S, Brake, Path, RootBrake, loss_of, pieces, stricter
from i2core.wire.messages import BrakeLimits


def limits(*, share: float = 0.5, window_s: float = 60, least: int = 1000, on: bool = True) -> BrakeLimits:
    return BrakeLimits(share=share, window_s=window_s, least=least, on=on)


class Root:
    """A root with so many files, and its brake, used as by a receiver."""

    def __init__(self, files: int, brake: BrakeLimits | None = None) -> None:
        self.files = files
        self.brake = RootBrake(brake or limits())
        self.counted = 0

    def remove(self, count: int, now: float) -> bool:
        """False when the removal is held; then nothing is removed."""
        most = self.brake.wanted(count, now)
        if most:
            left = min(self.files, most)
            self.counted += left
            self.brake.count(left, whole=left < most)
        if self.brake.judge(count) is not None:
            return False
        self.brake.note(count, now)
        self.files -= count
        return True

    def drain(self, at_once: int, every_s: float, now: float = 0.0) -> int:
        """Files that are left when a steady removal is held, or ends."""
        while self.files and self.remove(min(at_once, self.files), now):
            now += every_s
        return self.files


@pytest.mark.parametrize(
    ("files", "going", "held"),
    [
        (10_000, 4500, False),
        (10_000, 5000, False),
        (10_000, 5001, True),
        (1500, 900, False),  # fewer than `least`
        (1500, 1000, True),
        (100_000, 1000, False),
        (400, 400, True),  # an emptied root, however few files
        (400, 321, True),
        (400, 320, False),
        (50, 50, True),
        (50, 49, False),
        (2, 2, True),
        (2, 1, False),
        (1, 1, False),  # a lone file may come and go
        (0, 0, False),
    ],
)
@pytest.mark.parametrize("batches", [1, 10])
def test_what_is_held(files: int, going: int, held: bool, batches: int) -> None:
    root = Root(files)
    shares = [going // batches] * (batches - 1)
    passed = all(root.remove(count, number * 0.1) for number, count in enumerate([*shares, going - sum(shares)]))
    assert passed is not held


@pytest.mark.parametrize("at_once", [1, 7, 100, 1000])
@pytest.mark.parametrize("every_s", [0.001, 0.6, 30.0])
def test_a_removal_is_held_however_slow_it_is(at_once: int, every_s: float) -> None:
    assert Root(4000).drain(at_once, every_s) >= 2000


@pytest.mark.parametrize("pause_s", [3.0, 61.0, 600.0])
def test_pauses_do_not_start_a_new_removal(pause_s: float) -> None:
    root = Root(10_000, limits(window_s=4))
    assert root.drain(100, pause_s) >= 5000 if 100 * pause_s < DAY_S else True


def test_a_small_root_is_held_while_some_of_it_is_left() -> None:
    assert Root(400).drain(1, 1.0) == 80
    assert Root(50).drain(1, 1.0) == 1


def test_a_day_later_what_is_left_is_what_there_is() -> None:
    root = Root(4000)
    assert root.remove(1900, 0.0)
    assert not root.remove(200, 3600.0)
    assert root.remove(1000, DAY_S + 1)


def test_added_files_count_back() -> None:
    """Rotated logs, a spool, a tree that is built again: as many files are added as removed."""
    root = Root(900)
    for step in range(1, 3000):
        root.files += 10
        assert root.remove(10, step * 5.0), f"after {step * 10} files"


def test_a_spool_that_is_emptied_and_filled_within_its_bounds() -> None:
    root = Root(300)
    for step in range(1, 500):
        assert root.remove(200, step * 90.0)
        root.files += 200


def test_a_root_that_grew_is_measured_by_what_it_has_now() -> None:
    root = Root(2000)
    assert root.remove(1, 0.0)
    root.files = 50_000
    assert root.remove(20_000, 1.0)
    assert not root.remove(10_000, 2.0)


def test_a_tree_that_is_removed_and_created_again_is_no_loss_the_next_time() -> None:
    root = Root(5000)
    for turn in range(1, 20):
        assert root.remove(2400, turn * 100.0)
        root.files += 2400


@pytest.mark.parametrize("files", [100, 10_000, 1_000_000])
def test_counting_costs_no_more_than_removing(files: int) -> None:
    root = Root(files)
    gone = files - root.drain(max(1, files // 5000), 0.01)
    assert root.counted <= 30 * gone + 10_000


def test_a_release_lets_through_what_is_held_and_nothing_else() -> None:
    root = Root(10_000)
    assert root.remove(5000, 0.0)
    assert not root.remove(500, 1.0)
    root.brake.release(1.0)
    root.files -= 500
    assert root.remove(2000, 2.0)
    assert not root.remove(1000, 3.0), "measured against the 4,500 that were left"


def test_after_a_release_another_emptying_is_held() -> None:
    root = Root(50, limits(share=0.2, least=10, window_s=40))
    assert not root.remove(50, 0.0)
    root.brake.release(0.0)
    root.files = 50
    assert not root.remove(50, 6.0)


def test_a_brake_that_is_off_holds_nothing_and_counts_nothing() -> None:
    root = Root(10_000, limits(on=False))
    assert root.remove(10_000, 0.0)
    assert root.counted == 0


@given(
    st.integers(1, 20_000),
    st.floats(0.01, 0.99),
    st.integers(1, 2000),
    st.lists(st.tuples(st.integers(1, 500), st.floats(0, 300)), max_size=30),
)
def test_never_more_is_removed_than_the_limits_allow(
    files: int, share: float, least: int, removals: list[tuple[int, float]]
) -> None:
    root = Root(files, limits(share=share, least=least))
    now = 0.0
    for count, pause in removals:
        root.remove(min(count, root.files), now)
        now += pause
    assert files - root.files <= max(least - 1, share * files) or files - root.files == 1


# ------------------------------------------------------------------------------------------------ limits


@pytest.mark.parametrize(
    ("rule", "floor", "both"),
    [
        (limits(share=0.9, least=5000), None, limits(share=0.9, least=5000)),
        (limits(share=0.9, least=5000), limits(share=0.5), limits(share=0.5)),
        (limits(share=0.1, least=5), limits(share=0.5), limits(share=0.1, least=5)),
        (limits(share=0.9, least=5), limits(share=0.5, window_s=600), limits(share=0.5, window_s=600, least=5)),
        (limits(share=1.0, on=False), limits(share=0.3, least=20), limits(share=0.3, least=20)),
        (limits(share=0.3), limits(share=1.0, on=False), limits(share=0.3)),
        (limits(share=1.0, on=False), limits(share=1.0, on=False), limits(share=1.0, on=False)),
    ],
)
def test_of_two_limits_the_stricter_one_counts(rule: BrakeLimits, floor: BrakeLimits | None, both: BrakeLimits) -> None:
    assert stricter(rule, floor) == both


def test_roots_have_brakes_of_their_own_and_limits_in_common() -> None:
    brake = Brake()
    assert brake.of("/a") is brake.of("/a")
    assert brake.of("/a") is not brake.of("/b")
    brake.limits = limits(least=3)
    assert brake.of("/a").limits.least == brake.of("/c").limits.least == 3


def test_roots_that_are_remembered_have_a_bound() -> None:
    brake = Brake()
    first = brake.of("/0")
    for number in range(Brake.MOST):
        brake.of(f"/{number}")
    assert brake.of("/0") is first
    brake.of("/one more")
    assert brake.of("/0") is not first


# ------------------------------------------------------------------------------------------------ what a batch takes


def rm(path: bytes, root: int = 0, *, staged: bool = False) -> Record:
    return Record(Kind.REMOVE, root, path, staged=staged)


def mv(old: bytes, new: bytes) -> Record:
    return Record(Kind.RENAME, 0, old, other=new)


def make(path: bytes, kind: Kind = Kind.CREATE) -> Record:
    return Record(kind, 0, path)


@pytest.mark.parametrize(
    ("records", "places", "back"),
    [
        ([rm(b"a"), rm(b"b")], [(0, b"a"), (0, b"b")], {}),
        ([rm(b"a"), rm(b"a", 1)], [(0, b"a"), (1, b"a")], {}),
        ([rm(b"d/a"), rm(b"d/b"), rm(b"d")], [(0, b"d")], {}),  # each file once
        ([rm(b"d"), rm(b"d/e/a")], [(0, b"d")], {}),
        ([rm(b"d"), rm(b"d2"), rm(b"d-1")], [(0, b"d"), (0, b"d-1"), (0, b"d2")], {}),
        ([rm(b"a", staged=True)], [], {}),
        ([rm(b"d/a"), rm(b"")], [(0, b"")], {}),
        ([rm(b"a"), make(b"a")], [(0, b"a")], {0: 1}),  # replaced
        ([make(b"a"), rm(b"a")], [(0, b"a")], {}),  # the previous object is removed
        ([rm(b"d"), make(b"d", Kind.MKDIR), make(b"d/a"), make(b"d/b", Kind.LINK)], [(0, b"d")], {0: 2}),
        ([rm(b"d"), make(b"e/a")], [(0, b"d")], {}),
        (
            [mv(b"a", b"b"), rm(b"b")],
            [
                (0, b"a"),
            ],
            {},
        ),
        ([mv(b"a", b"t/a"), rm(b"t")], [(0, b"a"), (0, b"t")], {}),  # moved into a tree that is removed
        ([mv(b"a", b"t/b"), mv(b"t", b"u"), rm(b"u")], [(0, b"a"), (0, b"t")], {}),
        ([mv(b"d", b"e"), rm(b"e/x")], [(0, b"d/x")], {}),
        ([mv(b"a", b"b"), mv(b"b", b"c"), rm(b"c")], [(0, b"a")], {}),
        ([rm(b"t"), mv(b"a", b"t")], [(0, b"t")], {}),
        ([make(b"a"), mv(b"a", b"b")], [], {}),
    ],
)
def test_the_loss_of_a_batch(records: list[Record], places: list[Path], back: dict[int, int]) -> None:
    loss = loss_of(records)
    assert (list(loss.places), loss.back) == (places, back)


def test_many_renames_and_removals_are_looked_at_in_pieces() -> None:
    removals = [rm(b"%d" % number) for number in range(3000)]
    assert [len(piece) for piece in pieces(removals)] == [3000]
    mixed = [*removals, mv(b"a", b"b")]
    assert [len(piece) for piece in pieces(mixed)] == [1000, 1000, 1000, 1]
    assert list(pieces([])) == []
