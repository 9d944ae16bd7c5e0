"""A real source directory and a scripted replica, for tests of survey, mirror and repair.

The replica answers each survey as the test says, and keeps what was sent to it. There is no connection.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

from i2core.api import Code, Filter, Kind, LinkError, Place, Record
from i2core.api.blockmap import DIGEST_BYTES
from i2core.api.records import Buffer
from i2core.config.model import OnError
from i2core.drivers.chain import FilterChain
from i2core.posix.tree import LocalTree
from i2core.rule.catalog.catalog import Catalog
from i2core.rule.catalog.rows import Row
from i2core.rule.life.status import RuleStatus
from i2core.rule.source.source import Source
from i2core.rule.survey.findings import Findings
from i2core.rule.survey.lister import Lister, Scope
from i2core.wire.batch import EncodedBatch, WireBatch
from i2core.wire.encoding import decode_records, encode_records
from i2core.wire.frame import FrameType
from i2core.wire.listing import Chunk, ChunkVerdicts, ReceivedChunk, Verdict, decode_survey, encode_verdicts
from i2core.wire.messages import Welcome
from i2core.wire.questions import HashQuery, NamesQuery, OrphanList, encode_names

TOP = Place(0, b"")
ALL = Scope(TOP)


class SourceSide:
    """The work node's side of a rule with one root."""

    def __init__(self, path: Path, *filters: Filter, on_error: OnError = OnError.LOG) -> None:
        path.mkdir(exist_ok=True)
        self.path = path
        self.catalog = Catalog(None)
        self.tree = LocalTree(os.fsencode(path))
        self.said: list[tuple[Code | None, str]] = []
        self.source = Source(
            rule="r",
            trees=[self.tree],
            filter=FilterChain(filters),
            catalog=self.catalog,
            status=RuleStatus(name="r"),
            on_error=on_error,
            say=lambda rule, code, line: self.said.append((code, str(line))),
        )
        self.findings = Findings(self.source)

    def close(self) -> None:
        """Closes the directory and the catalog."""
        self.catalog.close(clean=False)
        self.tree.close()

    def chunks(self, *scopes: Scope) -> list[Chunk]:
        """The chunks that a survey of the scopes lists; without scopes, of everything."""
        lister = Lister(self.source, self.findings, strict=False)
        try:
            return [chunk for frame in lister.frames(scopes or (ALL,)) for chunk in frame]
        finally:
            lister.close()

    def sent(self, *paths: bytes) -> list[Row]:
        """Notes the objects at these paths in the catalog, directories first, as if they had been sent."""
        rows = []
        for path in paths:
            entry = self.tree.lookup(path)
            assert entry is not None
            rows.append(self.catalog.objects.put(Place(0, path), entry))
        return rows

    def doubts_kept(self) -> set[bytes]:
        """The names of which the catalog says that they are unverified."""
        return {doubt.name for some in self.catalog.doubts.by_seq().values() for doubt in some}


def same(chunks: Iterable[Chunk]) -> list[ChunkVerdicts]:
    """The answers of a replica that has all of it."""
    return [ChunkVerdicts(Verdict.SAME, bytes(len(chunk.entries)), {}, []) for chunk in chunks]


class ScriptedReplica:
    """The other end of a session. Objects that the script does not name are equal there."""

    def __init__(self) -> None:
        self.welcome = Welcome(version="0", node="bak", applied_seq=0, durable_seq=0, exact=True, owns=True)
        self.verdicts: dict[bytes, Verdict] = {}
        """Of entries, by their paths."""
        self.missing: set[bytes] = set()
        """Directories that it does not have."""
        self.extra: dict[bytes, list[bytes]] = {}
        """Names that it alone has, by the directory."""
        self.pages: dict[bytes, list[list[bytes]]] = {}
        """All names of directories that have too many for one answer."""
        self.longer: set[bytes] = set()
        """Files that have blocks beyond what is asked for."""
        self.before: dict[FrameType, Callable[[], None]] = {}
        """Called once, before the next message of that kind is taken."""
        self.asked: list[bytes] = []
        """Directories that were surveyed."""
        self.sent: list[Record] = []
        self.batches: list[int] = []
        """How many records each batch had."""
        self.orphans: list[OrphanList] = []
        self.cut_at: Kind | None = None
        """The link breaks before a batch with such a record arrives."""
        self._seq = 1

    def kinds(self) -> list[tuple[Kind, bytes]]:
        """The kinds of the records that were sent, without attributes of directories."""
        return [(each.kind, each.path) for each in self.sent if each.kind is not Kind.SETATTR]

    def pack(self, records: Sequence[Record]) -> list[WireBatch]:
        """One batch."""
        if not records:
            return []
        first, self._seq = self._seq, self._seq + len(records)
        return [WireBatch(EncodedBatch(first, self._seq - 1, encode_records(records)), b"")]

    async def send(self, packed: WireBatch) -> None:
        """Takes a batch."""
        self._arrives(FrameType.BATCH)
        records = decode_records(packed.batch.raw)
        if any(record.kind is self.cut_at for record in records):
            raise LinkError("cut")
        self.sent += records
        self.batches.append(len(records))

    async def send_records(self, records: Sequence[Record]) -> int:
        """Takes a few records."""
        for packed in self.pack(records):
            await self.send(packed)
        return self._seq - 1

    async def post(self, question: FrameType, payload: bytes) -> Callable[[], Awaitable[Buffer]]:
        """Answers as the script says."""
        self._arrives(question)
        found = self._answer(question, payload)

        async def answer() -> Buffer:
            return found

        return answer

    async def ask(self, question: FrameType, payload: bytes) -> Buffer:
        """`post`, and the answer."""
        return await (await self.post(question, payload))()

    def _arrives(self, kind: FrameType) -> None:
        self.before.pop(kind, lambda: None)()

    def _answer(self, question: FrameType, payload: bytes) -> bytes:
        if question is FrameType.SURVEY:
            return encode_verdicts([self.judge(chunk) for chunk in decode_survey(payload)])
        if question is FrameType.NAMES:
            pages = self.pages[NamesQuery.decode(payload).path]
            return encode_names(pages.pop(0) if pages else [])
        if question is FrameType.HASHES:
            return bytes(DIGEST_BYTES) if HashQuery.decode(payload).path in self.longer else b""
        if question is FrameType.ORPHANS:
            self.orphans.append(OrphanList.decode(payload))
        return b""

    def judge(self, chunk: ReceivedChunk) -> ChunkVerdicts:
        """The replica's verdicts for a chunk."""
        self.asked.append(chunk.path)
        place = Place(chunk.root, chunk.path)
        if chunk.path in self.missing:
            return ChunkVerdicts(Verdict.WHOLE, bytes([Verdict.WHOLE]) * len(chunk.names), {}, [])
        verdicts = bytes([self.verdicts.get(place.child(name).path, Verdict.SAME) for name in chunk.names])
        extra = self.extra.get(chunk.path, []) if chunk.last else []
        return ChunkVerdicts(Verdict.SAME, verdicts, {}, extra, more=chunk.last and chunk.path in self.pages)
