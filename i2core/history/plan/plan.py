"""Plans a batch of records: for each, what it destroys, and what becomes of objects that lose a name.

Pure: it asks the catalog and the replica as it stands, and changes neither. A batch is planned as a whole before its
first record is carried out, so that one frame and one sync make durable what it destroys. Every state that a record
passes through has its rows, for a power cut may leave any of them.

A record that cannot be carried out (its directory is missing, its file is none) gets a step without rows: the sink
finds the same and reports it. When another record fails, what was planned after it is wrong: `Planner.forget`, and plan
again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from i2core.api.present import Present
from i2core.api.records import Kind, Record
from i2core.history.model.grain import Grain
from i2core.history.plan.capture import Capture
from i2core.history.plan.contents import Contents
from i2core.history.plan.naming import Naming
from i2core.history.plan.staging import Staging
from i2core.history.plan.step import Change, Restore, Step
from i2core.history.plan.view import ForeignChange, Known, MustWait, View


@attrs.frozen
class Plan:
    """Steps with consecutive seqs. The durable position of a replica is always the end of a plan."""

    first_seq: int
    steps: Sequence[Step]

    @property
    def last_seq(self) -> int:
        """Seq of the last step; ``first_seq - 1`` when there is none."""
        return self.first_seq + len(self.steps) - 1


class Planner:
    """Plans records in the order of their seqs. For one thread at a time."""

    def __init__(
        self, known: Known, present: Present, next_oid: int, grain: Grain | None = None, *, flags: bool = True
    ) -> None:
        """`next_oid`: no object has this number or a larger one. `flags`: the rule carries inode flags."""
        self._known, self._present, self._grain = known, present, grain or Grain()
        self._view = View(known, present, self._grain.hole)
        self._capture = Capture(self._view, self._grain, next_oid, flags=flags)
        self._staging = Staging(self._capture)
        self._naming = Naming(self._capture)
        self._methods = _methods(self._naming, Contents(self._capture, self._staging))
        self._applied = self._planned = 0
        self._waits = False
        """A record was planned by half: the view is spoiled, and is made again when all before it are carried out."""

    @property
    def next_oid(self) -> int:
        """No object has this number or a larger one."""
        return self._capture.next_oid

    def plan(self, first_seq: int, changes: Sequence[Change]) -> Plan:
        """Plans these records, or as many of them as can be planned before the ones planned so far are carried out:
        then the plan is shorter, or empty while another is being carried out.

        Raises:
            ForeignChange: somebody else has changed the replica there; compare it.
            OSError: the replica cannot be read.
        """
        steps: list[Step] = []
        self._staging.begin(first_seq)
        if self._waits:
            if self._planned > self._applied:
                return Plan(first_seq, steps)
            self.forget()
        for seq, change in enumerate(changes, first_seq):
            self._capture.step = step = Step(seq, change)
            if not self._is_planned(change.record):
                break
            steps.append(step)
            self._planned = seq
        return Plan(first_seq, steps)

    def _is_planned(self, record: Record | Restore) -> bool:
        """Plans the record; False if it has to wait for others."""
        self._waits = True
        try:
            self._plan(record)
        except (MustWait, ForeignChange):
            if self._planned > self._applied:
                return False
            raise
        self._waits = False
        return True

    def _plan(self, record: Record | Restore) -> None:
        if isinstance(record, Restore):
            self._naming.restore(record)
        else:
            self._methods[record.kind](record)
            self._staging.planned(record)

    def applied(self, seq: int) -> None:
        """All records up to `seq` are carried out."""
        self._applied = seq
        self._view.applied(seq)
        self._staging.applied(seq)

    def forget(self) -> None:
        """A record failed, or the replica was turned back: what was planned and not carried out never was."""
        self._view.close()
        self._view = self._capture.view = View(self._known, self._present, self._grain.hole)
        self._capture.touched.clear()
        self._planned, self._waits = self._applied, False
        self._view.applied(self._applied)
        self._staging.applied(1 << 63)
        self._staging.applied(self._applied)


def _methods(naming: Naming, contents: Contents) -> dict[Kind, Callable[[Record], None]]:
    """The method for each kind of record."""
    return {
        Kind.CREATE: naming.put,
        Kind.STAGE: contents.stage,
        Kind.WRITE: contents.write,
        Kind.PUNCH: contents.punch,
        Kind.TRUNCATE: contents.truncate,
        Kind.PUBLISH: contents.publish,
        Kind.MKDIR: naming.mkdir,
        Kind.SYMLINK: naming.put,
        Kind.MKNOD: naming.put,
        Kind.LINK: naming.link,
        Kind.RENAME: naming.rename,
        Kind.REMOVE: naming.remove,
        Kind.SETATTR: contents.setattr,
        Kind.BARRIER: _nothing,
    }


def _nothing(record: Record) -> None:
    """A barrier destroys nothing."""
