"""The part of `check_sink` about inode flags: flags that the sink declares to support are set and reported, and they do
not prevent any record from being applied."""

from __future__ import annotations

import stat
from collections.abc import Sequence

from i2core.api import Ask, Entry, Kind, Meta, Place, Record
from i2core.api.inode_flags import CARRIED, EVERY_FLAG, LETTERS, NOCOW, OF_DIRECTORIES, PINS, UNREAD, packed
from i2core.testing.picture import meta_of
from i2core.testing.sink.trial import Trial

_FILE, _DIR = stat.S_IFREG | 0o640, stat.S_IFDIR | 0o750


def _meta(mode: int, flags: int = UNREAD) -> Meta:
    return meta_of(mode)._replace(flags=flags)


def _create(path: bytes, flags: int, data: bytes = b"content") -> Record:
    return Record(Kind.CREATE, 0, path, meta=_meta(_FILE, flags), data=data)


def _mkdir(path: bytes, flags: int) -> Record:
    return Record(Kind.MKDIR, 0, path, meta=_meta(_DIR, flags))


async def _look(trial: Trial, *names: bytes) -> tuple[int, Sequence[Entry | None]]:
    """The flags that the sink supports beneath the root, and the entries of these names there."""
    (seen,) = await trial.sink.look([Ask(Place(0, b""), names)])
    assert not seen.flags & ~EVERY_FLAG, f"flags that cannot be replicated are declared as supported: {seen.flags:#x}"
    return seen.flags, seen.entries


async def _reported(trial: Trial) -> None:
    """Each flag by itself, with each way to set it; other objects have none."""
    for flag in (flag for flag in LETTERS if flag & CARRIED):
        of_file = packed(flag & ~OF_DIRECTORIES, 0)
        both = packed(flag & ~NOCOW, 0)
        await trial.done(_create(b"f", of_file), _mkdir(b"d", both), _create(b"plain", 0))
        held, (file, directory, plain) = await _look(trial, b"f", b"d", b"plain")
        for entry, wanted in ((file, of_file), (directory, both), (plain, 0)):
            assert entry is not None, "an object that was created is missing"
            assert entry.flags != UNREAD, f"the flags of {entry.name!r} are not reported"
            assert not (entry.flags ^ wanted) & held, f"+{LETTERS[flag]}: {entry.flags:#x}, not {wanted:#x}"
        unset = [Record(Kind.SETATTR, 0, b"d", meta=_meta(_DIR, 0))]
        kept = [Record(Kind.SETATTR, 0, b"f", meta=_meta(_FILE))]
        await trial.done(*unset, *kept)
        _, (file, directory) = await _look(trial, b"f", b"d")
        assert directory is not None and not directory.flags & held, "a flag that was removed is still set"
        assert file is not None and not (file.flags ^ of_file) & held, (
            "a flag that the record does not name has changed"
        )
        await trial.done(Record(Kind.REMOVE, 0, b"f"), Record(Kind.REMOVE, 0, b"d"))
    await trial.done(
        _create(b"p", packed(0, 77)), Record(Kind.SYMLINK, 0, b"l", other=b"p", meta=_meta(stat.S_IFLNK | 0o777))
    )
    held, (file, link) = await _look(trial, b"p", b"l")
    assert file is not None, "a file is missing"
    assert not (file.flags ^ packed(0, 77)) & held, f"another project: {file.flags:#x}"
    assert link is not None, "a symlink is missing"
    assert link.flags == UNREAD, "a symlink has flags"
    await trial.done(Record(Kind.SETATTR, 0, b"p", meta=_meta(_FILE, 0)))


async def _pinned(trial: Trial) -> None:
    """Immutable and append-only objects are changed, renamed, linked, replaced and removed like others."""
    pins = packed(PINS, 0)
    await trial.done(
        Record(Kind.SETATTR, 0, b"", meta=_meta(_DIR, pins)),
        _mkdir(b"d", pins),
        _create(b"d/f", pins),
        Record(Kind.WRITE, 0, b"d/f", offset=0, data=b"C"),
        Record(Kind.TRUNCATE, 0, b"d/f", size=3),
        Record(Kind.LINK, 0, b"second", other=b"d/f"),
        Record(Kind.RENAME, 0, b"d/f", other=b"d/g"),
    )
    await trial.holds(b"d/g", b"Con", "a pinned file")
    held, (second, directory) = await _look(trial, b"second", b"d")
    for entry in (second, directory):
        assert entry is not None, "a pinned object is missing"
        assert not (entry.flags ^ pins) & held, f"{entry.name!r} has lost its pins"
    await trial.done(
        _create(b"d/g", pins, b"another"),
        Record(Kind.STAGE, 0, b"d/large"),
        Record(Kind.WRITE, 0, b"d/large", data=b"large", staged=True),
        Record(Kind.PUBLISH, 0, b"d/large", size=5, meta=_meta(_FILE, pins)),
        Record(Kind.REMOVE, 0, b"second"),
    )
    await trial.holds(b"d/g", b"another", "a pinned file that was replaced")
    await trial.holds(b"d/large", b"large", "a pinned file that was staged")
    await trial.done(Record(Kind.REMOVE, 0, b"d"))
    assert list(await trial.names(b"")) == [], "pins prevent the removal of a tree"
    await trial.done(Record(Kind.SETATTR, 0, b"", meta=_meta(_DIR, 0)))


STEPS = (_reported, _pinned)
