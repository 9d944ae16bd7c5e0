"""The life of one replica that is turned back now and then, by a seed. Each moment reads as it was, also those before,
and the power may fail at any change of the replica or the journal.

python -m tests.unit.history.rewound_lives FIRST COUNT
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import trio

from i2core.api import Code, StopRule
from i2core.api.present import STAGING, STORE, TOP, Handle
from i2core.history.rewind.turning import Turned, Turning

from .copies import compare, full_copy
from .disk import Disk
from .recorded_lives import Life
from .seeds import in_order, in_parts, play, seeded


class Touching:
    """The disk, on which each change gives an object a time, as in a file system, or fails now and then."""

    def __init__(self, disk: Disk, fails: Callable[[float], bool]) -> None:
        self._disk, self._fails, self.failures = disk, fails, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)

    def move(self, directory: Handle, name: bytes, target: Handle, new: bytes) -> None:
        self._touch(directory, target)
        self._disk.move(directory, name, target, new)

    def link(self, handle: Handle, target: Handle, new: bytes) -> None:
        self._touch(target)
        self._disk.link(handle, target, new)

    def remove(self, directory: Handle, name: bytes) -> None:
        self._touch(directory)
        self._disk.remove(directory, name)

    def truncate(self, handle: Handle, size: int) -> None:
        self._touch(handle)
        self._disk.truncate(handle, size)

    def write(self, handle: Handle, lo: int, data: bytes) -> None:
        self._touch(handle)
        self._disk.write(handle, lo, data)

    def punch(self, handle: Handle, lo: int, hi: int) -> None:
        self._touch(handle)
        self._disk.punch(handle, lo, hi)

    def _touch(self, *handles: Handle) -> None:
        if self._fails(0.02):
            self.failures += 1
            raise OSError(errno.EIO, "it fails")
        for handle in set(handles) - {STORE, TOP, STAGING}:
            self._disk.do("touch", self._disk.at(handle))


class Lived(NamedTuple):
    """What a life came to."""

    records: int
    rewinds: int
    """That were done to the end."""
    cuts: int
    failures: int


class Rewound(Life):
    """As `Life`; in each day the replica may be turned back."""

    def __init__(self, seed: int, directory: str) -> None:
        super().__init__(seed, directory)
        self.rewinds = self.failures = 0

    async def _work(self, where: object) -> None:
        if self.rng.random() < 0.4:
            await self._turn_back(self._moment(), where)
        else:
            await super()._work(where)

    async def _turn_back(self, seq: int, where: object) -> None:
        """One that broke off is begun again."""
        wanted = self.world.trees[seq]
        done: Turned | None = None
        while done is None or not done.equal:
            with self._watched():
                try:
                    done = await Turning(self.world.history, seq, self.world.flush).run()
                except StopRule:
                    continue
            assert done.equal or done.failures, (where, done)
            assert {failure.code for failure in done.failures} <= {Code.CDP_RESTORE_WRITE}
        compare(full_copy(self.world.disk.root), wanted, (where, "turned back to", seq, "at", self.world.seq))
        self.rewinds += 1

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Each state on the way is one that can be read later."""
        history, world = self.world.history, self.world
        before, base, count = history.recorder.reported, -1, 0
        replica = Touching(world.disk, world.fails)

        def reported(seq: int) -> None:
            nonlocal base, count
            before(seq)
            base, count = (base, count + 1) if base == history.recorder.seq else (history.recorder.seq, 1)
            world.trees[base + count] = full_copy(world.disk.root)

        with (
            mock.patch.object(history.recorder, "reported", reported),
            mock.patch.object(history, "replica", replica),
        ):
            yield
        self.failures += replica.failures


def live(seed: int, rounds: int = 6) -> Lived:
    """One life."""
    with seeded(seed) as directory:
        life = Rewound(seed, directory)
        with life.world.watched(), in_order(seed), in_parts(seed):
            lived = trio.run(life.live, rounds)
        return Lived(lived.records, life.rewinds, lived.cuts, life.failures)


if __name__ == "__main__":
    play(live)
