"""The output of a job: records in order, their doubts, and large files that are sent after them."""

from __future__ import annotations

import attrs

from i2core.api import Place, Record
from i2core.rule.catalog.rows import Depth, Row
from i2core.rule.outgoing.ledger import Doubts, add_doubt
from i2core.rule.source.draft import Large, content_bytes
from i2core.rule.source.source import Source
from i2core.wire.message_size import Fill

NEVER_NS = 1 << 62


@attrs.define
class Outcome:
    """The output of a job: records in order, large files that are sent in slices after them, and marks left for
    later."""

    records: list[Record] = attrs.field(factory=list)
    doubts: Doubts = attrs.field(factory=dict)
    """The doubts if it stays unknown whether the records were applied."""
    since_ns: int = NEVER_NS
    """`time.monotonic_ns` at which the oldest processed change was first reported."""
    large: list[Large] = attrs.field(factory=list)
    content_bytes: int = 0
    fill: Fill = attrs.field(factory=Fill)

    @property
    def full(self) -> bool:
        """True when there is enough to send."""
        return self.fill.full or bool(self.large)


class Output:
    """Collects the output of the running job."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._since_ns = 0
        self.made = Outcome()

    @property
    def since_ns(self) -> int:
        """When the change that is being processed was reported."""
        return self._since_ns

    def begin(self) -> None:
        """A job begins."""
        self.made = Outcome()

    def work_for(self, since_ns: int) -> None:
        """The following output belongs to a change that was reported at that time."""
        self._since_ns = since_ns
        self.made.since_ns = min(self.made.since_ns, since_ns)

    def emit(self, place: Place, *records: Record, depth: Depth = Depth.NAME, row: Row | None = None) -> None:
        """Adds records. The caller updates the catalog first: only then the catalog has the object of the records, and
        a doubt can refer to it. In the other order, a new file would be unverified as "nothing is here", and its repair
        would compare a name that may belong to another object by then. `row`: the new row of the catalog, if the caller
        has it."""
        fresh = self._source.superseding(place, records)
        self.made.records += fresh
        self.made.fill.add(fresh)
        if row is None:
            self.doubt(place, depth)
        else:
            add_doubt(self.made.doubts, place, self._source.catalog.doubts.about(row, depth))
        self.made.content_bytes += content_bytes(list(records))

    def doubt(self, place: Place, depth: Depth) -> None:
        """If the result of this job stays unknown, the object that the catalog has at `place` now is unverified."""
        add_doubt(self.made.doubts, place, self._source.catalog.doubts.at(place, depth))

    def send_in_slices(self, large: Large, *, walked: bool) -> None:
        """Adds a large file, which is sent between the jobs. `walked`: a compare found it, not a report of a change."""
        self.made.large.append(large._replace(since_ns=self._since_ns, walked=walked))
