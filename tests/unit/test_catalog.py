"""The catalog compared with a simple model: any order of calls, with restarts in between, gives the same answers."""

from __future__ import annotations

import contextlib
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

from i2core.api import BLOCK_BYTES, Entry, Place
from i2core.api.blockmap import ZERO_DIGEST, BlockMap
from i2core.rule.catalog import digests as digests_module
from i2core.rule.catalog import paths as paths_module
from i2core.rule.catalog.catalog import Catalog
from i2core.rule.catalog.doubts import UNNUMBERED
from i2core.rule.catalog.memory import RuleMemory
from i2core.rule.catalog.rows import Depth, Doubt, Row
from i2core.rule.catalog.seal import Seal, look_at_seal
from i2core.rule.survey.links import LinkTable

CHUNK = 3
"""Digests of so few blocks make a row here, so that ranges cross rows."""
NAMES = (b"a", b"b", b"\xff\n")
NAMES_OF_ONE = (b"a", b"b", b"c")
names = st.sampled_from(NAMES)
TIMES = (3, -1, 1 << 63, -(1 << 63) - 1, (1 << 64) + 3, 10**9 << 62, -(10**9) << 62)
"""Some need more than SQLite's 64 bits."""
inodes = st.integers((1 << 64) - 4, (1 << 64) - 1) | st.integers(1, 4)


@attrs.define
class Known:
    """What the model knows of one object."""

    entry: Entry
    digests: list[bytes] = attrs.field(factory=list)


def made(name: bytes, ino: int, *, is_dir: bool, size: int = 0, time_ns: int = 3) -> Entry:
    """An entry of the source."""
    mode = stat.S_IFDIR | 0o755 if is_dir else stat.S_IFREG | 0o644
    return Entry(name, mode, 1, 2, size, time_ns, ino=ino, dev=7, ctime_ns=4, xattrs=(1 << 64) - ino)


def joined(above: bytes, name: bytes) -> bytes:
    """A path."""
    return above + b"/" + name if above else name


class CatalogMachine(RuleBasedStateMachine):
    """Random calls on a catalog and its model, a dict by path."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(digests_module, "CHUNK_BLOCKS", CHUNK)
        self.patch.setattr(paths_module, "_PATHS", 2)
        self.home = Path(tempfile.mkdtemp())
        self.model: dict[bytes, Known] = {}
        self.once: set[bytes] = set()
        self.catalog: Catalog

    @initialize(on_disk=st.booleans())
    def begin(self, on_disk: bool) -> None:
        self.path = self.home / "rule.catalog" if on_disk else None
        self.catalog = Catalog(self.path)
        root = made(b"", 100, is_dir=True)
        self.catalog.objects.put(Place(0, b""), root)
        self.model[b""] = Known(root)

    def teardown(self) -> None:
        self.catalog.close(clean=True)
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

    @rule(data=st.data(), name=names, ino=inodes, is_dir=st.booleans(), many=st.booleans(), time=st.sampled_from(TIMES))
    def put(self, data: st.DataObject, name: bytes, ino: int, is_dir: bool, many: bool, time: int) -> None:
        above = self.pick(data, is_dir=True)
        path = joined(above, name)
        entry = made(name, ino, is_dir=is_dir, size=data.draw(st.integers(0, 9)), time_ns=time)
        old = self.model.get(path)
        # A directory in the place of another keeps what is beneath it.
        same = old is not None and old.entry.mode == entry.mode and (is_dir or old.entry.ino == ino)
        if many:
            directory = self.catalog.objects.get(Place(0, above))
            assert directory is not None
            self.catalog.objects.put_all(directory, [(entry, self.catalog.objects.get(Place(0, path)))])
        else:
            self.catalog.objects.put(Place(0, path), entry)
        if old is not None and not same:
            self.forget(path)
        self.model[path] = Known(entry, old.digests if old is not None and same else [])

    @rule(data=st.data(), name=names, inos=st.lists(inodes, min_size=3, max_size=3), dirs=st.integers(0, 7))
    def put_listing(self, data: st.DataObject, name: bytes, inos: list[int], dirs: int) -> None:
        path = joined(self.pick(data, is_dir=True), name)
        if path in self.model:
            return
        here = made(name, 50, is_dir=True)
        row = self.catalog.objects.put(Place(0, path), here)
        assert self.catalog.objects.has_no_rows(row)
        self.model[path] = Known(here)
        entries = [
            made(each, ino, is_dir=bool(dirs >> at & 1), time_ns=TIMES[(ino + dirs) % len(TIMES)])
            for at, (each, ino) in enumerate(zip(NAMES, inos, strict=True))
        ]
        parts = data.draw(st.sampled_from(([entries], [entries[:1], entries[1:]], [[], entries])))
        for part in parts:
            self.catalog.objects.put_listing(row, part)
        assert not self.catalog.objects.has_no_rows(row)
        self.model.update({joined(path, entry.name): Known(entry) for entry in entries})

    @rule()
    def unfold(self) -> None:
        self.catalog.listings.expand_all()

    @precondition(lambda self: len(self.model) > 1)
    @rule(data=st.data(), name=names)
    def move(self, data: st.DataObject, name: bytes) -> None:
        old, above = self.pick(data), self.pick(data, is_dir=True)
        new = joined(above, name)
        if above == old or above.startswith(old + b"/") or old.startswith(new + b"/") or new == old:
            return
        row = self.catalog.objects.get(Place(0, old))
        assert row is not None
        moved = self.catalog.objects.move(row, Place(0, new))
        assert moved.id == row.id
        if new in self.model:
            self.forget(new)
        for path in self.beneath(old):
            self.model[new + path[len(old) :]] = self.model.pop(path)

    @precondition(lambda self: len(self.model) > 1)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        path = self.pick(data)
        row = self.catalog.objects.get(Place(0, path))
        assert row is not None
        assert self.catalog.objects.count_files(row) == sum(
            not stat.S_ISDIR(self.model[each].entry.mode) for each in self.beneath(path)
        )
        self.catalog.objects.remove(row)
        self.forget(path)

    @precondition(lambda self: any(stat.S_ISREG(known.entry.mode) for known in self.model.values()))
    @rule(data=st.data())
    def hash(self, data: st.DataObject) -> None:
        path = self.pick(data, is_dir=False)
        row, known = self.catalog.objects.get(Place(0, path)), self.model[path]
        assert row is not None
        first = data.draw(st.integers(0, len(known.digests)))
        some = st.none() | st.binary(min_size=16, max_size=16) if data.draw(st.booleans()) else st.none()
        fresh = data.draw(st.lists(some, min_size=1, max_size=3 * CHUNK + 1))
        blocks = BlockMap()
        for digest in fresh:
            blocks.add(digest) if digest is not None else blocks.add_zeros(1)
        self.catalog.digests.put(row.id, first, blocks)
        known.digests[first : first + len(fresh)] = [digest or ZERO_DIGEST for digest in fresh]

    @precondition(lambda self: any(known.digests for known in self.model.values()))
    @rule(data=st.data(), blocks=st.integers(0, 3 * CHUNK), rest=st.sampled_from([0, 1, BLOCK_BYTES - 1]))
    def cut(self, data: st.DataObject, blocks: int, rest: int) -> None:
        path = data.draw(st.sampled_from(sorted(p for p, known in self.model.items() if known.digests)))
        row = self.catalog.objects.get(Place(0, path))
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
        self.catalog.close(clean=True)
        self.catalog = Catalog(self.path)

    @rule()
    def commit(self) -> None:
        self.catalog.commit()

    @invariant()
    def every_path_has_what_was_put(self) -> None:
        for path, known in self.model.items():
            row = self.catalog.objects.get(Place(0, path))
            assert row is not None, path
            assert row.is_object(known.entry)
            assert row.same_content(known.entry)
            assert row.same_meta(known.entry)
            assert row.untouched(known.entry)
            assert self.catalog.objects.place(row) == Place(0, path)
            assert self.catalog.objects.row(row.id) == row
            for first in range(len(known.digests) + 1):
                found = (self.catalog.digests.get(row.id, first, CHUNK + 1) or BlockMap()).dense()
                expected = b"".join(known.digests[first:])
                assert expected.startswith(found)
                assert found == expected or len(found) >= (CHUNK + 1) * 16
            assert self.catalog.digests.known(row.id) == len(known.digests)

    @invariant()
    def nothing_is_where_it_was_once(self) -> None:
        self.once |= self.model.keys()
        for path in self.once - self.model.keys():
            assert self.catalog.objects.get(Place(0, path)) is None, path

    @invariant()
    def nothing_else_is_there(self) -> None:
        for path, known in self.model.items():
            row = self.catalog.objects.get(Place(0, path))
            assert row is not None
            below = {p.rpartition(b"/")[2] for p in self.model if p and p.rpartition(b"/")[0] == path}
            assert set(self.catalog.objects.children(row)) == (below if stat.S_ISDIR(known.entry.mode) else set())
            twins = {
                p for p, k in self.model.items() if (k.entry.ino, k.entry.mode) == (known.entry.ino, known.entry.mode)
            }
            assert {
                self.catalog.objects.place(found).path for found in self.catalog.names.by_inode(known.entry)
            } == twins


CatalogMachine.TestCase.settings = settings(stateful_step_count=25)
test_any_history = CatalogMachine.TestCase


def test_facts_and_ids_survive(tmp_path: Path) -> None:
    first = Catalog(tmp_path / "catalog")
    assert first.memory.now == RuleMemory()
    first.memory.note(next_seq=1 << 62, mirrored=True)
    row = first.objects.put(Place(0, b""), made(b"", 1, is_dir=True))
    first.close(clean=True)
    again = Catalog(tmp_path / "catalog")
    assert again.memory.now == RuleMemory(next_seq=1 << 62, mirrored=True)
    assert again.objects.put(Place(1, b""), made(b"", 2, is_dir=True)).id > row.id
    assert again.objects.get(Place(0, b"")) == row
    again.close(clean=True)


def test_what_was_committed_survives_a_crash(tmp_path: Path) -> None:
    crashed = Catalog(tmp_path / "catalog")
    crashed.objects.put(Place(0, b""), made(b"", 1, is_dir=True))
    crashed.commit()
    crashed.objects.put(Place(0, b"lost"), made(b"lost", 2, is_dir=False))
    crashed._db._connection.close()
    again = Catalog(tmp_path / "catalog")
    assert again.objects.get(Place(0, b"")) is not None
    assert again.objects.get(Place(0, b"lost")) is None
    again.close(clean=True)


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_unit_of_work_that_fails_leaves_nothing(tmp_path: Path, on_disk: bool) -> None:
    catalog = Catalog(tmp_path / "catalog" if on_disk else None)
    catalog.objects.put(Place(0, b""), made(b"", 1, is_dir=True))
    catalog.memory.note(selection=1)
    with pytest.raises(OSError, match="on purpose"), catalog.unit():
        directory = catalog.objects.put(Place(0, b"dir"), made(b"dir", 2, is_dir=True))
        catalog.objects.put_listing(directory, [made(b"file", 3, is_dir=False)])
        assert catalog.objects.get(Place(0, b"dir/other")) is None  # the directory is remembered by its path
        catalog.staging.begin(Place(0, b"staged"))
        catalog.doubts.keep(UNNUMBERED, [Doubt(1, b"name", 0)])
        catalog.memory.note(boot=2)
        raise OSError(5, "on purpose")
    assert catalog.objects.get(Place(0, b"")) is not None
    assert catalog.objects.get(Place(0, b"dir")) is None
    assert catalog.objects.get(Place(0, b"dir/file")) is None
    assert catalog.staging.places == set()
    assert catalog.doubts.by_seq() == {}
    assert catalog.memory.now == RuleMemory(selection=1, boot=2)
    fresh = catalog.objects.put(Place(0, b"dir"), made(b"dir", 4, is_dir=True))
    assert catalog.objects.has_no_rows(fresh)
    catalog.close(clean=True)
    if on_disk:
        again = Catalog(tmp_path / "catalog")
        assert again.objects.get(Place(0, b"dir")) == fresh
        assert again.memory.now == RuleMemory(selection=1, boot=2)
        assert look_at_seal(tmp_path / "catalog") is Seal.WHOLE
        again.close(clean=True)


def test_an_end_that_is_not_orderly_is_not_marked_as_such(tmp_path: Path) -> None:
    """It keeps the result of the last unit of work."""
    for error, clean in ((RuntimeError("on purpose"), True), (None, False)):
        catalog = Catalog(tmp_path / "catalog")
        catalog.objects.put(Place(0, b""), made(b"", 1, is_dir=True))
        with contextlib.suppress(RuntimeError), catalog.unit():
            if error is not None:
                raise error
        catalog.objects.put(Place(0, b"loose"), made(b"loose", 2, is_dir=False))
        catalog.close(clean=clean)
        assert look_at_seal(tmp_path / "catalog") is Seal.NONE
        again = Catalog(tmp_path / "catalog")
        assert again.objects.get(Place(0, b"")) is not None
        assert again.objects.get(Place(0, b"loose")) is None
        again.close(clean=False)


def test_a_fact_is_kept_beside_a_unit_of_work_and_never_commits_half_of_it(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog")
    catalog.objects.put(Place(0, b""), made(b"", 1, is_dir=True))
    with pytest.raises(OSError, match="on purpose"), catalog.unit():
        catalog.objects.put(Place(0, b"half"), made(b"half", 2, is_dir=False))
        catalog.memory.keep(left_out=True)
        raise OSError(5, "on purpose")
    catalog.memory.keep(distrusted=True)
    catalog._db._connection.close()  # killed
    again = Catalog(tmp_path / "catalog")
    assert again.objects.get(Place(0, b"half")) is None
    assert again.memory.now == RuleMemory(left_out=True, distrusted=True)
    again.close(clean=True)


def test_no_part_of_it_is_memory_mapped(tmp_path: Path) -> None:
    """If a full disk cannot back a page of mapped memory, SIGBUS ends the process."""
    catalog = Catalog(tmp_path / "catalog")
    catalog.objects.put(Place(0, b""), made(b"", 1, is_dir=True))
    catalog.commit()
    assert {path.name for path in tmp_path.iterdir()} == {"catalog", "catalog-wal"}
    catalog.close(clean=True)


@pytest.fixture(params=["temporary", "reopened"])
def folded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    """A root with a directory of three files, which were noted as a packed listing."""
    path = tmp_path / "catalog" if request.param == "reopened" else None
    catalog = Catalog(path)
    root = catalog.objects.put(Place(0, b""), made(b"", 1, is_dir=True))
    catalog.objects.put_listing(root, [made(b"top", 2, is_dir=False), made(b"dir", 3, is_dir=True)])
    above = catalog.objects.get(Place(0, b"dir"))
    assert above is not None
    catalog.objects.put_listing(above, [made(name, 4 + at, is_dir=False) for at, name in enumerate(NAMES)])
    if path is not None:
        catalog.close(clean=True)
        catalog = Catalog(path)
    yield catalog
    catalog.close(clean=True)


def test_listed_files_count_and_are_removed_with_their_directory(folded: Catalog) -> None:
    root, above = folded.objects.get(Place(0, b"")), folded.objects.get(Place(0, b"dir"))
    assert root is not None
    assert above is not None
    assert (folded.objects.count_files(root), folded.objects.count_files(above)) == (4, 3)
    folded.objects.remove(above)
    assert folded.objects.count_files(root) == 1
    assert folded.names.by_inode(made(b"a", 4, is_dir=False)) == []
    assert set(folded.objects.children(root)) == {b"top"}


def test_listed_files_move_with_their_directory(folded: Catalog) -> None:
    above = folded.objects.get(Place(0, b"dir"))
    assert above is not None
    folded.objects.move(above, Place(0, b"elsewhere"))
    assert folded.objects.get(Place(0, b"dir/a")) is None
    assert folded.objects.get(Place(0, b"elsewhere/a")) is not None


def test_listed_files_are_found_by_inode(folded: Catalog) -> None:
    (found,) = folded.names.by_inode(made(b"other name", 5, is_dir=False))
    assert folded.objects.place(found) == Place(0, b"dir/b")
    assert folded.names.by_inode(made(b"top", 2, is_dir=False)) == [folded.objects.get(Place(0, b"top"))]


def test_a_listed_file_with_several_names_is_found_at_once() -> None:
    """A mirror asks for each of its names whether another was sent, and expands no listing for that."""
    catalog = Catalog(None)
    root = catalog.objects.put(Place(0, b""), made(b"", 1, is_dir=True))
    two, one = made(b"two", 2, is_dir=False)._replace(nlink=2), made(b"one", 3, is_dir=False)
    catalog.objects.put_listing(root, [two, one])
    assert [row.name for row in catalog.names.sent_as(two)] == [b"two"]
    assert catalog.names.sent_as(one) == []
    assert set(catalog.objects.children(root)) == {b"two", b"one"}
    catalog.close(clean=True)


def test_a_file_that_was_listed_twice_has_one_row() -> None:
    """readdir(3) may show a name twice while its directory changes."""
    catalog = Catalog(None)
    root = catalog.objects.put(Place(0, b""), made(b"", 1, is_dir=True))
    catalog.objects.put_listing(root, [made(b"a", 2, is_dir=False)])
    catalog.objects.put_listing(root, [made(b"a", 3, is_dir=True)])
    assert [stat.S_ISDIR(row.mode) for row in catalog.objects.children(root).values()] == [True]
    catalog.close(clean=True)


def test_clear_removes_listed_files(folded: Catalog) -> None:
    folded.clear()
    root = folded.objects.put(Place(0, b""), made(b"", 1, is_dir=True))
    folded.listings.expand_all()
    assert folded.objects.children(root) == {}
    assert folded.names.by_inode(made(b"top", 2, is_dir=False)) == []
    assert folded.names.by_inode(made(b"a", 4, is_dir=False)) == []


def test_a_doubt_is_kept_once_however_often_it_is_noted() -> None:
    catalog = Catalog(None)
    doubt = Doubt(1, b"a", 2)
    for _ in range(2):
        catalog.doubts.keep(7, [doubt, doubt._replace(deep=Depth.SUBTREE)])
        catalog.doubts.keep(UNNUMBERED, [doubt, doubt])
    assert catalog.doubts.by_seq() == {7: [doubt, doubt._replace(deep=Depth.SUBTREE)], UNNUMBERED: [doubt]}
    catalog.doubts.number(7, [doubt])
    assert catalog.doubts.by_seq() == {7: [doubt, doubt._replace(deep=Depth.SUBTREE)]}
    catalog.doubts.drop(7)
    assert catalog.doubts.by_seq() == {}
    catalog.close(clean=True)


def test_an_object_needs_its_directory() -> None:
    catalog = Catalog(None)
    row = catalog.objects.put(Place(0, b""), made(b"", 1, is_dir=True))
    with pytest.raises(KeyError):
        catalog.objects.put(Place(0, b"missing/file"), made(b"file", 2, is_dir=False))
    with pytest.raises(KeyError):
        catalog.objects.move(row, Place(0, b"missing/file"))
    catalog.close(clean=True)


def test_digests_gather_under_a_reserved_row() -> None:
    catalog = Catalog(None)
    catalog.objects.put(Place(0, b""), made(b"", 1, is_dir=True))
    old = catalog.objects.put(Place(0, b"file"), made(b"file", 2, is_dir=False))
    catalog.digests.put(old.id, 0, BlockMap(bytes(16)))
    reserved = catalog.objects.reserve()
    assert catalog.objects.row(reserved.id) is None
    catalog.digests.put(reserved.id, 0, BlockMap(b"x" * 16))
    row = catalog.objects.put(Place(0, b"file"), made(b"file", 2, is_dir=False), reserved=reserved)
    assert row.id == reserved.id != old.id
    assert catalog.digests.get(row.id, 0, 9) == BlockMap(b"x" * 16)
    assert catalog.digests.get(old.id, 0, 9) is None
    catalog.close(clean=True)


def test_first_names_of_links() -> None:
    links = LinkTable()
    entry = made(b"name", (1 << 64) - 1, is_dir=False)
    assert links.first(0, entry, b"first") is None
    assert links.first(0, entry, b"second") == b"first"
    assert links.first(0, entry, b"first") is None
    assert links.first(1, entry, b"other root") is None
    assert links.first(0, entry._replace(dev=8), b"other device") is None
    links.close()


def linked(name: bytes, *, ctime: int = 4, size: int = 0) -> Entry:
    """One of several names of the file 9."""
    return made(name, 9, is_dir=False, size=size)._replace(nlink=3, ctime_ns=ctime)


@pytest.fixture(params=["temporary", "reopened"])
def several(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    """A root with two names of one file that were compared, and a third that was sent at another time."""
    path = tmp_path / "catalog" if request.param == "reopened" else None
    catalog = Catalog(path)
    root = catalog.objects.put(Place(0, b""), made(b"", 1, is_dir=True))
    catalog.objects.put_listing(root, [linked(b"a"), linked(b"b"), linked(b"c", ctime=5)])
    catalog.objects.put(Place(1, b""), made(b"", 2, is_dir=True))
    catalog.objects.put(Place(1, b"elsewhere"), linked(b"elsewhere"))
    if path is not None:
        catalog.close(clean=True)
        catalog = Catalog(path)
    yield catalog
    catalog.close(clean=True)


def found(catalog: Catalog, path: bytes, root: int = 0) -> Row:
    """The row of a name."""
    row = catalog.objects.get(Place(root, path))
    assert row is not None
    return row


def test_names_that_were_compared_share_an_inode(several: Catalog) -> None:
    one, two, three = (found(several, path) for path in NAMES_OF_ONE)
    assert one.inode == two.inode != three.inode
    assert [row.name for row in several.names.apart(one, 0)] == [b"c", b"elsewhere"]
    several.objects.put(Place(0, b"a"), linked(b"a", size=7, ctime=6))
    assert found(several, b"b").untouched(linked(b"b", size=7, ctime=6))
    assert not found(several, b"c").same_content(linked(b"c", size=7))


def test_names_that_are_joined_share_the_digests(several: Catalog) -> None:
    several.digests.put(found(several, b"a").key, 0, BlockMap(b"x" * 16))
    joined_row = several.names.join(found(several, b"c"), found(several, b"a"))
    assert joined_row == found(several, b"c")
    assert several.digests.get(joined_row.key, 0, 1) == BlockMap(b"x" * 16)
    assert list(several.names.apart(joined_row, 0)) == [several.objects.get(Place(1, b"elsewhere"))]
    for path in NAMES_OF_ONE[:2]:
        several.objects.remove(found(several, path))
    assert several.digests.get(found(several, b"c").key, 0, 1) == BlockMap(b"x" * 16)
    several.objects.remove(found(several, b"c"))
    assert several.digests.get(joined_row.key, 0, 1) is None
    assert several.names.names_of(joined_row.inode) == []


def test_a_doubt_about_one_name_is_about_all_that_share(several: Catalog) -> None:
    doubt = several.doubts.at(Place(0, b"a"))
    several.doubts.keep(UNNUMBERED, [doubt])
    assert several.doubts.by_seq() == {UNNUMBERED: [doubt]}
    several.objects.remove(found(several, b"a"))
    several.doubts.distrust_all(doubt)
    assert found(several, b"b").unverified
    assert not found(several, b"c").unverified
    assert several.names.names_of(doubt.inode) == [Place(0, b"b")]


def test_an_unverified_name_shares_nothing(several: Catalog) -> None:
    several.doubts.distrust(found(several, b"a"), digests=True)
    assert found(several, b"a").unverified
    assert found(several, b"b").unverified
    assert found(several, b"a").inode == found(several, b"b").inode
    several.doubts.distrust(found(several, b"a"))
    assert (found(several, b"a").inode, found(several, b"a").unverified) == (0, True)
    # An object that is created again is another object on the replica.
    several.objects.put(Place(0, b"b"), linked(b"b"), alone=True)
    assert (found(several, b"b").inode, found(several, b"b").unverified) == (0, False)


def test_other_roots_have_objects_of_their_own(several: Catalog) -> None:
    assert several.names.stale_elsewhere(found(several, b"a")) == []
    assert several.names.stale_elsewhere(found(several, b"c")) == [Place(1, b"elsewhere")]
    assert [row.name for row in several.names.elsewhere(linked(b"new"), 0)] == [b"a", b"b", b"c", b"elsewhere"]
    several.objects.remove(found(several, b""))
    assert [row.name for row in several.names.elsewhere(linked(b"new"), 0)] == [b"elsewhere"]


def test_names_that_may_have_to_be_linked(several: Catalog) -> None:
    several.objects.remove(found(several, b"c"))
    several.objects.remove(found(several, b"elsewhere", 1))
    assert list(several.names.unlinked()) == []
    several.objects.put(Place(0, b"c"), linked(b"c"))
    assert list(several.names.unlinked()) == [Place(0, b"c")]
    assert found(several, b"c").ctime_ns == 0, "a restart must find it changed"
    assert found(several, b"a").untouched(linked(b"a"))
    several.names.join(found(several, b"c"), found(several, b"a"))
    assert list(several.names.unlinked()) == []


def test_names_that_were_sent_at_different_times_may_have_to_be_linked(several: Catalog) -> None:
    several.objects.remove(found(several, b"elsewhere", 1))
    assert sorted(several.names.unlinked()) == [Place(0, name) for name in NAMES_OF_ONE]


def test_names_beneath_different_roots_are_not_to_be_linked(several: Catalog) -> None:
    several.objects.remove(found(several, b"c"))
    several.names.share(found(several, b"elsewhere", 1))
    assert list(several.names.unlinked()) == []


@pytest.mark.parametrize("ino", [9, (1 << 64) - 9])
def test_a_listed_file_may_have_to_be_linked(monkeypatch: pytest.MonkeyPatch, ino: int) -> None:
    """It had one name when it was listed. Listings without such a file stay packed."""
    monkeypatch.setattr("i2core.rule.catalog.inodes.NUMBERS", 1)
    catalog = Catalog(None)
    root = catalog.objects.put(Place(0, b""), made(b"", 1, is_dir=True))
    for name, number, files in ((b"d", 2, [made(b"old", ino, is_dir=False)]), (b"e", 3, [made(b"x", 8, is_dir=False)])):
        catalog.objects.put_listing(catalog.objects.put(Place(0, name), made(name, number, is_dir=True)), files)
    links = [linked(name)._replace(ino=number) for name, number in ((b"new", ino), (b"other", 10))]
    catalog.objects.put_all(root, [(entry, None) for entry in links])
    assert list(catalog.names.unlinked()) == [Place(0, b"d/old")]
    assert catalog.listings.has(found(catalog, b"e").id)
    catalog.close(clean=True)


def test_tables_of_another_version_are_replaced(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "catalog", isolation_level=None)) as other:
        other.execute("CREATE TABLE node (id INTEGER PRIMARY KEY, parent INTEGER)")
        other.execute("CREATE TABLE fact (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID")
        other.execute("INSERT INTO fact VALUES ('mirrored', 1)")
    catalog = Catalog(tmp_path / "catalog")
    assert not catalog.memory.now.mirrored
    assert catalog.objects.put(Place(0, b""), made(b"", 1, is_dir=True)) == catalog.objects.get(Place(0, b""))
    catalog.close(clean=True)
