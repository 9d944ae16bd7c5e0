"""The part of `check_sink` about a replica with a history: what records destroy is in the store afterwards, whole; what
they make is reported.

The store is looked at through `DriverSpec.replica`, which is open beside the sink.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path

import attrs
import trio

from i2core.api import Applied, Batch, DriverSpec, Kind, Place, Record, Sink, SinkContext
from i2core.api.drivers import Ask
from i2core.api.present import STORE, TOP, Handle, Identity, Replica
from i2core.testing.picture import TIME_NS, meta_of, names_in, picture
from i2core.testing.replica import Open, check_replica
from i2core.testing.sink.trial import FIFO, FILE, create_file, make_dir, make_symlink, remove, rename

Keeps = Mapping[bytes, int]
Whole = dict[bytes, tuple[object, ...]]
"""An object with all beneath it: by path beneath it, everything that must not change when it is kept."""

_XATTRS = ((b"user.kept", b"\0\xff"),)
_NEW, _OLD = FILE._replace(mtime_ns=TIME_NS + 1), FILE._replace(xattrs=_XATTRS)


class KeepTrial:
    """The sink under test, and the same replica as its history sees it."""

    def __init__(self, sink: Sink, replica: Replica, applied: list[int]) -> None:
        self.sink, self.replica, self.applied = sink, replica, applied
        self.seq = 1
        self.number = 7

    def next_number(self) -> int:
        """A number that no object has."""
        self.number += 1
        return self.number

    async def apply(self, *steps: tuple[Record, Keeps]) -> Applied:
        """Applies records that keep these objects."""
        first, self.seq = self.seq, self.seq + len(steps)
        return await self.again(first, *steps)

    async def again(self, first: int, *steps: tuple[Record, Keeps]) -> Applied:
        """Applies them under seqs that may have been used before."""
        return await self.sink.apply(Batch(first, [record for record, _ in steps], [keeps for _, keeps in steps]))

    async def done(self, *steps: tuple[Record, Keeps]) -> Applied:
        """As `apply`; none may fail."""
        applied = await self.apply(*steps)
        assert not applied.failures, f"records that can be applied failed: {applied.failures}"
        assert applied.applied_seq == self.seq - 1, f"applied_seq {applied.applied_seq}, the batch ends at {self.seq}"
        return applied

    async def make(self, *records: Record) -> Applied:
        """Applies records that destroy nothing."""
        return await self.done(*((record, {}) for record in records))

    async def whole(self, *way: bytes, top: int = TOP) -> Whole | None:
        """The object that these names lead to from a fixed directory on; None: nothing."""
        return await trio.to_thread.run_sync(self._whole, way, top)

    def _whole(self, way: Sequence[bytes], top: int) -> Whole | None:
        handle: Handle | None = self.replica.directory(top)
        opened: list[Handle] = []
        try:
            for name in way:
                handle = None if handle is None else self.replica.child(handle, name)
                if handle is None:
                    return None
                opened.append(handle)
            assert handle is not None
            seen: Whole = {}
            self._see(handle, b"", seen)
            return seen
        finally:
            for each in opened:
                self.replica.release(each)

    def _see(self, handle: Handle, path: bytes, seen: Whole) -> None:
        facts = self.replica.facts(handle)
        data = self.replica.read(handle, 0, facts.size) if stat.S_ISREG(facts.meta.mode) else b""
        seen[path] = (facts.identity, facts.meta, facts.target, facts.device, data)
        for name in sorted(self.replica.names(handle)) if stat.S_ISDIR(facts.meta.mode) else ():
            child = self.replica.child(handle, name)
            assert child is not None, f"{name!r} is listed in {path!r} of what is kept, and is missing"
            self._see(child, path + b"/" + name, seen)
            self.replica.release(child)

    async def kept(self, number: int) -> Whole | None:
        """The object with this number in the store."""
        return await self.whole(b"%d" % number, top=STORE)

    async def numbers(self) -> list[int]:
        """All numbers in the store."""
        names = await trio.to_thread.run_sync(lambda: list(self.replica.names(self.replica.directory(STORE))))
        return sorted(map(int, names))

    async def identity(self, path: bytes, root: int = 0) -> Identity:
        """Which object has the path."""
        whole = await self.whole(b"%d" % root, *path.split(b"/"))
        assert whole is not None, f"{path!r} is missing"
        found = whole[b""][0]
        assert isinstance(found, Identity), f"{path!r} has the identity {found!r}"
        return found


# ------------------------------------------------------------------------------------------ the objects

_OLDS: Mapping[str, Sequence[Record]] = {
    "a file": [create_file(b"x", b"old content", _OLD)],
    "an empty file": [create_file(b"x", b"", _OLD)],
    "a symlink": [make_symlink(b"x", b"no/where")],
    "a FIFO": [Record(Kind.MKNOD, 0, b"x", meta=FIFO)],
    "an empty directory": [make_dir(b"x")],
    "a tree": [
        make_dir(b"x"),
        make_dir(b"x/sub"),
        create_file(b"x/sub/file", b"deep", _OLD),
        Record(Kind.LINK, 0, b"x/second", other=b"x/sub/file"),
        make_symlink(b"x/link", b"sub"),
        Record(Kind.SETATTR, 0, b"x/sub", meta=meta_of(stat.S_IFDIR | 0o710)),
        Record(Kind.SETATTR, 0, b"x", meta=meta_of(stat.S_IFDIR | 0o711)),
    ],
}
"""What makes the object `x` that is then replaced or removed."""
_TREES = ("an empty directory", "a tree")
_BEFORE: Sequence[Record] = (
    create_file(b"other", b"other", _NEW),
    make_dir(b"full"),
    create_file(b"full/in", b"in", _NEW),
    Record(Kind.STAGE, 0, b"x"),
    Record(Kind.WRITE, 0, b"x", data=b"staged", staged=True),
)
"""What the records below need."""
_NEWS: Mapping[str, Record] = {
    "CREATE": create_file(b"x", b"new", _NEW),
    "SYMLINK": make_symlink(b"x", b"new"),
    "MKNOD": Record(Kind.MKNOD, 0, b"x", meta=FIFO._replace(mtime_ns=5)),
    "MKDIR": make_dir(b"x"),
    "LINK": Record(Kind.LINK, 0, b"x", other=b"other"),
    "RENAME of a file": rename(b"other", b"x"),
    "RENAME of a directory": rename(b"full", b"x"),
    "PUBLISH": Record(Kind.PUBLISH, 0, b"x", meta=_NEW, size=6),
    "REMOVE": remove(b"x"),
}
"""What takes the name from it."""
_MAKES = (Kind.CREATE, Kind.SYMLINK, Kind.MKNOD, Kind.MKDIR, Kind.PUBLISH)


async def _each_by_each(trial: KeepTrial) -> None:
    """Objects of each type are replaced by records of each kind, and removed; then all is done once more."""
    for old, makes in _OLDS.items():
        for new, record in _NEWS.items():
            if record.kind is not Kind.MKDIR or old not in _TREES:
                await _one_by_one(trial, f"{new} over {old}", makes, record)


async def _one_by_one(trial: KeepTrial, what: str, makes: Sequence[Record], record: Record) -> None:
    number = trial.next_number()
    await trial.make(*makes, *_BEFORE)
    before = await trial.whole(b"0", b"x")
    applied = await trial.done((record, {b"x": number}))
    kept = await trial.kept(number)
    assert kept == before, f"{what}: in the store is {kept} instead of {before}"
    after = await trial.whole(b"0", b"x")
    assert (after is None) == (record.kind is Kind.REMOVE), f"{what}: at its place is {after}"
    assert after is None or before is None or after[b""][0] != before[b""][0], f"{what}: the old object is in its place"
    right = {trial.seq - 1: await trial.identity(b"x")} if record.kind in _MAKES else {}
    assert applied.made == right, f"{what}: made says {applied.made} instead of {right}"
    seen = await picture(trial.sink)
    again = await trial.again(trial.seq - 1, (record, {b"x": number}))
    assert all(failure.repair for failure in again.failures), f"{what}, again: {again.failures}"
    assert await picture(trial.sink) == seen, f"{what}, again: the replica is another"
    assert await trial.kept(number) == before, f"{what}, again: what is kept is another, or not whole"
    await trial.sink.apply(Batch(trial.seq, [remove(b"")]))
    assert await trial.kept(number) == before, f"{what}: what was kept went with the rest of the root"


async def _names_of_one_file(trial: KeepTrial) -> None:
    """A name that is not the last one is only lost; the object is kept with the last one."""
    for record in (remove(b"a"), create_file(b"a", b"new", _NEW), rename(b"other", b"a")):
        number = trial.next_number()
        links = [Record(Kind.LINK, 0, name, other=b"a") for name in (b"b", b"c")]
        await trial.make(create_file(b"a", b"shared", _OLD), create_file(b"other"), *links)
        identity = await trial.identity(b"b")
        await trial.make(record, remove(b"b"))
        assert await trial.kept(number) is None, "a file is kept before it has lost its last name"
        assert await trial.identity(b"c") == identity, "a file whose other names went is another one"
        await trial.done((remove(b"c"), {b"c": number}))
        kept = await trial.kept(number)
        assert kept is not None, "a file is not kept with its last name"
        assert kept[b""][0] == identity, "another file is kept"
        await trial.sink.apply(Batch(trial.seq, [remove(b"")]))


async def _one_file_is_renamed_to_itself(trial: KeepTrial) -> None:
    await trial.make(create_file(b"a", b"shared"), Record(Kind.LINK, 0, b"b", other=b"a"))
    identity = await trial.identity(b"b")
    await trial.make(rename(b"a", b"b"), Record(Kind.LINK, 0, b"b", other=b"b"))
    assert await trial.whole(b"0", b"a") is None, "RENAME over another name of the same file"
    assert await trial.identity(b"b") == identity, "RENAME over another name of the same file replaces it"


async def _all_of_a_root(trial: KeepTrial) -> None:
    """REMOVE of a root keeps what lies in it; the other root stays."""
    await trial.make(*_OLDS["a tree"], create_file(b"file", b"1"), create_file(b"two", b"2"))
    await trial.make(Record(Kind.LINK, 0, b"three", other=b"two"), create_file(b"in", b"other root", root=1))
    before = [await trial.whole(b"0", name) for name in (b"x", b"file", b"two")]
    keeps = {b"x": 101, b"file": 102, b"three": 103}
    for time in ("", ", again"):
        await trial.done((remove(b""), keeps))
        assert [await trial.kept(number) for number in (101, 102, 103)] == before, f"REMOVE of a root{time}"
        assert await trial.numbers() == [101, 102, 103], f"REMOVE of a root{time}: more is in the store, or less"
        assert not await names_in(trial.sink, Place(0, b"")), f"REMOVE of a root{time}: something is left in it"
    assert await trial.whole(b"1", b"in") is not None, "REMOVE of a root removes what is in another"
    await trial.make(create_file(b"again"))


async def _several_roots(trial: KeepTrial) -> None:
    """All roots of a replica have one store."""
    for root in (0, 1):
        await trial.make(create_file(b"file", b"%d" % root, root=root))
        await trial.done((create_file(b"file", b"new", root=root), {b"file": 200 + root}))
    assert await trial.numbers() == [200, 201]
    for root in (0, 1):
        kept = await trial.kept(200 + root)
        assert kept is not None, f"nothing is kept of root {root}"
        assert kept[b""][-1] == b"%d" % root, f"of root {root} another file is kept"


async def _a_story_twice(trial: KeepTrial) -> None:
    """A batch that replaces the same name again and again; applied twice, the store is what it was."""
    story = [
        (make_dir(b"d"), {}),
        (create_file(b"d/f", b"1"), {}),
        (create_file(b"d/f", b"2"), {b"d/f": 301}),
        (make_dir(b"d/f"), {b"d/f": 302}),
        (create_file(b"d/f/in", b"in"), {}),
        (remove(b"d"), {b"d": 303}),
        (create_file(b"d", b"3"), {}),
        (make_symlink(b"d", b"4"), {b"d": 304}),
        (create_file(b"old", b"5"), {}),
        (Record(Kind.LINK, 0, b"second", other=b"old"), {}),
        (remove(b"old"), {}),
        (create_file(b"second", b"6"), {b"second": 305}),
    ]
    applied = await trial.done(*story)
    first = trial.seq - len(story)
    made = {first + at for at, (record, _) in enumerate(story) if record.kind in _MAKES}
    assert set(applied.made) == made, f"made has the seqs {sorted(applied.made)} instead of {sorted(made)}"
    seen, numbers = await picture(trial.sink), await trial.numbers()
    kept = [await trial.kept(number) for number in numbers]
    assert numbers == [301, 302, 303, 304, 305], f"in the store are {numbers}"
    contents = [None if each is None else each[b""][-1] for each in kept]
    assert contents == [b"1", b"2", b"", b"3", b"5"], f"the kept files have the contents {contents}"
    again = await trial.again(first, *story)
    assert not again.failures, f"applied again, records fail: {again.failures}"
    assert await picture(trial.sink) == seen, "applied again, the replica is another"
    assert await trial.numbers() == numbers, "applied again, other objects are kept"
    assert [await trial.kept(number) for number in numbers] == kept, "applied again, what is kept is another"


async def _a_failure_ends_the_batch(trial: KeepTrial) -> None:
    await trial.make(create_file(b"x", b"old", _OLD))
    before = await trial.whole(b"0", b"x")
    bad: list[Record] = [
        rename(b"missing", b"x"),
        Record(Kind.LINK, 0, b"x", other=b"missing"),
        Record(Kind.PUBLISH, 0, b"x", meta=FILE, size=1),
        create_file(b"no/dir/x"),
    ]
    for record in bad:
        first, number = trial.seq, trial.next_number()
        trial.applied.clear()
        steps = [(create_file(b"%d" % first), {}), (record, {b"x": number}), (create_file(b"after"), {})]
        applied = await trial.apply(*steps)
        what = f"{record.kind.name} that fails"
        assert applied.applied_seq == first + 1, f"{what}: applied_seq is {applied.applied_seq} instead of {first + 1}"
        assert [failure.seq for failure in applied.failures] == [first + 1], f"{what}: {applied.failures}"
        assert list(applied.made) == [first], f"{what}: made says {applied.made}"
        assert trial.applied == [first, first + 1], f"{what}: the seqs {trial.applied} are reported as applied"
        assert await trial.whole(b"0", b"after") is None, f"{what}: a record after it was applied"
        assert await trial.whole(b"0", b"x") == before, f"{what}: what it was to replace is another"
        assert await trial.kept(number) is None, f"{what}: what it was to replace is kept, and still there"


async def _without_history(trial: KeepTrial) -> None:
    """Batches without `keeps` replace and remove as ever, and leave the store alone; they report nothing as made."""
    await trial.make(create_file(b"x", b"old"))
    await trial.done((remove(b"x"), {b"x": 401}))
    kept = await trial.kept(401)
    for records in ([create_file(b"x"), make_dir(b"x")], [create_file(b"x")], [remove(b"x")], [remove(b"")]):
        applied = await trial.sink.apply(Batch(trial.seq, records))
        assert not applied.failures, f"a batch without a history fails: {applied.failures}"
        assert not applied.made, f"a batch without a history has made {applied.made}"
    assert await trial.kept(401) == kept, "a batch without a history changes the store"
    assert await trial.numbers() == [401], "a batch without a history keeps something"


async def _attributes_alone(trial: KeepTrial) -> None:
    """A MKDIR that finds a directory makes none; records about content make nothing, either."""
    await trial.make(make_dir(b"d"), create_file(b"f", b"1"))
    await trial.make(Record(Kind.SETATTR, 0, b"f", meta=FILE), Record(Kind.MKNOD, 0, b"p", meta=FIFO))
    applied = await trial.make(
        make_dir(b"d"),
        Record(Kind.WRITE, 0, b"f", data=b"2"),
        Record(Kind.LINK, 0, b"g", other=b"f"),
        rename(b"g", b"h"),
        remove(b"h"),
        Record(Kind.BARRIER, 0, b""),
        Record(Kind.STAGE, 0, b"s"),
        Record(Kind.CREATE, 0, b"bare"),
        Record(Kind.MKDIR, 0, b"bare-dir"),
        Record(Kind.SYMLINK, 0, b"bare-link", other=b"x"),
        Record(Kind.PUBLISH, 0, b"s"),
    )
    names = (b"bare", b"bare-dir", b"bare-link", b"s")
    right = dict(zip(range(trial.seq - 4, trial.seq), [await trial.identity(name) for name in names], strict=True))
    assert applied.made == right, f"made says {applied.made} instead of {right}"


STEPS: Sequence[Callable[[KeepTrial], Awaitable[None]]] = (
    _each_by_each,
    _names_of_one_file,
    _one_file_is_renamed_to_itself,
    _all_of_a_root,
    _several_roots,
    _a_story_twice,
    _a_failure_ends_the_batch,
    _without_history,
    _attributes_alone,
)


# ------------------------------------------------------------------------------------------ the store is not seen


async def _the_store_is_hidden(trial: KeepTrial, root: Path) -> None:
    """The root is the allowed directory itself, so the store may have to lie in it: nobody sees it there."""
    await trial.make(make_dir(b"d"), create_file(b"d/f"), create_file(b"f", b"old"), create_file(b"g"))
    await trial.done((remove(b"d"), {b"d": 501}), (create_file(b"f", b"new"), {b"f": 502}))
    seen = sorted(await names_in(trial.sink, Place(0, b"")))
    assert seen == [b"f", b"g"], f"in the root are {seen} instead of f and g"
    (answer,) = await trial.sink.look([Ask(Place(0, b""), (), every=True)])
    assert sorted(answer.names or ()) == seen, f"look says that in the root are {answer.names}"
    assert await trial.sink.count(Place(0, b""), 99) == 2, "count of a root counts what is kept"
    assert await trial.sink.losses([Place(0, b"")], 99) == [2], "losses of a root count what is kept"
    for name in await trio.to_thread.run_sync(_listed, root):
        if name not in seen:
            await _reserved(trial, name)
    await trial.sink.apply(Batch(trial.seq, [remove(b"")]))
    assert await trial.numbers() == [501, 502], "REMOVE of a root removes what is kept"


def _listed(root: Path) -> list[bytes]:
    """What lies in the root on disk, if it is there."""
    return os.listdir(os.fsencode(root)) if root.exists() else []


async def _reserved(trial: KeepTrial, name: bytes) -> None:
    """No record reaches the sink's own names."""
    (seen,) = await trial.sink.look([Ask(Place(0, b""), (name,))])
    assert seen.entries[0] is None, "look tells of the store"
    (seen,) = await trial.sink.look([Ask(Place(0, name), (b"501",), every=True)])
    assert seen.here is None, "look goes into the store"
    records = (create_file(name), create_file(name + b"/x"), rename(b"g", name), rename(name, b"x"), remove(name))
    for record in (*records, remove(name + b"/501")):
        applied = await trial.apply((record, {}))
        assert applied.failures, f"{record.kind.name} reaches the store"
        assert not applied.failures[0].repair, f"{record.kind.name} of the store's name is to be repaired"
    assert await trial.numbers() == [501, 502], "a record has changed the store"


# ------------------------------------------------------------------------------------------ the whole


async def check_keeping(spec: DriverSpec, config: object, top: Path) -> None:
    """Checks a sink that can keep a history, beneath the directory `top`.

    Raises:
        AssertionError: the sink or its replica breaks the contract.
    """
    assert spec.replica is not None
    await _check_replica(spec, config, top)
    for number, step in enumerate(STEPS):
        allowed = top / f"kept-{number}"
        async with _opened(spec, config, allowed, allowed / "first", allowed / "second") as trial:
            await step(trial)
    async with _opened(spec, config, top / "allowed-itself", top / "allowed-itself") as trial:
        await _the_store_is_hidden(trial, top / "allowed-itself")


@asynccontextmanager
async def _opened(spec: DriverSpec, config: object, allowed: Path, *roots: Path) -> AsyncIterator[KeepTrial]:
    assert spec.replica is not None
    await trio.Path(allowed).mkdir()
    applied: list[int] = []
    context = SinkContext(
        roots=tuple(map(os.fsencode, roots)), allowed=(os.fsencode(allowed),), applied=applied.append, secret=bytes(32)
    )
    async with spec.open(config, context) as sink, spec.replica(config, context) as replica:
        trial = KeepTrial(sink, replica, applied)
        yield trial
        await sink.flush()
        numbers = await trial.numbers()
        kept = [await trial.kept(number) for number in numbers]
    known = dict(zip(context.roots, sink.identities, strict=False))
    async with spec.replica(config, attrs.evolve(context, known=known)) as replica:
        trial = KeepTrial(sink, replica, applied)
        assert await trial.numbers() == numbers, "other objects are kept after the replica was opened again"
        after = [await trial.kept(number) for number in numbers]
        assert after == kept, "what is kept is another after the replica was opened again"


async def _check_replica(spec: DriverSpec, config: object, top: Path) -> None:
    """`check_replica` for what the driver opens."""
    open_replica = spec.replica
    assert open_replica is not None
    async with AsyncExitStack() as stack:
        numbers = iter(range(1000))

        async def make(records: Sequence[Record]) -> Open:
            allowed = top / f"replica-{next(numbers)}"
            await trio.Path(allowed).mkdir()
            roots = (os.fsencode(allowed / "first"), os.fsencode(allowed / "second"))
            context = SinkContext(roots=roots, allowed=(os.fsencode(allowed),), secret=bytes(32))
            async with spec.open(config, context) as sink:
                applied = await sink.apply(Batch(1, records))
                assert not applied.failures, f"records that can be applied failed: {applied.failures}"
                await sink.flush()
            replica = await stack.enter_async_context(open_replica(config, context))
            return lambda: nullcontext(replica)

        await check_replica(make)
