"""Repairs unverified names: places whose records failed, or may not have been applied, are compared strictly with the
replica, and the differences are sent. `plan.plan` decides where.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence

import trio

from i2core.api import Kind, Place, Record
from i2core.rule.catalog.catalog import Catalog
from i2core.rule.catalog.rows import Doubt, Row
from i2core.rule.mirror.bring import Link, bring
from i2core.rule.mirror.shared import is_shared
from i2core.rule.mirror.steps import BringPolicy, Step
from i2core.rule.repair.leftovers import Leftovers
from i2core.rule.repair.plan import Extent, RepairPlan, Unresolved, is_beneath, with_directories
from i2core.rule.source.draft import Large
from i2core.rule.source.source import Source
from i2core.rule.survey.findings import Findings, Why
from i2core.rule.survey.lister import Scope, is_within
from i2core.wire.message_size import runs
from i2core.wire.questions import OrphanList


class RepairPolicy(BringPolicy):
    """Beneath a deep scope, names that only the replica has are removed, or handled as orphans, as `Leftovers` says.
    Elsewhere they are left alone: a directory is compared because of only a few names in it.

    The replica may lack a directory of `scopes`, although the catalog has it. Example: somebody has replaced `d` by a
    symlink on the replica, a record fails, and its place `d/e/x` is compared. Nothing can be made in `d/e`. So the
    names of the directories above are compared next: `d` is created again, and then compared with everything beneath.
    """

    certain = False

    def __init__(self, catalog: Catalog, findings: Findings, plan: RepairPlan) -> None:
        super().__init__()
        self._leftovers = Leftovers(catalog, plan)
        self._catalog = catalog
        self._findings = findings
        self._expected = {scope.place: scope for scope in plan.scopes}
        """In the first round: directories that the replica should have."""
        self._lacking: set[Place] = set()
        self.large: list[Large] = []
        """Large files that differ, and are left to the caller."""
        self.put_off: set[Place] = set()
        """Directories that the replica lacked, and whose content is left to the caller."""

    def looks_into(self, place: Place) -> bool:
        if place in self._expected or is_within(place, self._lacking):
            self._lacking.add(place)
            return False
        return True

    def next_round(self, added: list[Scope]) -> list[Scope]:
        again = [scope for place, scope in self._expected.items() if place in self._lacking]
        self._expected, self._lacking = {}, set()
        return [*with_directories(again), *self.fill(added)]

    def fill(self, made: list[Scope]) -> list[Scope]:
        """Of directories that were created, those whose content is sent now."""
        return made

    def only_there(self, place: Place, names: Sequence[bytes], known: dict[bytes, Row]) -> Iterator[Step]:
        if place in self.non_recursive:
            for name in names:
                if name not in known:
                    self._findings.add(place.child(name), Why.MOVED_AWAY)
            return
        for name in names:
            if name in known:
                self._catalog.objects.remove(known[name])
                # If the record is lost, only this still tells the name from an orphan.
                self._findings.add(place.child(name), Why.REMOVED)
        yield from self._dispose(place, names, known)

    def vanished(self, at: Place) -> Iterator[Step]:
        if at.above in self.non_recursive:
            self._findings.add(at, Why.APPEARED)
        else:
            yield from self._dispose(at.above, [at.path.rpartition(b"/")[2]], ())

    def _dispose(self, directory: Place, names: Sequence[bytes], sent: Container[bytes]) -> Iterator[Step]:
        """Steps for names that only the replica has. `sent`: those that the catalog knows."""
        unknown = [name for name in names if name not in sent]
        removed = set(self._leftovers.removed(directory, unknown))
        orphans = [name for name in unknown if name not in removed]
        if orphans:
            yield OrphanList(*directory, orphans)
        gone = [name for name in names if name in sent or name in removed]
        if gone:
            yield [Record(Kind.REMOVE, directory.root, directory.child(name).path) for name in gone]


class NarrowPolicy(RepairPolicy):
    """For names that have failed before and may fail again: does no more than is necessary. It leaves large files, and
    the content of directories that the replica lacks, to the caller."""

    def takes(self, large: Large) -> bool:
        self.large.append(large)
        return True

    def fill(self, made: list[Scope]) -> list[Scope]:
        self.put_off.update(scope.place for scope in made)
        return []


async def repair(source: Source, session: Link, plan: RepairPlan, found: dict[Doubt, None]) -> Unresolved:
    """Compares the planned places with the replica, and sends the differences. All earlier records have been sent, and
    no others are made meanwhile. Other places that turn out to be unverified are added to `found` at once.

    Raises:
        LinkError: the link broke.
    """
    await remove_gone(session, plan)
    narrow = plan.extent is Extent.NAMES
    if narrow:
        await send(session, _unstage(source, plan))
    findings = Findings(source)
    policy = (NarrowPolicy if narrow else RepairPolicy)(source.catalog, findings, plan)
    unresolved = plan.unresolved
    try:
        await bring(source, session, plan.scopes, policy, findings, strict=True)
    finally:
        # Also when the link broke: the records that were sent have made these places unverified.
        new = findings.doubts(Why.SUBTREE_NEW)
        (unresolved.deeper.extend if narrow else found.update)(dict.fromkeys(new))
        found.update(dict.fromkeys(findings.doubts(Why.RESENT, Why.REMOVED)))
    unresolved.doubts += findings.doubts(Why.APPEARED)
    unresolved.unread |= findings.places(Why.UNREADABLE)
    unresolved.large += policy.large
    unresolved.absent += [each for each in plan.compared if is_within(each[0].above, policy.put_off)]
    missed = set(findings.places(Why.MOVED_AWAY)).difference(plan.gone)
    unresolved.doubts += [doubt for place, doubt in plan.compared if _touches(place, doubt, missed)]
    compared = [place for place, _ in plan.compared]
    links = await trio.to_thread.run_sync(_links, source, [*compared, *findings.places(Why.RESENT)])
    await send(session, links)
    unresolved.touched += [Place(link.root, link.path) for link in links]
    return unresolved


async def remove_gone(session: Link, plan: RepairPlan) -> None:
    """Removes objects that are gone on the source.

    Raises:
        LinkError: the link broke.
    """
    await send(session, (Record(Kind.REMOVE, place.root, place.path) for place in plan.gone))


async def send(session: Link, records: Iterable[Record]) -> None:
    """Sends records, in messages of a size that is allowed.

    Raises:
        LinkError: the link broke.
    """
    for run in runs(records):
        await session.send_records(run)


def _unstage(source: Source, plan: RepairPlan) -> Iterator[Record]:
    """Removes staging files that abandoned transfers have left under the names to be compared. A compare of the whole
    directory would find them, a compare of single names does not. Files being staged there, or beneath, are kept."""
    under_way = source.catalog.staging.places
    for place in dict.fromkeys(place for place, _ in plan.compared):
        if place.path and not any(staged == place or is_beneath(staged, place) for staged in under_way):
            yield Record(Kind.REMOVE, place.root, place.path, staged=True)


def _touches(place: Place, doubt: Doubt, missed: set[Place]) -> bool:
    """True when a place of this doubt was missed."""
    if place in missed or place.above in missed:
        return True
    return bool(doubt.deep) and any(is_beneath(each, place) for each in missed)


def _links(source: Source, places: Iterable[Place]) -> list[Record]:
    """Records that link names which were compared by themselves to the other names of their object again."""
    records: dict[Place, Record] = {}
    done = set[tuple[int, int, int]]()
    for place in places:
        tree, row = source.trees[place.root], source.catalog.objects.get(place)
        entry = tree.lookup(place.path)
        if row is None or entry is None or not is_shared(entry) or not row.is_object(entry):
            continue
        if (place.root, entry.dev, entry.ino) in done:
            continue
        done.add((place.root, entry.dev, entry.ino))
        for other in map(source.catalog.objects.place, source.catalog.names.other_names(row)):
            there = tree.lookup(other.path) if other.root == place.root else None
            if there is not None and there.ino == entry.ino and place not in records:
                records.setdefault(other, Record(Kind.LINK, other.root, other.path, other=place.path))
    return list(records.values())
