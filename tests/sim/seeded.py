"""Bugs for the simulation to find: each breaks one promise of the product, as a hurried change might."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
import i2_sink_fs.apply
import i2_sink_fs.paths
import i2_sink_fs.sink
import i2_sink_fs.volumes
import pytest
import trio

import i2core.rule.backup.replica
from i2core.api import Applied, Batch, Change, Failure, Lost, Record
from i2core.rule.backup.receive import Receiver
from i2core.rule.backup.replica import Position, PositionFile, Replica
from i2core.rule.live.dirty import DirtySet
from i2core.rule.live.ledger import Ledger
from i2core.rule.live.reconcile import Reconciler
from i2core.wire.session import Packed, Session

Bug = Callable[[pytest.MonkeyPatch], None]


def ack_before_fsync(patch: pytest.MonkeyPatch) -> None:
    """What was applied is called durable without a sync."""

    async def flush(self: Any) -> None:
        self._volumes.take()
        await trio.lowlevel.checkpoint()

    patch.setattr(i2_sink_fs.sink.FsSink, "flush", flush)


def position_before_data(patch: pytest.MonkeyPatch) -> None:
    """The position is kept, then the data are synced."""

    async def flush(self: Any, *, tell: bool) -> None:
        async with self._replica.flushing:
            if self._dirty.is_set():
                self._dirty, self._full, self._unflushed_bytes = trio.Event(), trio.Event(), 0
                await self._replica.durable(self._replica.applied_seq)
                if tell:
                    await self._ack([])
                await self._sink.flush()

    patch.setattr(Receiver, "_flush", flush)


def told_before_kept(patch: pytest.MonkeyPatch) -> None:
    """A durable seq can be told before the position is on disk."""
    kept = Replica.durable

    async def durable(self: Replica, seq: int) -> None:
        self.position.durable_seq = seq
        await trio.sleep(0.05)
        await kept(self, seq)

    patch.setattr(Replica, "durable", durable)


def goal_behind_flush(patch: pytest.MonkeyPatch) -> None:
    """What is applied while the sync runs is called durable, too."""

    async def flush(self: Any, *, tell: bool) -> None:
        async with self._replica.flushing:
            if self._dirty.is_set():
                self._dirty, self._full, self._unflushed_bytes = trio.Event(), trio.Event(), 0
                await self._sink.flush()
                await self._replica.durable(self._replica.applied_seq)
        if tell:
            await self._ack([])

    patch.setattr(Receiver, "_flush", flush)


def forgotten_record(patch: pytest.MonkeyPatch) -> None:
    """The last record of some batches is acknowledged and not applied."""
    real = i2_sink_fs.sink.FsSink.apply

    async def apply(self: i2_sink_fs.sink.FsSink, batch: Batch) -> Applied:
        if batch.first_seq % 5 == 2 and len(batch.records) > 1:
            await real(self, Batch(batch.first_seq, batch.records[:-1]))
            return Applied(batch.last_seq)
        return await real(self, batch)

    patch.setattr(i2_sink_fs.sink.FsSink, "apply", apply)


def gap_accepted(patch: pytest.MonkeyPatch) -> None:
    """A batch gets lost on its way, and nobody minds the gap."""
    send, batch, numbers = Session.send, Receiver._batch, itertools.count(1)

    async def lossy(self: Session, packed: Packed) -> None:
        if next(numbers) % 9:
            await send(self, packed)

    async def careless(self: Any, first_seq: int, payload: bytes) -> None:
        self._next_seq = None
        await batch(self, first_seq, payload)

    patch.setattr(Session, "send", lossy)
    patch.setattr(Receiver, "_batch", careless)


def stale_epoch(patch: pytest.MonkeyPatch) -> None:
    """Whoever comes may write."""
    patch.setattr(Replica, "check", lambda self, epoch: None)


def epoch_not_kept(patch: pytest.MonkeyPatch) -> None:
    """The owner's epoch is forgotten when the backup node starts anew."""
    real = PositionFile.save

    def save(self: PositionFile, position: Position) -> None:
        real(self, attrs.evolve(position, epoch=0))

    patch.setattr(PositionFile, "save", save)


def doubts_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A broken link leaves nothing in doubt."""
    patch.setattr(Ledger, "resume", lambda self, applied_seq, *, exact: {})


def progress_believed(patch: pytest.MonkeyPatch) -> None:
    """How far records were applied is believed after a power cut, too."""
    patch.setattr(i2core.rule.backup.replica, "boot_id", lambda: bytes(16))


def lost_ignored(patch: pytest.MonkeyPatch) -> None:
    """The capture says that it lost events, and nobody looks."""
    real = DirtySet.add

    def add(self: DirtySet, changes: Iterable[Change | Lost]) -> None:
        real(self, [change for change in changes if isinstance(change, Change)])

    patch.setattr(DirtySet, "add", add)


def directory_times(patch: pytest.MonkeyPatch) -> None:
    """The times of directories are not set behind their entries."""
    patch.setattr(Reconciler, "_set_directories", lambda self: None)


def one_volume(patch: pytest.MonkeyPatch) -> None:
    """Of several file systems one is synced."""
    real = i2_sink_fs.volumes.Volumes.take

    def take(self: Any) -> set[int]:
        return set(sorted(real(self))[:1])

    patch.setattr(i2_sink_fs.volumes.Volumes, "take", take)


def symlink_followed(patch: pytest.MonkeyPatch) -> None:
    """Directories of the replica are opened by their path."""

    def opened(root_fd: int, path: bytes, flags: int = i2_sink_fs.paths.DIRECTORY) -> int:
        system: Any = vars(i2_sink_fs.paths)["os"]  # the simulated one, while a history is played
        fd: int = system.open(path or b".", flags & ~os.O_NOFOLLOW, dir_fd=root_fd)
        return fd

    patch.setattr(i2_sink_fs.paths, "open_directory", opened)


def failures_untold(patch: pytest.MonkeyPatch) -> None:
    """What could not be applied is not told."""
    real = Receiver._apply

    async def apply(self: Any, batch: Batch) -> Sequence[Failure]:
        await real(self, batch)
        return ()

    patch.setattr(Receiver, "_apply", apply)


def never_folded(patch: pytest.MonkeyPatch) -> None:
    """The dirty set grows without limit."""
    patch.setattr(DirtySet, "_fold", lambda self: None)


def overwritten_in_place(patch: pytest.MonkeyPatch) -> None:
    """Attributes are left out of what replaces an object."""
    real = i2_sink_fs.apply.Applier._create

    def create(self: Any, record: Record) -> None:
        assert record.meta is not None
        real(self, record._replace(meta=record.meta._replace(xattrs=None)))

    patch.setattr(i2_sink_fs.apply.Applier, "_create", create)


BUGS: dict[Bug, int] = {
    ack_before_fsync: 100,
    position_before_data: 1000,
    told_before_kept: 2000,
    goal_behind_flush: 2000,
    forgotten_record: 50,
    gap_accepted: 100,
    stale_epoch: 200,
    epoch_not_kept: 1000,
    doubts_forgotten: 1000,
    progress_believed: 1000,
    lost_ignored: 200,
    directory_times: 50,
    one_volume: 200,
    symlink_followed: 300,
    failures_untold: 400,
    never_folded: 400,
    overwritten_in_place: 100,
}
"""Each with the number of histories within which it must be found."""
