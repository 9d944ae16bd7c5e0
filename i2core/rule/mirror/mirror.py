"""The mirror: brings the whole replica to the source's state. Listing, comparing and sending overlap.

After an interruption the mirror is simply run again: content that was sent compares equal, also within a large file.
The catalog is empty at the start, so all of its rows were compared or sent by this mirror.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from i2core.api import Place
from i2core.rule.catalog.catalog import Catalog
from i2core.rule.catalog.rows import Row
from i2core.rule.mirror.bring import Link, bring
from i2core.rule.mirror.steps import BringPolicy, Step
from i2core.rule.source.source import Source
from i2core.rule.survey.findings import Findings
from i2core.rule.survey.lister import Scope
from i2core.wire.questions import OrphanList


async def mirror(source: Source, session: Link, scopes: Iterable[Scope], *, strict: bool) -> Findings:
    """Mirrors the scopes; returns when all records are sent (not yet durable). Returns the findings that are left.

    Raises:
        LinkError: the link broke; run again.
        StopRule: an unreadable file, and the rule says to stop.
    """
    findings = Findings(source)
    await bring(source, session, scopes, MirrorPolicy(source.catalog), findings, strict=strict)
    return findings


class MirrorPolicy(BringPolicy):
    """Names that only the replica has are orphans: the backup node handles them as the rule's options demand."""

    def __init__(self, catalog: Catalog) -> None:
        super().__init__()
        self._catalog = catalog

    def only_there(self, place: Place, names: Sequence[bytes], known: dict[bytes, Row]) -> Iterator[Step]:
        for name in names:
            if name in known:
                self._catalog.objects.remove(known[name])
        if names:
            yield OrphanList(place.root, place.path, names)

    def vanished(self, at: Place) -> Iterator[Step]:
        above, _, name = at.path.rpartition(b"/")
        yield OrphanList(at.root, above, [name])
