"""The scrub of a rule: proves again and again that every byte of its replica equals the source, within an I/O budget.

    directories ──a few at a time──▶ compare with all contents ──▶ equal: remembered
                                            │
                                  content alone differs ──▶ which side is not what was proved last?
                                            │                   replica: the run repairs it
                                            │                   source, or nothing is known: held back, alarm
                                            └──▶ anything else: the run repairs it

A pass begins where the one before was interrupted. Held back means: no repair and no mirror sends this content, until
it changes with its size or time, is equal on both sides again, or an administrator accepts it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import attrs
import trio

from i2core.api import Code, Entry, Line, Place
from i2core.compare.comparing import Comparing, Order
from i2core.compare.proofs import Proofs
from i2core.compare.reading import Ends
from i2core.compare.result import Item, Kind, Reason, Result
from i2core.compare.second_look import Rotten
from i2core.compare.walk import directories
from i2core.config.model import ScrubPlan
from i2core.config.words import bilingual
from i2core.rule.life.report import Say
from i2core.rule.life.status import RuleStatus
from i2core.rule.source.source import Source
from i2core.rule.survey.lister import Scope

PART_BYTES = 256 << 20
PART_DIRECTORIES = 200
"""A part of a pass has so much content, or so many directories; in between, others may compare."""
_BEGAN, _PROVED, _ROOT, _PATH = "began_ns", "proved_ns", "root", "path"


@attrs.define
class Figures:
    """What the scrub has done in this pass."""

    files: int = 0
    """Files whose contents were proved equal."""
    bytes: int = 0
    healed: int = 0
    """Files of the replica that had changed by themselves."""


class Scrub:
    """Scrubs one rule, part by part."""

    def __init__(self, proofs: Proofs, say: Say) -> None:
        self._proofs = proofs
        self._say = say
        self.figures = Figures()
        self._held: list[tuple[Place, bool]] = []
        """Files of the present part that are held back, each with whether the source is known to have changed."""

    @property
    def began_ns(self) -> int | None:
        """When the present pass began, in ns since 1970; None: there is none."""
        return self._proofs.number(_BEGAN)

    @property
    def proved_ns(self) -> int | None:
        """Everything was proved equal at some time after this, except what is held back; None: never."""
        return self._proofs.number(_PROVED)

    def begin(self) -> None:
        """Begins a pass at the first directory. Blocks."""
        self.figures = Figures()
        self._proofs.note(began_ns=time.time_ns(), root=None, path=None)

    async def part(self, ends: Ends, plan: ScrubPlan) -> bool:
        """Scrubs the next directories; False: the pass is over.

        Raises:
            UsageError, StopRule, LinkError: as `Comparing.run`; the part is repeated by the next call.
        """
        async with ends.source(RuleStatus(name=ends.work.rule.name)) as source:
            some = await trio.to_thread.run_sync(self._next, source)
        if not some:
            await trio.to_thread.run_sync(self._end)
            return False
        result = Result(None)
        try:
            order = Order(strict=True, scopes=[Scope(place, deep=False) for place in some])
            comparing = Comparing(ends, order, result, equal=self._equal, judge=self._judge, pace=_Pace(plan.rate).wait)
            await comparing.run()
            await trio.to_thread.run_sync(self._report, ends, result)
            places = await trio.to_thread.run_sync(lambda: [item.place for item in _items(result)])
            ends.work.view.differ(places)
        finally:
            result.close()
        await trio.to_thread.run_sync(lambda: self._proofs.note(root=some[-1].root, path=some[-1].path))
        return True

    def _next(self, source: Source) -> list[Place]:
        """The directories of the next part."""
        root, path = self._proofs.number(_ROOT), self._proofs.text(_PATH)
        after = None if root is None or path is None else Place(root, path)
        some, content = [], 0
        with source.job():
            for place, size in directories(source, after):
                some.append(place)
                content += size
                if content >= PART_BYTES or len(some) >= PART_DIRECTORIES:
                    break
        return some

    def _end(self) -> None:
        began_ns = self.began_ns or 0
        self._proofs.forget_before(began_ns)
        self._proofs.note(began_ns=None, proved_ns=began_ns, root=None, path=None)

    # ------------------------------------------------------------------------------------------ judgements

    def _equal(self, place: Place, files: Sequence[tuple[Entry, bytes]]) -> None:
        self.figures.files += len(files)
        self.figures.bytes += sum(entry.size for entry, _ in files)
        self._proofs.prove(place.root, files, time.time_ns())

    def _judge(self, found: Rotten) -> bool:
        """True: the replica's content is to be replaced by the source's. Otherwise it is held back."""
        known = self._proofs.proved(found.place.root, found.entry)
        if known is not None and known == found.digests.here:
            return True
        if self._proofs.hold(found.place, found.entry, time.time_ns()):
            self._held.append((found.place, known is not None and known == found.digests.there))
        return False

    def _report(self, ends: Ends, result: Result) -> None:
        rule = ends.work.rule.name
        for place, is_certain in self._held:
            self._say(rule, Code.SOURCE_CONTENT, _held_line(ends.shown(place), rule, certain=is_certain))
        self._held.clear()
        for item in _items(result):
            if list(item.reasons) == [Reason.CONTENT]:
                self.figures.healed += 1
                self._say(rule, Code.FILE_CHECKSUM, _healed_line(ends.shown(item.place)))


class _Pace:
    """Keeps to a number of bytes a second."""

    def __init__(self, rate: int) -> None:
        self._rate = rate

    async def wait(self, read: int) -> None:
        """So many bytes were read on each side."""
        await trio.sleep(read / self._rate)


def _items(result: Result) -> Iterator[Item]:
    number = 0
    while page := result.page((Kind.MISSING, Kind.DIFFERENT), after=number):
        number = page[-1][0]
        yield from (item for _, item in page)


def _held_line(shown: str, rule: str, *, certain: bool) -> Line:
    step = bilingual(
        f"compare it with the replica and with backups; if the source is right: i2 scrub {rule} --accept PATH; if the "
        "replica is right, copy its file back",
        f"请与灾备端及其他备份对照；若源端正确，请执行 i2 scrub {rule} --accept PATH；若灾备端正确，请取回该文件",
    )
    cause = Code.SOURCE_CONTENT.text
    en = cause.en if certain else "both sides differ, and which of them has changed is not known"
    zh = cause.zh if certain else "两端不同，且无法得知哪一端发生了变化"
    text = bilingual(f"{shown}: {en}; the replica keeps its content", f"{shown}：{zh}；灾备端保留原内容")
    return Line(text, code=Code.SOURCE_CONTENT, obj=shown, cause=bilingual(en, zh), next_step=step)


def _healed_line(shown: str) -> Line:
    cause = bilingual(
        "the content of the replica had changed by itself; it is sent again", "灾备端的内容自行发生了变化，将重新发送"
    )
    return Line(f"{shown}: {cause}", code=Code.FILE_CHECKSUM, obj=shown, cause=cause)
