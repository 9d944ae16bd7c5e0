"""The catalog against a plain model: any order of calls, with restarts in between, and it never says another thing."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from i2core.api import BLOCK_BYTES, Entry, Place, StopRule
from i2core.rule.mirror.links import LinkTable
from i2core.rule.reading import catalog as catalog_module
from i2core.rule.reading import digests as digests_module
from i2core.rule.reading.catalog import OPEN, Catalog, Doubt
from i2core.rule.work.resume import open_catalog

CHUNK = 3
"""Digests of so few blocks make a row here, so that ranges cross rows."""
NAMES = (b"a", b"b", b"\xff\n")
names = st.sampled_from(NAMES)
inodes = st.integers((1 << 64) - 4, (1 << 64) - 1) | st.integers(1, 4)


@attrs.define
class Known:
    """What the model knows of one object."""

    entry: Entry
    digests: list[bytes] = attrs.field(factory=list)


def made(name: bytes, ino: int, *, is_dir: bool, size: int = 0) -> Entry:
    """An entry of the source."""
    mode = stat.S_IFDIR | 0o755 if is_dir else stat.S_IFREG | 0o644
    return Entry(name, mode, 1, 2, size, 3, ino=ino, dev=7, ctime_ns=4, xattrs=(1 << 64) - ino)


def joined(above: bytes, name: bytes) -> bytes:
    """A path."""
    return above + b"/" + name if above else name


class CatalogMachine(RuleBasedStateMachine):
    """Random calls on a catalog and its model, a dict by path."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(digests_module, "CHUNK_BLOCKS", CHUNK)
        self.patch.setattr(catalog_module, "_PATHS", 2)
        self.home = Path(tempfile.mkdtemp())
        self.model: dict[bytes, Known] = {}
        self.once: set[bytes] = set()
        self.catalog: Catalog

    @initialize(on_disk=st.booleans())
    def begin(self, on_disk: bool) -> None:
        self.path = self.home / "rule.catalog" if on_disk else None
        self.catalog = Catalog(self.path)
        root = made(b"", 100, is_dir=True)
        self.catalog.put(Place(0, b""), root)
        self.model[b""] = Known(root)

    def teardown(self) -> None:
        self.catalog.close()
        self.patch.undo()
        shutil.rmtree(self.home)

    def beneath(self, path: bytes) -> list[bytes]:
        """The path and all beneath it."""
        return [each for each in self.model if each == path or each.startswith(path + b"/") or not path]

    def forget(self, path: bytes) -> None:
        """The model's removal."""
        for each in self.beneath(path):
            del self.model[each]

    def pick(self, data: st.DataObject, *, is_dir: bool | None = None) -> bytes:
        """Some path, below the root unless directories are asked for."""
        found = [
            path
            for path, known in self.model.items()
            if (is_dir is None and path) or (is_dir is not None and stat.S_ISDIR(known.entry.mode) == is_dir)
        ]
        return data.draw(st.sampled_from(sorted(found)))

    @rule(data=st.data(), name=names, ino=inodes, is_dir=st.booleans(), many=st.booleans())
    def put(self, data: st.DataObject, name: bytes, ino: int, is_dir: bool, many: bool) -> None:
        above = self.pick(data, is_dir=True)
        path, entry = joined(above, name), made(name, ino, is_dir=is_dir, size=data.draw(st.integers(0, 9)))
        old = self.model.get(path)
        # A directory in the place of another keeps what is beneath it.
        same = old is not None and old.entry.mode == entry.mode and (is_dir or old.entry.ino == ino)
        if many:
            directory = self.catalog.get(Place(0, above))
            assert directory is not None
            self.catalog.put_all(directory, [(entry, self.catalog.get(Place(0, path)))])
        else:
            self.catalog.put(Place(0, path), entry)
        if old is not None and not same:
            self.forget(path)
        self.model[path] = Known(entry, old.digests if old is not None and same else [])

    @rule(data=st.data(), name=names, inos=st.lists(inodes, min_size=3, max_size=3), dirs=st.integers(0, 7))
    def put_listing(self, data: st.DataObject, name: bytes, inos: list[int], dirs: int) -> None:
        path = joined(self.pick(data, is_dir=True), name)
        if path in self.model:
            return
        here = made(name, 50, is_dir=True)
        row = self.catalog.put(Place(0, path), here)
        assert self.catalog.is_blank(row)
        self.model[path] = Known(here)
        entries = [
            made(each, ino, is_dir=bool(dirs >> at & 1)) for at, (each, ino) in enumerate(zip(NAMES, inos, strict=True))
        ]
        parts = data.draw(st.sampled_from(([entries], [entries[:1], entries[1:]], [[], entries])))
        for part in parts:
            self.catalog.put_listing(row, part)
        assert not self.catalog.is_blank(row)
        self.model.update({joined(path, entry.name): Known(entry) for entry in entries})

    @rule()
    def unfold(self) -> None:
        self.catalog.unfold()

    @precondition(lambda self: len(self.model) > 1)
    @rule(data=st.data(), name=names)
    def move(self, data: st.DataObject, name: bytes) -> None:
        old, above = self.pick(data), self.pick(data, is_dir=True)
        new = joined(above, name)
        if above == old or above.startswith(old + b"/") or old.startswith(new + b"/") or new == old:
            return
        row = self.catalog.get(Place(0, old))
        assert row is not None
        moved = self.catalog.move(row, Place(0, new))
        assert moved.id == row.id
        if new in self.model:
            self.forget(new)
        for path in self.beneath(old):
            self.model[new + path[len(old) :]] = self.model.pop(path)

    @precondition(lambda self: len(self.model) > 1)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        path = self.pick(data)
        row = self.catalog.get(Place(0, path))
        assert row is not None
        assert self.catalog.count_files(row) == sum(
            not stat.S_ISDIR(self.model[each].entry.mode) for each in self.beneath(path)
        )
        self.catalog.remove(row)
        self.forget(path)

    @precondition(lambda self: any(stat.S_ISREG(known.entry.mode) for known in self.model.values()))
    @rule(data=st.data())
    def hash(self, data: st.DataObject) -> None:
        path = self.pick(data, is_dir=False)
        row, known = self.catalog.get(Place(0, path)), self.model[path]
        assert row is not None
        first = data.draw(st.integers(0, len(known.digests)))
        fresh = data.draw(st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=2 * CHUNK + 1))
        self.catalog.digests.put(row.id, first, b"".join(fresh))
        known.digests[first : first + len(fresh)] = fresh

    @precondition(lambda self: any(known.digests for known in self.model.values()))
    @rule(data=st.data(), blocks=st.integers(0, 3 * CHUNK), rest=st.sampled_from([0, 1, BLOCK_BYTES - 1]))
    def cut(self, data: st.DataObject, blocks: int, rest: int) -> None:
        path = data.draw(st.sampled_from(sorted(p for p, known in self.model.items() if known.digests)))
        row = self.catalog.get(Place(0, path))
        assert row is not None
        if data.draw(st.booleans()):
            self.catalog.digests.cut(row.id, blocks * BLOCK_BYTES + rest)
            del self.model[path].digests[blocks:]
        else:
            self.catalog.digests.drop(row.id)
            self.model[path].digests.clear()

    @precondition(lambda self: self.path is not None)
    @rule()
    def reopen(self) -> None:
        self.catalog.close()
        self.catalog = Catalog(self.path)

    @rule()
    def commit(self) -> None:
        self.catalog.commit()

    @invariant()
    def every_path_has_what_was_put(self) -> None:
        for path, known in self.model.items():
            row = self.catalog.get(Place(0, path))
            assert row is not None, path
            assert row.is_object(known.entry)
            assert row.same_content(known.entry)
            assert row.same_meta(known.entry)
            assert row.untouched(known.entry)
            assert self.catalog.place(row) == Place(0, path)
            assert self.catalog.row(row.id) == row
            for first in range(len(known.digests) + 1):
                expected = b"".join(known.digests[first : first + CHUNK + 1])
                assert (self.catalog.digests.get(row.id, first, CHUNK + 1) or b"") == expected

    @invariant()
    def nothing_is_where_it_was_once(self) -> None:
        self.once |= self.model.keys()
        for path in self.once - self.model.keys():
            assert self.catalog.get(Place(0, path)) is None, path

    @invariant()
    def nothing_else_is_there(self) -> None:
        for path, known in self.model.items():
            row = self.catalog.get(Place(0, path))
            assert row is not None
            below = {p.rpartition(b"/")[2] for p in self.model if p and p.rpartition(b"/")[0] == path}
            assert set(self.catalog.children(row)) == (below if stat.S_ISDIR(known.entry.mode) else set())
            twins = {
                p for p, k in self.model.items() if (k.entry.ino, k.entry.mode) == (known.entry.ino, known.entry.mode)
            }
            assert {self.catalog.place(found).path for found in self.catalog.by_inode(known.entry)} == twins


CatalogMachine.TestCase.settings = settings(stateful_step_count=25)
test_any_history = CatalogMachine.TestCase


def test_facts_and_ids_survive(tmp_path: Path) -> None:
    first = Catalog(tmp_path / "catalog")
    assert first.fact("next_seq") is None
    first.set_fact("next_seq", 1 << 62)
    row = first.put(Place(0, b""), made(b"", 1, is_dir=True))
    first.close()
    again = Catalog(tmp_path / "catalog")
    assert again.fact("next_seq") == 1 << 62
    assert again.put(Place(1, b""), made(b"", 2, is_dir=True)).id > row.id
    assert again.get(Place(0, b"")) == row
    again.close()


def test_what_was_committed_survives_a_crash(tmp_path: Path) -> None:
    crashed = Catalog(tmp_path / "catalog")
    crashed.put(Place(0, b""), made(b"", 1, is_dir=True))
    crashed.commit()
    crashed.put(Place(0, b"lost"), made(b"lost", 2, is_dir=False))
    crashed._db.close()
    again = Catalog(tmp_path / "catalog")
    assert again.get(Place(0, b"")) is not None
    assert again.get(Place(0, b"lost")) is None
    again.close()


def test_nothing_of_it_is_mapped(tmp_path: Path) -> None:
    """A page of mapped memory that a full disk cannot back ends the process by SIGBUS."""
    catalog = Catalog(tmp_path / "catalog")
    catalog.put(Place(0, b""), made(b"", 1, is_dir=True))
    catalog.commit()
    assert {path.name for path in tmp_path.iterdir()} == {"catalog", "catalog-wal"}
    catalog.close()


def test_one_that_another_program_reads_is_not_taken_for_damaged(tmp_path: Path) -> None:
    catalog, _ = open_catalog(tmp_path / "catalog")
    catalog.put(Place(0, b""), made(b"", 1, is_dir=True))
    catalog.close()
    with closing(sqlite3.connect(tmp_path / "catalog", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM node").fetchall()
        with pytest.raises(StopRule, match="open"):
            open_catalog(tmp_path / "catalog")
    catalog, clean = open_catalog(tmp_path / "catalog")
    assert clean
    assert catalog.get(Place(0, b"")) is not None
    catalog.close()


@pytest.fixture(params=["temporary", "reopened"])
def folded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    """A root with a directory of three files, which were noted as they were listed."""
    path = tmp_path / "catalog" if request.param == "reopened" else None
    catalog = Catalog(path)
    root = catalog.put(Place(0, b""), made(b"", 1, is_dir=True))
    catalog.put_listing(root, [made(b"top", 2, is_dir=False), made(b"dir", 3, is_dir=True)])
    above = catalog.get(Place(0, b"dir"))
    assert above is not None
    catalog.put_listing(above, [made(name, 4 + at, is_dir=False) for at, name in enumerate(NAMES)])
    if path is not None:
        catalog.close()
        catalog = Catalog(path)
    yield catalog
    catalog.close()


def test_what_was_listed_counts_and_goes_with_its_directory(folded: Catalog) -> None:
    root, above = folded.get(Place(0, b"")), folded.get(Place(0, b"dir"))
    assert root is not None
    assert above is not None
    assert (folded.count_files(root), folded.count_files(above)) == (4, 3)
    folded.remove(above)
    assert folded.count_files(root) == 1
    assert folded.by_inode(made(b"a", 4, is_dir=False)) == []
    assert set(folded.children(root)) == {b"top"}


def test_what_was_listed_moves_with_its_directory(folded: Catalog) -> None:
    above = folded.get(Place(0, b"dir"))
    assert above is not None
    folded.move(above, Place(0, b"elsewhere"))
    assert folded.get(Place(0, b"dir/a")) is None
    assert folded.get(Place(0, b"elsewhere/a")) is not None


def test_what_was_listed_is_found_by_its_inode(folded: Catalog) -> None:
    (found,) = folded.by_inode(made(b"other name", 5, is_dir=False))
    assert folded.place(found) == Place(0, b"dir/b")
    assert folded.by_inode(made(b"top", 2, is_dir=False)) == [folded.get(Place(0, b"top"))]


def test_a_listed_file_with_several_names_is_found_at_once() -> None:
    """A mirror asks for each of its names whether another was sent, and unfolds nothing for that."""
    catalog = Catalog(None)
    root = catalog.put(Place(0, b""), made(b"", 1, is_dir=True))
    two, one = made(b"two", 2, is_dir=False)._replace(nlink=2), made(b"one", 3, is_dir=False)
    catalog.put_listing(root, [two, one])
    assert [row.name for row in catalog.sent_as(two)] == [b"two"]
    assert catalog.sent_as(one) == []
    assert set(catalog.children(root)) == {b"two", b"one"}
    catalog.close()


def test_what_was_listed_twice_has_one_row() -> None:
    """readdir(3) may show a name twice while its directory changes."""
    catalog = Catalog(None)
    root = catalog.put(Place(0, b""), made(b"", 1, is_dir=True))
    catalog.put_listing(root, [made(b"a", 2, is_dir=False)])
    catalog.put_listing(root, [made(b"a", 3, is_dir=True)])
    assert [stat.S_ISDIR(row.mode) for row in catalog.children(root).values()] == [True]
    catalog.close()


def test_nothing_that_was_listed_outlives_a_clear(folded: Catalog) -> None:
    folded.clear()
    root = folded.put(Place(0, b""), made(b"", 1, is_dir=True))
    folded.unfold()
    assert folded.children(root) == {}
    assert folded.by_inode(made(b"top", 2, is_dir=False)) == []
    assert folded.by_inode(made(b"a", 4, is_dir=False)) == []


def test_a_doubt_is_kept_once_however_often_it_is_noted() -> None:
    catalog = Catalog(None)
    doubt = Doubt(1, b"a", 2)
    for _ in range(2):
        catalog.keep_doubts(7, [doubt, doubt._replace(deep=True)])
        catalog.keep_doubts(OPEN, [doubt, doubt])
    assert catalog.doubts() == {7: [doubt, doubt._replace(deep=True)], OPEN: [doubt]}
    catalog.close_doubts(7)
    assert catalog.doubts() == {7: [doubt, doubt._replace(deep=True)]}
    catalog.drop_doubts(7)
    assert catalog.doubts() == {}
    catalog.close()


def test_an_object_needs_its_directory() -> None:
    catalog = Catalog(None)
    row = catalog.put(Place(0, b""), made(b"", 1, is_dir=True))
    with pytest.raises(KeyError):
        catalog.put(Place(0, b"missing/file"), made(b"file", 2, is_dir=False))
    with pytest.raises(KeyError):
        catalog.move(row, Place(0, b"missing/file"))
    catalog.close()


def test_digests_gather_under_a_reserved_row() -> None:
    catalog = Catalog(None)
    catalog.put(Place(0, b""), made(b"", 1, is_dir=True))
    old = catalog.put(Place(0, b"file"), made(b"file", 2, is_dir=False))
    catalog.digests.put(old.id, 0, bytes(16))
    reserved = catalog.reserve()
    assert catalog.row(reserved.id) is None
    catalog.digests.put(reserved.id, 0, b"x" * 16)
    row = catalog.put(Place(0, b"file"), made(b"file", 2, is_dir=False), reserved=reserved)
    assert row.id == reserved.id != old.id
    assert catalog.digests.get(row.id, 0, 9) == b"x" * 16
    assert catalog.digests.get(old.id, 0, 9) is None
    catalog.close()


def test_first_names_of_links() -> None:
    links = LinkTable()
    entry = made(b"name", (1 << 64) - 1, is_dir=False)
    assert links.first(0, entry, b"first") is None
    assert links.first(0, entry, b"second") == b"first"
    assert links.first(0, entry, b"first") is None
    assert links.first(1, entry, b"other root") is None
    assert links.first(0, entry._replace(dev=8), b"other device") is None
    links.close()
