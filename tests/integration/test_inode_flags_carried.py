"""A rule with `inode_flags` keeps on the replica what chattr(1) sets on the source, and can still change it there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from i2core.api import Change, Code, Op, Place, StopRule
from i2core.config.model import MirrorOptions, OrphanAction, Orphans, Rule, Verify
from i2core.testing.trees import compare_trees

from .pair import Nodes, open_nodes, until

pytestmark = pytest.mark.root


def chattr(flags: str, *paths: Path) -> None:
    """Sets or clears flags."""
    subprocess.run(["chattr", *flags.split(), *paths], check=True, capture_output=True)  # noqa: S603, S607


def unpin(tree: Path) -> None:
    """Clears the pins of everything beneath it. Symlinks have no flags, which chattr reports as a failure."""
    subprocess.run(["chattr", "-R", "-f", "-i", "-a", tree], check=False, capture_output=True)  # noqa: S603, S607


def lsattr(path: Path) -> str:
    """The letters of an object's flags, without those that its file system sets by itself."""
    done = subprocess.run(["lsattr", "-d", path], check=True, capture_output=True, text=True)  # noqa: S603, S607
    return "".join(sorted(set(done.stdout.split()[0]) & set("aAcCdDimPS")))


@pytest.fixture(autouse=True)
def _unpinned(tmp_path: Path) -> Iterator[None]:
    yield
    unpin(tmp_path)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a new file system of a type."""
    with ExitStack() as mounts:

        def mounted(kind: str) -> Path:
            image, mount = tmp_path / "image", tmp_path / "mount"
            mount.mkdir()
            with image.open("wb") as file:
                file.truncate(400 << 20)
            try:
                for command in ([f"mkfs.{kind}", str(image)], ["mount", "-o", "loop", str(image), str(mount)]):
                    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"this host cannot make and mount {kind}: {error}")
            mounts.callback(partial(subprocess.run, ["umount", str(mount)], check=True))
            mounts.callback(unpin, mount)
            return mount

        yield mounted


@asynccontextmanager
async def carrying(tmp_path: Path) -> AsyncIterator[tuple[Nodes, Rule]]:
    """Both nodes, and a rule that replicates flags."""
    async with open_nodes(tmp_path) as nodes:
        yield nodes, nodes.rule(inode_flags=True)


def write_at(path: Path, at: int, data: bytes) -> None:
    """Writes within a file."""
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def append(path: Path) -> None:
    """Appends like a program that writes an append-only log."""
    with open(path, "a") as file:
        file.write("one more line\n")


def troubles(nodes: Nodes) -> list[Code]:
    """The log without the usual lines."""
    return [code for code in nodes.codes() if code not in (Code.RULE_RESTARTED, Code.MIRROR_DONE)]


def differences(nodes: Nodes) -> list[str]:
    return compare_trees(nodes.source, nodes.target, flags=True)


def fill(source: Path) -> None:
    """Creates objects of each type with flags."""
    (source / "immutable").write_text("nobody changes this")
    (source / "log").write_text("first line\n")
    (source / "large").write_bytes(os.urandom(5 << 20))
    (source / "locked" / "sub").mkdir(parents=True)
    (source / "locked" / "inside").write_text("in a directory that nobody may change")
    (source / "locked" / "sub" / "deep").write_text("deeper")
    (source / "empty").mkdir()
    (source / "plain").write_text("plain")
    os.symlink("plain", source / "link")
    os.mkfifo(source / "fifo")
    os.link(source / "immutable", source / "second")
    chattr("+dA", source / "plain")
    chattr("+S", source / "log")
    chattr("+D", source / "empty")
    chattr("+i", source / "immutable", source / "large", source / "locked", source / "empty")
    chattr("+a", source / "log", source / "locked" / "sub")


async def test_a_mirror_sends_flags(tmp_path: Path) -> None:
    async with carrying(tmp_path) as (nodes, rule):
        fill(nodes.source)
        await nodes.run(rule)
        assert differences(nodes) == []
        assert lsattr(nodes.target / "locked") == "i"
        assert lsattr(nodes.target / "log") == "Sa"
        status = await nodes.run(rule, compare=True)
        assert (status.sent_files, status.sent_bytes) == (0, 0)
        assert troubles(nodes) == []
        assert nodes.private() == []


async def test_flags_alone_are_a_difference(tmp_path: Path) -> None:
    async with carrying(tmp_path) as (nodes, rule):
        fill(nodes.source)
        await nodes.run(rule)
        chattr("-i", nodes.target / "immutable", nodes.target / "locked")
        chattr("+i", nodes.target / "plain", nodes.target / "locked" / "sub")
        chattr("-A", nodes.source / "plain")
        strict = nodes.rule(inode_flags=True, mirror=MirrorOptions(verify=Verify.STRICT))
        for each in (rule, strict):
            await nodes.run(each, compare=True)
            assert differences(nodes) == []
            chattr("-a", nodes.target / "log")
            chattr("+d", nodes.target / "plain")


async def test_what_is_pinned_is_changed_removed_and_replaced_by_a_mirror(tmp_path: Path) -> None:
    async with carrying(tmp_path) as (nodes, _):
        rule = nodes.rule(inode_flags=True, orphans=Orphans(action=OrphanAction.DELETE))
        fill(nodes.source)
        await nodes.run(rule)
        source = nodes.source
        unpin(source)
        (source / "immutable").write_text("changed all the same")
        append(source / "log")
        write_at(source / "large", 3 << 20, b"changed")
        (source / "locked" / "inside").unlink()
        (source / "locked" / "sub" / "deep").rename(source / "locked" / "up")
        (source / "empty").rmdir()
        (source / "empty").write_text("a file now")
        (source / "plain").unlink()
        (source / "plain").mkdir()
        (source / "second").unlink()
        chattr("+i", source / "immutable", source / "locked", source / "empty", source / "plain", source)
        chattr("+a", source / "log")
        await nodes.run(rule)
        assert differences(nodes) == []
        chattr("-i", source)
        chattr("-i", source / "locked")
        for name in ("up", "sub"):
            subprocess.run(["rm", "-rf", source / "locked" / name], check=True)  # noqa: S603, S607
        chattr("+i", source / "locked", source)
        await nodes.run(rule)
        assert differences(nodes) == []
        assert nodes.private() == []


async def test_live_changes_of_what_is_pinned(tmp_path: Path) -> None:
    async with carrying(tmp_path) as (nodes, rule):
        fill(nodes.source)
        source, tell = nodes.source, nodes.capture.tell
        async with nodes.running(rule):

            async def equal() -> None:
                await until(lambda: differences(nodes) == [])

            chattr("-i", source / "immutable")
            tell(Change(Op.ATTRIB, Place(0, b"immutable")))
            await equal()
            (source / "immutable").rename(source / "moved")
            chattr("+i", source / "moved")
            tell(Change(Op.RENAME, Place(0, b"immutable"), to=Place(0, b"moved")))
            await equal()
            append(source / "log")
            tell(Change(Op.MODIFY, Place(0, b"log")))
            await equal()
            chattr("-i", source / "large")
            write_at(source / "large", 1 << 20, b"changed")
            chattr("+i", source / "large")
            tell(Change(Op.MODIFY, Place(0, b"large")))
            await equal()
            chattr("-i", source / "locked")
            (source / "locked" / "new").write_text("new")
            (source / "locked" / "inside").unlink()
            chattr("+i", source / "locked", source / "locked" / "new")
            tell(Change(Op.CREATE, Place(0, b"locked/new")), Change(Op.REMOVE, Place(0, b"locked/inside")))
            await equal()
            chattr("-i", source / "moved")
            os.link(source / "moved", source / "third")
            chattr("+i", source / "moved")
            tell(Change(Op.CREATE, Place(0, b"third")))
            await equal()
            unpin(source / "locked")
            subprocess.run(["rm", "-rf", source / "locked"], check=True)  # noqa: S603, S607
            tell(Change(Op.REMOVE, Place(0, b"locked")))
            await equal()
        assert troubles(nodes) == []


async def test_an_object_that_was_unpinned_to_be_changed_is_checked_again(tmp_path: Path) -> None:
    async with carrying(tmp_path) as (nodes, rule):
        source, target, tell = nodes.source, nodes.target, nodes.capture.tell
        fill(source)
        async with nodes.running(rule):
            chattr("-i", source / "immutable", source / "locked")
            write_at(source / "immutable", 0, b"NOBODY")
            (source / "locked" / "new").write_text("new")
            tell(Change(Op.MODIFY, Place(0, b"immutable")), Change(Op.CREATE, Place(0, b"locked/new")))
            await until(lambda: [lsattr(target / name) for name in ("immutable", "locked")] == ["", ""])
            assert differences(nodes) == []
            chattr("+i", source / "immutable", source / "locked")  # and no event is reported
            await until(lambda: differences(nodes) == [])
        assert troubles(nodes) == []


async def test_a_change_of_flags_raises_no_event_and_the_paced_scan_finds_it(tmp_path: Path) -> None:
    async with carrying(tmp_path) as (nodes, _):
        fill(nodes.source)
        async with nodes.running(nodes.rule(inode_flags=True, rescan_s=0.1)):
            chattr("-i", nodes.source / "immutable", nodes.source / "locked")
            chattr("+i", nodes.source / "plain")
            chattr("-a", nodes.source / "log")
            await until(lambda: differences(nodes) == [])
        assert lsattr(nodes.target / "plain") == "Adi"


async def test_flags_that_the_replica_cannot_hold_are_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with carrying(tmp_path) as (nodes, rule):
        fill(nodes.source)
        (nodes.source / "other").write_text("other")
        chattr("+i", nodes.source / "other")
        monkeypatch.setattr("i2_sink_fs.flags.probe", lambda fd, name: (0x80 | 0x40) << 32)
        await nodes.run(rule)
        assert compare_trees(nodes.source, nodes.target) == []
        assert lsattr(nodes.target / "plain") == "Ad"
        assert lsattr(nodes.target / "immutable") == ""
        said = [line for _, code, line in nodes.said if code == Code.ATTRIBUTE_UNSUPPORTED]
        assert len(said) == len([line for line in said if "+i" in line]) + 3, said
        nodes.said.clear()
        before = [os.lstat(path).st_ctime_ns for path in sorted(nodes.target.rglob("*"))]
        status = await nodes.run(rule, compare=True)
        assert (status.sent_files, troubles(nodes)) == (0, [])
        assert [os.lstat(path).st_ctime_ns for path in sorted(nodes.target.rglob("*"))] == before


async def test_a_backup_node_without_flags_refuses_such_a_rule_with_a_clear_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with carrying(tmp_path) as (nodes, rule):
        fill(nodes.source)
        monkeypatch.setattr("i2core.rule.backup.entry.greeting.PROTOCOLS", (2,))
        with pytest.raises(StopRule, match="speaks protocol 3") as refused:
            await nodes.run(rule)
        assert refused.value.code is Code.VERSION_MISMATCH
        await nodes.run()
        assert compare_trees(nodes.source, nodes.target) == []


async def test_the_option_is_noticed_when_it_comes(tmp_path: Path) -> None:
    async with carrying(tmp_path) as (nodes, rule):
        fill(nodes.source)
        await nodes.run()
        assert lsattr(nodes.target / "immutable") == ""
        await nodes.run(rule)
        assert differences(nodes) == []


async def test_what_an_administrator_has_pinned_on_the_replica_holds_without_the_option(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("first")
        await nodes.run()
        chattr("+i", nodes.target / "file")
        (nodes.source / "file").write_text("second")
        await nodes.run()
        assert (nodes.target / "file").read_text() == "first"
        assert lsattr(nodes.target / "file") == "i"
        assert Code.OPEN_REPLICA in nodes.codes()


async def test_projects_are_replicated(mounted: Callable[[str], Path]) -> None:
    async with carrying(mounted("xfs")) as (nodes, rule):
        source, tell = nodes.source, nodes.capture.tell
        (source / "dir").mkdir()
        (source / "before").write_text("in the directory before that had a project")
        (source / "before").rename(source / "dir" / "before")
        (source / "outside").write_text("outside")
        chattr("+P -p 7", source / "dir")
        (source / "dir" / "after").write_text("has the project of its directory")
        async with nodes.running(rule):
            assert differences(nodes) == []
            chattr("-p 7", source / "outside")
            (source / "outside").rename(source / "dir" / "outside")
            tell(Change(Op.RENAME, Place(0, b"outside"), to=Place(0, b"dir/outside")))
            await until(lambda: differences(nodes) == [])
            (source / "dir" / "before").write_text("changed, and still of no project")
            tell(Change(Op.MODIFY, Place(0, b"dir/before")))
            await until(lambda: differences(nodes) == [])
            (source / "dir" / "large").write_bytes(os.urandom(5 << 20))
            tell(Change(Op.CREATE, Place(0, b"dir/large")))
            await until(lambda: differences(nodes) == [])
        assert troubles(nodes) == []
        chattr("-p 9", nodes.target / "dir" / "after")
        await nodes.run(rule, compare=True)
        assert differences(nodes) == []


async def test_a_file_is_sent_again_for_a_flag_that_only_an_empty_file_can_get(mounted: Callable[[str], Path]) -> None:
    async with carrying(mounted("btrfs")) as (nodes, rule):
        source, tell = nodes.source, nodes.capture.tell

        def make(name: str, size: int) -> None:
            """Creates the file for the inode that has the name, if there is one."""
            with open(source / name, "w"):
                pass
            chattr("+C", source / name)
            with open(source / name, "r+b") as file:
                file.write(os.urandom(size))

        sizes = {"small": 1000, "middle": 3 << 20, "large": 6 << 20}
        for name, size in sizes.items():
            (source / name).write_bytes(os.urandom(size))
            make(f"first-{name}", size)
        async with nodes.running(rule):
            assert differences(nodes) == []
            for name, size in sizes.items():
                make(name, size)
                tell(Change(Op.MODIFY, Place(0, name.encode())))
            await until(lambda: differences(nodes) == [])
        assert [lsattr(path) for path in sorted(nodes.target.iterdir())] == ["C"] * 6
        (nodes.target / "small").unlink()
        (nodes.target / "small").write_bytes((source / "small").read_bytes())
        os.utime(nodes.target / "small", ns=(0, (source / "small").stat().st_mtime_ns))
        await nodes.run(rule, compare=True)
        assert differences(nodes) == []
        status = await nodes.run(rule, compare=True)
        assert (status.sent_files, troubles(nodes)) == (0, [])
