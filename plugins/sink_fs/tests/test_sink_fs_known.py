"""Which directory is the right one: what is known of it, and what a sink does with another one in its place."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from i2_sink_fs import known as known_module
from i2_sink_fs.known import Identity, KnownDirectories, KnownStores, files_of

from i2core.api import Kind, Meta, Place, Record
from i2core.api.drivers import Ask

if TYPE_CHECKING:
    from conftest import Replica

FILE = Meta(stat.S_IFREG | 0o644, os.geteuid(), os.getegid(), 1, ())
DIR = FILE._replace(mode=stat.S_IFDIR | 0o755)
ROOT = b"/backup/data"
ONE, OTHER = Identity(1, 10), Identity(2, 20)


@pytest.fixture
def known(tmp_path: Path) -> KnownDirectories:
    """Of a root, in a file."""
    said: list[str] = []
    directories = KnownDirectories(tmp_path / "known", said.append)
    directories.begin(ROOT, Identity(9, 9))
    assert not said
    return directories


def test_what_was_noted_is_found_again(known: KnownDirectories, tmp_path: Path) -> None:
    known.put(ROOT, b"a", ONE)
    known.put(ROOT, b"a/b", OTHER)
    known.close()
    again = KnownDirectories(tmp_path / "known", pytest.fail)
    assert (again.get(ROOT, b"a"), again.get(ROOT, b"a/b"), again.get(ROOT, b"b")) == (ONE, OTHER, None)
    assert again.unmet(ROOT, b"a/b/c/d") == [b"a/b/c", b"a/b/c/d"]
    assert again.unmet(b"/elsewhere", b"x/y") == [b"", b"x", b"x/y"]
    again.begin(ROOT, Identity(9, 8))
    assert again.unmet(ROOT, b"a") == [b"a"], "another root: nothing beneath it is known"
    again.close()


def test_nothing_is_noted_beneath_what_is_not_known(known: KnownDirectories) -> None:
    known.put(ROOT, b"a/b", ONE)
    assert known.get(ROOT, b"a/b") is None
    known.close()


@pytest.mark.parametrize("most", [2, 4096])
def test_a_rename_and_a_removal_take_all_beneath_along(
    known: KnownDirectories, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(known_module, "MOST", most)
    for path in (b"a", b"a/b", b"a/b/c", b"new", b"new/old"):
        known.put(ROOT, path, ONE)
    known.move(ROOT, b"a", b"new")
    assert [known.get(ROOT, path) for path in (b"a", b"a/b", b"new/old")] == [None, None, None]
    assert [known.get(ROOT, path) for path in (b"new", b"new/b", b"new/b/c")] == [ONE] * 3
    known.put(ROOT, b"new/b", OTHER)
    assert known.get(ROOT, b"new/b/c") == ONE
    known.put(ROOT, b"new/b", OTHER, new=True)
    assert (known.get(ROOT, b"new/b"), known.get(ROOT, b"new/b/c")) == (OTHER, None)
    known.drop(ROOT, b"new")
    assert known.unmet(ROOT, b"new/b") == [b"new", b"new/b"]
    known.put(ROOT, b"x", ONE)
    known.drop(ROOT, b"")
    assert (known.get(ROOT, b""), known.get(ROOT, b"x")) == (Identity(9, 9), None)
    known.close()


def test_names_are_bytes_and_numbers_have_64_bits(known: KnownDirectories) -> None:
    known.put(ROOT, b"\xff\n'", Identity(-(1 << 63), (1 << 63) - 1))
    assert known.get(ROOT, b"\xff\n'") == Identity(-(1 << 63), (1 << 63) - 1)
    known.close()


@pytest.mark.parametrize("damage", [b"no database at all " * 300, b""])
def test_a_damaged_file_is_forgotten(tmp_path: Path, damage: bytes) -> None:
    said: list[str] = []
    path = tmp_path / "known"
    path.write_bytes(damage)
    known = KnownDirectories(path, said.append)
    known.begin(ROOT, ONE)
    known.put(ROOT, b"a", ONE)
    assert known.get(ROOT, b"a") == ONE
    known.close()
    assert (len(said), path.exists()) == ((1, False) if damage else (0, True))


def test_a_schema_that_is_no_text_is_forgotten(known: KnownDirectories, tmp_path: Path) -> None:
    """SQLite quotes it in its message, and Python cannot decode that."""
    known.close()
    path = tmp_path / "known"
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE", b"CREATE TABL\x8d"))
    said: list[str] = []
    again = KnownDirectories(path, said.append)
    again.begin(ROOT, ONE)
    assert again.get(ROOT, b"") == ONE
    again.close()
    assert len(said) == 1


def test_damage_that_is_found_later_is_survived(
    known: KnownDirectories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is met for the first time again, the root as well."""
    said: list[str] = []
    monkeypatch.setattr(known, "_say", said.append)
    known.put(ROOT, b"a", ONE)

    def damaged(parent: int, name: bytes, key: tuple[bytes, bytes]) -> None:
        monkeypatch.undo()
        monkeypatch.setattr(known, "_say", said.append)
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(known, "_read", damaged)
    known.put(ROOT, b"b", ONE)
    assert (known.get(ROOT, b"a"), known.unmet(ROOT, b"a"), len(said)) == (None, [b"", b"a"], 1)
    assert not [path for path in files_of(tmp_path / "known") if path.exists()]
    known.close()


def test_the_sinks_of_a_rule_share_a_file(tmp_path: Path) -> None:
    stores = KnownStores()
    one, other = (stores.open(tmp_path / "known", pytest.fail) for _ in range(2))
    assert one is other
    stores.close(tmp_path / "known", one)
    other.begin(ROOT, ONE)
    stores.close(tmp_path / "known", other)
    again = stores.open(tmp_path / "known", pytest.fail)
    assert again is not one and again.get(ROOT, b"") == ONE
    stores.close(tmp_path / "known", again)


# --------------------------------------------------------------------------------------- what a sink does


def in_it(path: bytes) -> list[Record]:
    return [
        Record(Kind.CREATE, 0, path + b"/new", meta=FILE),
        Record(Kind.MKDIR, 0, path + b"/sub", meta=DIR),
        Record(Kind.STAGE, 0, path + b"/f"),
        Record(Kind.WRITE, 0, path + b"/f", data=b"evil"),
        Record(Kind.LINK, 0, path + b"/linked", other=b"good"),
        Record(Kind.LINK, 0, b"linked", other=path + b"/f"),
        Record(Kind.RENAME, 0, b"good", other=path + b"/good"),
        Record(Kind.RENAME, 0, path + b"/f", other=b"moved"),
        Record(Kind.RENAME, 0, path, other=b"moved"),
        Record(Kind.REMOVE, 0, path + b"/f"),
        Record(Kind.SETATTR, 0, path, meta=DIR._replace(mode=stat.S_IFDIR | 0o777)),
    ]


async def exchanged(replica: Replica, *, shared: bool) -> None:
    """`d`, with a file, was exchanged for another directory with that file; somebody can write above it if `shared`."""
    await replica.apply(
        Record(Kind.MKDIR, 0, b"d", meta=DIR),
        Record(Kind.CREATE, 0, b"d/f", meta=FILE),
        Record(Kind.CREATE, 0, b"good", meta=FILE),
    )
    replica.root.chmod(0o777 if shared else 0o755)
    (replica.root / "d").rename(replica.root / "was")
    (replica.root / "d").mkdir()
    (replica.root / "d" / "f").write_text("theirs")


@pytest.mark.parametrize("shared", [False, True])
async def test_nothing_is_done_in_another_directory(replica: Replica, shared: bool) -> None:
    await exchanged(replica, shared=shared)
    failures = await replica.apply(*in_it(b"d"))
    assert [failure.repair for failure in failures] == [True] * len(in_it(b"d"))
    assert sorted(os.listdir(replica.root)) == ["d", "good", "was"]
    assert (os.listdir(replica.root / "d"), os.listdir(replica.root / "was")) == (["f"], ["f"])
    assert (replica.root / "d" / "f").read_text() == "theirs"
    above, within = await replica.sink.look([Ask(Place(0, b""), [b"d", b"good"]), Ask(Place(0, b"d"), [b"f"], True)])
    assert above.entries[0] is None and above.entries[1] is not None
    assert (within.here, within.entries, within.names) == (None, [None], ())
    assert await replica.sink.hashes(Place(0, b"d/f"), 0, 1) == b""


@pytest.mark.parametrize("shared", [False, True])
async def test_a_user_s_is_made_anew_and_an_administrator_s_is_kept(replica: Replica, shared: bool) -> None:
    await exchanged(replica, shared=shared)
    before = (replica.root / "d").stat().st_ino
    holds = os.open(replica.root / "d", os.O_PATH)  # so nothing else gets its number
    try:
        assert await replica.apply(Record(Kind.MKDIR, 0, b"d", meta=DIR), in_it(b"d")[0]) == ()
    finally:
        os.close(holds)
    assert ((replica.root / "d").stat().st_ino == before) is not shared
    assert sorted(os.listdir(replica.root / "d")) == (["new"] if shared else ["f", "new"])
    assert stat.S_IMODE((replica.root / "d").stat().st_mode) == 0o755
    assert await replica.at_rest() == ["d", "good", "was"]


@pytest.mark.parametrize("shared", [False, True])
async def test_what_is_compared_with_all_beneath_is_taken_if_it_is_an_administrator_s(
    replica: Replica, shared: bool
) -> None:
    await exchanged(replica, shared=shared)
    whole = Ask(Place(0, b""), [b"d"], True, True), Ask(Place(0, b"d"), [b"f"], True, True)
    above, within = await replica.sink.look(whole)
    assert (above.entries[0] is None, within.here is None) == (shared, shared)
    assert len(await replica.apply(in_it(b"d")[0])) == shared


@pytest.mark.root
async def test_a_fifo_of_another_user_gets_no_attributes(replica: Replica) -> None:
    replica.root.chmod(0o777)
    os.mkfifo(replica.root / "f", 0o666)
    os.chown(replica.root / "f", 65534, 65534)
    fifo = FILE._replace(mode=stat.S_IFIFO | 0o644)
    (failure,) = await replica.apply(Record(Kind.SETATTR, 0, b"f", meta=fifo))
    assert (failure.repair, (replica.root / "f").stat().st_uid) == (True, 65534)
    assert await replica.apply(Record(Kind.MKNOD, 0, b"f", meta=fifo)) == ()
    assert (replica.root / "f").stat().st_uid == fifo.uid
