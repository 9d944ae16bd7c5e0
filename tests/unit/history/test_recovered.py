"""A moment of the past is recovered to a real directory, while the replica is another one already."""

from __future__ import annotations

import os
import random
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from i2core.api.records import Kind, Record
from i2core.history.model.grain import Grain
from i2core.history.read.tree import PastTree
from i2core.recovery.order import Extra
from i2core.recovery.plan import What
from i2core.testing.memory_replica import DIRECTORY, EMPTY_FILE
from tests.integration.recovering import Site

from .copies import Copy
from .disk import Disk
from .histories import Records
from .seeds import MEMORY
from .world import World

HAVE_ATTRIBUTES = (stat.S_IFREG, stat.S_IFDIR)
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def world() -> Iterator[World]:
    """A replica in memory: at moment 6 it has a tree with a large file, at later ones something else."""
    with tempfile.TemporaryDirectory(prefix="i2-history-", dir=MEMORY) as directory:
        made = World(random.Random(1), directory, make_disk=lambda rng: Disk(rng, Grain()))  # noqa: S311 (a seed, no secret)
        made.begin()
        large = random.Random(2).randbytes(300_000)  # noqa: S311
        made.apply(
            [
                Record(Kind.MKDIR, 0, b"d", meta=DIRECTORY),
                Record(Kind.CREATE, 0, b"d/file", meta=EMPTY_FILE, data=b"old content"),
                Record(Kind.LINK, 0, b"second", other=b"d/file"),
                Record(Kind.SYMLINK, 0, b"link", other=b"d", meta=EMPTY_FILE._replace(mode=stat.S_IFLNK | 0o777)),
                Record(Kind.CREATE, 0, b"large", meta=EMPTY_FILE, data=large),
                Record(Kind.SETATTR, 0, b"d", meta=DIRECTORY._replace(mode=stat.S_IFDIR | 0o750)),
            ]
        )
        made.apply(
            [
                Record(Kind.WRITE, 0, b"large", offset=5000, data=b"later"),
                Record(Kind.TRUNCATE, 0, b"large", size=100_000),
                Record(Kind.CREATE, 0, b"second", meta=EMPTY_FILE, data=b"another"),
                Record(Kind.REMOVE, 0, b"d"),
                Record(Kind.CREATE, 0, b"new", meta=EMPTY_FILE),
            ]
        )
        yield made


@is_root
async def test_a_past_moment_becomes_a_directory(world: World, tmp_path: Path) -> None:
    site, right = Site(tmp_path), world.trees[6]
    outcome = await site.run(trees=[PastTree(world.past(), 6, b"/replica")])
    assert outcome.proved, outcome
    found = {tuple(os.fsencode(path.relative_to(site.to)).split(b"/")): path for path in site.to.rglob("*")}
    assert found.keys() == {path for path in right if path}
    for names, path in found.items():
        status, copy = path.lstat(), right[names]
        assert (status.st_mode, status.st_uid, status.st_mtime_ns) == (copy.mode, copy.meta[1], copy.meta[3])
        if stat.S_ISREG(copy.mode):
            assert path.read_bytes() == copy.data
    assert (site.to / "second").samefile(site.to / "d" / "file")
    assert (site.to / "link").readlink() == Path("d")


@is_root
async def test_each_of_two_moments(world: World, tmp_path: Path) -> None:
    """From one moment to the other, and back: only what differs is sent."""
    site = Site(tmp_path)
    for seq in (6, world.seq, 6):
        assert (await site.run(trees=[PastTree(world.past(), seq, b"/replica")])).proved
    assert (site.to / "d" / "file").read_bytes() == b"old content"


@is_root
async def test_a_file_that_was_removed(world: World, tmp_path: Path) -> None:
    site = Site(tmp_path)
    outcome = await site.run(b"d/file", trees=[PastTree(world.past(), 6, b"/replica")])
    assert (outcome.proved, outcome.files) == (True, 1)
    assert [path.name for path in site.to.rglob("*") if path.is_file()] == ["file"]


@is_root
async def test_what_somebody_took_away_from_the_replica(world: World, tmp_path: Path) -> None:
    """It fails, and all else is recovered."""
    site, top = Site(tmp_path), world.disk.walk(b"")
    assert top is not None
    top.entries[b"large"] = world.disk.inode(EMPTY_FILE)
    with site.recovery(trees=[PastTree(world.past(), 6, b"/replica")]) as recovery:
        plan = await recovery.plan()
    assert plan.totals[What.UNREADABLE].count == 1
    plan.close()
    outcome = await site.run(trees=[PastTree(world.past(), 6, b"/replica")])
    assert (outcome.equal, outcome.proved, outcome.failed_count) == (False, False, 1)
    assert [Path(each.path).name for each in outcome.failed] == ["large"]
    assert (site.to / "d" / "file").read_bytes() == b"old content"


@is_root
@pytest.mark.parametrize("seed", range(4))
async def test_random_moments(tmp_path: Path, seed: int) -> None:
    """One after the other to the same directory. What no file system can hold is reported: attributes of users on
    something that is neither a file nor a directory."""
    with tempfile.TemporaryDirectory(prefix="i2-history-", dir=MEMORY) as directory:
        rng = random.Random(seed)  # noqa: S311
        world = World(rng, directory)
        world.begin()
        records = Records(rng, world.disk)
        for _ in range(60):
            world.apply(records.some())
        site = Site(tmp_path)
        for seq in rng.sample(range(world.seq + 1), 4):
            right = {path: copy for path, copy in world.trees[seq].items() if path}
            outcome = await site.run(trees=[PastTree(world.past(), seq, b"/replica")], extra=Extra.DELETE)
            odd = {
                path for path, copy in right.items() if copy.meta[4] and stat.S_IFMT(copy.mode) not in HAVE_ATTRIBUTES
            }
            failed = {tuple(os.fsencode(Path(each.path).relative_to(site.to)).split(b"/")) for each in outcome.failed}
            assert failed <= odd, (seq, outcome)
            assert outcome.proved is not bool(failed)
            assert seen(site.to) == {path: shown(copy) for path, copy in right.items()}, seq


def seen(top: Path) -> dict[tuple[bytes, ...], tuple[Any, ...]]:
    """What is in a directory, as `shown`."""
    found: dict[tuple[bytes, ...], tuple[Any, ...]] = {}
    groups: dict[int, tuple[bytes, ...]] = {}
    for path in sorted(top.rglob("*"), key=lambda path: os.fsencode(path.relative_to(top)).split(b"/")):
        names, status = tuple(os.fsencode(path.relative_to(top)).split(b"/")), path.lstat()
        data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        target = os.fsencode(path.readlink()) if stat.S_ISLNK(status.st_mode) else b""
        mode = stat.S_IFLNK if target else status.st_mode
        found[names] = (mode, status.st_uid, data, target, groups.setdefault(status.st_ino, names))
    return found


def shown(copy: Copy) -> tuple[Any, ...]:
    """What a directory shows of an object. The mode of a symlink is always the same."""
    mode = stat.S_IFLNK if copy.target else copy.mode
    return mode, copy.meta[1], copy.data, copy.target, copy.group
