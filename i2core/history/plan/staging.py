"""Staging files, as far as planning must know them.

No moment shows a staging file, so what is written into one needs no rows. But a record about one that is not there
fails; and the sink removes and moves staging files by itself, when a record replaces, removes or moves what they belong
to. What a planned record may have done to them is only known when it is carried out.
"""

from __future__ import annotations

from i2core.api.records import Kind, Record
from i2core.history.plan.capture import Capture
from i2core.history.plan.view import MustWait, Thing

_LEAVES_STAGING = (Kind.WRITE, Kind.PUNCH, Kind.TRUNCATE, Kind.STAGE, Kind.SETATTR, Kind.BARRIER)


def key(record: Record) -> bytes:
    """The staging file's name in the directory `STAGING`."""
    return b"%d/" % record.root + record.path


class Staging:
    """Finds staging files."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._first = self._applied = 0
        self._unsure: dict[tuple[int, bytes], int] = {}
        """Paths beneath which a planned record may remove or move staging files, and its seq."""

    def begin(self, first_seq: int) -> None:
        """A plan begins with this record."""
        self._first = first_seq

    def applied(self, seq: int) -> None:
        """All records up to `seq` are carried out."""
        self._applied = seq
        self._unsure = {place: at for place, at in self._unsure.items() if at > seq}

    def planned(self, record: Record) -> None:
        """The record was planned."""
        if record.kind not in _LEAVES_STAGING and not record.staged:
            seq = self._capture.step.seq
            self._unsure[record.root, record.path] = seq
            if record.kind is Kind.RENAME:
                self._unsure[record.root, record.other] = seq

    def find(self, record: Record) -> Thing | None:
        """The staging file of the record's path.

        Raises:
            MustWait: a planned record may remove or move it.
        """
        view = self._capture.view
        slot = view.staging.slots.get(key(record))
        known = max(0 if slot is None else slot.seq, self._applied)
        path = record.path
        while True:
            if self._unsure.get((record.root, path), 0) > known:
                raise MustWait
            if not path:
                return view.slot(view.staging, key(record)).thing
            path = path.rpartition(b"/")[0]

    def identify(self, staged: Thing) -> None:
        """It is to be published: should that be undone it has to go back, so it must be known which file it was. One
        that the same plan has staged goes away instead, for it is staged again.

        Raises:
            MustWait: it is not on the disk yet.
        """
        if staged.identity is None and staged.made < self._first and self._capture.view.handle(staged) is None:
            raise MustWait
