"""Changes that the replica refuses are retried for ever; until they succeed, their places are unverified, counted and
shown."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from i2_sink_fs.sink import FsSink

from i2core.api import Applied, Batch, Change, Code, Failure, Op, Place, Record
from i2core.rule.life.status import RuleStatus
from i2core.testing.trees import compare_trees

from .pair import Nodes, open_nodes, until

FAST_S = (0.02, 0.1)


@attrs.define
class Refusing:
    """A sink that refuses records for these paths, like a file system that returns EPERM."""

    paths: set[bytes] = attrs.field(factory=set)
    refused: int = 0
    most: int = 1 << 30
    """So often it refuses."""
    applied: int = 0
    code: Code = Code.OPEN_REPLICA

    def refuses(self, record: Record) -> bool:
        """True when the record is about one of the paths, or a path beneath it."""
        names = (record.path, record.other)
        return self.refused < self.most and any(
            name == path or name.startswith(path + b"/") for name in names for path in self.paths
        )

    async def apply(self, real: Callable[[Batch], Any], batch: Batch) -> Applied:
        """`Sink.apply`."""
        failures: list[Failure] = []
        for seq, record in enumerate(batch.records, batch.first_seq):
            self.applied += 1
            if self.refuses(record):
                self.refused += 1
                failures.append(Failure(seq, Place(record.root, record.path), self.code, "Operation not permitted"))
            else:
                failures += (await real(Batch(seq, [record]))).failures
        return Applied(batch.last_seq, tuple(failures))


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Refusing:
    """Makes the sink refuse these records."""
    gate, real = Refusing(), FsSink.apply

    async def apply(self: FsSink, batch: Batch) -> Applied:
        return await gate.apply(lambda part: real(self, part), batch)

    monkeypatch.setattr(FsSink, "apply", apply)
    monkeypatch.setattr("i2core.rule.repair.doubtful.RETRY_S", FAST_S)
    return gate


def tell(nodes: Nodes, op: Op, *names: str) -> None:
    """The capture reports these names."""
    nodes.capture.tell(*(Change(op, Place(0, name.encode())) for name in names))


def looked(status: RuleStatus) -> RuleStatus:
    """The present status."""
    status.look()
    return status


def differs(nodes: Nodes) -> bool:
    """True while the replica differs from the source."""
    return compare_trees(nodes.source, nodes.target) != []


async def heals(nodes: Nodes, status: RuleStatus) -> None:
    """Waits until the replica equals the source and the rule knows it."""
    await until(lambda: not differs(nodes))
    await until(lambda: looked(status).doubtful == 0 and status.oldest_pending_ns is None)


def write(nodes: Nodes) -> str:
    (nodes.source / "x").write_text("new, and longer")
    tell(nodes, Op.MODIFY, "x")
    return "x"


def make(nodes: Nodes) -> str:
    (nodes.source / "fresh").write_text("fresh")
    tell(nodes, Op.CREATE, "fresh")
    return "fresh"


def make_large(nodes: Nodes) -> str:
    (nodes.source / "large").write_bytes(bytes(range(256)) * 12_000)
    tell(nodes, Op.CREATE, "large")
    return "large"


def patch_large(nodes: Nodes) -> str:
    with (nodes.source / "big").open("r+b") as file:
        file.seek(2_500_000)
        file.write(b"changed")
    tell(nodes, Op.MODIFY, "big")
    return "big"


def remove(nodes: Nodes) -> str:
    (nodes.source / "x").unlink()
    tell(nodes, Op.REMOVE, "x")
    return "x"


def attributes(nodes: Nodes) -> str:
    (nodes.source / "x").chmod(0o600)
    tell(nodes, Op.MODIFY, "x")
    return "x"


def directory_attributes(nodes: Nodes) -> str:
    (nodes.source / "dir").chmod(0o700)
    nodes.capture.tell(Change(Op.MODIFY, Place(0, b"dir"), is_dir=True))
    return "dir"


def make_tree(nodes: Nodes) -> str:
    (nodes.source / "t" / "u").mkdir(parents=True)
    for name in ("t/a", "t/u/b"):
        (nodes.source / name).write_text(name)
    nodes.capture.tell(Change(Op.CREATE, Place(0, b"t"), is_dir=True))
    return "t"


def rename(nodes: Nodes) -> str:
    (nodes.source / "dir").rename(nodes.source / "other")
    nodes.capture.tell(Change(Op.RENAME, Place(0, b"dir"), to=Place(0, b"other"), is_dir=True))
    return "other"


def link(nodes: Nodes) -> str:
    (nodes.source / "second").hardlink_to(nodes.source / "x")
    tell(nodes, Op.CREATE, "second")
    return "second"


NAMES: dict[Callable[[Nodes], str], str] = {
    write: "x",
    make: "fresh",
    make_large: "large",
    patch_large: "big",
    remove: "x",
    attributes: "x",
    directory_attributes: "dir",
    make_tree: "t",
    rename: "other",
    link: "second",
}
CHANGES = tuple(NAMES)


def fill(nodes: Nodes) -> None:
    """Creates the first files."""
    (nodes.source / "x").write_text("old")
    (nodes.source / "dir").mkdir()
    (nodes.source / "dir" / "inside").write_text("inside")
    (nodes.source / "big").write_bytes(bytes(3_000_000))


@contextmanager
def refused(gate: Refusing, change: Callable[[Nodes], str], nodes: Nodes) -> Any:
    """Makes the change, which is refused during the body."""
    gate.paths.add(NAMES[change].encode())
    assert change(nodes) == NAMES[change]
    yield
    gate.paths.clear()


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_what_is_refused_is_tried_until_it_succeeds(
    tmp_path: Path, refusing: Refusing, change: Callable[[Nodes], str]
) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes)
        async with nodes.running() as status:
            with refused(refusing, change, nodes):
                await until(lambda: refusing.refused >= 4)
                await until(lambda: looked(status).doubtful >= 1)
                assert status.lag_seconds
                assert status.skipped_count == 0
                assert differs(nodes)
            await heals(nodes, status)
        told = [line for _, _, line in nodes.said if "retried until it succeeds" in line]
        right = [line for _, code, line in nodes.said if code is Code.RIGHT_AGAIN]
        assert 1 <= len(told) <= 4, told
        assert len(right) == len(told)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("most", [1, 2, 3])
async def test_what_is_refused_for_a_moment(
    tmp_path: Path, refusing: Refusing, change: Callable[[Nodes], str], most: int
) -> None:
    """After a refused rename the directory keeps its old name, and later records find nothing under the new one."""
    refusing.most = most
    async with open_nodes(tmp_path) as nodes:
        fill(nodes)
        async with nodes.running() as status:
            with refused(refusing, change, nodes):
                await until(lambda: refusing.refused >= 1)
                await heals(nodes, status)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("compare", [False, True], ids=["start", "start --compare"])
async def test_what_was_refused_is_tried_by_the_next_run(
    tmp_path: Path, refusing: Refusing, change: Callable[[Nodes], str], compare: bool
) -> None:
    """Also for an orphan that stays, if the source removed it."""
    async with open_nodes(tmp_path) as nodes:
        fill(nodes)
        async with nodes.running() as status:
            gate = refused(refusing, change, nodes)
            with gate:
                await until(lambda: refusing.refused >= 2)
                await until(lambda: looked(status).doubtful >= 1)
            refusing.paths.add(b"x" if change in (write, remove, attributes) else b"nothing")
        refusing.paths.clear()
        before = nodes.codes().count(Code.MIRROR_DONE)
        async with nodes.running(compare=compare) as status:
            await heals(nodes, status)
        assert nodes.codes().count(Code.MIRROR_DONE) - before == compare


async def test_a_broken_link_does_not_forget_it(tmp_path: Path, refusing: Refusing) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes)
        async with nodes.running() as status:
            with refused(refusing, write, nodes):
                await until(lambda: refusing.refused >= 2)
                nodes.wire.net.cut()
                await until(lambda: Code.NETWORK in nodes.codes())
            await heals(nodes, status)


async def test_a_mirror_is_refused_as_well(tmp_path: Path, refusing: Refusing) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes)
        refusing.paths = {b"x", b"dir", b"big"}
        async with nodes.running() as status:
            await until(lambda: looked(status).doubtful >= 3)
            refusing.paths = set()
            await heals(nodes, status)


async def test_one_run_ends_and_names_what_was_refused(tmp_path: Path, refusing: Refusing) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes)
        refusing.paths = {b"x", b"dir"}
        status = await nodes.run(once=True)
        assert {Path(skipped.path).name for skipped in status.skipped} >= {"x", "dir"}
        refusing.paths = set()
        assert (await nodes.run(once=True)).skipped == []
        assert not differs(nodes)


async def test_objects_that_do_not_fit_are_skipped(tmp_path: Path, refusing: Refusing) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes)
        refusing.code = Code.REPLICA_UNFIT
        async with nodes.running() as status:
            with refused(refusing, make, nodes):
                await until(lambda: status.skipped_count == 1)
                await until(lambda: looked(status).doubtful == 0)
            assert refusing.refused == 1


async def test_one_stuck_name_costs_no_compare_of_its_directory(
    tmp_path: Path, refusing: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = FsSink.look

    async def look(self: FsSink, asks: Any) -> Any:
        asked.append(max((len(ask.names) for ask in asks), default=0))
        return await real(self, asks)

    async with open_nodes(tmp_path) as nodes:
        fill(nodes)
        for number in range(50):
            (nodes.source / f"n{number}").touch()
        async with nodes.running():
            await until(lambda: not differs(nodes))
            monkeypatch.setattr(FsSink, "look", look)
            with refused(refusing, write, nodes):
                await until(lambda: refusing.refused >= 9)
    assert len(asked) >= 3
    assert max(asked) == 1


async def test_waits_grow_and_each_name_has_its_own(tmp_path: Path, autojump_clock: object) -> None:
    from i2core.rule.catalog.rows import Doubt
    from i2core.rule.repair.doubtful import RETRY_S, Doubtful

    doubtful, doubt = Doubtful(), Doubt(1, b"a", 2)
    waits = []
    for tries in range(2, 14):
        assert doubtful.failed(doubt, refused=True) == tries
        assert doubtful.failed(doubt, refused=True) == 0, "it waits already"
        waits.append(doubtful.due_at - trio.current_time())
        assert doubtful.take(stuck=True) == {}
        await trio.sleep(waits[-1] + 0.001)
        assert doubtful.take(stuck=True) == {doubt: None}
        assert doubtful.compared([doubt], 7) == []
    assert all(RETRY_S[0] * 0.7 <= wait <= RETRY_S[1] * 1.3 for wait in waits)
    assert waits[0] < 1.5
    assert min(waits[-3:]) > 200
    doubtful.say(doubt, "right")
    assert doubtful.answered(6) == []
    assert doubtful.answered(7) == ["right"]
    assert len(doubtful) == 0
