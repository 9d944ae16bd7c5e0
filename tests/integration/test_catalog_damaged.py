"""A catalog is a cache: a damaged one is dropped, everything is compared, this is logged, and the rule continues."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from i2core.api import Change, Code, Op, Place, StopRule
from i2core.rule.catalog.database import Database
from i2core.rule.catalog.doubts import DoubtTable
from i2core.rule.catalog.objects import Objects
from i2core.rule.work.restarts import CATALOGS
from i2core.testing.trees import compare_trees

from .pair import Nodes, open_nodes, until

chance = random.Random(5)  # noqa: S311 (no secret)


def bits(path: Path) -> None:
    """Single bits flip anywhere."""
    with path.open("r+b") as file:
        for _ in range(20):
            at = chance.randrange(path.stat().st_size)
            file.seek(at)
            (byte,) = file.read(1)
            file.seek(at)
            file.write(bytes([byte ^ 1 << chance.randrange(8)]))


def pages(path: Path) -> None:
    """Whole pages have other content."""
    with path.open("r+b") as file:
        for page in range(0, path.stat().st_size, 3 * 4096):
            file.seek(page)
            file.write(os.urandom(512))


def cut(path: Path) -> None:
    """The second half is missing."""
    os.truncate(path, path.stat().st_size // 2)


def no_database(path: Path) -> None:
    """The file is not a database."""
    path.write_bytes(b"no database\n" * 1000)


def row(path: Path) -> None:
    """A valid database with another row."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("UPDATE node SET name = CAST(name || 'x' AS BLOB), size = size + 1")
    db.execute("UPDATE fact SET value = 1 WHERE key = 'next_seq'")
    db.close()


def schema(path: Path) -> None:
    """The definition of a table is not UTF-8 any more: Python cannot even read the message of SQLite."""
    whole = path.read_bytes()
    assert whole.count(b"node_name ON node (") == 1
    path.write_bytes(whole.replace(b"node_name ON node (", b"node_name ON n\xd5de ("))


def whatever(path: Path, table: str, change: str) -> None:
    """Changes a table as a torn page does: its columns take values of any type."""
    db = sqlite3.connect(path, isolation_level=None)
    ((sql,),) = db.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchall()
    rewrite = "UPDATE sqlite_master SET sql = ? WHERE name = ?"
    db.execute("PRAGMA writable_schema = ON")
    db.execute(rewrite, (sql.replace(", STRICT", ""), table))
    db.close()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(change)
    db.execute("PRAGMA writable_schema = ON")
    db.execute(rewrite, (sql, table))
    db.close()


def facts(path: Path) -> None:
    """A number that became bytes."""
    whatever(path, "fact", "UPDATE fact SET value = X'00ff' WHERE key = 'next_seq'")


def text(path: Path) -> None:
    """A path that became text, and is not UTF-8."""
    whatever(path, "staging", "INSERT INTO staging VALUES (0, CAST(X'd5' AS TEXT))")


def root(path: Path) -> None:
    """A root number that is not a number."""
    whatever(path, "staging", "INSERT INTO staging VALUES ('x', X'61')")


def fill(nodes: Nodes) -> None:
    for number in range(200):
        directory = nodes.source / f"d{number % 7}"
        directory.mkdir(exist_ok=True)
        (directory / f"f{number}").write_text(str(number))


def catalog_of(nodes: Nodes) -> Path:
    (path,) = (nodes.home / "work").glob("*.catalog")
    return path


@pytest.mark.parametrize(
    ("damage", "clean"),
    [
        *((damage, True) for damage in (bits, pages, cut, no_database, row)),
        *(
            (damage, False) for damage in (pages, cut, no_database, schema, facts, text, root)
        ),  # without a seal SQLite's own check has to see it
    ],
)
async def test_between_two_runs(tmp_path: Path, damage: Callable[[Path], None], clean: bool) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes)
        async with nodes.running() as status:
            await until(lambda: status.settled_ns > 0)
        path = catalog_of(nodes)
        if not clean:
            path.with_name(path.name + ".seal").unlink()  # as a killed process leaves it
        damage(path)
        (nodes.source / "d3" / "f3").write_text("changed")
        (nodes.source / "new").write_text("new")
        async with nodes.running() as status:
            since = time.monotonic_ns()
            await until(lambda: status.settled_ns > since)
            assert compare_trees(nodes.source, nodes.target) == []
        assert Code.CATALOG_DAMAGED in nodes.codes()


@pytest.mark.parametrize("method", ["put", "get", "commit", "children", "keep"])
async def test_while_the_rule_replicates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes)
        async with nodes.running() as status:
            await until(lambda: status.settled_ns > 0)
            break_once(monkeypatch, method)
            (nodes.source / "d1" / "new").mkdir()
            (nodes.source / "d1" / "new" / "file").write_text("x")
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"d1/new"), is_dir=True))
            await until(lambda: Code.CATALOG_DAMAGED in nodes.codes() and status.mirrored)
            since = time.monotonic_ns()
            await until(lambda: status.settled_ns > since)
            assert compare_trees(nodes.source, nodes.target) == []
            assert status.state.value == "replicating"


async def test_what_was_unverified_is_found_by_its_content(tmp_path: Path) -> None:
    """The damaged catalog had noted a failed record; the replica's file has the size and time of the source's file."""
    async with open_nodes(tmp_path) as nodes:
        fill(nodes)
        await nodes.run()
        file = nodes.target / "d1" / "f1"
        status = file.stat()
        file.write_text("x" * status.st_size)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        bits(catalog_of(nodes))
        await nodes.run()
        assert compare_trees(nodes.source, nodes.target) == []


@pytest.mark.parametrize("method", ["put", "put_listing", "commit"])
async def test_while_it_mirrors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes)
        break_once(monkeypatch, method, after=5 if method == "put" else 1)
        await nodes.run()
        assert compare_trees(nodes.source, nodes.target) == []
        assert Code.CATALOG_DAMAGED in nodes.codes()


async def test_again_and_again_is_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes)

        def broken(*_: object, **__: object) -> None:
            raise sqlite3.DatabaseError("database disk image is malformed")

        monkeypatch.setattr(Objects, "put", broken)
        with pytest.raises(StopRule) as caught:
            await nodes.run()
        assert caught.value.code is Code.STATE_UNUSABLE
        assert nodes.codes().count(Code.CATALOG_DAMAGED) == CATALOGS - 1


async def test_an_unexpected_error_does_not_occur_again_at_each_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes)
        await nodes.run()
        with monkeypatch.context() as patch:
            patch.setattr(Objects, "children", lambda *_: {}["no such row"])  # type: ignore[index]
            with pytest.raises(KeyError):
                async with nodes.running() as status:
                    await until(lambda: status.settled_ns > 0)
        with closing(sqlite3.connect(catalog_of(nodes))) as catalog:
            assert catalog.execute("SELECT count(*) FROM node").fetchone() == (0,)
        await nodes.run()
        assert compare_trees(nodes.source, nodes.target) == []


def break_once(monkeypatch: pytest.MonkeyPatch, method: str, after: int = 0) -> None:
    """One call of that method fails because the catalog is damaged."""
    part = {"commit": Database, "keep": DoubtTable}.get(method, Objects)
    real, calls = getattr(part, method), 0

    def broken(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == after + 1:
            raise sqlite3.DatabaseError("database disk image is malformed")
        return real(*arguments, **named)

    monkeypatch.setattr(part, method, broken)
