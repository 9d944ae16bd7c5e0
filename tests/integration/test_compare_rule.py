"""A compare finds what differs between source and replica, of a stopped rule and of one that runs, and mends it."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from i2_filter_glob.plugin import i2_filters

from i2core.api import Change, LinkError, Op, Place, Record, UsageError
from i2core.api import Kind as RecordKind
from i2core.compare import comparing, first_look, second_look
from i2core.compare.contents import small
from i2core.compare.result import Kind
from i2core.compare.second_look import SecondLook
from i2core.config.model import DriverChoice
from i2core.rule.backup.session import unlisted
from i2core.testing.trees import compare_trees
from i2core.wire.frame import FrameType
from i2core.wire.questions import OrphanList

from .comparing import compare, ends_of, flip
from .pair import open_nodes, until

LARGE = 3 << 20


def fill(source: Path) -> None:
    """A tree with files of all sizes."""
    (source / "d" / "e").mkdir(parents=True)
    (source / "small").write_bytes(b"small")
    (source / "d" / "middle").write_bytes(os.urandom(300_000))
    (source / "d" / "e" / "large").write_bytes(os.urandom(LARGE))
    (source / "link").symlink_to("small")
    os.link(source / "small", source / "d" / "other")
    with open(source / "sparse", "wb") as file:
        file.truncate(64 << 20)
        file.seek(5 << 20)
        file.write(os.urandom(1 << 20))


async def test_a_stopped_rule(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        with pytest.raises(UsageError, match="has not been mirrored"):
            await compare(nodes)
        fill(nodes.source)
        await nodes.run()
        for strict in (False, True):
            done = await compare(nodes, strict=strict)
            assert done.found == {}
            assert done.totals.files == 6
            assert done.totals.same == done.totals.objects == 9

        target = nodes.target
        (target / "small").write_bytes(b"longer")
        (target / "d" / "e" / "large").chmod(0o600)
        (target / "sparse").unlink()
        (target / "mine").mkdir()
        (target / "mine" / "file").write_bytes(b"mine")
        flip(target / "d" / "middle", 200_000)
        done = await compare(nodes)
        assert done.found == {
            "": (Kind.DIFFERENT, "time"),
            "small": (Kind.DIFFERENT, "size time"),
            "d/other": (Kind.DIFFERENT, "links"),
            "d/e/large": (Kind.DIFFERENT, "mode"),
            "sparse": (Kind.MISSING, ""),
            "mine": (Kind.EXTRA, ""),
        }
        assert done.totals.same == 9 - 5 and done.totals.differs == 6
        done = await compare(nodes, strict=True)
        assert done.found.pop("d/middle") == (Kind.DIFFERENT, "content")
        assert len(done.found) == 6
        assert (target / "mine" / "file").read_bytes() == b"mine", "it has changed the replica"
        with pytest.raises(UsageError, match="only a running rule"):
            await compare(nodes, mend=True)


@pytest.mark.parametrize("where", [0, LARGE // 2, LARGE - 1])
async def test_one_byte_of_a_large_file(tmp_path: Path, where: int) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        await nodes.run()
        flip(nodes.target / "d" / "e" / "large", where)
        flip(nodes.target / "sparse", (5 << 20) + 17)
        done = await compare(nodes, strict=True)
        assert done.found == {"d/e/large": (Kind.DIFFERENT, "content"), "sparse": (Kind.DIFFERENT, "content")}


async def test_only_some_paths(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        await nodes.run()
        flip(nodes.target / "d" / "middle")
        flip(nodes.target / "sparse")
        (nodes.target / "d" / "e" / "mine").touch()
        (nodes.source / "d" / "new").touch()
        done = await compare(nodes, "d/e", "sparse", strict=True)
        assert done.found == {
            "d/e": (Kind.DIFFERENT, "time"),
            "d/e/mine": (Kind.EXTRA, ""),
            "sparse": (Kind.DIFFERENT, "content"),
        }
        assert (await compare(nodes, "d/new")).found == {"d/new": (Kind.MISSING, "")}


async def test_excluded_names_are_no_orphans(tmp_path: Path) -> None:
    async with open_nodes(tmp_path, *i2_filters()) as nodes:
        rule = nodes.rule(filters=(DriverChoice(name="glob", options={"exclude_types": ["*.tmp"]}),))
        fill(nodes.source)
        await nodes.run(rule)
        (nodes.source / "a.tmp").touch()
        (nodes.target / "b.tmp").touch()
        shutil.copystat(nodes.source, nodes.target)
        assert (await compare(nodes, rule=rule)).found == {}


async def test_a_running_rule_is_mended(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        async with nodes.running() as status:
            assert (await compare(nodes, strict=True)).found == {}
            (nodes.target / "small").write_bytes(b"longer")
            shutil.rmtree(nodes.target / "d")
            flip(nodes.target / "sparse", 5 << 20)
            (nodes.target / "mine").touch()
            done = await compare(nodes, strict=True)
            assert {path: kind for path, (kind, _) in done.found.items()} == {
                "": Kind.DIFFERENT,
                "small": Kind.DIFFERENT,
                "d": Kind.MISSING,
                "d/e": Kind.MISSING,
                "d/e/large": Kind.MISSING,
                "d/middle": Kind.MISSING,
                "d/other": Kind.MISSING,
                "sparse": Kind.DIFFERENT,
                "mine": Kind.EXTRA,
            }
            done = await compare(nodes, strict=True, mend=True)
            assert done.totals.mended == 8
            assert done.totals.differs == 1
            assert [line for line in compare_trees(nodes.source, nodes.target) if "mine" not in line] == []
            assert (nodes.target / "mine").exists(), "an orphan is kept"
            assert status.doubtful == 0


async def test_what_changes_meanwhile_is_not_called_different(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "LOOKS_AFTER_S", (0.01,) * 4)
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        async with nodes.running() as status:
            look = SecondLook.directory
            turns = []

            async def write_first(self: object, *arguments: object) -> object:
                turns.append(1)
                if len(turns) < 3:
                    (nodes.source / "small").write_bytes(b"changed" * len(turns))
                return await look(self, *arguments)  # type: ignore[arg-type]

            monkeypatch.setattr(SecondLook, "directory", write_first)
            (nodes.source / "small").write_bytes(b"changed")
            done = await compare(nodes)
            assert len(turns) > 2
            # No event has come, and the source rests: it does differ.
            assert done.found["small"][0] is Kind.DIFFERENT

            turns.clear()
            nodes.capture.tell(Change(Op.MODIFY, Place(0, b"small")))
            await until(lambda: (nodes.target / "small").read_bytes() == (nodes.source / "small").read_bytes())
            await until(lambda: status.durable_seq == status.seq)
            monkeypatch.setattr(comparing, "LOOKS_AFTER_S", (0.01, 0.01))
            (nodes.source / "small").write_bytes(b"again")
            done = await compare(nodes)
            assert done.found["small"] == (Kind.UNSETTLED, "")
            assert done.totals.differs == 0


async def test_a_compare_that_loses_its_link_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "RETRY_S", 0.01)
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        await nodes.run()
        flip(nodes.target / "small")
        for cut in range(8):
            nodes.wire.cut_at = nodes.wire.sends + cut
            done = await compare(nodes, strict=True)
            assert nodes.wire.was_cut()
            assert done.found == {"small": (Kind.DIFFERENT, "content")}
            assert done.totals.objects == 9


async def test_it_leaves_the_mirror_alone(tmp_path: Path) -> None:
    """A compare that runs when a rule starts does not end the rule's sessions, and changes no staging file."""
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        await nodes.run()
        await nodes.stage("d/staged")
        assert nodes.private()
        await compare(nodes)
        assert nodes.private(), "a compare has removed a staging file"


async def test_a_session_that_compares_changes_nothing(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        await nodes.run()
        removal = Record(RecordKind.REMOVE, 0, b"small")
        with pytest.raises(LinkError, match="only asks"):
            async with ends_of(nodes).session() as session:
                await session.send_records([removal])
                await session.settle()
        with pytest.raises(LinkError, match="only asks"):
            async with ends_of(nodes).session() as session:
                await session.ask(FrameType.ORPHANS, OrphanList(0, b"", [b"small"]).encode())
        assert (nodes.target / "small").exists()


async def test_it_does_not_end_the_sessions_of_the_rule(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        async with nodes.running() as status:
            hellos = nodes.wire.frames.count(FrameType.HELLO)
            for _ in range(3):
                assert (await compare(nodes)).found == {}
            assert nodes.wire.frames.count(FrameType.HELLO) == hellos + 3, "the rule had to connect again"
            (nodes.source / "later").write_bytes(b"later")
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"later")))
            await until((nodes.target / "later").exists)
            assert status.state.value == "replicating"


async def test_names_of_a_directory_that_fit_in_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unlisted, "ANSWER_BYTES", 500)
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        await nodes.run()
        for number in range(50):
            (nodes.target / "d" / f"mine{number}").touch()
        done = await compare(nodes, "d")
        assert done.totals.found[Kind.EXTRA] == 50


async def test_what_cannot_be_read_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        await nodes.run()

        def fails(file: object, size: int, there: bytes) -> object:
            if size == 5:
                raise OSError(errno.EIO, "Input/output error")
            return small(file, size, there)  # type: ignore[arg-type]

        monkeypatch.setattr(first_look, "small", fails)
        monkeypatch.setattr(second_look, "small", fails)
        done = await compare(nodes, "d/other", "d/middle", "small", strict=True)
        assert done.found["d/other"] == (Kind.UNREADABLE, "")
        assert done.totals.differs == 0
