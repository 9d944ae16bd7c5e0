"""Random histories on a simulated disk: the process dies at any system call, and most times the power goes with it.

The disk keeps what file systems promise and no more: names are an ordered journal of which a prefix survives, and
content that was not synced is old, new or torn, page by page.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import attrs
import pytest
from i2_store_cdp import home, journal, opening, reserve, shelf, store, system, walk, writing

from i2core.api import NoConfig
from i2core.api.journal import Draft, Journal, JournalContext, Position, Tip
from i2core.posix import disk as disk_text
from i2core.posix import identity
from i2core.testing.journal.trial import Trial, payloads, prove
from i2core.testing.sim.disk import Disk
from i2core.testing.sim.kernel import Kernel
from i2core.testing.sim.machine import Killed, Machine, running

_MODULES = (home, journal, opening, reserve, shelf, store, system, walk, writing, identity, disk_text)
_LIVES = 12


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """A simulated disk beneath the driver."""
    made = Disk(1, lambda: 1, umask=0o77)
    kernel = Kernel(made)
    for module in _MODULES:
        if hasattr(module, "os"):
            monkeypatch.setattr(module, "os", kernel)
    monkeypatch.setattr(identity, "born_ns", kernel.born_ns)
    monkeypatch.setattr(home, "lock", lambda fd, alone: True)
    yield made
    running.set(None)


@attrs.define
class _History:
    """What must be there after the next opening."""

    trial: Trial
    chance: Random
    allowed: list[list[bytes]] = attrs.field(factory=lambda: [[]])
    """States of which one must be found."""
    notes: list[bytes] = attrs.field(factory=lambda: [b""])
    kept: Tip | None = None
    done: int = 0

    async def live(self, journal: Journal) -> None:
        """Changes the journal until the machine dies."""
        found = await payloads(journal)
        assert found in self.allowed, f"found {found}, and it must be one of {self.allowed}"
        assert journal.note in self.notes, "another note"
        await prove(journal, [self.kept] if self.kept else [])
        self._settled(journal, found)
        while True:
            self.trial.back_to(journal)
            action = self.chance.choice([self._append, self._append, self._append, self._roll, self._merge, self._cut])
            found = await action(journal, found)
            assert await payloads(journal) == found
            self._settled(journal, found)
            self.done += 1

    def _settled(self, journal: Journal, found: list[bytes]) -> None:
        self.allowed, self.notes, self.kept = [found], [journal.note], journal.tip

    def _drafts(self, most: int) -> list[Draft]:
        sizes = [self.chance.choice((0, 5, 600, 2000)) for _ in range(self.chance.randint(1, most))]
        return [self.trial.draft(self.chance.randbytes(size)) for size in sizes]

    async def _append(self, journal: Journal, found: list[bytes]) -> list[bytes]:
        group = self._drafts(4)
        texts = [bytes(draft.payload) for draft in group]
        self.allowed = [found + texts[:count] for count in range(len(texts) + 1)]
        await journal.append(group)
        return found + texts

    async def _roll(self, journal: Journal, found: list[bytes]) -> list[bytes]:
        await journal.roll()
        return found

    async def _merge(self, journal: Journal, found: list[bytes]) -> list[bytes]:
        """Replaces some segments by their first frame, or drops them."""
        closed = journal.segments[:-1]
        if not closed:
            return found
        first = self.chance.randrange(len(closed))
        run = [segment.number for segment in closed[first : self.chance.randint(first + 1, len(closed))]]
        texts = {number: await _texts(journal, number) for number in (segment.number for segment in journal.segments)}
        drop = first == 0 and self.chance.random() < 0.3
        frames = [] if drop else (await journal.read(Position(run[0], 0), 1))[:1]
        after = [text for number in texts if number < run[0] or number not in run for text in texts[number]]
        order = [segment.number for segment in journal.segments]
        before = [text for number in order[: order.index(run[0])] for text in texts[number]]
        behind = [text for number in order[order.index(run[-1]) + 1 :] for text in texts[number]]
        after = before + [frame.payload for frame in frames] + behind
        note = self.chance.randbytes(3)
        self.allowed, self.notes = [found, after], [journal.note, note]
        if drop:
            await journal.drop(run, note)
            return after
        async with journal.merge(run) as merge:
            await merge.write([Draft(frame.header, frame.payload) for frame in frames])
            await merge.commit(note)
        return after

    async def _cut(self, journal: Journal, found: list[bytes]) -> list[bytes]:
        """Cuts off the last frame, and writes another one instead."""
        last = journal.segments[-1]
        frames = await journal.read(Position(last.number, 0), 1 << 20)
        if not frames:
            return found
        self.trial.seq = frames[-1].header.first_seq
        instead = self._drafts(2)
        after = found[:-1] + [bytes(draft.payload) for draft in instead]
        self.allowed, self.kept = [found, after], None
        await journal.cut(frames[-1].placed.at, instead)
        return after


async def _texts(journal: Journal, number: int) -> list[bytes]:
    return [frame.payload for frame in await journal.read(Position(number, 0), 1 << 20)]


async def _play(seed: int, disk: Disk) -> int:
    """One history. Returns how many changes were carried out."""
    chance = Random(seed)  # noqa: S311
    context = JournalContext(directory=b"/cdp-%d" % seed, segment_bytes=4000, reserve_bytes=0)
    history = _History(Trial(_spec(), NoConfig(), context), chance)
    for life in range(_LIVES):
        machine = Machine("backup", boot=life)
        machine.realms = [disk.root]
        machine.left = chance.randint(1, 400)
        running.set(machine)
        try:
            async with history.trial.open(kept=history.kept) as journal:
                await history.live(journal)
        except Killed:
            pass
        if chance.random() < 0.8:
            disk.power_cut(chance)
    return history.done


def _spec() -> Any:
    from i2_store_cdp.plugin import i2_journals

    (spec,) = i2_journals()
    return spec


@pytest.mark.parametrize("seed", range(40))
async def test_power_cuts_at_any_call(seed: int, disk: Disk) -> None:
    assert await _play(seed, disk) > 0


@pytest.mark.slow
async def test_many_power_cuts(disk: Disk) -> None:
    assert sum([await _play(seed, disk) for seed in range(1000, 1600)]) > 10_000
