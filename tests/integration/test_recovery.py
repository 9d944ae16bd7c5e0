"""A directory is made equal to a tree: with all that an object has, and nothing else is touched."""

from __future__ import annotations

import os
import random
import shutil
import stat
import struct
import subprocess
from pathlib import Path

import pytest
import trio

from i2core.api import Code, UsageError
from i2core.posix.tree import LocalTree
from i2core.recovery.order import Extra
from i2core.recovery.outcome import Phase
from i2core.recovery.plan import What
from i2core.testing.trees import compare_trees
from tests.stateful.operations import Applicant

from .recovering import Site

is_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def fill(top: Path) -> None:
    """Objects of each type, with attributes of each kind."""
    (top / "d" / "deep").mkdir(parents=True)
    (top / "small").write_bytes(b"content")
    (top / "large").write_bytes(random.Random(1).randbytes(5 << 20))  # noqa: S311
    (top / "d" / "middle").write_bytes(b"m" * 200_000)
    os.link(top / "small", top / "d" / "second")
    (top / "link").symlink_to("nowhere")
    os.mkfifo(top / "fifo")
    with (top / "sparse").open("wb") as file:
        file.truncate(8 << 20)
        file.seek(4 << 20)
        file.write(b"island")
    Path(os.fsdecode(os.fsencode(top) + b"/\xff\n name")).write_bytes(b"a name of any bytes")
    os.setxattr(top / "small", "user.a", b"1")
    (top / "small").chmod(0o4751)
    (top / "d").chmod(0o1770)
    for path in sorted(top.rglob("*"), reverse=True):
        os.utime(path, ns=(1, 10**18 + len(path.name)), follow_symlinks=False)
    os.utime(top, ns=(1, 10**18 + 1))


def grown(top: Path, seed: int, count: int) -> None:
    """A random tree."""
    outside = top.with_name(top.name + "-outside")
    outside.mkdir()
    Applicant([os.fsencode(top)], os.fsencode(outside)).work(seed, count, [])
    shutil.rmtree(outside)


# ------------------------------------------------------------------------------------------ all of a tree


async def test_a_directory_becomes_equal(site: Site) -> None:
    fill(site.source)
    outcome = await site.run()
    assert compare_trees(site.source, site.to) == []
    assert (outcome.equal, outcome.proved, outcome.failed_count, outcome.extra) == (True, True, 0, 0)
    assert (outcome.files, outcome.sent_files) == (8, 8)
    assert not site.private()
    assert await site.plan(strict=True) == []


async def test_in_a_process_of_its_own(site: Site) -> None:
    site.drivers = None
    fill(site.source)
    outcome = await site.run()
    assert compare_trees(site.source, site.to) == []
    assert outcome.proved


async def test_only_what_differs_crosses(site: Site) -> None:
    fill(site.source)
    await site.run()
    with (site.to / "large").open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"changed")
    (site.to / "small").unlink()
    outcome = await site.run()
    assert compare_trees(site.source, site.to) == []
    assert outcome.sent_bytes < 200_000
    assert outcome.equal


@is_root
async def test_owners_acls_and_devices(site: Site) -> None:
    (site.source / "file").touch()
    os.chown(site.source / "file", 1234, 5678)
    os.lchown(site.source, 77, 88)
    os.mknod(site.source / "null", stat.S_IFCHR | 0o640, os.makedev(1, 3))
    os.setxattr(site.source / "file", "security.test", b"label")
    nobody = 0xFFFFFFFF
    entries = [(1, 6, nobody), (2, 4, 1234), (4, 4, nobody), (16, 4, nobody), (32, 0, nobody)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(site.source / "file", "system.posix_acl_access", acl)
    outcome = await site.run()
    assert compare_trees(site.source, site.to) == []
    assert outcome.proved


@is_root
async def test_the_destination_changes_its_owner(site: Site) -> None:
    """Whoever owns the directory that a person has named: it is the right one."""
    site.to.mkdir()
    os.chown(site.to, 1234, 1234)
    assert (await site.run()).proved
    assert compare_trees(site.source, site.to) == []


@is_root
async def test_flags_if_the_rule_carries_them(site: Site) -> None:
    (site.source / "file").write_bytes(b"1")
    if subprocess.run(["chattr", "+A", site.source / "file"], capture_output=True, check=False).returncode:  # noqa: S603, S607
        pytest.skip("no inode flags here")
    assert (await site.run(flags=True)).proved
    assert compare_trees(site.source, site.to, flags=True) == []


@pytest.mark.parametrize("seed", range(6))
async def test_random_trees(site: Site, seed: int) -> None:
    """From one random tree to another that has grown from the same one, with each way to treat what is extra."""
    grown(site.source, seed, 60)
    subprocess.run(["cp", "-a", site.source, site.to], check=True)  # noqa: S603, S607
    grown(site.to, seed + 1000, 60)
    extra = [Extra.DELETE, Extra.ASIDE][seed % 2]
    outcome = await site.run(extra=extra)
    assert compare_trees(site.source, site.to) == []
    assert outcome.proved, outcome
    assert await site.plan(extra=extra, strict=True) == []


# ------------------------------------------------------------------------------------------ what is extra


async def test_extra_files_are_kept(site: Site) -> None:
    fill(site.source)
    (site.to / "d").mkdir(parents=True)
    (site.to / "d" / "own").write_bytes(b"kept")
    outcome = await site.run()
    assert (outcome.equal, outcome.extra) == (True, 1)
    assert (site.to / "d" / "own").read_bytes() == b"kept"
    assert compare_trees(site.source, site.to) == ["'d/own': extra (a file)"]


async def test_extra_files_are_moved_aside(site: Site) -> None:
    fill(site.source)
    (site.to / "d" / "own").mkdir(parents=True)
    (site.to / "d" / "own" / "file").write_bytes(b"kept")
    outcome = await site.run(extra=Extra.ASIDE)
    assert compare_trees(site.source, site.to) == []
    assert outcome.aside is not None
    aside = Path(outcome.aside)
    assert aside.parent == site.to.parent
    assert (aside / "d" / "own" / "file").read_bytes() == b"kept"
    assert stat.S_IMODE(aside.stat().st_mode) == 0o700


async def test_nothing_extra_leaves_no_directory_aside(site: Site) -> None:
    fill(site.source)
    assert (await site.run(extra=Extra.ASIDE)).aside is None
    assert sorted(path.name for path in site.home.iterdir()) == ["past", "recovered", "state"]


async def test_extra_files_are_deleted(site: Site) -> None:
    fill(site.source)
    for number in range(1200):  # more than any brake lets go
        (site.to / "own" / f"{number}").mkdir(parents=True)
    outcome = await site.run(extra=Extra.DELETE)
    assert compare_trees(site.source, site.to) == []
    assert outcome.extra == 1


async def test_what_the_rule_excludes_is_neither_recovered_nor_extra(site: Site) -> None:
    def wants(path: bytes, _is_dir: bool) -> bool:
        return not path.endswith(b"cache")

    (site.source / "d").mkdir()
    for name in ("d/file", "d/cache"):
        (site.source / name).write_bytes(b"past")
    (site.to / "gone" / "cache").mkdir(parents=True)
    (site.to / "gone" / "extra").touch()
    (site.to / "cache").write_bytes(b"own")
    planned = await site.kinds(wants=wants, extra=Extra.DELETE)
    assert planned.keys() - {b""} == {b"d", b"d/file", b"gone/extra"}
    outcome = await site.run(wants=wants, extra=Extra.DELETE)
    assert outcome.equal, outcome
    assert sorted(str(path.relative_to(site.to)) for path in site.to.rglob("*")) == [
        "cache",
        "d",
        "d/file",
        "gone",
        "gone/cache",
    ]


# ------------------------------------------------------------------------------------------ single paths


async def test_a_deleted_file_comes_back_in_its_place(site: Site) -> None:
    """And nothing else changes: not the attributes of its directory, nor its neighbours."""
    fill(site.source)
    shutil.copytree(site.source, site.to, symlinks=True, ignore=shutil.ignore_patterns("fifo", "middle"))
    (site.to / "d").chmod(0o705)
    (site.to / "small").write_bytes(b"newer")
    outcome = await site.run(b"d/middle")
    assert outcome.proved
    assert (site.to / "d" / "middle").read_bytes() == b"m" * 200_000
    assert (site.to / "d" / "middle").stat().st_mtime_ns == 10**18 + len("middle")
    assert stat.S_IMODE((site.to / "d").stat().st_mode) == 0o705
    assert (site.to / "small").read_bytes() == b"newer"
    assert not (site.to / "fifo").exists()
    assert outcome.files == 1
    assert await site.plan(b"d/middle", strict=True) == []


async def test_what_leads_to_a_chosen_path_is_made_as_it_was(site: Site) -> None:
    fill(site.source)
    await site.run(b"d/deep", extra=Extra.DELETE)
    assert sorted(path.name for path in site.to.rglob("*")) == ["d", "deep"]
    made, model = (site.to / "d").stat(), (site.source / "d").stat()
    assert (made.st_mode, made.st_uid, made.st_mtime_ns) == (model.st_mode, model.st_uid, model.st_mtime_ns)


async def test_nothing_beside_a_chosen_path_is_extra(site: Site) -> None:
    fill(site.source)
    (site.to / "d" / "deep" / "extra").mkdir(parents=True)
    (site.to / "d" / "neighbour").write_bytes(b"kept")
    (site.to / "other").write_bytes(b"kept")
    assert await site.kinds(b"d/deep", extra=Extra.DELETE) == {b"d/deep": What.ATTRIBUTES, b"d/deep/extra": What.REMOVE}
    await site.run(b"d/deep", extra=Extra.DELETE)
    assert sorted(path.name for path in site.to.rglob("*")) == ["d", "deep", "neighbour", "other"]


async def test_a_chosen_path_comes_to_another_place(site: Site) -> None:
    fill(site.source)
    moved = {b"d": b"old/directory", b"large": b"old/file"}
    outcome = await site.run(b"d", b"large", moved=moved)
    assert outcome.proved
    assert sorted(path.name for path in (site.to / "old").iterdir()) == ["directory", "file"]
    assert compare_trees(site.source / "d", site.to / "old" / "directory") == []
    assert (site.to / "old" / "file").read_bytes() == (site.source / "large").read_bytes()


async def test_several_roots_come_to_their_paths(site: Site) -> None:
    sources = [site.home / "srv" / "one", site.home / "srv" / "two"]
    for source in sources:
        source.mkdir(parents=True)
        (source / "file").write_bytes(source.name.encode())
    trees = [LocalTree(os.fsencode(source)) for source in sources]
    outcome = await site.run(trees=trees)
    assert outcome.proved
    for source in sources:
        assert compare_trees(source, site.to / source.relative_to("/")) == []
    await site.run(os.fsencode(sources[1]) + b"/file", trees=trees, to=os.fsencode(site.home / "single"))
    assert [path.read_bytes() for path in (site.home / "single").rglob("file")] == [b"two"]
    for tree in trees:
        tree.close()


@pytest.mark.parametrize(
    "chosen, moved",
    [
        ([b"missing"], {}),
        ([b"../past"], {}),
        ([b"/elsewhere"], {}),
        ([b"small", b"large"], {b"large": b"small"}),
        ([b"small"], {b"small": b"../out"}),
        ([b"small"], {b"small": b""}),
        ([b"small"], {b"large": b"elsewhere"}),
    ],
)
async def test_paths_that_cannot_be(site: Site, chosen: list[bytes], moved: dict[bytes, bytes]) -> None:
    fill(site.source)
    with pytest.raises(UsageError) as caught:
        await site.run(*chosen, moved=moved)
    assert caught.value.code is Code.ILLEGAL_PATH
    assert not site.to.exists()


async def test_a_chosen_path_within_another_one(site: Site) -> None:
    fill(site.source)
    outcome = await site.run(b"d", b"d/middle", b"d/")
    assert (outcome.files, outcome.proved) == (2, True)


# ------------------------------------------------------------------------------------------ a dry run


def state(top: Path) -> list[tuple[Path, int, int, int]]:
    """All names, each with what a change of it would change."""
    found = [(path, os.lstat(path)) for path in sorted(top.rglob("*"))]
    return [(path, status.st_ino, status.st_size, status.st_ctime_ns) for path, status in found]


async def test_a_plan_writes_nothing(site: Site) -> None:
    fill(site.source)
    found = await site.kinds()
    assert set(found.values()) == {What.CREATE}
    assert len(found) == len(list(site.source.rglob("*")))
    assert sorted(path.name for path in site.home.iterdir()) == ["past"]


async def test_a_plan_says_what_would_be_done(site: Site) -> None:
    fill(site.source)
    subprocess.run(["cp", "-a", site.source, site.to], check=True)  # noqa: S603, S607
    (site.to / "sparse").unlink()
    (site.to / "large").write_bytes(b"written later")
    (site.to / "d" / "middle").chmod(0o600)
    (site.to / "own").mkdir()
    (site.to / "own" / "file").write_bytes(b"12345")
    (site.to / "fifo").unlink()
    (site.to / "fifo").mkdir()
    (site.to / "fifo" / "within").touch()
    before = state(site.home)
    items = {item.path: item for item in await site.plan(extra=Extra.DELETE)}
    assert state(site.home) == before
    assert {path: item.what for path, item in items.items()} == {
        b"": What.ATTRIBUTES,
        b"sparse": What.CREATE,
        b"large": What.REPLACE,
        b"fifo": What.REPLACE,
        b"fifo/within": What.REMOVE,
        b"d/middle": What.ATTRIBUTES,
        b"own": What.REMOVE,
        b"own/file": What.REMOVE,
    }
    assert items[b"large"].newer
    assert items[b"large"].size == 5 << 20
    assert not items[b"d/middle"].newer
    assert (await site.kinds())[b"own"] is What.KEEP
    assert (await site.kinds(extra=Extra.ASIDE))[b"own"] is What.ASIDE


async def test_contents_are_compared_on_demand(site: Site) -> None:
    (site.source / "file").write_bytes(b"1" * 300_000)
    subprocess.run(["cp", "-a", site.source, site.to], check=True)  # noqa: S603, S607
    status = (site.to / "file").stat()
    (site.to / "file").write_bytes(b"1" * 299_999 + b"2")
    os.utime(site.to / "file", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.utime(site.to, ns=(1, site.source.stat().st_mtime_ns))
    assert await site.plan() == []
    assert await site.kinds(strict=True) == {b"file": What.REPLACE}
    outcome = await site.run(strict=False)  # the proof finds it
    assert outcome.proved
    assert compare_trees(site.source, site.to) == []


async def test_a_plan_is_read_in_pages(site: Site) -> None:
    for number in range(25):
        (site.source / f"{number}").touch()
    with site.recovery() as recovery:
        plan = await recovery.plan()
    pages = [plan.page(first, 10) for first in range(0, 40, 10)]
    assert [len(page) for page in pages] == [10, 10, 5, 0]
    assert len({item.path for page in pages for item in page}) == 25
    assert (plan.files, plan.totals[What.CREATE].count) == (25, 25)
    plan.close()


# ------------------------------------------------------------------------------------------ how far it is


async def test_progress_can_be_asked_at_any_time(site: Site) -> None:
    fill(site.source)
    seen = []
    with site.recovery() as recovery:
        assert recovery.progress().phase is Phase.WAITING

        async def look() -> None:
            while True:
                seen.append(recovery.progress())
                await trio.sleep(0.001)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await recovery.run()
            nursery.cancel_scope.cancel()
        last = recovery.progress()
    assert {Phase.RECOVERING, Phase.PROVING} <= {each.phase for each in seen}
    assert all(each.bytes <= each.all_bytes and 0 <= each.percent <= 100 for each in seen)
    assert (last.phase, last.percent, last.sent_files) == (Phase.DONE, 100, 8)
    assert last.as_json()["phase"] == "done"


async def test_each_recovery_is_recorded(site: Site) -> None:
    fill(site.source)
    assert site.tried() == []
    await site.run()
    await site.run(prove=False)
    later, first = site.tried()
    assert (first.outcome, later.outcome) == ("proved", "equal")
    assert (first.rule, first.moment, first.to, first.files) == ("data1", "a moment", str(site.to), 8)
    assert first.seconds is not None
