"""Turns records into system calls.

    Applier ──▶ ObjectMaker   whole objects             ┐
            ──▶ FileWriter    content, staging files    ├──▶ Placer (takes the name)  ──▶ Settler (attributes last)
            ──▶ NameChanger   links, renames, removals  ┘

Each kind of record has one method. All of them may run again after a crash: an object that is already as the record
says is left or created once more. Where the object of a record is missing (the old name of a rename, a staging file),
nothing shows whether the record was applied before or the replica is wrong: the record fails, and its name is compared.
One case cannot be detected on a replica of plain files: the name in a repeated record belongs to another object by now.
Example: ``RENAME a b``, ``CREATE a``, applied twice, moves the second ``a`` to ``b``. So the work node compares such
names after it has repeated records."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from i2_sink_fs.attributes import NoRoomForAttribute
from i2_sink_fs.directories import Directories
from i2_sink_fs.files import FileWriter
from i2_sink_fs.keeping import Keeper
from i2_sink_fs.kept import Kept
from i2_sink_fs.locating import Locator
from i2_sink_fs.locks import Unlocked
from i2_sink_fs.names import NameChanger
from i2_sink_fs.objects import ObjectMaker
from i2_sink_fs.obstacles import Obstacles
from i2_sink_fs.outcome import Drift, has_room, judge
from i2_sink_fs.paths import IllegalPath
from i2_sink_fs.placing import InTheWay, Placer
from i2_sink_fs.present.stores import Stores
from i2_sink_fs.private import Private
from i2_sink_fs.progress import Progress
from i2_sink_fs.settling import Settler
from i2_sink_fs.staging import Staging
from i2core.api import Failure, Kind, Place, Record, StopRule
from i2core.posix.errnos import PASSING

_REPLACING = (Kind.CREATE, Kind.MKDIR, Kind.SYMLINK, Kind.MKNOD, Kind.LINK, Kind.REMOVE)
_WITHIN_FILE = (Kind.WRITE, Kind.PUNCH, Kind.TRUNCATE)
_EXPECTED = (OSError, Drift, IllegalPath, NoRoomForAttribute, ValueError, OverflowError)
"""Errors of a record; ValueError and OverflowError come from numbers that no system call accepts."""


class Applier:
    """Applies one batch; holds the fds of that batch. A context manager: closes them."""

    def __init__(
        self,
        directories: Directories,
        kept: Kept,
        stores: Callable[[], Stores],
        applied: Callable[[int], None],
        *,
        spares: bool,
    ) -> None:
        """`stores`: as `Keeper`. `applied`: called with the seq of each record that was applied. `spares`: as in
        `SinkContext`."""
        self._applied = applied
        self._directories = directories
        self._flags = kept.flags
        self._left = kept.left
        self._known = kept.known
        self._private = private = Private(directories, kept)
        self._unlocked = Unlocked()
        self._locator = locator = Locator(directories, kept.volumes)
        self._keeper = keeper = Keeper(locator, kept, stores)
        self._obstacles = Obstacles(directories, locator, kept, self._unlocked)
        self._settler = settler = Settler(directories, locator, keeper, kept, self._unlocked)
        staging = Staging(private)
        placer = Placer(directories, locator, private, staging, keeper, kept, spares=spares)
        objects = ObjectMaker(directories, locator, placer, settler, keeper, kept)
        self._files = files = FileWriter(directories, locator, placer, settler, staging, keeper, kept)
        names = NameChanger(directories, locator, placer, staging, keeper, kept)
        self._methods = _methods(objects, files, names, settler)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.leave()
        try:
            # The next call finds what is left now, and the flush after this batch removes it. If a record has raised,
            # there may be no flush.
            with contextlib.suppress(OSError, StopRule):
                self._private.clean_nested() if kind is None else self._private.clean()
        finally:
            self._unlocked.restore()
            self._locator.note_changes()
            self._directories.close()
            self._known.commit()

    def apply(self, progress: Progress) -> None:
        """Carries out the records in order, from the first that is not done up to one that is blocked.

        Raises:
            StopRule: see `Sink.apply`.
            OSError: one that passes (`PASSING`); the record that met it is to be tried again, by another applier.
        """
        while (record := progress.next()) is not None:
            try:
                self._keeper.begin(progress)
                self._prepare(record)
                self._carry_out(record)
            except InTheWay:
                progress.made.pop(progress.seq, None)
                progress.blocked = True
                return
            except _EXPECTED as error:
                if isinstance(error, OSError) and error.errno in PASSING:
                    raise
                failure = self._failure(error, progress.seq, record)
                if record.kind in _WITHIN_FILE:
                    self._files.note_torn(record)
                progress.failures.append(failure)
                progress.made.pop(progress.seq, None)
            self._applied(progress.seq)
            progress.done += 1

    def _prepare(self, record: Record) -> None:
        """Forgets and closes what belongs to the previous record."""
        if record.kind not in _WITHIN_FILE:
            self._files.leave()
            if record.kind in _REPLACING and not record.staged:
                self._left.forget(Place(record.root, record.path))
        self._directories.trim()

    def _carry_out(self, record: Record) -> None:
        """Carries out one record; retries it once if an obstacle could be removed."""
        try:
            try:
                self._attempt(record)
            except OSError as error:
                if not self._obstacles.clear(record, error):
                    raise
                self._attempt(record)
        finally:
            self._flags.restore()
        self._settler.raise_late()

    def _attempt(self, record: Record) -> None:
        self._settler.forget_late()
        self._methods[record.kind](record)

    def _failure(self, error: Exception, seq: int, record: Record) -> Failure:
        """The failure to report for the record.

        Raises:
            StopRule: the error does not concern this record alone.
        """
        place = Place(record.root, record.path)
        room = partial(self._has_room, record)
        return judge(error, seq, place, self._directories.shown, room, needed=len(record.data))

    def _has_room(self, record: Record) -> bool:
        try:
            return has_room(self._directories.find(record.root, b"").fd)
        except OSError:
            return False


def _methods(
    objects: ObjectMaker, files: FileWriter, names: NameChanger, settler: Settler
) -> dict[Kind, Callable[[Record], None]]:
    """The method for each kind of record."""
    return {
        Kind.CREATE: objects.create,
        Kind.STAGE: files.stage,
        Kind.WRITE: files.write,
        Kind.PUNCH: files.punch,
        Kind.TRUNCATE: files.truncate,
        Kind.PUBLISH: files.publish,
        Kind.MKDIR: objects.mkdir,
        Kind.SYMLINK: objects.symlink,
        Kind.MKNOD: objects.mknod,
        Kind.LINK: names.link,
        Kind.RENAME: names.rename,
        Kind.REMOVE: names.remove,
        Kind.SETATTR: settler.setattr,
        Kind.BARRIER: _nothing,
    }


def _nothing(record: Record) -> None:
    """A barrier: the order of the records is all that it asks for."""
