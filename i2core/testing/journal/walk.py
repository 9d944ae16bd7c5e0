"""Random histories: the journal and its twin are told the same, and must answer the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from random import Random
from typing import Any, NamedTuple

import attrs

from i2core.api.journal import Draft, Frame, Journal, Mark, MarkKind, Position, all_frames
from i2core.testing.journal.trial import Trial, prove, shape
from i2core.testing.memory_journal import memory_journal

_HISTORIES = 12
_STEPS = 40


class _Both(NamedTuple):
    """The journal and its twin, open, and what decides the next step."""

    real: Journal
    twin: Journal
    trial: Trial
    chance: Random

    def drafts(self, most: int) -> list[Draft]:
        sizes = [self.chance.choice((0, 1, 30, 700, 3000)) for _ in range(self.chance.randint(1, most))]
        return [self.trial.draft(self.chance.randbytes(size), self.chance.randint(0, 3)) for size in sizes]


async def _append(both: _Both) -> None:
    group = both.drafts(4)
    await both.real.append(group)
    await both.twin.append(group)


async def _roll(both: _Both) -> None:
    await both.real.roll()
    await both.twin.roll()


def _run(both: _Both, first: int) -> slice:
    return slice(first, both.chance.randint(first + 1, len(both.twin.segments) - 1))


async def _merge(both: _Both) -> None:
    if len(both.twin.segments) < 2:
        return
    run = _run(both, both.chance.randrange(len(both.twin.segments) - 1))
    note = both.chance.choice((None, both.chance.randbytes(5)))
    begin = both.twin.segments[run][0]
    kept = Trial(both.trial.spec, both.trial.config, both.trial.context, begin.first_seq, begin.last_ns)
    group = [kept.draft(both.chance.randbytes(20)) for _ in range(both.chance.randint(0, 2))]
    committed = both.chance.random() < 0.8
    for journal in (both.real, both.twin):
        async with journal.merge([segment.number for segment in journal.segments[run]]) as merge:
            await merge.write(group)
            if committed:
                await merge.commit(note)


async def _drop(both: _Both) -> None:
    if len(both.twin.segments) < 3 or both.chance.random() < 0.5:
        return
    run = _run(both, 0)
    for journal in (both.real, both.twin):
        await journal.drop([segment.number for segment in journal.segments[run]])


async def _cut(both: _Both) -> None:
    newest = max((index for index, s in enumerate(both.twin.segments) if s.merged), default=-1)
    index = both.chance.randrange(newest + 1, len(both.twin.segments))
    frames = await _frames(both.twin, index)
    chosen = both.chance.randint(0, len(frames))
    seq = frames[chosen].header.first_seq if chosen < len(frames) else both.twin.segments[index].next_seq
    both.trial.seq = seq
    instead = both.drafts(2) if both.chance.random() < 0.5 else []
    for journal in (both.real, both.twin):
        found = await _frames(journal, index)
        segment = journal.segments[index]
        end = Position(segment.number, segment.size_bytes)
        await journal.cut(found[chosen].placed.at if chosen < len(found) else end, instead)
    both.trial.seq = both.twin.tip.next_seq


async def _mark(both: _Both) -> None:
    mark = Mark(both.chance.randrange(3), 7, both.chance.choice(list(MarkKind)), both.chance.choice(("", "tag")))
    add, remove = ([mark], []) if both.chance.random() < 0.6 else ([], [mark])
    await both.real.mark(add, remove)
    await both.twin.mark(add, remove)


_ACTIONS: tuple[tuple[int, Callable[[_Both], Awaitable[None]]], ...] = (
    (8, _append),
    (3, _roll),
    (3, _merge),
    (1, _drop),
    (2, _cut),
    (1, _mark),
)


async def _frames(journal: Journal, index: int) -> list[Frame]:
    return await journal.read(Position(journal.segments[index].number, 0), 1 << 30)


async def _told(journal: Journal) -> Any:
    frames = [(frame.header, frame.payload) async for page in all_frames(journal) for frame in page]
    return frames, shape(journal.segments), list(journal.marks), journal.note, journal.tip[:2]


async def as_the_twin(trial: Trial) -> None:
    """Random histories, opened again now and then."""
    for seed in range(_HISTORIES):
        chance = Random(seed)  # noqa: S311
        directory = trial.context.directory + b"-%d" % seed
        context = attrs.evolve(trial.context, directory=directory, segment_bytes=1 << 40)
        here, twin = Trial(trial.spec, trial.config, context), Trial(memory_journal(), None, context)
        for _ in range(3):
            async with AsyncExitStack() as stack:
                opened = [await stack.enter_async_context(each.open()) for each in (here, twin)]
                both = _Both(opened[0], opened[1], here, chance)
                assert await _told(both.real) == await _told(both.twin), f"seed {seed}: differs when opened again"
                for step in range(_STEPS):
                    action = chance.choices([a for _, a in _ACTIONS], [w for w, _ in _ACTIONS])[0]
                    await action(both)
                    where = f"seed {seed}, step {step}, {action.__name__[1:]}"
                    assert await _told(both.real) == await _told(both.twin), f"{where}: differs from the twin"
                await prove(both.real, [both.real.tip])


STEPS = (as_the_twin,)
