"""The history of a removed rule: kept for a while, for who removed the rule by mistake, then cleared.

That it is to be cleared stands in a small file beside journal and index, with a steady clock of its own: nobody has the
history open meanwhile, and a system clock that jumps ahead must not shorten the grace. Clearing may be cut off anywhere
and begun again: the file goes last.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

import attrs

from i2core.api import Code, StopRule
from i2core.api.journal import Journal
from i2core.api.present import STORE, Replica
from i2core.history.retention.clock import SteadyClock
from i2core.history.retention.state import State
from i2core.posix.durable import replace_durably, sync_path

_FILE = "removed"
_PARTS = ("index", "journal")

Reading = tuple[int, bytes, int]
"""The clocks of this node at one moment: system clock, id of the boot, CLOCK_BOOTTIME."""


class Due(NamedTuple):
    """When a history is cleared."""

    left_ns: int
    """Time that has to pass; 0: it may be cleared now."""
    is_locked: bool
    """`cdp.lock` holds it for longer than the grace would."""


@attrs.frozen(kw_only=True)
class Removal:
    """That the rule of a history was removed, as its directory keeps it."""

    clock: SteadyClock
    grace_until_ns: int
    locked_until_ns: int

    @classmethod
    def mark(cls, directory: Path, journal: Journal, reading: Reading, *, grace_ns: int, lock_ns: int) -> Self:
        """The rule is removed now; its history is open for the last time. One that is removed already stays as it is,
        but for a shorter grace: whoever says "at once" has seen that it waits.

        Raises:
            OSError: it cannot be kept.
            StopRule: the notes of the history are damaged.
        """
        last_ns = journal.segments[-1].applied_ns
        clock = _at_least(SteadyClock.begin(*reading), last_ns)
        until_ns = last_ns + _longest(journal.note, lock_ns, last_ns)
        removal = cls(clock=clock, grace_until_ns=clock.now_ns + grace_ns, locked_until_ns=until_ns)
        before = cls.read(directory)
        if before is not None:
            clock = before.clock.read(*reading)
            grace_until_ns = min(before.grace_until_ns, clock.now_ns + grace_ns)
            removal = attrs.evolve(before, clock=clock, grace_until_ns=grace_until_ns)
        removal._write(directory)
        return removal

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """What the directory has; None: its rule is not removed.

        Raises:
            OSError: it cannot be read.
            StopRule: it is damaged (3570): then nothing is cleared.
        """
        try:
            fields = json.loads((directory / _FILE).read_bytes())
            now_ns, boot_id, running_ns, behind_ns = fields["clock"]
            clock = SteadyClock(now_ns, bytes.fromhex(boot_id), running_ns, behind_ns)
            return cls(clock=clock, grace_until_ns=fields["grace"], locked_until_ns=fields["locked"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise StopRule(
                "the note of a removed history is damaged",
                code=Code.CDP_CONFIG,
                obj=str(directory / _FILE),
                next_step="remove the rule again",
            ) from error

    def _write(self, directory: Path) -> None:
        now_ns, boot_id, running_ns, behind_ns = attrs.astuple(self.clock)
        clock = [now_ns, boot_id.hex(), running_ns, behind_ns]
        fields = {"clock": clock, "grace": self.grace_until_ns, "locked": self.locked_until_ns}
        replace_durably(directory / _FILE, json.dumps(fields).encode())

    def due(self, directory: Path, reading: Reading) -> Due:
        """How long it stays; the time that has passed is noted.

        Raises:
            OSError: it cannot be noted.
        """
        now = attrs.evolve(self, clock=self.clock.read(*reading))
        now._write(directory)
        left_ns = max(self.grace_until_ns, self.locked_until_ns) - now.clock.now_ns
        return Due(max(left_ns, 0), self.locked_until_ns > max(self.grace_until_ns, now.clock.now_ns))


def bring_back(directory: Path) -> bool:
    """The rule is there again: its history goes on. False: it was not removed.

    Raises:
        OSError: the file cannot be removed.
    """
    try:
        os.unlink(directory / _FILE)
    except FileNotFoundError:
        return False
    sync_path(directory)
    return True


def clear(directory: Path, replica: Replica | None) -> None:
    """Removes a history: what the replica keeps for it, then index and journal. Nobody has it open, and it is due.
    `replica`: None where it is gone itself. A symlink is removed, and never followed.

    Raises:
        OSError: something cannot be removed; the rest is there, and it is begun again.
    """
    if replica is not None:
        store = replica.directory(STORE)
        for kept in list(replica.names(store)):
            replica.remove(store, kept)
        replica.flush()
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        names = sorted(os.listdir(fd), key=lambda name: (name == _FILE, name not in _PARTS))
        for name in names:
            _remove(fd, name)
    finally:
        os.close(fd)
    os.rmdir(directory)
    sync_path(directory.parent)


def _remove(directory_fd: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory_fd)
    except IsADirectoryError:
        with suppress(FileNotFoundError):
            shutil.rmtree(name, dir_fd=directory_fd)


def _at_least(clock: SteadyClock, now_ns: int) -> SteadyClock:
    """A clock whose time the history knows better: it cannot be earlier than its last frame."""
    return attrs.evolve(clock, now_ns=max(clock.now_ns, now_ns))


def _longest(note: bytes, lock_ns: int, last_ns: int) -> int:
    """The age at which the last lock lets the newest moment go."""
    if not note:
        return lock_ns
    lock = State.decode(note).lock
    return max([lock_ns, lock.age_ns, *(former.age_ns for former in lock.former if last_ns < former.until_ns)])
