"""Doubts of live replication: names that may differ on the replica after a failure or a lost ack, until they are
repaired.

    failed ──▶ which doubt? ──ledger, or the last compare──▶ unsaved ──job──▶ in the catalog, its row not trusted
                     └──unknown──▶ unplaced ──job, by the catalog──▶ ┘
                                                       ▼
                                      cases: due, being compared, answer pending, right

A doubt must survive a restart, so the next job writes it into the catalog; until then it is in `unsaved`. Its repair
begins only after that: otherwise a crash in between would lose the doubt while its repair is half done.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Iterable

from i2core.api import Code, Failure, Place
from i2core.config.words import bilingual
from i2core.rule.catalog.doubts import UNNUMBERED
from i2core.rule.catalog.rows import Depth, Doubt
from i2core.rule.live.part import Part
from i2core.rule.outgoing.outgoing import Outgoing
from i2core.rule.repair.doubtful import Doubtful
from i2core.rule.source.source import Source

ONCE_TRIES, ONCE_READS = 3, 8
"""A run that is to end gives up a name after so many failures on the backup node or here. Other runs retry for ever."""
LOGGED = 1000
"""At most so many names that are retried are logged one by one."""
FAILED = 100_000
"""At most so many places of failures are kept until the next job has looked them up in the catalog."""


class Unverified(Part):
    """All names of one rule that are unverified. For the trio thread; `save` is for the thread of a job.

    More methods than a class should have: seven of them implement `Part`, the others move a name into doubt and out of
    it."""

    def __init__(self, source: Source, outgoing: Outgoing) -> None:
        self._source = source
        self._outgoing = outgoing
        self.cases = Doubtful()
        self.gives_up = False
        """The run is to end: names that fail again and again are left out."""
        self.compared: dict[Place, list[Doubt]] = {}
        """Of the last compare, which may not be in the ledger yet: the doubt at each place."""
        self._unplaced: dict[Place, Failure] = {}
        """Failures at places for which the ledger has no entry."""
        self._unsaved: list[Doubt] = []
        """Doubts that are not yet written to the catalog. Their objects may move before they are compared."""
        self._since_ns = 0
        self._logged = 0

    @property
    def oldest_ns(self) -> int | None:
        """Since when any name has been unverified, without a pause: while one name after the other is unverified, the
        lag grows."""
        return self._since_ns if self.doubtful else None

    @property
    def is_empty(self) -> bool:
        """True when no name is known to be unverified."""
        return not (self.doubtful or self._unsaved)

    @property
    def is_due(self) -> bool:
        """True when a doubt is to be written to the catalog, or to be compared now."""
        return bool(self._unplaced or self._unsaved) or self.cases.is_due

    @property
    def due_at(self) -> float:
        """When the next name is to be compared."""
        return self.cases.due_at

    @property
    def rests(self) -> bool:
        """True when each name waits for its next retry."""
        return not (self._unplaced or self._unsaved) and self.cases.rests

    @property
    def doubtful(self) -> int:
        """How many names there are."""
        return len(self.cases) + len(self._unplaced)

    def owed(self, until_ns: int) -> bool:
        """True while there is a doubt, however new: its records were sent earlier."""
        return bool(self.doubtful)

    def clear(self) -> list[Doubt]:
        """Forgets all doubts, since everything is compared again. Returns those that are not yet in the catalog."""
        unsaved, self._unsaved = self._unsaved, []
        self.cases.clear()
        self._unplaced.clear()
        return unsaved

    # ------------------------------------------------------------------------------------------ into doubt

    def add(self, doubts: Iterable[Doubt], *, after_s: float = 0.0) -> None:
        """Adds doubts: these places are to be compared with the replica."""
        fresh = list(doubts)
        if fresh:
            self._begin()
        self.cases.add(fresh, after_s=after_s)
        self._unsaved += fresh

    def failed(self, failure: Failure) -> None:
        """Takes the failure of a record that the backup node could not apply and may be able to apply later."""
        self._begin()
        known = self._outgoing.ledger.about(failure.seq, failure.place) or self.compared.get(failure.place, [])
        for doubt in known:
            self.failed_again(doubt, failure)
        if not known:
            place = failure.place if len(self._unplaced) < FAILED else Place(failure.place.root, b"")
            self._unplaced[place] = failure

    def differ(self, places: Iterable[Place]) -> None:
        """Takes places that were found to differ by somebody who does not know the catalog."""
        self._begin()
        for place in places:
            self._unplaced[place] = Failure(0, place, Code.FILE_CHECKSUM, "it differs", repair=True)

    def failed_again(self, doubt: Doubt, failure: Failure) -> None:
        """Takes a failure that is known to belong to `doubt`."""
        self._unsaved.append(doubt)
        self._try_again(doubt, failure)

    def save(self) -> list[tuple[Doubt, Failure]]:
        """Writes new doubts to the catalog, so that they survive a restart, and marks their rows as not trusted. The
        caller commits the catalog and then passes the result to `found`."""
        catalog = self._source.catalog
        unsaved, self._unsaved = self._unsaved, []
        unplaced, self._unplaced = self._unplaced, {}
        found = [(self.doubt_at(place), failure) for place, failure in unplaced.items()]
        doubts = [*unsaved, *(doubt for doubt, _ in found)]
        catalog.doubts.keep(UNNUMBERED, doubts)
        for doubt in doubts:
            catalog.doubts.distrust_all(doubt)
        return found

    def found(self, failed: list[tuple[Doubt, Failure]]) -> None:
        """Takes the doubts that `save` has found in the catalog for these failures."""
        for doubt, failure in failed:
            self._try_again(doubt, failure)

    def doubt_at(self, place: Place) -> Doubt:
        """The doubt that a failure at `place` causes; for a directory it covers everything beneath. Where the catalog
        has nothing, a removal failed."""
        catalog = self._source.catalog
        row = catalog.objects.get(place)
        if row is None:
            return catalog.doubts.at(place, Depth.REPLACED)
        return catalog.doubts.about(row, Depth.SUBTREE if stat.S_ISDIR(row.mode) else Depth.NAME)

    def _begin(self) -> None:
        if not self.doubtful:
            self._since_ns = time.monotonic_ns()

    def _try_again(self, doubt: Doubt, failure: Failure) -> None:
        self._begin()
        tries = self.cases.failed(doubt, refused=not failure.repair, root=failure.place.root)
        if self.gives_up and tries >= (ONCE_READS if failure.code is Code.SHORT else ONCE_TRIES):
            self.cases.drop(doubt)
            self.leave_out(failure)
        elif tries == 2 and self._logged < LOGGED:
            self._logged += 1
            shown = self._source.show(failure.place)
            equal = bilingual(f"{shown}: the replica equals the source again", f"{shown}：灾备数据与源端再次一致")
            self.cases.say(doubt, equal)
            line = f"{shown}: {failure.message}; it is retried until it succeeds"
            self._source.say(self._source.rule, failure.code, line)

    def leave_out(self, failure: Failure) -> None:
        """Gives the failed object up and reports it."""
        shown = self._source.show(failure.place)
        self._source.status.skip(shown, failure.code, failure.message)
        self._source.say(self._source.rule, failure.code, f"{shown}: {failure.message}")

    # ------------------------------------------------------------------------------------------ out of it

    def answered(self, applied_seq: int) -> None:
        """All records up to `applied_seq` are applied, and each failure among them was reported."""
        self._log_right(self.cases.answered(applied_seq))

    def asked(self, doubts: Iterable[Doubt], answer_seq: int | None) -> None:
        """These doubts were compared. `answer_seq` is the last record that the compare sent; None: nothing had to be
        sent."""
        self._log_right(self.cases.compared(doubts, answer_seq))
        # The answer may have arrived already.
        self._log_right(self.cases.answered(self._outgoing.answered_seq))

    def _log_right(self, lines: list[str]) -> None:
        self._logged -= len(lines)
        for line in lines:
            self._source.say(self._source.rule, Code.RIGHT_AGAIN, line)
