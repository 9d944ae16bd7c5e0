"""The position of a replica, on the backup node's disk: owner and identities of the targets, and the last durable seq.

A small file for each rule, replaced atomically after each flush: `durable_seq` is never ahead of the data.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import attrs

from i2core.api import Code, I2Error, LinkError, StopRule
from i2core.posix.durable import replace_durably
from i2core.posix.path_text import as_path
from i2core.rule.backup.replica.state_files import PASSING_HERE, read_file, rule_key, unkept
from i2core.rule.sealed_text import sealed, unsealed

_NUMBERS = attrs.validators.deep_iterable(attrs.validators.instance_of(int), attrs.validators.instance_of(list))
_TEXTS = attrs.validators.deep_iterable(attrs.validators.instance_of(str), attrs.validators.instance_of(list))


@attrs.define
class Position:
    """The state of a replica that survives a restart of the backup node: an attribute for each key of its file."""

    rule: str
    peer: str
    epoch: int = attrs.field(default=0, validator=attrs.validators.instance_of(int))
    durable_seq: int = attrs.field(default=0, validator=attrs.validators.instance_of(int))
    targets: list[str] = attrs.field(factory=list, validator=_TEXTS)
    """The directories that the rule writes; raw bytes as Latin-1 text."""
    roots: list[str] = attrs.field(factory=list, validator=_TEXTS)
    """`Sink.identities` of the targets; empty: not known."""
    aside: str = attrs.field(default="", validator=attrs.validators.instance_of(str))
    """The directory for the rule's orphans, encoded like the targets; empty: none."""
    anew: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))
    """The content of the replica is unknown: the work node must compare everything."""
    heir: list[str] = attrs.field(factory=list, validator=_TEXTS)
    """Peer and rule that an administrator permits to take the targets; empty: nobody."""
    flags: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))
    """The rule carries inode flags."""
    cdp: list[int] = attrs.field(factory=list, validator=_NUMBERS)
    """The largest values of `CdpPolicy` that the work node has ever sent; empty: it never wanted a history."""
    snapshot: dict[str, Any] = attrs.field(factory=dict, validator=attrs.validators.instance_of(dict))
    """The fields of the `SnapshotWish` that the work node has sent last; empty: snapshots are taken by hand alone."""
    zone: str = attrs.field(default="", validator=attrs.validators.instance_of(str))
    """The work node's time zone; empty: not known."""
    sources: list[str] = attrs.field(factory=list, validator=_TEXTS)
    """The directories on the work node, one for each target, encoded like these; empty: not known."""
    history: str = attrs.field(default="", validator=attrs.validators.instance_of(str))
    """`Durable` of the replica's history, true together with `durable_seq`; empty: it has not begun."""
    journal: str = attrs.field(default="", validator=attrs.validators.instance_of(str))
    """`Journal.identity` of the history."""
    rewind: list[int] = attrs.field(factory=list, validator=_NUMBERS)
    """`Rewound` when an administrator has turned the replica back; empty: it is where the work node has left it."""

    def identities(self) -> dict[bytes, str]:
        """The known identity of each target, by path."""
        return dict(zip((as_path(target) for target in self.targets), self.roots, strict=False))

    def without_history(self) -> Position:
        """The same, but the history of the replica has ended."""
        return attrs.evolve(self, history="", journal="")

    def unknown(self) -> Position:
        """The same, but nobody knows what the replica holds: its history has ended, and everything is compared."""
        return attrs.evolve(self.without_history(), durable_seq=0, anew=True)


class PositionFile:
    """A `Position` on disk."""

    def __init__(self, directory: Path, peer: str, rule: str) -> None:
        key = rule_key(peer, rule)
        self._path = directory / f"{key}.json"
        self._memory = directory / f"{key}.sink"
        self._empty = Position(rule, peer)

    def load(self) -> Position:
        """The position; a new one when there is none.

        Raises:
            Damaged: the content of the file is not valid.
            LinkError: it cannot be read now.
        """
        try:
            position = _parse(read_file(self._path))
        except FileNotFoundError:
            return self._empty
        except OSError as error:
            if error.errno in PASSING_HERE:
                raise LinkError(f"cannot read the position: {error.strerror}", obj=str(self._path)) from error
            raise Damaged(error.strerror, str(self._path)) from error
        except (ValueError, TypeError) as error:
            raise Damaged(f"it is no position ({error})", str(self._path)) from error
        if (position.rule, position.peer) != (self._empty.rule, self._empty.peer):
            raise Damaged("it is another rule's", str(self._path))
        return position

    def empty(self) -> Position:
        """The position of a rule that was never received."""
        return self._empty

    def forget(self) -> None:
        """Removes it, and what the sink has kept.

        Raises:
            StopRule: it cannot be removed.
        """
        self.forget_memory()
        self._unlink(self._path)

    def room_for_memory(self) -> Path:
        """As `SinkContext.memory`; its directory is there.

        Raises:
            StopRule: it cannot be made.
        """
        try:
            os.makedirs(self._memory.parent, 0o700, exist_ok=True)
        except OSError as error:
            raise unkept(error, self._memory.parent) from error
        return self._memory

    def forget_memory(self) -> None:
        """Removes what the sink has kept.

        Raises:
            StopRule: it cannot be removed.
            LinkError: it cannot be removed now.
        """
        directory = self._memory.parent
        try:
            names = os.listdir(directory)
        except FileNotFoundError:
            return
        except OSError as error:
            raise unkept(error, directory) from error
        for name in names:
            if name.startswith(self._memory.name):
                self._unlink(directory / name)

    @staticmethod
    def _unlink(path: Path) -> None:
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        except OSError as error:
            raise unkept(error, path) from error

    def save(self, position: Position) -> None:
        """Replaces the file so that a power cut leaves the old or the new one.

        Raises:
            StopRule: it cannot be written.
        """
        try:
            replace_durably(self._path, sealed(json.dumps(attrs.asdict(position)).encode()))
        except OSError as error:
            raise unkept(error, self._path) from error


def _parse(content: bytes) -> Position:
    """Raises ValueError or TypeError if this is not a position."""
    return Position(**json.loads(unsealed(content)))


class Damaged(Exception):
    """A position file that cannot be used: (why, path)."""


def known_positions(directory: Path) -> list[Position]:
    """The positions of all rules that this node receives. A damaged one has no targets. One that cannot be read at the
    moment raises instead of being left out: otherwise the directories that it protects would appear to have no owner.

    Raises:
        LinkError: descriptors or memory are exhausted at the moment.
        StopRule: the directory cannot be read.
    """
    found = []
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unread(error, directory) from error
    for name in sorted(name for name in names if name.endswith(".json")):
        try:
            found.append(_parse(read_file(directory / name)))
        except OSError as error:
            if error.errno in PASSING_HERE:
                raise _unread(error, directory / name) from error
        except (ValueError, TypeError):
            continue
    return found


def _unread(error: OSError, path: Path) -> I2Error:
    why = f"cannot read the positions: {error.strerror}"
    if error.errno in PASSING_HERE:
        return LinkError(why, obj=str(path))
    return StopRule(why, code=Code.REPLICATE_FILE, obj=str(path))
