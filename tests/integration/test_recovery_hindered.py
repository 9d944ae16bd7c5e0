"""What stands in the way of a recovery: hostile destinations, other writers, a full disk, lost objects, interrupted
runs."""

from __future__ import annotations

import errno
import os
import random
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from i2_sink_fs.files import FileWriter

from i2core.api import Code, Entry, Record, StopRule, UsageError, Xattrs
from i2core.api.tree import OpenDirectory, OpenFile
from i2core.config.words import bilingual
from i2core.posix.target_locks import TargetLocks
from i2core.posix.tree import LocalTree
from i2core.recovery.destination import Forbidden
from i2core.recovery.order import Extra
from i2core.recovery.view import RenamedFile
from i2core.testing.trees import compare_trees

from .recovering import Site
from .test_disk_full import fill, small_disk

LARGE = 80 << 20
"""So large that its staging file is continued."""
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


# ------------------------------------------------------------------------------------------ refused destinations


async def refused(site: Site, **options: object) -> UsageError:
    """The error with which both a plan and a recovery are refused; nothing is written."""
    before = sorted(site.home.rglob("*"))
    for call in (site.plan, site.run):
        with pytest.raises(UsageError) as caught:
            await call(**options)
        assert caught.value.code is Code.ILLEGAL_PATH
        assert caught.value.obj
        assert caught.value.next_step
        assert sorted(site.home.rglob("*")) == before
    return caught.value


@pytest.mark.parametrize("to", [b"relative", b"/a/../b", b"/", b"/nul\0"])
async def test_paths_that_are_no_destination(site: Site, to: bytes) -> None:
    await refused(site, to=to)


async def test_a_file_in_the_way(site: Site) -> None:
    site.to.touch()
    await refused(site)
    await refused(site, to=os.fsencode(site.to / "beneath"))


@pytest.mark.parametrize("beneath", ["", "deep/er"])
async def test_places_that_must_not_be_written(site: Site, beneath: str) -> None:
    state = site.home / "node"
    state.mkdir()
    forbidden = [Forbidden(os.fsencode(state), bilingual("the state of this node", "本节点的状态"))]
    error = await refused(site, to=os.fsencode(state / beneath), forbidden=forbidden)
    assert "the state of this node" in error.cause
    # A symlink that leads there is no way around it, and neither is a directory that contains it.
    (site.home / "way").symlink_to(state)
    await refused(site, to=os.fsencode(site.home / "way" / beneath), forbidden=forbidden)
    await refused(site, to=os.fsencode(site.home), forbidden=forbidden)


async def test_a_forbidden_place_beside_a_part_does_not_matter(site: Site) -> None:
    (site.source / "file").touch()
    (site.to / "other").mkdir(parents=True)
    forbidden = [Forbidden(os.fsencode(site.to / "other"), bilingual("a target", "目标"))]
    assert (await site.run(b"file", forbidden=forbidden)).proved


@is_root
async def test_a_symlink_that_another_user_can_exchange(site: Site) -> None:
    others = site.home / "others"
    others.mkdir()
    (others / "way").symlink_to(site.home)
    await_to = os.fsencode(others / "way" / "recovered")
    os.chown(others, 1234, 1234)
    await refused(site, to=await_to)
    os.chown(others, 0, 0)
    others.chmod(0o777)
    await refused(site, to=await_to)
    others.chmod(0o1777)
    os.lchown(others / "way", 1234, 1234)
    await refused(site, to=await_to)
    os.lchown(others / "way", 0, 0)
    (site.source / "file").touch()
    assert (await site.run(to=await_to)).proved


async def test_what_leads_to_a_part_must_be_a_directory(site: Site) -> None:
    (site.source / "d").mkdir()
    (site.source / "d" / "file").touch()
    outside = site.home / "outside"
    outside.mkdir()
    site.to.mkdir()
    (site.to / "d").symlink_to(outside)
    with pytest.raises(UsageError):
        await site.run(b"d/file")
    assert not list(outside.iterdir())
    # As a part of the tree itself it is replaced.
    assert (await site.run()).proved
    assert not list(outside.iterdir())


async def test_symlinks_at_the_destination_are_not_followed(site: Site) -> None:
    outside = site.home / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"of another")
    (site.source / "d").mkdir()
    (site.source / "d" / "file").write_bytes(b"recovered")
    (site.source / "file").write_bytes(b"recovered")
    site.to.mkdir()
    (site.to / "d").symlink_to(outside)
    (site.to / "file").symlink_to(outside / "file")
    assert (await site.run(extra=Extra.DELETE)).proved
    assert compare_trees(site.source, site.to) == []
    assert (outside / "file").read_bytes() == b"of another"


async def test_a_destination_that_another_process_writes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("i2_sink_fs.claiming.PATIENCE_S", 0.1)
    site.to.mkdir()
    locks, fd = TargetLocks(), os.open(site.to, os.O_RDONLY)
    claim = locks.claim(fd, print)
    try:
        with pytest.raises(StopRule) as caught:
            await site.run()
        assert caught.value.code is Code.DUPLICATE_TASK
        with pytest.raises(StopRule):
            await site.run(to=os.fsencode(site.to / "within"))
        assert not list(site.to.iterdir())
    finally:
        locks.release(claim)
        os.close(fd)
    assert [each.outcome for each in site.tried()] == ["failed", "failed"]
    assert (await site.run()).proved


# ------------------------------------------------------------------------------------------ objects that are lost


LOST = OSError(errno.EUCLEAN, "the object is not where the catalog says")


class Damaged(LocalTree):
    """A tree of which some cannot be read, as when somebody has changed a replica: nothing of these names, and only the
    beginning of the others."""

    lost: frozenset[bytes] = frozenset()
    torn: frozenset[bytes] = frozenset()

    def directory(self, path: bytes) -> OpenDirectory:
        if path in self.lost:
            raise LOST
        return DamagedDirectory(self, super().directory(path))


class DamagedDirectory(OpenDirectory):
    """A directory of a `Damaged` tree."""

    def __init__(self, tree: Damaged, inner: OpenDirectory) -> None:
        self._tree = tree
        self._inner = inner

    def here(self) -> Entry:
        return self._inner.here()

    def entry(self, name: bytes) -> Entry | None:
        return self._inner.entry(name)

    def names(self, most: int) -> Iterator[list[bytes]]:
        return self._inner.names(most)

    def xattrs(self, name: bytes) -> Xattrs | None:
        return self._inner.xattrs(name)

    def kernel_flags(self) -> int:
        return self._inner.kernel_flags()

    def close(self) -> None:
        self._inner.close()

    def open(self, name: bytes) -> OpenFile:
        if name in self._tree.lost:
            raise LOST
        file = self._inner.open(name)
        return TornFile(file, name) if name in self._tree.torn else file


class TornFile(RenamedFile):
    """A file whose end is lost."""

    def read(self, start: int, length: int) -> memoryview:
        if start + length > 20 << 20:
            raise LOST
        return super().read(start, length)


async def test_what_is_lost_fails_and_all_else_is_recovered(site: Site) -> None:
    for name in ("good", "lost", "torn", "gone/within", "d/good"):
        (site.source / name).parent.mkdir(exist_ok=True)
        (site.source / name).write_bytes(random.Random(name).randbytes(30 << 20 if name == "torn" else 1000))  # noqa: S311
    tree = Damaged(os.fsencode(site.source))
    tree.lost, tree.torn = frozenset((b"lost", b"gone")), frozenset((b"torn",))
    outcome = await site.run(trees=[tree])
    tree.close()
    assert (outcome.equal, outcome.proved, outcome.failed_count) == (False, False, 3)
    assert sorted(Path(each.path).name for each in outcome.failed) == ["gone", "lost", "torn"]
    assert all("the object is" in each.message for each in outcome.failed)
    assert sorted(path.name for path in site.to.rglob("*")) == ["d", "gone", "good", "good"]
    assert not site.private()
    assert [(each.outcome, each.failed) for each in site.tried()] == [("differs", 3)]
    assert (await site.run()).proved
    assert compare_trees(site.source, site.to) == []


async def test_a_record_that_fails_once_is_tried_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    (site.source / "file").write_bytes(b"1" * 100)
    (site.source / "large").write_bytes(b"1" * (5 << 20))
    publish, calls = FileWriter.publish, list[Record]()

    def fails(writer: FileWriter, record: Record) -> None:
        calls.append(record)
        if len(calls) == 1:
            raise OSError(errno.EPERM, "no")
        publish(writer, record)

    monkeypatch.setattr(FileWriter, "publish", fails)
    outcome = await site.run(prove=False)
    assert (outcome.equal, outcome.proved) == (True, None)
    assert compare_trees(site.source, site.to) == []


# ------------------------------------------------------------------------------------------ interrupted


async def test_a_large_file_is_continued(site: Site) -> None:
    content = random.Random(1).randbytes(LARGE)  # noqa: S311
    (site.source / "large").write_bytes(content)
    with site.recovery() as recovery:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def cancel() -> None:
                    while recovery.progress().bytes < LARGE // 2:  # noqa: ASYNC110 (a figure has no event)
                        await trio.sleep(0.001)
                    scope.cancel()

                nursery.start_soon(cancel)
                await recovery.run()
        assert scope.cancelled_caught
    assert not (site.to / "large").exists()
    assert site.private()
    outcome = await site.run()
    assert outcome.sent_bytes < LARGE * 3 // 4
    assert outcome.proved
    assert compare_trees(site.source, site.to) == []
    assert not site.private()
    assert [each.outcome for each in site.tried()] == ["proved", "cancelled"]
    assert not list((site.place / "under-way").iterdir())


async def test_a_destination_that_was_made_again(site: Site) -> None:
    """An interrupted recovery is continued in the same directory only; a new one of that name is as good."""
    (site.source / "file").write_bytes(b"1")
    with site.recovery() as recovery, trio.move_on_after(0) as scope:
        scope.cancel()
        await recovery.run()
    (site.source / "large").write_bytes(b"1" * (5 << 20))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileWriter, "publish", full)
        with pytest.raises(StopRule):
            await site.run()
    site.to.rename(site.home / "away")
    site.to.mkdir()
    assert (await site.run()).proved
    assert compare_trees(site.source, site.to) == []


def full(writer: FileWriter, record: Record) -> None:
    """Instead of `FileWriter.publish`."""
    raise StopRule("no room", code=Code.REPLICA_FULL)


async def test_the_other_process_dies(site: Site) -> None:
    site.drivers = None
    (site.source / "large").write_bytes(os.urandom(LARGE))
    with site.recovery() as recovery:

        async def kill() -> None:
            while not recovery.progress().bytes:  # noqa: ASYNC110
                await trio.sleep(0.001)
            found = subprocess.run(  # noqa: S603
                ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())],  # noqa: S607
                capture_output=True,
                text=True,
                check=True,
            )
            (child,) = [line for line in found.stdout.splitlines() if "i2core.recovery.child" in line]
            os.kill(int(child.split()[0]), 9)

        with pytest.raises(BaseExceptionGroup) as caught:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kill)
                await recovery.run()
    (error,) = caught.value.exceptions
    assert isinstance(error, StopRule)
    assert "SIGKILL" in error.cause
    assert (await site.run()).proved
    assert compare_trees(site.source, site.to) == []


# ------------------------------------------------------------------------------------------ a full disk


@is_root
async def test_a_full_destination(site: Site) -> None:
    """It says so, what was there is as it was, and a later run continues."""
    (site.source / "a").write_bytes(b"1" * (1 << 20))
    (site.source / "large").write_bytes(os.urandom(4 << 20))
    with small_disk(site.to):
        fill(site.to, leave=2 << 20)
        with pytest.raises(StopRule) as caught:
            await site.run(b"a", b"large")
        assert caught.value.code is Code.REPLICA_FULL
        assert "run the same recovery again" in caught.value.next_step
        assert site.tried()[0].outcome == "failed"
        (site.to / "ballast").unlink()
        assert (await site.run(b"a", b"large")).proved
        assert (site.to / "large").read_bytes() == (site.source / "large").read_bytes()


@is_root
async def test_extra_files_make_room_if_they_may_go(site: Site) -> None:
    (site.source / "large").write_bytes(os.urandom(5 << 20))
    with small_disk(site.to):
        fill(site.to, leave=1 << 20)
        outcome = await site.run(extra=Extra.DELETE)
        assert outcome.proved
        assert compare_trees(site.source, site.to) == []


@is_root
async def test_nothing_is_moved_out_of_a_mount_point(site: Site) -> None:
    (site.source / "file").touch()
    with small_disk(site.to):
        (site.to / "extra").touch()
        with pytest.raises(UsageError) as caught:
            await site.run(extra=Extra.ASIDE)
        assert caught.value.code is Code.ILLEGAL_PATH
        assert sorted(os.listdir(site.to)) == ["extra"]


async def test_a_new_destination_is_private_until_it_is_complete(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    (site.source / "large").write_bytes(b"1" * (5 << 20))
    site.source.chmod(0o755)
    modes = []
    publish = FileWriter.publish

    def looks(writer: FileWriter, record: Record) -> None:
        modes.append(stat.S_IMODE(site.to.stat().st_mode))
        publish(writer, record)

    monkeypatch.setattr(FileWriter, "publish", looks)
    await site.run()
    assert modes == [0o700]
    assert stat.S_IMODE(site.to.stat().st_mode) == 0o755
