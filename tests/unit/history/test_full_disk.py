"""Giving up the past on a disk that is really full: journal and index lie on it together."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from i2_store_cdp.journal import open_journal

from i2core.api.journal import JournalContext
from i2core.api.records import Kind, Record
from i2core.config.model import CdpRetention, HistoryTerms, WhenHistoryFull
from i2core.history.retention.policy import DAY_NS
from i2core.history.retention.terms import Terms
from i2core.history.retention.thinner import Thinner
from i2core.testing.memory_replica import EMPTY_FILE

from .joined import Joined

MIB = 1 << 20
SIZE = 400


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(path)], check=True)  # noqa: S603, S607
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)  # noqa: S603, S607


def fill(path: Path) -> None:
    """Leaves no room."""
    with open(path / "ballast", "ab", buffering=0) as file:
        for size in (MIB, 65536, 4096):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


@contextmanager
def history(top: Path) -> Iterator[Joined]:
    """Of fifteen days, with a change of a file every eight hours."""
    (top / "index").mkdir()
    context = JournalContext(directory=os.fsencode(top / "journal"), segment_bytes=4000, reserve_bytes=2 * MIB)
    made = Joined(random.Random(1), str(top / "index"), lambda: open_journal(context))  # noqa: S311
    try:
        made.begin()
        made.apply([Record(Kind.CREATE, 0, b"a", meta=EMPTY_FILE)])
        for _ in range(45):
            made.pass_time(DAY_NS // 3)
            made.apply([Record(Kind.WRITE, 0, b"a", data=made.rng.randbytes(SIZE))])
            made.flush()
        yield made
    finally:
        made.close()


def check_all(made: Joined) -> None:
    kept = made.kept()
    for seq in [*kept.marks, *range(kept.floor, made.seq + 1)]:
        made.check(seq, kept)


@pytest.mark.root
def test_a_full_disk_gets_room_by_what_is_over(tmp_path: Path) -> None:
    """With the reserve, what is promised is merged, and the rest of it goes."""
    with small_disk(tmp_path / "disk") as top, history(top) as made:
        made.terms = Terms(policy=CdpRetention(detailed_days=2, daily=3, monthly=1))
        fill(top)
        before = len(made.of_world.journal.segments)

        async def once(thinner: Thinner) -> None:
            await thinner.run_once(lambda code, text: None)
            assert thinner.objective().is_met

        made.retained(once)
        assert len(made.of_world.journal.segments) < before
        assert any(segment.merged for segment in made.of_world.journal.segments)
        check_all(made)
        made.apply([Record(Kind.WRITE, 0, b"a", data=b"there is room again")])


@pytest.mark.root
@pytest.mark.parametrize("when_full", WhenHistoryFull)
def test_a_full_disk_with_nothing_that_is_over(tmp_path: Path, when_full: WhenHistoryFull) -> None:
    """Then the promise is broken, or not, as the config says."""
    with small_disk(tmp_path / "disk") as top, history(top) as made:
        made.terms = Terms(policy=CdpRetention(detailed_days=30), own=HistoryTerms(when_full=when_full))
        fill(top)
        used = sum(segment.size_bytes for segment in made.of_world.journal.segments)
        found: list[bool] = []

        async def make_room(thinner: Thinner) -> None:
            found.append(await thinner.make_room(2 * MIB + used // 4))

        made.retained(make_room)
        shortens = when_full is WhenHistoryFull.SHORTEN
        assert found == [shortens]
        assert (made.kept().floor > 0) is shortens
        check_all(made)
