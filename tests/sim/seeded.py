"""Bugs for the simulation to find: each breaks one promise of the product, as a hurried change might."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
import i2_sink_fs.directories
import i2_sink_fs.names
import i2_sink_fs.objects
import i2_sink_fs.roots
import i2_sink_fs.sink
import i2_sink_fs.torn
import i2_sink_fs.volumes
import pytest
import trio
from i2_sink_fs.locating import find
from i2_sink_fs.names import NameChanger
from i2_sink_fs.outcome import Drift
from i2_sink_fs.paths import IllegalPath

import i2core.rule.backup.replica.progress
import i2core.rule.live.replication
import i2core.rule.work.mirroring
import i2core.rule.work.resume
import i2core.wire.batch
from i2core.api import Applied, Batch, Change, Failure, Lost, Place, Record, Sink
from i2core.posix.opening import DIRECTORY
from i2core.rule.backup.replica.position import Position, PositionFile
from i2core.rule.backup.replica.progress import ProgressFile
from i2core.rule.backup.replica.recording import Recording
from i2core.rule.backup.replica.replica import Replica
from i2core.rule.backup.session.applying import RecordApplier
from i2core.rule.backup.session.batches import SeqOrder
from i2core.rule.backup.session.durability import DurabilityWindow
from i2core.rule.backup.session.unflushed import Unflushed
from i2core.rule.backup.session.writer import ReplicaWriter
from i2core.rule.catalog.database import Database
from i2core.rule.catalog.seal import Seal
from i2core.rule.live.directories import Directories
from i2core.rule.live.dirty import DirtySet
from i2core.rule.live.unproven import Unproven
from i2core.rule.live.update import Updater
from i2core.rule.mirror.orphans import OrphanFinder
from i2core.rule.outgoing.ledger import Ledger
from i2core.rule.outgoing.record_clock import RecordClock
from i2core.rule.repair.leftovers import Leftovers
from i2core.rule.source.passing import Passing
from i2core.rule.work.known_roots import KnownRoots, Looked
from i2core.wire.batch import WireBatch
from i2core.wire.session import Session

from .hunts import (
    Hunt,
    cuts_power,
    denies,
    exchanges_source,
    fails_unheard,
    fills_work,
    flips,
    is_narrow,
    keeps_orphans,
    lacks_descriptors,
    loses_power,
    loses_replica,
    loses_reports,
    overflows,
    sets_clock_back,
    takes_over,
)

Bug = Callable[[pytest.MonkeyPatch], None]


def ack_before_fsync(patch: pytest.MonkeyPatch) -> None:
    """Applied records are reported as durable without a sync."""

    async def flush(self: Any) -> None:
        self._volumes.take()
        await trio.lowlevel.checkpoint()

    patch.setattr(i2_sink_fs.sink.FsSink, "flush", flush)


def position_before_data(patch: pytest.MonkeyPatch) -> None:
    """The position is saved before the data are synced."""

    async def flush(self: Any, *, report: bool) -> None:
        async with self._replica.flush_lock:
            if self._unflushed.any:
                self._unflushed.clear()
                await self._replica.mark_durable(self._replica.progress.applied_seq, self._replica.exchanges)
                if report:
                    await self._acks.report()
                await self._sink.flush()
            elif report:
                await self._acks.report()

    patch.setattr(DurabilityWindow, "flush", flush)


def told_before_kept(patch: pytest.MonkeyPatch) -> None:
    """A durable seq can be reported before the position is on disk."""
    kept = Replica.mark_durable

    async def durable(self: Replica, seq: int, exchanges: int | None = None) -> None:
        self.position.durable_seq = seq
        await trio.sleep(0.05)
        await kept(self, seq, exchanges)

    patch.setattr(Replica, "mark_durable", durable)


def goal_behind_flush(patch: pytest.MonkeyPatch) -> None:
    """Records that are applied during the sync are reported as durable, too."""

    async def flush(self: Any, *, report: bool) -> None:
        async with self._replica.flush_lock:
            if self._unflushed.any:
                self._unflushed.clear()
                exchanges = self._replica.exchanges
                await self._sink.flush()
                await trio.sleep(0.05)
                await self._replica.mark_durable(self._replica.progress.applied_seq, exchanges)
        if report:
            await self._acks.report()

    patch.setattr(DurabilityWindow, "flush", flush)


def flushed_by_the_other(patch: pytest.MonkeyPatch) -> None:
    """The flush of one session counts for the other one of the rule, too, which has a sink of its own."""
    real = ReplicaWriter.__init__

    def begin(self: Any, sink: Sink, unflushed: Unflushed, recording: Recording) -> None:
        shared = vars(recording).setdefault("shared", unflushed)  # one for each replica
        real(self, sink, shared, recording)

    patch.setattr(ReplicaWriter, "__init__", begin)


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
    """A batch is lost on its way, and the gap is not detected."""
    send, take, numbers = Session.send, SeqOrder.take, itertools.count(1)

    async def lossy(self: Session, packed: WireBatch) -> None:
        if next(numbers) % 9:
            await send(self, packed)

    def careless(self: Any, first_seq: int, records: Sequence[Record]) -> tuple[int, Sequence[Record]]:
        self._next_seq = None
        return take(self, first_seq, records)

    patch.setattr(Session, "send", lossy)
    patch.setattr(SeqOrder, "take", careless)


def stale_epoch(patch: pytest.MonkeyPatch) -> None:
    """Any epoch may write."""
    patch.setattr(Replica, "check", lambda self, epoch: None)


def epoch_not_kept(patch: pytest.MonkeyPatch) -> None:
    """The owner's epoch is forgotten when the backup node restarts."""
    real = PositionFile.save

    def save(self: PositionFile, position: Position) -> None:
        real(self, attrs.evolve(position, epoch=0))

    patch.setattr(PositionFile, "save", save)


def doubts_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A broken link leaves nothing unverified."""
    patch.setattr(Ledger, "resume", lambda self, applied_seq, *, exact: {})


def progress_believed(patch: pytest.MonkeyPatch) -> None:
    """The last applied seq is trusted also after a power cut."""
    keep = ProgressFile.keep

    def synced(self: Any, seq: int) -> None:
        keep(self, seq)
        system: Any = vars(i2core.rule.backup.replica.progress)["os"]
        system.fsync(self._fd)

    patch.setattr(ProgressFile, "keep", synced)
    patch.setattr(i2core.rule.backup.replica.progress, "boot_id", lambda: bytes(16))


def lost_ignored(patch: pytest.MonkeyPatch) -> None:
    """The capture reports lost events, and nothing is compared."""
    real = DirtySet.add

    def add(self: DirtySet, changes: Iterable[Change | Lost]) -> None:
        real(self, [change for change in changes if isinstance(change, Change)])

    patch.setattr(DirtySet, "add", add)


def directory_times(patch: pytest.MonkeyPatch) -> None:
    """The times of directories are not set after their entries."""
    patch.setattr(Directories, "set_all", lambda self, guarded: None)


def one_volume(patch: pytest.MonkeyPatch) -> None:
    """Of several file systems only one is synced."""
    real = i2_sink_fs.volumes.Volumes.take

    def take(self: Any) -> set[int]:
        return set(sorted(real(self))[:1])

    patch.setattr(i2_sink_fs.volumes.Volumes, "take", take)


def symlink_followed(patch: pytest.MonkeyPatch) -> None:
    """Directories of the replica are opened by their path."""

    def opened(root_fd: int, path: bytes, private: bytes, flags: int = DIRECTORY) -> int:
        system: Any = vars(i2_sink_fs.directories)["os"]  # the simulated one, while a history is played
        fd: int = system.open(path or b".", flags & ~os.O_NOFOLLOW, dir_fd=root_fd)
        return fd

    patch.setattr(i2_sink_fs.directories, "open_directory", opened)


def failures_untold(patch: pytest.MonkeyPatch) -> None:
    """Failures of records are not reported."""
    real = RecordApplier.apply

    async def apply(self: RecordApplier, batch: Batch) -> list[Failure]:
        await real(self, batch)
        return []

    patch.setattr(RecordApplier, "apply", apply)


def never_folded(patch: pytest.MonkeyPatch) -> None:
    """The dirty set grows without limit."""
    patch.setattr(DirtySet, "_coalesce", lambda self: None)


def overwritten_in_place(patch: pytest.MonkeyPatch) -> None:
    """An object that replaces another one does not get its attributes."""
    real = i2_sink_fs.objects.ObjectMaker.create

    def create(self: Any, record: Record) -> None:
        assert record.meta is not None
        real(self, record._replace(meta=record.meta._replace(xattrs=None)))

    patch.setattr(i2_sink_fs.objects.ObjectMaker, "create", create)


def damage_believed(patch: pytest.MonkeyPatch) -> None:
    """A catalog counts as undamaged as long as SQLite can open it, whatever happened to it since it was closed."""

    def seal_of(path: Path) -> Seal:
        return Seal.WHOLE if path.with_name(path.name + ".seal").exists() else Seal.NONE

    patch.setattr(i2core.rule.work.resume, "look_at_seal", seal_of)
    patch.setattr(Database, "_check", lambda self: None)


def attributes_prove_content(patch: pytest.MonkeyPatch) -> None:
    """A check of a file's attributes counts as a check of its content."""
    patch.setattr(Unproven, "leave", lambda *_: None)


def source_by_name(patch: pytest.MonkeyPatch) -> None:
    """A source is identified by its path alone: the catalog is trusted for whatever directory is there."""
    patch.setattr(KnownRoots, "look", lambda self, trees, *, accept: Looked(same=True))


def replica_by_name(patch: pytest.MonkeyPatch) -> None:
    """A replica is identified by its path alone, and created where it is missing."""
    patch.setattr(Position, "identities", lambda self: {})


def syncs_where_it_was(patch: pytest.MonkeyPatch) -> None:
    """A sync counts, whatever the paths of the roots lead to by then."""
    patch.setattr(i2_sink_fs.roots.Roots, "verify", lambda self: None)


def refilled_and_believed(patch: pytest.MonkeyPatch) -> None:
    """A replica that was created again keeps the position of the previous one."""
    real = Replica.begin

    async def begin(self: Replica, *args: Any, exchanged: bool = False, **more: Any) -> None:
        await real(self, *args, **more)

    patch.setattr(Replica, "begin", begin)


def half_a_job(patch: pytest.MonkeyPatch) -> None:
    """The notes of a failed job are kept without its records, and the end counts as orderly."""
    close = Database.close

    def closed(self: Database, *, clean: bool) -> None:
        self._failed = False
        close(self, clean=True)

    patch.setattr(Database, "_undo", Database.commit)
    patch.setattr(Database, "close", closed)


def refused_for_good(patch: pytest.MonkeyPatch) -> None:
    """Records that the replica refuses are given up."""
    patch.setattr(i2core.rule.live.replication, "is_left_out", lambda failure: not failure.repair)


def unread_for_good(patch: pytest.MonkeyPatch) -> None:
    """Objects that cannot be read for a moment are skipped."""
    patch.setattr(Passing, "put_off", lambda self, what: None)


def messages_not_cut(patch: pytest.MonkeyPatch) -> None:
    """The records of a job are sent in one message, also if no frame can carry it."""
    patch.setattr(i2core.wire.batch, "batches", lambda records: [records] if records else [])


def no_room_made(patch: pytest.MonkeyPatch) -> None:
    """A mirror that fills the replica's disk does not first send what makes room there."""

    async def make_room(*_: Any) -> None:
        await trio.lowlevel.checkpoint()

    patch.setattr(i2core.rule.work.mirroring, "make_room", make_room)


def lacking_taken_for_done(patch: pytest.MonkeyPatch) -> None:
    """A record that failed for lack of descriptors is not retried when there are some; the one after it is applied."""
    real = i2_sink_fs.sink.FsSink._apply

    def apply(self: Any, progress: Any) -> None:
        try:
            real(self, progress)
        except OSError:
            if progress.next() is not None:
                progress.done += 1
            raise

    patch.setattr(i2_sink_fs.sink.FsSink, "_apply", apply)


def names_not_asked_for(patch: pytest.MonkeyPatch) -> None:
    """Names that do not fit in an answer are never compared."""

    async def page(self: OrphanFinder, place: Place, *, first: bool) -> list[bytes]:
        await trio.lowlevel.checkpoint()
        return []

    patch.setattr(OrphanFinder, "page", page)


def torn_published(patch: pytest.MonkeyPatch) -> None:
    """A file gets its name and its time although a part of its content could not be written."""
    patch.setattr(i2_sink_fs.torn.Torn, "check", lambda self, status: None)


def missing_taken_for_done(patch: pytest.MonkeyPatch) -> None:
    """A rename counts as done before when its old name is missing and anything has the new one. Somebody takes the file
    away before some renames, and makes a directory at the new name."""
    real = NameChanger.rename
    names: Any = i2_sink_fs.names  # its `os` is the simulated one

    def meddle(changer: Any, record: Record) -> os.stat_result | None:
        """Returns what has the new name."""
        target, new = changer._locator.locate(record.root, record.other)
        if zlib.crc32(record.other) % 3 == 0:
            directory, old = changer._locator.locate(record.root, record.path)
            found = find(directory, old)
            if found is not None and stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and find(target, new) is None:
                names.os.unlink(old, dir_fd=directory.fd)
                names.os.mkdir(new, 0o755, dir_fd=target.fd)
        return find(target, new)

    def rename(self: Any, record: Record) -> None:
        there = None
        with contextlib.suppress(OSError, IllegalPath):
            there = meddle(self, record)
        try:
            real(self, record)
        except Drift as drift:
            if there is None or "to rename is missing" not in str(drift):
                raise

    patch.setattr(NameChanger, "rename", rename)


def times_go_back(patch: pytest.MonkeyPatch) -> None:
    """Records get the time of the system clock, whatever the time of the records before."""
    real = RecordClock.now

    def now(self: Any) -> int:
        self._last_ns = 0
        return real(self)

    patch.setattr(RecordClock, "now", now)


def orphans_taken_for_removals(patch: pytest.MonkeyPatch) -> None:
    """A repair removes all that only the replica has in a directory."""
    patch.setattr(Leftovers, "removed", lambda self, directory, names: list(names))


def found_and_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A large file whose content may differ counts as sent until its transfer begins; it may have moved by then."""
    real = Updater._patch

    def _patch(self: Any, *about: Any) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(self._source.catalog.doubts, "distrust", lambda *_, **__: None)
            real(self, *about)

    patch.setattr(Updater, "_patch", _patch)


BUGS: dict[Bug, Hunt] = {
    ack_before_fsync: Hunt(100),
    position_before_data: Hunt(1000, 67),
    told_before_kept: Hunt(2000, 65),
    goal_behind_flush: Hunt(2000, 197),
    flushed_by_the_other: Hunt(1000, 729, cuts_power),
    forgotten_record: Hunt(50),
    gap_accepted: Hunt(100),
    stale_epoch: Hunt(200),
    epoch_not_kept: Hunt(400, 59088, takes_over),
    doubts_forgotten: Hunt(1000, 743),
    progress_believed: Hunt(300, 1702, fit=loses_power, quick=True),
    lost_ignored: Hunt(200),
    directory_times: Hunt(50),
    one_volume: Hunt(200),
    symlink_followed: Hunt(600, 119),
    failures_untold: Hunt(400, 28),
    never_folded: Hunt(400),
    overwritten_in_place: Hunt(100),
    source_by_name: Hunt(200, 228, exchanges_source, quick=True),
    replica_by_name: Hunt(200, 0, loses_replica, quick=True),
    syncs_where_it_was: Hunt(1000, 94),
    refilled_and_believed: Hunt(400, 900),
    damage_believed: Hunt(600, 27000, flips, crash=True),
    found_and_forgotten: Hunt(1000, 900028337, overflows),
    attributes_prove_content: Hunt(300, fit=loses_reports, quick=True),
    half_a_job: Hunt(300, fit=fills_work, quick=True),
    refused_for_good: Hunt(200, 1880, denies, quick=True),
    unread_for_good: Hunt(1000, 324),
    messages_not_cut: Hunt(200, quick=True),
    names_not_asked_for: Hunt(400, 46),
    no_room_made: Hunt(100, 0, is_narrow, quick=True),
    missing_taken_for_done: Hunt(400, 92),
    torn_published: Hunt(400, 132289, fails_unheard),
    lacking_taken_for_done: Hunt(200, 2840, lacks_descriptors, quick=True),
    times_go_back: Hunt(200, 1173, sets_clock_back),
    orphans_taken_for_removals: Hunt(600, 740000477, keeps_orphans),
}
