"""A mirror makes the replica equal and sends only differences; the next one sends nothing."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest

from i2core.api import BLOCK_BYTES, Batch, Code, DriverKind, Kind, NoConfig, Record, Sink, SinkContext, StopRule
from i2core.api.tree import OpenFile
from i2core.config.model import First, MirrorOptions, OnError, OrphanAction, Orphans, Pair, PathMapping, Verify
from i2core.posix.tree import LocalDirectory
from i2core.rule.backup.entry.secret import node_secret
from i2core.testing.memory_disk import MemoryDisk
from i2core.testing.memory_sink import MemorySink, memory_sink
from i2core.testing.trees import compare_trees

from .pair import open_nodes

OWNS = os.geteuid() == 0
DELETE = Orphans(action=OrphanAction.DELETE)
STRICT = MirrorOptions(verify=Verify.STRICT)


def fill(top: Path) -> None:
    """A tree with objects of every type, and names that are not text."""
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "empty").mkdir(mode=0o700)
    for name in (b"plain", b"new\nline", b"\xff\xfe\x80", b"n" * 255, b"-rf *", b" "):
        with open(os.path.join(os.fsencode(top), name), "wb") as file:
            file.write(name * 3)
    (top / "sub" / "none").touch(mode=0o600)
    (top / "sub" / "deep" / "blocks").write_bytes(os.urandom(5 * BLOCK_BYTES + 17))
    (top / "sub" / "large").write_bytes(os.urandom(5 * 1024 * 1024 + 1))
    with open(top / "sparse", "wb") as file:
        file.seek(20 * 1024 * 1024)
        file.write(b"end")
    (top / "link").symlink_to("sub/none")
    (top / "trap").symlink_to("/")
    os.link(top / "sub" / "none", top / "twin")
    os.mkfifo(top / "fifo")
    os.setxattr(top / "plain", "user.origin", b"\0\xff")
    os.chmod(top / "plain", 0o640 | stat.S_ISGID)
    for number, path in enumerate([*top.rglob("*"), top]):
        os.utime(path, ns=(1, 1_600_000_000_123_456_789 + number), follow_symlinks=False)


async def test_first_mirror_makes_both_equal_and_the_next_sends_nothing(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        first = await nodes.run()
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []
        assert first.skipped == []
        assert first.sent_files == first.listed_files == first.checked_files
        again = await nodes.run()
        assert (again.sent_files, again.sent_bytes) == (0, 0)
        strict = await nodes.run(nodes.rule(mirror=STRICT))
        assert (strict.sent_files, strict.sent_bytes) == (0, 0)
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []


async def test_strict_finds_a_silent_change_and_time_does_not(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        path = nodes.source / "database"
        path.write_bytes(bytes(3 * BLOCK_BYTES))
        await nodes.run()
        status = path.stat()
        with path.open("r+b") as file:
            file.seek(BLOCK_BYTES)
            file.write(b"rot")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert (await nodes.run()).sent_files == 0
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) != []
        strict = await nodes.run(nodes.rule(mirror=STRICT))
        assert (strict.sent_files, strict.sent_bytes) == (1, BLOCK_BYTES)
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []


async def test_the_first_mirror_onto_what_was_filled_by_hand_looks_at_content(tmp_path: Path) -> None:
    """A file copied by hand may have the right size and time but other content; after that, replicated files are
    known."""
    async with open_nodes(tmp_path) as nodes:
        seeded = nodes.rule(mirror=MirrorOptions(first=First.MANUAL))
        nodes.target.mkdir()
        for side, content in ((nodes.source, b"right"), (nodes.target, b"wrong")):
            (side / "file").write_bytes(content)
            (side / "same").write_bytes(b"equal")
            for name in ("file", "same"):
                os.utime(side / name, ns=(1, 1_600_000_000_123_456_789))
        assert (await nodes.run(seeded)).sent_files == 1
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []
        (nodes.target / "file").write_bytes(b"wrong")
        os.utime(nodes.target / "file", ns=(1, 1_600_000_000_123_456_789))
        assert (await nodes.run(seeded)).sent_files == 0, "only the first one is so thorough"


@pytest.mark.parametrize("blocks", [4, 40, 700], ids=["inline", "asked", "slices"])
async def test_only_differing_blocks_are_sent(tmp_path: Path, blocks: int) -> None:
    async with open_nodes(tmp_path) as nodes:
        path = nodes.source / "disk.img"
        path.write_bytes(os.urandom(blocks * BLOCK_BYTES + 100))
        await nodes.run()
        with path.open("r+b") as file:
            file.seek(2 * BLOCK_BYTES + 5)
            file.write(b"changed")
            file.seek(0, os.SEEK_END)
            file.write(b"grown")
        status = await nodes.run()
        assert (status.sent_files, status.sent_bytes) == (1, BLOCK_BYTES + 105)
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []
        os.truncate(path, BLOCK_BYTES + 1)
        status = await nodes.run()
        assert (status.sent_files, status.sent_bytes) == (1, 1)
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []


async def test_a_target_that_was_seeded_by_hand_costs_only_what_differs(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        content = os.urandom(30 * BLOCK_BYTES)
        nodes.target.mkdir()
        for top, data in ((nodes.source, content), (nodes.target, content[:-BLOCK_BYTES] + bytes(BLOCK_BYTES))):
            (top / "same").write_bytes(b"same")
            os.utime(top / "same", ns=(1, 1))
            (top / "carried").write_bytes(data)
        status = await nodes.run(nodes.rule(mirror=MirrorOptions(first=First.MANUAL)))
        assert (status.sent_files, status.sent_bytes) == (1, BLOCK_BYTES)
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []


async def test_an_object_of_another_type_is_replaced(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        names = ("file", "dir", "link", "fifo")

        def make(kinds: tuple[str, ...]) -> None:
            for name, kind in zip(names, kinds, strict=True):
                path = nodes.source / name
                if path.is_dir() and not path.is_symlink():
                    (path / "in").unlink()
                    path.rmdir()
                else:
                    path.unlink(missing_ok=True)
                if kind == "file":
                    path.write_text("now a file")
                elif kind == "dir":
                    path.mkdir()
                    (path / "in").write_text("inside")
                elif kind == "link":
                    path.symlink_to("elsewhere")
                else:
                    os.mkfifo(path)

        for shift in range(4):
            make(names[shift:] + names[:shift])
            await nodes.run()
            assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []


async def test_hard_links_are_distinguished(tmp_path: Path) -> None:
    """{a, b}, {c, d} on the source against {a, c}, {b, d} on the replica, with equal content and times."""
    async with open_nodes(tmp_path) as nodes:
        nodes.target.mkdir()
        for top, groups in ((nodes.source, ("ab", "cd")), (nodes.target, ("ac", "bd"))):
            for group in groups:
                first = top / group[0]
                first.write_text("same")
                os.utime(first, ns=(7, 7))
                os.link(first, top / group[1])
        await nodes.run()
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []
        assert (await nodes.run()).sent_files == 0


async def test_each_source_goes_to_its_own_target(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        pairs, tops = [], []
        for name in ("one", "two"):
            top = tmp_path / "home" / name
            top.mkdir(parents=True)
            (top / "file").write_text(name)
            tops.append(top)
            pairs.append(Pair(source=os.fsencode(top), target=os.fsencode(nodes.target / name)))
        status = await nodes.run(nodes.rule(pairs=tuple(pairs)))
        assert status.listed_files == 2
        for top in tops:
            assert compare_trees(top, nodes.target / top.name, owners=OWNS) == []


async def test_many_sources_keep_their_paths_beneath_one_target(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        pairs = []
        for name in ("one", "two"):
            top = tmp_path / name
            top.mkdir()
            (top / "file").write_text(name)
            source = os.fsencode(top)
            pairs.append(Pair(source=source, target=os.fsencode(nodes.target) + source))
        await nodes.run(nodes.rule(pairs=tuple(pairs), mapping=PathMapping.MANY_TO_ONE))
        for pair in pairs:
            assert compare_trees(pair.source, pair.target, owners=OWNS) == []


async def test_a_source_may_be_a_single_file(tmp_path: Path) -> None:
    """Files beside it on the source are not sent, and files beside it on the replica are left alone."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "wanted").write_text("wanted")
        (nodes.source / "neighbour").write_text("private")
        nodes.target.mkdir()
        (nodes.target / "other").write_text("not ours")
        pair = Pair(source=os.fsencode(nodes.source / "wanted"), target=os.fsencode(nodes.target / "wanted"))
        status = await nodes.run(nodes.rule(pairs=(pair,), orphans=DELETE))
        assert status.listed_files == 1
        assert {p.name: p.read_text() for p in nodes.target.iterdir()} == {"wanted": "wanted", "other": "not ours"}


async def test_a_replica_that_cannot_set_owners_comes_to_rest(tmp_path: Path) -> None:
    class Unprivileged(MemorySink):
        owns = False

    disk = MemoryDisk()

    @asynccontextmanager
    async def open_unprivileged(config: NoConfig, context: SinkContext) -> AsyncIterator[Sink]:
        yield Unprivileged(context, disk)

    spec = attrs.evolve(memory_sink(disk), open=open_unprivileged)
    async with open_nodes(tmp_path, spec, sink="memory") as nodes:
        fill(nodes.source)
        await nodes.run()
        for node in disk.roots.values():
            for each in node.entries.values():
                each.meta = each.meta._replace(uid=12345)
        assert (await nodes.run()).sent_files == 0


def refuse(monkeypatch: pytest.MonkeyPatch, name: bytes) -> None:
    """Makes files of this name unreadable on the work node."""
    real = LocalDirectory.open

    def refusing(directory: LocalDirectory, found: bytes) -> OpenFile:
        if found == name:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(directory, found)

    monkeypatch.setattr(LocalDirectory, "open", refusing)


async def test_an_unreadable_file_is_reported_and_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, b"secret")
    async with open_nodes(tmp_path) as nodes:
        for name in ("a", "secret", "z"):
            (nodes.source / name).write_text(name)
        status = await nodes.run()
        assert [(s.path, s.code) for s in status.skipped] == [(str(nodes.source / "secret"), Code.OPEN_SOURCE)]
        assert sorted(p.name for p in nodes.target.iterdir()) == ["a", "z"]
        assert status.checked_files == 3


async def test_an_unreadable_file_stops_a_rule_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, b"secret")
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "secret").write_text("secret")
        with pytest.raises(StopRule, match="secret") as stopped:
            await nodes.run(nodes.rule(mirror=MirrorOptions(on_error=OnError.STOP)))
        assert stopped.value.code is Code.OPEN_SOURCE


async def test_a_leftover_staging_file_does_not_count_as_the_file(tmp_path: Path) -> None:
    """An interrupted run staged the new content; then another file got the name, and is patched in place."""
    async with open_nodes(tmp_path) as nodes:
        content = os.urandom(40 * BLOCK_BYTES)
        (nodes.source / "image").write_bytes(content)
        nodes.target.mkdir(exist_ok=True)
        spec = nodes.registry.driver(DriverKind.SINK, "fs")
        root = os.fsencode(nodes.target)
        secret = node_secret(nodes.home / "state")
        async with spec.open(NoConfig(), SinkContext(roots=(root,), allowed=(root,), secret=secret)) as sink:
            stage = Record(Kind.STAGE, 0, b"image")
            pieces = [
                Record(Kind.WRITE, 0, b"image", offset=at, data=content[at : at + BLOCK_BYTES], staged=True)
                for at in range(0, len(content), BLOCK_BYTES)
            ]
            assert (await sink.apply(Batch(1, [stage, *pieces]))).failures == ()
        (nodes.target / "image").write_bytes(bytes(len(content)))
        await nodes.run()
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []
