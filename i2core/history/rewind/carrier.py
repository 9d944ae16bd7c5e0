"""Carries out the records of a rewind, on the replica itself and not through a sink.

A sink works for a work node: it expects the owners and the directories that this one has sent. A rewind brings objects
back out of the store, which no work node has sent. So it changes the replica by the contract by which a start takes
records back, and nobody else writes meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from i2core.api import Applied, Code, Failure, Kind, Place, Record, in_thread
from i2core.api.present import STORE, TOP, Facts, Handle, Identity, Replica
from i2core.history.plan.step import Restore, Step


class _Spot(NamedTuple):
    """A name in an open directory."""

    directory: Handle
    name: bytes


class Carrier:
    """For one replica."""

    def __init__(self, replica: Replica, reported: Callable[[int], None]) -> None:
        """`reported`: called after each record with its number, from a worker thread."""
        self._replica = replica
        self._reported = reported

    async def carry(self, first_seq: int, steps: Sequence[Step]) -> Applied:
        """As `Sink.apply` with `Batch.keeps`: it ends with the first record that fails."""
        return await in_thread(self._carry, first_seq, steps)

    def _carry(self, first_seq: int, steps: Sequence[Step]) -> Applied:
        made: dict[int, Identity] = {}
        for seq, step in enumerate(steps, first_seq):
            place = Place(step.record.root, step.record.path)
            try:
                with ExitStack() as opened:
                    identity = _One(self._replica, opened, step.keeps).carry_out(step.record)
            except OSError as error:
                failure = Failure(seq, place, Code.CDP_RESTORE_WRITE, error.strerror or str(error))
                self._reported(seq)
                return Applied(seq, (failure,), made=made)
            if identity is not None:
                made[seq] = identity
            self._reported(seq)
        return Applied(first_seq + len(steps) - 1, made=made)


class _One:
    """One record."""

    def __init__(self, replica: Replica, opened: ExitStack, keeps: Mapping[bytes, int]) -> None:
        self._replica, self._opened, self._keeps = replica, opened, keeps

    def carry_out(self, record: Record | Restore) -> Identity | None:
        """Returns the identity of an object that is another one afterwards: it was copied across file systems.

        Raises:
            OSError: it cannot be done, or something is not there.
        """
        if isinstance(record, Restore):
            return self._restore(record)
        {
            Kind.REMOVE: self._remove,
            Kind.RENAME: self._rename,
            Kind.LINK: self._link,
            Kind.TRUNCATE: self._truncate,
            Kind.PUNCH: self._punch,
            Kind.WRITE: self._write,
            Kind.SETATTR: self._set_meta,
        }[record.kind](record)
        return None

    # ------------------------------------------------------------------------------------------- names

    def _remove(self, record: Record) -> None:
        self._lose(self._spot(record.root, record.path), record.path)

    def _restore(self, record: Restore) -> Identity | None:
        *above, name = record.kept.split(b"/")
        source = _Spot(self._walk(self._replica.directory(STORE), above), name)
        target = self._spot(record.root, record.path)
        before = self._facts(source).identity
        self._lose(target, record.path)
        self._replica.move(*source, *target)
        after = self._facts(target).identity
        return None if before == after else after

    def _rename(self, record: Record) -> None:
        source, target = self._spot(record.root, record.path), self._spot(record.root, record.other)
        if self._is_same(source, target):
            self._replica.remove(*source)
            return
        self._facts(source)
        self._lose(target, record.other)
        self._replica.move(*source, *target)

    def _link(self, record: Record) -> None:
        source, target = self._spot(record.root, record.other), self._spot(record.root, record.path)
        if self._is_same(source, target):
            return
        handle = self._child(source)
        self._lose(target, record.path)
        self._replica.link(handle, *target)

    def _lose(self, spot: _Spot, path: bytes) -> None:
        """What has the name goes into the store, or keeps its other names."""
        handle = self._replica.child(*spot)
        if handle is None:
            return
        is_directory = stat.S_ISDIR(self._replica.facts(handle).meta.mode)
        self._replica.release(handle)
        number = self._keeps.get(path)
        if number is not None:
            self._replica.move(*spot, self._replica.directory(STORE), b"%d" % number)
        elif is_directory:  # it has no other name: the history would lose it
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        else:
            self._replica.remove(*spot)

    # ------------------------------------------------------------------------------------------- content, attributes

    def _truncate(self, record: Record) -> None:
        handle = self._object(record)
        if self._replica.facts(handle).size != record.size:
            self._replica.truncate(handle, record.size)

    def _punch(self, record: Record) -> None:
        self._replica.punch(self._object(record), record.offset, record.offset + record.size)

    def _write(self, record: Record) -> None:
        self._replica.write(self._object(record), record.offset, record.data)

    def _set_meta(self, record: Record) -> None:
        assert record.meta is not None
        self._replica.set_meta(self._object(record), record.meta)

    # ------------------------------------------------------------------------------------------- where it is

    def _object(self, record: Record) -> Handle:
        return self._child(self._spot(record.root, record.path)) if record.path else self._top(record.root)

    def _spot(self, root: int, path: bytes) -> _Spot:
        *above, name = path.split(b"/")
        return _Spot(self._walk(self._top(root), above), name)

    def _top(self, root: int) -> Handle:
        return self._child(_Spot(self._replica.directory(TOP), b"%d" % root))

    def _walk(self, directory: Handle, names: Sequence[bytes]) -> Handle:
        for name in names:
            directory = self._child(_Spot(directory, name))
        return directory

    def _child(self, spot: _Spot) -> Handle:
        handle = self._replica.child(*spot)
        if handle is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), spot.name)
        self._opened.callback(self._replica.release, handle)
        return handle

    def _facts(self, spot: _Spot) -> Facts:
        return self._replica.facts(self._child(spot))

    def _is_same(self, one: _Spot, other: _Spot) -> bool:
        found = [self._replica.child(*spot) for spot in (one, other)]
        for handle in found:
            if handle is not None:
                self._opened.callback(self._replica.release, handle)
        first, second = found
        if first is None or second is None:
            return False
        return self._replica.facts(first).identity == self._replica.facts(second).identity
