"""One pass of a recovery: a mirror of the wanted tree to the destination, as that of a rule."""

from __future__ import annotations

import stat
from collections.abc import Awaitable, Callable, Iterator, Sequence

import attrs

from i2core.api import Code, Kind, Place, Record
from i2core.api.records import Buffer
from i2core.config.model import OnError
from i2core.drivers.chain import FilterChain
from i2core.recovery.outcome import FAILED_KEPT
from i2core.recovery.receiving import Receiving
from i2core.recovery.view import View
from i2core.rule.catalog.catalog import Catalog
from i2core.rule.catalog.rows import Row
from i2core.rule.life.report import Say
from i2core.rule.life.status import RuleStatus, Skipped
from i2core.rule.mirror.bring import Link, bring
from i2core.rule.mirror.making_room import make_room
from i2core.rule.mirror.mirror import MirrorPolicy
from i2core.rule.mirror.steps import Step
from i2core.rule.source.source import Source
from i2core.rule.survey.findings import Findings, Why
from i2core.rule.survey.lister import Scope
from i2core.wire.batch import WireBatch
from i2core.wire.frame import FrameType
from i2core.wire.messages import Welcome
from i2core.wire.questions import OrphanList

_ALL = (Scope(Place(0, b"")),)
_CHANGED = "it changed while it was read"


@attrs.define
class Result:
    """What a pass has found and done."""

    records: int = 0
    """Records that it sent: 0 means that it has found no difference."""
    changed: dict[str, bool] = attrs.field(factory=dict)
    """The paths that they are about, each with whether only the attributes of a directory were set: they are also set
    when anything in it was touched. Up to `FAILED_KEPT`; staging files do not count."""
    extra: int = 0
    """Names that only the destination has."""
    extra_names: list[str] = attrs.field(factory=list)
    """Their paths; up to `FAILED_KEPT`."""
    failed: list[Skipped] = attrs.field(factory=list)
    failed_count: int = 0
    _failed: set[str] = attrs.field(factory=set, init=False)

    @property
    def clean(self) -> bool:
        """True when there was nothing to do, and nothing that could not be done."""
        return not self.records and not self.failed_count

    def remaining(self) -> list[str]:
        """The paths that differ although nothing about them failed, in a pass after which nothing is to differ. The
        attributes of directories count only if nothing else does: whatever differs touches the one that it is in."""
        differ = [path for path, is_shallow in self.changed.items() if not is_shallow and path not in self._failed]
        return differ if differ or self._failed else list(self.changed)

    def note_extra(self, paths: Sequence[str]) -> None:
        """Notes extra names."""
        self.extra += len(paths)
        self.extra_names += paths[: max(0, FAILED_KEPT - len(self.extra_names))]

    def fail(self, path: str, code: Code, cause: str) -> None:
        """Notes a path that could not be recovered; the first cause is the one that is reported."""
        if path in self._failed:
            return
        self.failed_count += 1
        if len(self.failed) < FAILED_KEPT:
            self._failed.add(path)
            self.failed.append(Skipped(path, int(code), cause))


class Pass:
    """One pass. `status` has its figures."""

    def __init__(self, view: View, receiving: Receiving, rule: str, say: Say, *, keeps: bool) -> None:
        """`keeps`: extra files of the destination are kept."""
        self.status = RuleStatus(name=rule)
        self._keeps = keeps
        self.result = Result()
        self._view = view
        self._receiving = receiving
        chosen = view.filter()
        self._catalog = Catalog(None)
        self._source = Source(
            rule=rule,
            trees=[view],
            filter=FilterChain(() if chosen is None else (chosen,)),
            catalog=self._catalog,
            status=self.status,
            on_error=OnError.LOG,
            say=say,
        )

    def close(self) -> None:
        """Closes the catalog."""
        self._catalog.close(clean=False)

    async def run(self, *, strict: bool) -> Result:
        """Compares all, and sends what differs; returns when it is durable.

        Raises:
            StopRule: a tree is gone, or the destination cannot be written any more.
        """
        async with self._receiving.session() as session:
            counted = _Counted(session, self.result, self._source.show)
            # A crash may have left files of the right size and time with other content.
            strict = strict or not session.welcome.exact
            findings = Findings(self._source)
            policy = _Policy(self._source, self._view, self.result, keeps=self._keeps)
            await bring(self._source, counted, _ALL, policy, findings, strict=strict)
            await self._drop_unfinished(counted)
            await session.settle()
        self._conclude(findings)
        return self.result

    async def make_room(self) -> None:
        """Sends only what removes something: the disk is full."""
        async with self._receiving.session() as session:
            await make_room(self._source, session, _ALL)

    async def _drop_unfinished(self, session: Link) -> None:
        """A large file that could not be read to its end leaves a staging file, which nobody will complete."""
        places = list(self._catalog.staging.places)
        if places:
            await session.send_records([Record(Kind.REMOVE, *place, staged=True) for place in places])

    def _conclude(self, findings: Findings) -> None:
        for item in self.status.skipped:
            self.result.fail(item.path, Code(item.code), item.message)
        self.result.failed_count += self.status.skipped_count - len(self.status.skipped)
        for failure in (each.failure() for ack in self._receiving.failures for each in ack.failures):
            self.result.fail(self._source.show(failure.place), failure.code, failure.message)
        for why, cause in ((Why.UNREADABLE, ""), (Why.MOVED_AWAY, _CHANGED), (Why.APPEARED, _CHANGED)):
            for place, found in findings.places(why).items():
                self.result.fail(self._source.show(place), Code.READ_SOURCE, found or cause)


class _Policy(MirrorPolicy):
    """As a mirror. But a directory that only leads to what is recovered keeps its own attributes; and if extra names
    are kept, the receiving end does not hear of them, and nothing is sent because of them."""

    def __init__(self, source: Source, view: View, result: Result, *, keeps: bool) -> None:
        super().__init__(source.catalog)
        self._source = source
        self._view = view
        self._result = result
        self._keeps = keeps

    def sets_attributes(self, place: Place) -> bool:
        return not self._view.is_shell(place.path)

    def only_there(self, place: Place, names: Sequence[bytes], known: dict[bytes, Row]) -> Iterator[Step]:
        if not self._keeps:
            return super().only_there(place, names, known)
        self._result.note_extra([self._source.show(place.child(name)) for name in names])
        return iter(())


class _Counted(Link):
    """A session that counts what is sent through it."""

    def __init__(self, session: Link, result: Result, show: Callable[[Place], str]) -> None:
        self._session = session
        self._result = result
        self._show = show

    @property
    def welcome(self) -> Welcome:
        return self._session.welcome

    def pack(self, records: Sequence[Record]) -> list[WireBatch]:
        self._note(records)
        return self._session.pack(records)

    async def send(self, packed: WireBatch) -> None:
        await self._session.send(packed)

    async def send_records(self, records: Sequence[Record]) -> int:
        self._note(records)
        return await self._session.send_records(records)

    async def post(self, question: FrameType, payload: bytes) -> Callable[[], Awaitable[Buffer]]:
        return await self._session.post(question, payload)

    async def ask(self, question: FrameType, payload: bytes) -> Buffer:
        if question is FrameType.ORPHANS:
            orphans = OrphanList.decode(payload)
            place = Place(orphans.root, orphans.path)
            self._result.note_extra([self._show(place.child(name)) for name in orphans.names])
        return await self._session.ask(question, payload)

    def _note(self, records: Sequence[Record]) -> None:
        result = self._result
        result.records += len(records)
        for record in records:
            if len(result.changed) >= FAILED_KEPT:
                return
            if not record.staged and record.kind is not Kind.STAGE:
                is_dir = record.meta is not None and stat.S_ISDIR(record.meta.mode)
                path = self._show(Place(record.root, record.path))
                result.changed[path] = record.kind is Kind.SETATTR and is_dir and result.changed.get(path, True)
