"""Turns the answers of a survey into steps that bring the replica to the state of the source.

For each chunk of a directory `StepMaker.steps` yields, in order: records for differing entries, large files, names that
only the replica has, and last the directory's own attributes. It reads the source and the catalog and asks no peer: all
of it runs in worker threads, in units of work of the catalog. `bring.Sender` carries the steps out.

A name may change between its listing and this second look. So the state read now is sent and noted. Cases that this
leaves open go to the `Findings`.
"""

from __future__ import annotations

import contextlib
import stat
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

from i2core.api import Code, Entry, Kind, Place, Record
from i2core.api.tree import OpenDirectory
from i2core.posix.errnos import GONE
from i2core.rule.catalog.rows import Row
from i2core.rule.mirror.orphans import OrphanFinder
from i2core.rule.mirror.shared import Sent, SharedFiles, is_shared
from i2core.rule.source.draft import Drafted, Large, draft, draft_patch, meta_of, setattr_record
from i2core.rule.source.source import Source
from i2core.rule.survey.findings import Findings, Why
from i2core.rule.survey.lister import Scope, is_within
from i2core.wire.listing import Chunk, ChunkVerdicts, Verdict
from i2core.wire.questions import OrphanList

# Plain numbers: an operation on an enum costs as much as a system call, and there are several for each file.
_SAME, _META, _WHOLE, _BLOCKS, _LINK = (
    int(Verdict.SAME),
    int(Verdict.META),
    int(Verdict.WHOLE),
    int(Verdict.BLOCKS),
    int(Verdict.LINK),
)


class Pages(NamedTuple):
    """A directory of which the replica has more names than fit in an answer. `rows`: objects once sent there that are
    gone from the source, as far as is known."""

    place: Place
    rows: dict[bytes, Row]


Special = Large | OrphanList | Pages
"""Steps that are not records of a batch."""
Step = list[Record] | Special


class BringPolicy(ABC):
    """The decisions in which a mirror and a repair differ."""

    certain = True
    """True: the catalog was empty at the start, so this run has compared or sent every row in it."""

    def __init__(self) -> None:
        self.non_recursive: set[Place] = set()
        """Directories that are surveyed without the content of their subdirectories, in this round of surveys."""

    def looks_into(self, place: Place) -> bool:
        """Asked of a directory that the replica does not have; False leaves it and what is in it alone."""
        return True

    def takes(self, large: Large) -> bool:
        """True when somebody else sends the large file."""
        return False

    def sets_attributes(self, place: Place) -> bool:
        """Asked of a directory that the replica has; False leaves its own attributes as they are there."""
        return True

    def next_round(self, added: list[Scope]) -> list[Scope]:
        """The scopes to be surveyed next, of the directories that were found to need it."""
        return added

    @abstractmethod
    def only_there(self, place: Place, names: Sequence[bytes], known: dict[bytes, Row]) -> Iterator[Step]:
        """Steps for names in a directory that only the replica has. `known`: rows of those that were sent once."""

    @abstractmethod
    def vanished(self, at: Place) -> Iterator[Step]:
        """Steps for a name that was listed and is gone before anything was sent for it: the replica may have an object
        there, which counted as the listed one until now."""


class StepMaker:
    """Makes the steps of one run."""

    def __init__(self, source: Source, policy: BringPolicy, findings: Findings, finder: OrphanFinder) -> None:
        self.source = source
        self.policy = policy
        self.findings = findings
        self.shared = SharedFiles(source.catalog, findings, certain=policy.certain)
        self.dirs_to_add: dict[Place, None] = {}
        """Directories that must be surveyed with all beneath, and were listed without it."""
        self.sent_special = False
        """For the previous step, a `Special`, something was sent."""
        self._finder = finder
        self._no_rows: Place | None = None

    def steps(self, chunks: Sequence[Chunk], answers: Sequence[ChunkVerdicts]) -> Generator[Step, None, None]:
        """The steps that the chunks need. While the generator is suspended, a directory is open: the caller closes the
        generator.

        Raises:
        StopRule: an object cannot be read, and the rule says to stop.
        """
        for chunk, answer in zip(chunks, answers, strict=True):
            place = Place(chunk.root, chunk.path)
            row = self.source.catalog.objects.get(place)
            if answer.here & _WHOLE and (is_within(place, self.dirs_to_add) or not self.policy.looks_into(place)):
                continue
            if row is not None and row.is_object(chunk.here) and self._is_same(place, row, chunk, answer):
                self.source.catalog.objects.put_listing(row, chunk.entries)
                self.count(chunk.entries)
                continue
            try:
                with self.source.trees[chunk.root].directory(chunk.path) as directory:
                    known = row if row is not None and stat.S_ISDIR(row.mode) else None
                    yield from self._chunk_steps(directory, place, known, chunk, answer)
            except OSError as error:
                self.findings.failed(place, error)
                self.shared.miss(*(place.child(entry.name) for entry in chunk.entries if is_shared(entry)))

    def _is_same(self, place: Place, row: Row, chunk: Chunk, answer: ChunkVerdicts) -> bool:
        """True when only the listed entries have to be noted."""
        if answer.here or answer.orphans or answer.more or any(answer.verdicts) or place in self.policy.non_recursive:
            return False
        return self.shared.agree(place, chunk) and self._has_no_rows(place, row, chunk)

    def _has_no_rows(self, place: Place, row: Row, chunk: Chunk) -> bool:
        """True when all rows of the directory come from its earlier chunks in this run."""
        if chunk.first and self._no_rows != place:
            self._no_rows = place if self.source.catalog.objects.has_no_rows(row) else None
        return self._no_rows == place

    def _chunk_steps(
        self, directory: OpenDirectory, place: Place, row: Row | None, chunk: Chunk, answer: ChunkVerdicts
    ) -> Iterator[Step]:
        catalog, new = self.source.catalog, row is None
        if row is None or not row.is_object(chunk.here) or (chunk.first and not place.path):
            try:
                row = catalog.objects.put(place, chunk.here)
            except KeyError:  # the parent was renamed meanwhile; that has a hint of its own
                self.findings.add(place, Why.MOVED_AWAY)
                return
        if new and place.path:
            # The listing of the parent, a moment earlier, showed another object here, or none.
            made = Record(Kind.MKDIR, place.root, place.path, meta=meta_of(chunk.here, None))
            yield [made, *self._attributes_above(place)]
        blank = self._has_no_rows(place, row, chunk)
        rows = {} if blank else catalog.objects.children(row)
        touched = bool(answer.here)
        for step in _Entries(self, directory, place, row, chunk, answer, rows, blank=blank).steps():
            yield step  # a large file has been sent, if needed, when this continues
            touched = touched or isinstance(step, list) or self.sent_special
        for step in self._orphan_steps(directory, place, chunk, answer, rows):
            yield step
            touched = touched or isinstance(step, list) or self.sent_special
        if touched and (answer.here & _WHOLE or self.policy.sets_attributes(place)):
            # Entries made or removed above changed the directory's times on the replica.
            now = directory.here()
            catalog.objects.put(place, now)
            yield [setattr_record(directory, place, now)]

    def _attributes_above(self, place: Place) -> list[Record]:
        """Records that set the attributes of the parent directory again, in which an object was created after its own
        attributes were set. A parent that has moved has a hint of its own."""
        above = place.above
        if not self.policy.sets_attributes(above):
            return []
        tree = self.source.trees[above.root]
        with contextlib.suppress(OSError, KeyError), tree.directory(above.path) as directory:
            now = directory.here()
            self.source.catalog.objects.put(above, now)
            return [setattr_record(directory, above, now)]
        return []

    # ------------------------------------------------------------------ names that only the replica has

    def _orphan_steps(
        self, directory: OpenDirectory, place: Place, chunk: Chunk, answer: ChunkVerdicts, rows: dict[bytes, Row]
    ) -> Iterator[Step]:
        """Steps for names that only the replica has. `rows`: objects once sent that are gone from the source, as far as
        this chunk shows."""
        if not (chunk.first and chunk.last):
            rows = {}
        if answer.more:
            yield Pages(place, rows)
            return
        yield from self._extra_steps(directory, place, answer.orphans, rows)
        for row in rows.values():  # neither the replica nor the source has it
            self.source.catalog.objects.remove(row)

    def page_steps(self, pages: Pages, names: Sequence[bytes]) -> list[Step]:
        """Steps for one page of the replica's names in a directory."""
        place = pages.place
        try:
            with self.source.trees[place.root].directory(place.path) as directory:
                row = self.source.catalog.objects.get(place)
                if row is None or not row.is_object(directory.here()):
                    self.findings.add(place, Why.MOVED_AWAY)
                    return []
                return list(self._extra_steps(directory, place, names, pages.rows, every=True))
        except OSError as error:
            self.findings.failed(place, error)
            return []

    def _extra_steps(
        self,
        directory: OpenDirectory,
        place: Place,
        names: Sequence[bytes],
        rows: dict[bytes, Row],
        *,
        every: bool = False,
    ) -> Iterator[Step]:
        """Steps for these names. A name that the replica still has and that is not removed now will get a hint: its
        object moved, or exists again. So its row stays in the catalog. All names are removed from `rows`."""
        gone = self._confirmed(directory, place, names, every=every)
        if every:
            # What this run has listed or sent, and is gone since, gets a hint. Removed here, it would be missing where
            # the catalog says that it is, also after its directory has moved.
            gone = [name for name in gone if name in rows or self.source.catalog.objects.get(place.child(name)) is None]
        known = {name: rows.pop(name) for name in names if name in rows}
        yield from self.policy.only_there(place, gone, known)

    def _confirmed(
        self, directory: OpenDirectory, place: Place, names: Sequence[bytes], *, every: bool = False
    ) -> list[bytes]:
        """The names among the replica's extra ones that the source really lacks and the rule protects. A directory
        created since then is sent as well, since the replica may have anything beneath its name. `every`: `names` has
        all names of the replica, not only extra ones."""
        gone, back = self._finder.confirmed(directory, place, names)
        for at, is_dir in back:
            if every and self.source.catalog.objects.get(at) is not None:
                continue  # it was listed, so it is not new
            # It may move again before its hint is seen, and leave foreign objects of the replica there.
            self.findings.add(at, Why.APPEARED)
            if is_dir:
                self.dirs_to_add[at] = None
        return gone

    def vanished(self, directory: OpenDirectory, at: Place) -> Iterator[Step]:
        """Steps for a name in the directory that was gone before it was sent, or exists again."""
        if self._confirmed(directory, at.above, [at.path.rpartition(b"/")[2]]):
            yield from self.policy.vanished(at)

    def left_by(self, large: Place) -> list[Step]:
        """Steps after a large file, if it vanished before it was sent. If its directory has moved away, the replica may
        have had an object of that name, which moves along with the directory and counted as this file until now."""
        if self.source.catalog.objects.get(large) is not None:
            return []
        try:
            with self.source.trees[large.root].directory(large.above.path) as directory:
                return list(self.vanished(directory, large))
        except OSError as error:
            self.findings.failed(large, error)
            return []

    def count(self, entries: Sequence[Entry]) -> None:
        """Counts entries as processed by this run."""
        sizes = [entry.size for entry in entries if stat.S_ISREG(entry.mode)]
        self.source.status.checked_bytes += sum(sizes)
        self.source.status.checked_files += sum([not stat.S_ISDIR(entry.mode) for entry in entries])


class _Entries:
    """The entries of one chunk: makes steps for each that differs, and notes all of them in the catalog at the end.
    `rows`: the catalog's rows of the directory; listed names are removed from it. `blank`: there are none."""

    def __init__(
        self,
        maker: StepMaker,
        directory: OpenDirectory,
        place: Place,
        row: Row,
        chunk: Chunk,
        answer: ChunkVerdicts,
        rows: dict[bytes, Row],
        *,
        blank: bool,
    ) -> None:
        self._maker = maker
        self._source = maker.source
        self._directory = directory
        self._place = place
        self._row = row
        self._chunk = chunk
        self._answer = answer
        self._rows = rows
        self._blank = blank
        self._non_recursive = place in maker.policy.non_recursive
        self._kept: list[tuple[Entry, Row | None]] = []
        """What the replica has after the steps so far, with the previous rows."""
        self._new_subtrees: list[Place] = []

    def steps(self) -> Iterator[Step]:
        catalog, count = self._source.catalog, self._maker.count
        for index, entry in enumerate(self._chunk.entries):
            row = self._rows.pop(entry.name, None)
            if row is not None and not (row.is_object(entry) and row.same_content(entry)):
                catalog.digests.drop(row.key)
            verdict = self._verdict(index, entry, row)
            if verdict == _BLOCKS and self._source.holds_back(self._place.child(entry.name), entry):
                verdict = _SAME
            if verdict != _SAME:
                yield from self._differing(index, entry, row, verdict)
                continue
            if not self._is_left(entry, row):
                self._kept.append((entry, row))
            count((entry,))
        if self._blank:
            catalog.objects.put_listing(self._row, [entry for entry, _ in self._kept])
        else:
            catalog.objects.put_all(self._row, self._kept)
        for place in self._new_subtrees:  # only now, since doubts refer to these rows
            self._maker.findings.add(place, Why.SUBTREE_NEW)

    def _verdict(self, index: int, entry: Entry, row: Row | None) -> int:
        """What the entry needs, given what happened to earlier listed names of its file."""
        verdict = self._answer.verdicts[index]
        if entry.nlink < 2:
            return verdict
        shared, first, at = self._maker.shared, self._chunk.links.get(index), self._place.child(entry.name)
        if verdict == _SAME and shared.is_missed(self._place, first):
            verdict = _WHOLE
        if not verdict & (_WHOLE | _LINK) and shared.is_apart(at, entry, row, first):
            # The replica's object here is not known to be one file with the other names.
            shared.mark_resent(at, entry)
        return verdict

    def _is_left(self, entry: Entry, row: Row | None) -> bool:
        """True for a directory of which only the name was surveyed: its attributes are compared together with its
        entries, so its row is left as it is. A directory that has no row is sent with all beneath."""
        if not self._non_recursive or not stat.S_ISDIR(entry.mode):
            return False
        if row is not None and row.is_object(entry):
            return True
        self._add_subtree(self._place.child(entry.name))
        return False

    def _add_subtree(self, at: Place) -> None:
        self._maker.dirs_to_add[at] = None
        self._new_subtrees.append(at)

    def _differing(self, index: int, entry: Entry, row: Row | None, verdict: int) -> Iterator[Step]:
        at, catalog, status = self._place.child(entry.name), self._source.catalog, self._source.status
        link = None
        if verdict & _LINK or (verdict & _WHOLE and is_shared(entry)):
            link = self._maker.shared.sent_as(at, entry, self._chunk.links.get(index), self._kept)
        try:
            step = self._draft(at, entry, link, verdict, self._answer.digests.get(index))
        except OSError as error:
            yield from self._unread(at, entry, row, error)
            self._maker.count((entry,))
            return
        if entry.nlink > 1 or step.entry.nlink > 1:
            step = self._joined(at, entry, step, link, verdict)
        if isinstance(step, Large):
            status.checked_files += 1
            yield step
            return
        self._maker.count((entry,))
        status.sent_files += bool(step.records) and not stat.S_ISDIR(entry.mode)
        if step.digests:
            (noted,) = catalog.objects.put_all(self._row, [(step.entry, row)])
            catalog.digests.put(noted.key, 0, step.digests)
        else:
            self._kept.append((step.entry, row))
        if step.records:
            yield self._source.superseding(at, step.records)

    def _draft(self, at: Place, entry: Entry, link: Sent | None, verdict: int, base: bytes | None) -> Drafted | Large:
        """The records that one entry needs.

        Raises:
        OSError: it cannot be read, or is gone.
        """
        directory, on_open = self._directory, self._source.name_flags
        if stat.S_ISDIR(entry.mode):
            # An existing directory's own attributes are set after its entries.
            if not verdict & _WHOLE:
                return Drafted([], entry)
            if self._non_recursive:
                self._add_subtree(at)
            return draft(directory, at, entry, on_open)
        if link is not None:
            return _linked(at, entry, link)
        if verdict & _BLOCKS and stat.S_ISREG(entry.mode):
            if base is None:
                return Large(at, entry, whole=False, same_meta=not verdict & _META)
            return draft_patch(directory, at, entry, base, on_open, always=bool(verdict & _META))
        if verdict & (_WHOLE | _LINK):
            return draft(directory, at, entry, on_open)
        attributes = setattr_record(directory, at, entry)
        if is_shared(entry):
            now = directory.entry(entry.name)
            if now is None or (now.dev, now.ino) != (entry.dev, entry.ino):
                # Another file by now: its attributes do not apply to all of the names.
                return draft(directory, at, entry, on_open)
        return Drafted([attributes], entry)

    def _joined(
        self, at: Place, entry: Entry, step: Drafted | Large, link: Sent | None, verdict: int
    ) -> Drafted | Large:
        """The step; or a link, when the very object that was read was sent under another name already."""
        shared, now = self._maker.shared, step.entry
        is_other = (now.dev, now.ino) != (entry.dev, entry.ino)
        if is_other and is_shared(entry):
            shared.miss(at)
        if link is not None or not is_shared(now) or not (is_other or verdict & (_WHOLE | _LINK)):
            return step
        if is_other or not is_shared(entry):  # it got this name or another since it was listed
            link = shared.sent_as(at, now, None, self._kept)
        if link is None:
            shared.mark_resent(at, now)
            return step
        return _linked(at, now, link)

    def _unread(self, at: Place, entry: Entry, row: Row | None, error: OSError) -> Iterator[Step]:
        """Steps for an entry that could not be read."""
        if is_shared(entry):
            self._maker.shared.miss(at)
        is_gone = error.errno in GONE
        if not is_gone:
            self._maker.findings.unreadable(at, error, Code.OPEN_SOURCE)
        if row is not None:
            self._source.catalog.doubts.distrust(
                row
            )  # it moved before it was compared, or its present state is unknown
        elif is_gone:
            yield from self._maker.vanished(self._directory, at)


def _linked(at: Place, entry: Entry, sent: Sent) -> Drafted:
    """The name becomes a link to the one under which its object was sent."""
    return Drafted([Record(Kind.LINK, at.root, at.path, other=sent.path)], sent.linked(entry))
