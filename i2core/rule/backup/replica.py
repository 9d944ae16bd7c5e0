"""What the backup node knows of one rule's replica: how far it is, who owns it, and whether it is held.

The position lies in a small file that is replaced atomically after each flush: `durable_seq` is never ahead of the
data. Beside it lies how far the records are applied, written behind each of them and never synced: it outlives a killed
process, and is not believed when the system has started anew.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import attrs
import trio

from i2core.api import Code, Record, StopRule
from i2core.rule.backup.brake import DeleteWindow
from i2core.rule.boot import boot_id
from i2core.rule.full import code_of_full
from i2core.wire.messages import BrakeLimits

_MOST_BYTES = 1 << 20
"""No position file is as long as that."""


@attrs.define
class Position:
    """What survives a restart of the backup node."""

    rule: str
    peer: str
    epoch: int = attrs.field(default=0, validator=attrs.validators.instance_of(int))
    durable_seq: int = attrs.field(default=0, validator=attrs.validators.instance_of(int))
    targets: list[str] = attrs.field(factory=list, validator=attrs.validators.instance_of(list))
    """The directories that the rule writes, raw bytes as Latin-1 text."""

    def overlaps(self, targets: Iterable[bytes]) -> bool:
        """True when one of these directories is, holds or lies in one that the rule writes."""
        mine = [target.encode("latin-1") + b"/" for target in self.targets]
        theirs = [target + b"/" for target in targets]
        return any(one.startswith(other) or other.startswith(one) for one in mine for other in theirs)


class PositionFile:
    """A `Position` on disk."""

    def __init__(self, directory: Path, peer: str, rule: str) -> None:
        key = hashlib.sha256(f"{peer}\0{rule}".encode()).hexdigest()[:32]
        self._path = directory / f"{key}.json"
        self._empty = Position(rule, peer)

    def load(self) -> Position:
        """The position; a new one when there is none.

        Raises:
            StopRule: the file is damaged: guessing a position could lose data.
        """
        try:
            return Position(**json.loads(_read(self._path)))
        except FileNotFoundError:
            return self._empty
        except (ValueError, TypeError) as error:
            raise StopRule(
                "the position file is damaged", obj=str(self._path), next_step="remove it: the rule compares all again"
            ) from error

    def forget(self) -> None:
        """Removes it.

        Raises:
            StopRule: it cannot be removed.
        """
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
        except OSError as error:
            raise _unkept(error, self._path) from error

    def save(self, position: Position) -> None:
        """Replaces the file so that a power cut leaves the old or the new one.

        Raises:
            StopRule: it cannot be written.
        """
        try:
            os.makedirs(self._path.parent, 0o700, exist_ok=True)
            fresh = self._path.with_suffix(".new")
            _write_durably(fresh, json.dumps(attrs.asdict(position)).encode())
            os.replace(fresh, self._path)
            directory = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise _unkept(error, self._path) from error


def known_positions(directory: Path) -> list[Position]:
    """The positions of all rules that this node receives. One that is damaged says nothing of its targets."""
    found = []
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    for name in sorted(name for name in names if name.endswith(".json")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            found.append(Position(**json.loads(_read(directory / name))))
    return found


def _unkept(error: OSError, path: Path) -> StopRule:
    code = code_of_full(error, Code.REPLICATE_FILE)
    return StopRule(f"cannot keep the position: {error.strerror}", code=code, obj=str(path))


# By way of `os` alone, as all that must survive a crash: so that the simulation can put its disk beneath it.


def _read(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, _MOST_BYTES)
    finally:
        os.close(fd)


def _write_durably(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        written = os.write(fd, data)
        if written < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(fd)
    finally:
        os.close(fd)


class ProgressFile:
    """How far records are applied, durable or not."""

    def __init__(self, directory: Path, peer: str, rule: str) -> None:
        key = hashlib.sha256(f"{peer}\0{rule}".encode()).hexdigest()[:32]
        self._path = directory / f"{key}.applied"
        self._boot = boot_id()
        self._fd = -1

    def load(self) -> int | None:
        """The seq of the last record that was applied; None when that is not known."""
        try:
            content = _read(self._path)
        except OSError:
            return None
        if len(content) != _PROGRESS.size:
            return None
        boot, seq = _PROGRESS.unpack(content)
        return int(seq) if boot == self._boot else None

    def keep(self, seq: int) -> None:
        """A record was applied.

        Raises:
            StopRule: that cannot be kept.
        """
        try:
            if self._fd < 0:
                os.makedirs(self._path.parent, 0o700, exist_ok=True)
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.pwrite(self._fd, _PROGRESS.pack(self._boot, seq), 0)
        except OSError as error:
            raise _unkept(error, self._path) from error

    def forget(self) -> None:
        """How far they are is not known any more.

        Raises:
            StopRule: that cannot be kept.
        """
        self.close()
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
        except OSError as error:
            raise _unkept(error, self._path) from error

    def close(self) -> None:
        """Lets the file go until it is needed again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


_PROGRESS = struct.Struct("<16sQ")


class Replica:
    """One rule's replica on this node, shared by its sessions: `lane` and `flushing` keep them apart."""

    def __init__(self, rule: str, peer: str, directory: Path, say: Callable[[Code | None, str], None]) -> None:
        self.rule = rule
        self.peer = peer
        self._store = PositionFile(directory, peer, rule)
        self._progress = ProgressFile(directory, peer, rule)
        self.say = say
        self.position = self._store.load()
        progress = self._progress.load()
        self.exact = progress is not None or not (self.position.epoch or self.position.durable_seq)
        """False: what came behind `applied_seq` may be applied in part, for this node broke down, or a mirror failed in
        part. Stays so, also across another breakdown, until the work node sees to it."""
        self.applied_seq = max(progress or 0, self.position.durable_seq)
        if self.exact:
            self._progress.keep(self.applied_seq)
        self.unsynced = True
        """What a process before this one has applied may not be on disk, for it may have been killed. A mirror that
        finds it equal has nothing to apply, and vouches for it."""
        self.applied_records = 0
        self.applied_bytes = 0
        self.orphans = 0
        self.held_reason = ""
        self.targets: tuple[bytes, ...] = ()
        self.window = DeleteWindow(BrakeLimits(share=0.5, window_s=60, least=1000))
        self.lane = trio.Lock()
        self.flushing = trio.Lock()
        self._saving = trio.Lock()
        """A new owner may come in while the last flush of the one before is told: neither undoes the other."""
        self._released = trio.Event()

    @property
    def durable_seq(self) -> int:
        """The last seq that would survive a power cut."""
        return self.position.durable_seq

    def check(self, epoch: int) -> None:
        """Lets only the owner in.

        Raises:
            StopRule: the epoch is older than the replica's owner (3588).
        """
        if epoch < self.position.epoch:
            raise StopRule(
                f"epoch {epoch} is older than {self.position.epoch}: another node owns the replica",
                code=Code.LOCKED,
                obj=self.rule,
            )

    async def begin(self, epoch: int, targets: Sequence[bytes]) -> None:
        """A session begins. Who owns the replica from now on is on disk when this returns: no crash lets an older
        owner in again.

        Raises:
            StopRule: the position cannot be kept.
        """
        async with self._saving:
            position = attrs.evolve(self.position, epoch=epoch, targets=[each.decode("latin-1") for each in targets])
            if position != self.position:
                await trio.to_thread.run_sync(self._store.save, position)
                self.position.epoch, self.position.targets = position.epoch, position.targets

    def rest(self) -> None:
        """No session is left: lets its files go."""
        self._progress.close()

    def heard(self) -> None:
        """The work node knows what is in doubt, and sees to it.

        Raises:
            StopRule: that cannot be kept.
        """
        if not self.exact:
            self._progress.keep(self.applied_seq)
            self.exact = True

    def spoiled(self) -> None:
        """A mirror's record failed. Should the link break before the work node has heard of it, the next mirror is not
        to believe in size and time.

        Raises:
            StopRule: that cannot be kept.
        """
        if self.exact:
            self.exact = False
            self._progress.forget()

    def mark(self, seq: int) -> None:
        """A record was applied; from any thread.

        Raises:
            StopRule: that cannot be kept.
        """
        if seq > self.applied_seq:
            if self.exact:
                self._progress.keep(seq)
            self.applied_seq = seq

    def applied(self, first_seq: int, records: Sequence[Record], size: int) -> None:
        """A batch was applied."""
        self.mark(first_seq + len(records) - 1)
        self.applied_records += len(records)
        self.applied_bytes += size

    async def durable(self, seq: int) -> None:
        """Everything up to `seq` is durable now.

        Raises:
            StopRule: the position cannot be kept.
        """
        # Kept first, told afterwards: an ack must not be ahead of what a restart would find.
        async with self._saving:
            position = attrs.evolve(self.position, durable_seq=seq)
            await trio.to_thread.run_sync(self._store.save, position)
            self.position.durable_seq = seq
        self.unsynced = False

    async def hold(self, reason: str) -> None:
        """Waits until someone releases the held records."""
        self.held_reason = reason
        self._released = trio.Event()
        self.say(Code.MASS_DELETE_HELD, f"held: {reason}; nothing more is applied until released")
        try:
            await self._released.wait()
        finally:
            self.held_reason = ""
        self.window.release(trio.current_time())
        self.say(None, "released")

    def release(self) -> bool:
        """Lets held records through; False when none are held."""
        if not self.held_reason:
            return False
        self._released.set()
        return True
