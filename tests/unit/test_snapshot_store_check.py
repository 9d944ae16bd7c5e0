"""The contract of snapshot stores: the twin in memory and the store in the history keep it, and broken ones do not."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest

from i2core.api import DriverSpec, NoConfig
from i2core.api.snapshots import SnapshotContext, SnapshotStore
from i2core.snapshot.driver import JOURNAL
from i2core.testing.memory_snapshots import Copies, MemorySnapshots
from i2core.testing.snapshot_store import check_snapshot_store


async def test_the_twin_keeps_the_contract(tmp_path: Path) -> None:
    await check_snapshot_store(MemorySnapshots.spec(), workdir=tmp_path)
    assert not list(tmp_path.iterdir())


async def test_the_store_in_the_history_keeps_the_contract(tmp_path: Path) -> None:
    await check_snapshot_store(JOURNAL, workdir=tmp_path)


class _Forgets(MemorySnapshots):
    """Its snapshots are gone once another one is taken."""

    async def create(self, name: str, roots: Sequence[int]) -> None:
        self._copies.disks.clear()
        await super().create(name, roots)


class _Lists(MemorySnapshots):
    """Lists what it has removed."""

    _ever: set[str] = set()  # noqa: RUF012 (of all of them)

    async def create(self, name: str, roots: Sequence[int]) -> None:
        self._ever.add(name)
        await super().create(name, roots)

    async def names(self) -> Collection[str]:
        return set(self._ever)


class _Late(MemorySnapshots):
    """Reads the replica when it is opened, not when the snapshot is taken."""

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[Sequence[object]]:  # type: ignore[override]
        _add_again(self._copies, name)
        async with super().open(name) as trees:
            yield trees


def _add_again(copies: Copies, name: str) -> None:
    fds = [os.open(root, os.O_RDONLY) for root in copies.roots]
    copies.add(name, fds)
    for fd in fds:
        os.close(fd)


class _Touches(MemorySnapshots):
    """Changes the time of the replica's directory."""

    async def create(self, name: str, roots: Sequence[int]) -> None:
        await super().create(name, roots)
        os.utime(roots[0])


class _Complains(MemorySnapshots):
    """Removing twice is an error."""

    async def remove(self, name: str) -> None:
        if name not in self._copies.disks:
            raise AssertionError("there is none")
        await super().remove(name)


@pytest.mark.parametrize("broken", [_Forgets, _Lists, _Late, _Touches, _Complains])
async def test_a_broken_store_is_found(broken: type[MemorySnapshots], tmp_path: Path) -> None:
    def spec() -> DriverSpec:
        copies = Copies()

        @asynccontextmanager
        async def open_broken(config: NoConfig, context: SnapshotContext) -> AsyncIterator[SnapshotStore]:
            copies.roots = context.roots
            yield broken(copies)

        return attrs.evolve(MemorySnapshots.spec(), open=open_broken)

    with pytest.raises(AssertionError):
        await check_snapshot_store(spec(), workdir=tmp_path)
