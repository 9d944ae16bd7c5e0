"""The last applied seq of a rule on this node, durable or not.

The file is written after each record and never synced. So it survives a killed process, and is ignored after a reboot.
If the file is missing or older than the last reboot, the last applied seq is unknown: records after the last durable
one may be applied in part, and the work node compares their places.
"""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

from i2core.rule.backup.replica.state_files import read_file, rule_key, unkept
from i2core.rule.boot_id import boot_id

_PROGRESS = struct.Struct("<16sQ")


class ProgressFile:
    """The seq on disk, with the boot id of the system at that time."""

    def __init__(self, directory: Path, peer: str, rule: str) -> None:
        self._path = directory / f"{rule_key(peer, rule)}.applied"
        self._boot = boot_id()
        self._fd = -1

    def load(self) -> int | None:
        """The seq of the last applied record; None when it is unknown."""
        try:
            content = read_file(self._path)
        except OSError:
            return None
        if len(content) != _PROGRESS.size:
            return None
        boot, seq = _PROGRESS.unpack(content)
        return int(seq) if boot == self._boot else None

    def keep(self, seq: int) -> None:
        """Saves the seq of an applied record.

        Raises:
        StopRule: it cannot be saved.
        """
        try:
            if self._fd < 0:
                os.makedirs(self._path.parent, 0o700, exist_ok=True)
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.pwrite(self._fd, _PROGRESS.pack(self._boot, seq), 0)
        except OSError as error:
            raise unkept(error, self._path) from error

    def forget(self) -> None:
        """Makes the last applied seq unknown.

        Raises:
        StopRule: this cannot be saved.
        """
        self.close()
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
        except OSError as error:
            raise unkept(error, self._path) from error

    def close(self) -> None:
        """Closes the file until it is needed again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Progress:
    """The last applied seq, and whether it is known exactly."""

    def __init__(self, file: ProgressFile, *, durable_seq: int, received: bool, damaged: bool) -> None:
        """`received`: the rule was received before. `damaged`: its position is lost, so nothing is known."""
        self._file = file
        kept = None if damaged else file.load()
        self.known = kept is not None or not (received or damaged)
        """False: records after `applied_seq` may be applied in part, because this node crashed or a mirror failed in
        part. This stays so, also across another crash, until the work node has taken the doubts over."""
        self.applied_seq = max(kept or 0, durable_seq)

    def keep(self) -> None:
        """A session begins: writes the current state to the file.

        Raises:
        StopRule: it cannot be saved.
        """
        if self.known:
            self._file.keep(self.applied_seq)

    def mark(self, seq: int) -> None:
        """Notes an applied record; from any thread.

        Raises:
        StopRule: it cannot be saved.
        """
        if seq > self.applied_seq:
            if self.known:
                self._file.keep(seq)
            self.applied_seq = seq

    def mark_known(self) -> None:
        """The work node has taken the doubts over and compares their places.

        Raises:
        StopRule: this cannot be saved.
        """
        if not self.known:
            self._file.keep(self.applied_seq)
            self.known = True

    def go_back(self, seq: int) -> None:
        """The replica was taken back: it has exactly the records up to `seq`.

        Raises:
        StopRule: this cannot be saved.
        """
        self._file.keep(seq)
        self.applied_seq, self.known = seq, True

    def mark_unknown(self) -> None:
        """A mirror's record failed. If the link breaks before the failure is reported, the next mirror must not trust
        size and time.

        Raises:
        StopRule: this cannot be saved.
        """
        if self.known:
            self.forget()

    def forget(self) -> None:
        """Other directories have replaced those that were written: nothing is known about them.

        Raises:
        StopRule: this cannot be saved.
        """
        self.known = False
        self._file.forget()

    def close(self) -> None:
        """Closes the file until it is needed again."""
        self._file.close()
