"""The runner that gives up the past: as it was promised, on both sides at once, and whatever comes between."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from i2core.api import Code, NoConfig, StopRule
from i2core.api.journal import Draft, Header, Journal, JournalContext
from i2core.api.records import Kind, Record
from i2core.config.model import CdpRetention, HistoryTerms, WhenHistoryFull
from i2core.history.index.index import Index
from i2core.history.retention import joint
from i2core.history.retention.pins import MomentGone
from i2core.history.retention.policy import DAY_NS
from i2core.history.retention.terms import Terms
from i2core.history.retention.thinner import Thinner
from i2core.history.retention.trim import InUse, Locked
from i2core.testing.memory_journal import memory_journal
from i2core.testing.memory_replica import EMPTY_FILE
from i2core.testing.memory_shelf import MemoryShelf

from . import recorded_lives, thinned_lives
from .joined import Joined
from .thinned import Lived, in_files, live

ONE_DAY = CdpRetention(detailed_days=1, daily=0, monthly=0)


async def once(thinner: Thinner) -> None:
    await thinner.run_once(lambda code, text: None)


def trim(seq: int) -> Callable[[Thinner], Awaitable[None]]:
    async def work(thinner: Thinner) -> None:
        await thinner.trim(seq)

    return work


@contextmanager
def world(path: Path, *, shelf: MemoryShelf | None = None, segment_bytes: int = 1) -> Iterator[Joined]:
    """A history with a file `a`; each frame has a segment of its own."""
    spec = memory_journal(shelf or MemoryShelf())
    context = JournalContext(directory=os.fsencode(path), segment_bytes=segment_bytes, reserve_bytes=0)
    made = Joined(random.Random(1), str(path), lambda: spec.open(NoConfig(), context))  # noqa: S311
    try:
        made.terms = Terms(policy=ONE_DAY)
        made.begin()
        made.apply([Record(Kind.CREATE, 0, b"a", meta=EMPTY_FILE)])
        yield made
    finally:
        made.close()


def write(made: Joined, number: int, days: float = 0.0) -> int:
    """Overwrites the file, and lets time pass; the moment after it."""
    made.pass_time(int(days * DAY_NS))
    made.apply([Record(Kind.WRITE, 0, b"a", data=bytes([number]) * 30)])
    made.flush()
    return made.seq


def test_what_is_promised_stays_whenever_it_is_killed() -> None:
    lives = [live(seed) for seed in range(30)]
    lived = Lived(*map(sum, zip(*lives, strict=True)))
    assert lived.moments > 1000
    assert lived.kills > 50
    assert lived.merged > 50
    assert lived.dropped > 50


def test_what_is_promised_stays_beside_records_and_power_cuts() -> None:
    lived = recorded_lives.Lived(*map(sum, zip(*[thinned_lives.live(seed) for seed in range(8)], strict=True)))
    assert lived.moments > 300
    assert lived.cuts > 5


MANY = [1000, 1100, *(pytest.param(first, marks=pytest.mark.hunt) for first in range(1200, 2000, 100))]
"""The first seeds of a hundred lives each. All of them take twenty minutes."""


@pytest.mark.slow
@pytest.mark.parametrize("first", MANY)
def test_what_is_promised_stays_beside_records_and_power_cuts_in_many_lives(first: int) -> None:
    for seed in range(first, first + 100):
        thinned_lives.live(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", MANY)
def test_what_is_promised_stays_whenever_it_is_killed_in_many_lives(first: int) -> None:
    for seed in range(first, first + 100):
        live(seed)


@pytest.mark.parametrize("seed", [1458, 1755])
def test_lives_that_went_wrong(seed: int) -> None:
    """1458: an undo that was broken off, and a sweep after it, left objects open. 1755: an object that a power cut left
    under the name of another one was in none of its places, and start-up failed."""
    live(seed)


def test_old_bytes_ahead_of_their_record_stay(tmp_path: Path) -> None:
    """A record that destroys much has frames with old bytes ahead of its own, in segments that are below the floor."""
    with world(tmp_path) as made:
        made.apply([Record(Kind.WRITE, 0, b"a", data=bytes(range(1, 251)))])
        made.flush()
        before = made.seq
        made.pass_time(2 * DAY_NS)
        made.apply([Record(Kind.TRUNCATE, 0, b"a", size=0)])
        made.flush()
        made.retained(once)
        assert made.kept().floor == before
        made.check(before, "the floor")
        assert len(made.of_world.journal.segments) < 5


def test_old_bytes_ahead_of_their_record_stay_when_what_follows_is_merged(tmp_path: Path) -> None:
    """The segment with them is not dropped, although all of its own records are older than the oldest moment."""
    with world(tmp_path) as made:
        made.terms = Terms(policy=CdpRetention(detailed_days=1, daily=3, monthly=0))
        made.apply([Record(Kind.WRITE, 0, b"a", data=bytes(range(1, 251)))])
        made.flush()
        for _ in range(6):
            made.pass_time(DAY_NS)
            made.apply([Record(Kind.WRITE, 0, b"a", data=made.rng.randbytes(250))])
            made.flush()
            for _ in range(2):
                made.retained(once)
                for seq in [*made.kept().marks, *range(made.kept().floor, made.seq + 1)]:
                    made.check(seq, made.kept())


def test_a_moment_that_is_read_stays_until_its_reader_ends(tmp_path: Path) -> None:
    with world(tmp_path) as made:
        first = write(made, 1)
        write(made, 2)
        write(made, 3, days=3)

        async def reading(thinner: Thinner) -> None:
            pins = thinner.pins
            with pins.pin(first):
                await once(thinner)
                assert not thinner.kept.has(first)
                with pins.pin(first):
                    pass  # who comes while somebody else reads may read it as well
            with pytest.raises(MomentGone):
                pins.pin(first).__enter__()

        made.retained(reading)
        made.check(first, "pinned")
        made.retained(once)
        assert not made.kept().has(first)


def test_a_jump_of_the_system_clock_gives_nothing_up(tmp_path: Path) -> None:
    with world(tmp_path) as made:
        first = write(made, 1)
        write(made, 2)
        steady = made.clock.steady
        made.clock.steady = steady.read(steady.now_ns + 400 * DAY_NS, b"", steady.running_ns + DAY_NS // 24)
        told: list[str] = []

        async def run(thinner: Thinner) -> None:
            for _ in range(2):
                await thinner.run_once(lambda code, text: told.append(text.en))

        made.retained(run)
        assert made.kept().has(first)
        assert ["ahead" in text for text in told] == [True], "said once"


def test_the_lock_holds_against_everybody(tmp_path: Path) -> None:
    with world(tmp_path) as made:
        first = write(made, 1)
        second = write(made, 2)
        made.terms = Terms(policy=ONE_DAY, own=HistoryTerms(lock_s=30 * 86400.0))
        write(made, 3, days=5)
        made.retained(once)
        assert made.kept().has(first)
        with pytest.raises(Locked) as caught:
            made.retained(trim(second))
        assert caught.value.free < second
        # A lock that is made shorter stays true for what was written under it.
        made.terms = Terms(policy=ONE_DAY)
        made.retained(once)
        made.check(first, "locked")
        made.pass_time(31 * DAY_NS)
        made.retained(once)
        assert not made.kept().has(first)


def test_an_administrator_may_trim_what_is_not_locked(tmp_path: Path) -> None:
    with world(tmp_path) as made:
        first = write(made, 1)
        second = write(made, 2)
        made.retained(trim(second))
        assert not made.kept().has(first)
        made.check(second, "the floor")
        assert sum(segment.next_seq - segment.first_seq for segment in made.of_world.journal.segments) == 0


def test_what_is_read_is_not_trimmed(tmp_path: Path) -> None:
    with world(tmp_path) as made:
        first = write(made, 1)
        second = write(made, 2)

        async def reading(thinner: Thinner) -> None:
            with thinner.pins.pin(first):
                with pytest.raises(InUse) as caught:
                    await thinner.trim(second)
                assert caught.value.seq == first
                assert thinner.kept.has(first)
            plan = await thinner.to_trim(second)
            assert plan.moments == second - thinner.kept.floor
            assert plan.most_bytes > 0
            assert thinner.kept.has(first), "a plan changes nothing"
            assert (await thinner.trim(second)).moments == plan.moments
            assert (await thinner.to_trim(first)).moments == 0

        made.retained(reading)
        assert not made.kept().has(first)


def test_a_full_disk_takes_the_oldest_or_nothing(tmp_path: Path) -> None:
    shelf = MemoryShelf()
    with world(tmp_path, shelf=shelf) as made:
        made.terms = Terms(policy=CdpRetention(detailed_days=30, daily=5, monthly=5))
        for number in range(20):
            write(made, number, days=0.5)
        found: list[bool] = []

        async def make_room(thinner: Thinner) -> None:
            space = await made.of_world.journal.space()
            shelf.room = space.used_bytes + 10
            found.append(await thinner.make_room(space.used_bytes // 2))

        own = HistoryTerms(when_full=WhenHistoryFull.STOP)
        made.terms = Terms(policy=made.terms.policy, own=own)
        made.retained(make_room)
        assert made.kept().floor == 0
        made.terms = Terms(policy=made.terms.policy)
        made.retained(make_room)
        assert found == [False, True]
        kept = made.kept()
        assert 0 < kept.floor < made.seq
        for seq in range(kept.floor, made.seq + 1):
            made.check(seq, "above the floor")
        write(made, 99)


def test_a_locked_history_stays_on_a_full_disk(tmp_path: Path) -> None:
    with world(tmp_path) as made:
        made.terms = Terms(policy=ONE_DAY, own=HistoryTerms(lock_s=90 * 86400.0))
        first = write(made, 1)
        write(made, 2, days=2)
        found: list[bool] = []

        async def make_room(thinner: Thinner) -> None:
            found.append(await thinner.make_room(1 << 50))

        made.retained(make_room)
        assert found == [False]
        made.check(first, "locked")


def test_every_promised_moment_stays_in_files(tmp_path: Path) -> None:
    lives = [live(seed, in_files, rounds=5) for seed in range(4)]
    assert sum(lived.merged for lived in lives)
    assert sum(lived.kills for lived in lives)


def test_a_damaged_segment_is_not_merged(tmp_path: Path) -> None:
    """Copied, the damage would look like what was written."""
    (tmp_path / "index").mkdir()
    made = Joined(random.Random(1), str(tmp_path / "index"), in_files(str(tmp_path / "journal")))  # noqa: S311
    try:
        made.terms = Terms(policy=ONE_DAY)
        made.begin()
        made.apply([Record(Kind.CREATE, 0, b"a", meta=EMPTY_FILE)])
        for number in range(20):
            write(made, number, days=0.3)
        damaged = made.of_world.journal.segments[3]
        file = tmp_path / "journal" / "segments" / f"{damaged.number}.seg"
        content = bytearray(file.read_bytes())
        content[-60] ^= 1
        file.write_bytes(content)
        made.terms = Terms(policy=CdpRetention(detailed_days=1, daily=9, monthly=0))
        with pytest.raises(StopRule) as caught:
            made.retained(once)
        assert caught.value.code is Code.CDP_INCOMPLETE
        assert damaged in made.of_world.journal.segments
    finally:
        made.close()


def test_an_index_that_cannot_be_written_stops_the_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with world(tmp_path) as made:
        write(made, 1)
        write(made, 2, days=3)

        def fails(*args: object, **named: object) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(joint, "prepare", fails)
        with pytest.raises(StopRule) as caught:
            made.retained(once)
        assert caught.value.code is Code.CDP_INDEX_WRITE


def test_an_index_of_another_time_is_refused(tmp_path: Path) -> None:
    with world(tmp_path) as made:
        first = write(made, 1)
        write(made, 2, days=3)
        shutil.copytree(made.directory, tmp_path / "before")
        made.retained(once)
        assert made.kept().floor == first
        old = Index(str(tmp_path / "before"))
        with pytest.raises(StopRule) as caught:
            joint.agree(old, made.of_world.journal.note)
        assert caught.value.code is Code.CDP_INDEX_DAMAGED
        old.close()


def test_a_disk_that_fills_up_is_reported_once_and_when_it_is_worse(tmp_path: Path) -> None:
    shelf, told = MemoryShelf(), list[tuple[Code, str]]()
    with world(tmp_path, shelf=shelf) as made:
        made.terms = Terms(policy=CdpRetention(detailed_days=30))

        async def passes(thinner: Thinner) -> None:
            for hours in (20, 20, 19, 9, 9, 4):
                made.pass_time(DAY_NS // 24)
                await grow(thinner, hours)

        async def grow(thinner: Thinner, hours: int) -> None:
            before = (await made.of_world.journal.space()).used_bytes
            draft = Draft(Header(1, made.planned + 1, 0, 0, 0, made.applied_ns), bytes(1000))
            await made.of_world.journal.append([draft._replace(header=_later(draft.header, made.of_world.journal))])
            grown = (await made.of_world.journal.space()).used_bytes
            shelf.room = grown + hours * (grown - before)
            await thinner.run_once(lambda code, text: told.append((code, text.en)))

        made.retained(passes)
        assert [code for code, _ in told] == [Code.CDP_FILLS_UP] * len(told)
        assert [text for _, text in told] == [f"the CDP disk is full in {hours} h" for hours in (20, 9, 4)]


def _later(header: Header, journal: Journal) -> Header:
    last_ns = journal.segments[-1].last_ns
    return header._replace(first_ns=last_ns, last_ns=last_ns)
