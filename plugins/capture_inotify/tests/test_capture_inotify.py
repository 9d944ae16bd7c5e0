"""The inotify capture against the contract, and where inotify itself is weak: storms, overflow, late events."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from i2_capture_inotify import capture as module
from i2_capture_inotify import kernel, plugin

from i2core.api import Change, Code, Lost, Op, Place, StopRule
from i2core.testing import file_ops
from i2core.testing.application import open_application
from i2core.testing.capture import check_capture

(SPEC,) = plugin.i2_captures()


async def test_it_keeps_the_contract(tmp_path: Path) -> None:
    await check_capture(SPEC, workdir=tmp_path)


async def test_trees_made_faster_than_they_are_watched_are_known_to_the_last_file(
    tmp_path: Path, listening: Any
) -> None:
    top = bytes(tmp_path)
    async with listening(tmp_path) as ear, open_application() as app:
        await app.do(*(("lone_tree", top + b"/tree%d" % i, 10) for i in range(40)))
        await ear.until_known()
        ear.forget()
        deepest = b"tree39" + b"/deeper" * 9 + b"/file"
        await app.do(("append", top + b"/" + deepest, b"!"))
        await ear.until_named(deepest)


async def test_a_directory_is_reported_once_its_tree_is_watched(tmp_path: Path, listening: Any) -> None:
    async with listening(tmp_path, deaf=True) as ear:
        file_ops.carry_out([("lone_tree", bytes(tmp_path) + b"/new", 5)])
        batch = await anext(aiter(ear.capture.changes()))
        assert Change(Op.CREATE, Place(0, b"new"), is_dir=True) in batch
        table = ear.capture._table
        assert table.at(0, b"new" + b"/deeper" * 4) is not None


async def test_after_renames_of_trees_every_directory_is_named_by_its_present_path(
    tmp_path: Path, listening: Any
) -> None:
    top = bytes(tmp_path)
    file_ops.carry_out([("lone_tree", top + b"/tree%d" % i, 6) for i in range(3)])
    async with listening(tmp_path) as ear, open_application() as app:
        steps: list[file_ops.Step] = []
        for turn in range(60):
            old, new = (b"tree0", b"tree1", b"tree2")[turn % 3], (b"tree1", b"tree2", b"tree0")[turn % 3]
            steps += [("rename", top + b"/" + old, top + b"/swap"), ("rename", top + b"/" + new, top + b"/" + old)]
            steps += [("rename", top + b"/swap", top + b"/" + new)]
            steps += [("attempt", "exchange", top + b"/tree0/deeper", top + b"/tree1/deeper/deeper")]
        await app.do(*steps)
        await ear.until_known()
        folders = [os.path.relpath(path, top) for path, _, _ in os.walk(top) if path != top]
        ear.forget()
        await app.do(*(("write", top + b"/" + folder + b"/mark", b"") for folder in folders))
        for folder in folders:
            await ear.until_named(folder + b"/mark")
        marks = {i.place.path for i in ear.heard if i.place.path.endswith(b"mark")}
        assert marks == {folder + b"/mark" for folder in folders}


async def test_a_tree_too_large_to_be_watched_at_once_is_entered_piece_by_piece(
    tmp_path: Path, listening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WALK_STEP", 7)
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    folders = [b"%d/%d" % (i, j) for i in range(20) for j in range(5)]
    file_ops.carry_out([("makedirs", bytes(outside) + b"/" + folder) for folder in folders])
    async with listening(root) as ear, open_application() as app:
        inside = bytes(root) + b"/in"
        await app.do(("rename", bytes(outside), inside), ("rename", inside + b"/7", inside + b"/seven"))
        await app.do(("write", inside + b"/seven/3/file", b""), ("write", bytes(root) + b"/after", b""))
        await ear.until_named(b"after")
        assert ear.heard[0] == Change(Op.CREATE, Place(0, b"in"), is_dir=True)
        await ear.until_known()
        ear.forget()
        await app.do(("append", inside + b"/seven/3/file", b"x"))
        await ear.until_named(b"in/seven/3/file")


async def test_an_overflow_is_told_for_every_root_and_new_directories_are_watched_after_it(
    tmp_path: Path, listening: Any
) -> None:
    roots = (tmp_path / "one", tmp_path / "two")
    for root in roots:
        root.mkdir()
    (roots[0] / "old").mkdir()
    held = kernel.limit("max_queued_events")
    async with listening(*roots, deaf=True) as ear, open_application() as app:
        busy = bytes(roots[0] / "busy")
        await app.do(("write", busy, b""), ("write", busy + b"2", b""))
        await app.do(*(("truncate", busy + (b"2" if i % 2 else b""), i) for i in range(held + 10)))
        await app.do(
            ("lone_tree", bytes(roots[1] / "unseen"), 3), ("rename", bytes(roots[0] / "old"), bytes(roots[1] / "moved"))
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ear.listen)
            await ear.until_lost(root=0)
            await ear.until_lost(root=1)
            await ear.until(lambda heard: Change(Op.CREATE, Place(1, b"unseen"), is_dir=True) in heard)
            await ear.until(lambda heard: Change(Op.CREATE, Place(1, b"moved"), is_dir=True) in heard)
            await ear.until_known()
            ear.forget()
            deep = b"unseen/deeper/deeper/file"
            await app.do(("append", bytes(roots[1]) + b"/" + deep, b"!"), ("write", bytes(roots[1] / "moved/x"), b""))
            await ear.until_named(deep, root=1)
            await ear.until_named(b"moved/x", root=1)
            nursery.cancel_scope.cancel()
        assert len(ear.said) == 1
        assert f"max_queued_events = {held}" in ear.said[0]


async def test_overflows_in_a_row_are_told_with_a_pause_between_them(
    tmp_path: Path, listening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OVERFLOW_PAUSE_S", 0.3)
    held = kernel.limit("max_queued_events")
    one, two = bytes(tmp_path / "1"), bytes(tmp_path / "2")
    async with listening(tmp_path, deaf=True) as ear, open_application() as app:
        times = []
        for _ in range(3):
            await app.do(("write", one, b""), ("write", two, b""))
            await app.do(*(("truncate", two if i % 2 else one, i) for i in range(held + 10)))
            async for batch in ear.capture.changes():
                if any(isinstance(item, Lost) for item in batch):
                    times.append(trio.current_time())
                    break
        assert len(times) == 3
        assert all(later - earlier >= 0.3 for earlier, later in pairwise(times))


async def test_looking_at_the_tree_makes_no_events(tmp_path: Path, listening: Any) -> None:
    (tmp_path / "file").write_bytes(b"content")
    async with listening(tmp_path) as ear:
        for _ in range(3):
            assert (tmp_path / "file").read_bytes() == b"content"
            os.listdir(tmp_path)
        (tmp_path / "mark").touch()
        await ear.until_named(b"mark")
        assert {i.place.path for i in ear.heard} == {b"mark"}


async def test_no_name_is_reserved(tmp_path: Path, listening: Any) -> None:
    async with listening(tmp_path) as ear:
        (tmp_path / ".i2-file").write_bytes(b"x")
        (tmp_path / ".i2-dir").mkdir()
        await ear.until_named(b".i2-dir")
        (tmp_path / ".i2-dir/in").touch()
        await ear.until_named(b".i2-dir/in")
        assert any(op is Op.CREATE and path == b".i2-file" for op, path, _ in ear.ops())


async def test_excluded_directories_are_neither_watched_nor_named_until_they_get_another_name(
    tmp_path: Path, listening: Any
) -> None:
    (tmp_path / "skip/deep").mkdir(parents=True)
    (tmp_path / "a").mkdir()
    async with listening(tmp_path, wants_dir=lambda root, path: path != b"skip") as ear:
        (tmp_path / "skip/deep/file").touch()
        (tmp_path / "skip").rename(tmp_path / "kept")
        await ear.until(lambda heard: Change(Op.CREATE, Place(0, b"kept"), is_dir=True) in heard)
        (tmp_path / "kept/deep/file").write_bytes(b"x")
        await ear.until_named(b"kept/deep/file")
        (tmp_path / "a").rename(tmp_path / "skip")
        await ear.until(lambda heard: Change(Op.REMOVE, Place(0, b"a"), is_dir=True) in heard)
        ear.forget()
        (tmp_path / "skip/file").touch()
        (tmp_path / "mark").touch()
        await ear.until_named(b"mark")
        assert {i.place.path for i in ear.heard} == {b"mark"}


async def test_a_missing_root_stops_the_rule(tmp_path: Path, listening: Any) -> None:
    with pytest.raises(StopRule) as caught:
        async with listening(tmp_path / "missing"):
            pass
    assert caught.value.code is Code.SOURCE_GONE
    assert "missing" in str(caught.value)


PATHS = st.lists(st.sampled_from([b"a", b"b", b"c", b"n\n\xff"]), min_size=1, max_size=3).map(b"/".join)
STEPS = st.one_of(
    st.tuples(st.just("write"), PATHS, st.binary(max_size=4)),
    st.tuples(st.just("append"), PATHS, st.just(b"+")),
    st.tuples(st.just("makedirs"), PATHS),
    st.tuples(st.just("lone_tree"), PATHS, st.just(2)),
    st.tuples(st.just("chmod"), PATHS, st.sampled_from([0o700, 0o711])),
    st.tuples(st.sampled_from(["unlink", "rmtree"]), PATHS),
    st.tuples(st.sampled_from(["rename", "exchange"]), PATHS, PATHS),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bursts=st.lists(st.lists(STEPS, max_size=15), max_size=4))
def test_looking_again_at_each_named_place_finds_all_that_happened(
    bursts: list[list[file_ops.Step]], tmp_path_factory: pytest.TempPathFactory, listening: Any
) -> None:
    """The steps of a burst are all done when the first of their events is read: each tells of a moment long past."""
    root = tmp_path_factory.mktemp("root")

    def absolute(step: file_ops.Step) -> file_ops.Step:
        paths = 2 if step[0] in ("rename", "exchange") else 1
        return ("attempt", step[0], *(bytes(root) + b"/" + p for p in step[1 : 1 + paths]), *step[1 + paths :])

    async def play() -> None:
        async with listening(root) as ear:
            for burst in bursts:
                file_ops.carry_out(map(absolute, burst))
                await trio.testing.wait_all_tasks_blocked()
            await ear.until_known()
            folders = [os.path.relpath(path, bytes(root)) for path, _, _ in os.walk(bytes(root))]
            for folder in folders:
                (root / os.fsdecode(folder) / "mark").touch()
            for folder in folders:
                await ear.until_named(os.path.normpath(folder + b"/mark"))

    trio.run(play)


async def test_what_is_not_read_yet_is_known(tmp_path: Path, listening: Any) -> None:
    """The replica is not up to date while the kernel, or the capture, holds a change."""
    async with listening(tmp_path, deaf=True) as ear:
        assert not ear.capture.unread()
        file_ops.carry_out([("append", bytes(tmp_path) + b"/file", b"!")])
        assert ear.capture.unread()
        batch = await anext(aiter(ear.capture.changes()))
        assert Place(0, b"file") in [item.place for item in batch]
        assert not ear.capture.unread()
        (tmp_path / "file").rename(tmp_path.parent / f"{tmp_path.name}-out")
        assert ear.capture._events.read(1)  # its second half may come: it is held back
        assert ear.capture.unread()
