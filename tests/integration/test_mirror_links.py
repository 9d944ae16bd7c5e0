"""Files with several names, changed between their listing and their sending."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from i2core.testing.trees import compare_trees
from i2core.wire.frame import FrameType

from .pair import open_nodes, until


@pytest.mark.parametrize("replace", [Path.write_text, None], ids=["replaced", "gone"])
async def test_the_first_name_is_another_file_by_then(
    tmp_path: Path, replace: Callable[[Path, str], int] | None
) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "one").write_text("the old file")
        for name in ("other", "third"):
            os.link(nodes.source / "one", nodes.source / name)
        first, second, third = os.listdir(nodes.source)

        def change() -> None:
            if (nodes.source / first).stat().st_nlink == 3:
                (nodes.source / first).unlink()
                if replace is not None:
                    replace(nodes.source / first, "a new file")

        nodes.wire.before_frame[FrameType.SURVEY] = change
        await nodes.run()
        assert (nodes.target / second).read_text() == "the old file"
        assert (nodes.target / second).samefile(nodes.target / third)
        if replace is not None:
            assert (nodes.target / first).read_text() == "a new file"


@pytest.mark.parametrize("size", [100_000, 5_000_000])
async def test_a_file_that_gets_a_listed_name_is_not_patched_into_the_previous_one(tmp_path: Path, size: int) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "one").write_bytes(b"x" * size)
        os.link(nodes.source / "one", nodes.source / "other")
        await nodes.run()
        first, second = os.listdir(nodes.source)
        with (nodes.source / first).open("ab") as file:
            file.write(b"more")

        def change() -> None:
            (nodes.source / first).unlink()
            (nodes.source / first).write_bytes(b"y" * (size + 4))

        nodes.wire.before_frame[FrameType.SURVEY] = change
        await nodes.run()
        assert (nodes.target / first).read_bytes() == b"y" * (size + 4)
        assert (nodes.target / second).read_bytes() == b"x" * size + b"more"


@pytest.mark.parametrize("gone", [False, True], ids=["another file", "gone"])
@pytest.mark.parametrize("size", [10, 100_000, 5_000_000])
@pytest.mark.parametrize("more", [b"more", b""], ids=["content", "attributes"])
async def test_other_names_of_a_changed_file(tmp_path: Path, size: int, more: bytes, gone: bool) -> None:
    """The change was to be sent under the first name, which belongs to another file by then, or is gone."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "one").write_bytes(b"x" * size)
        for name in ("other", "third"):
            os.link(nodes.source / "one", nodes.source / name)
        await nodes.run()
        first, second, third = os.listdir(nodes.source)
        with (nodes.source / first).open("ab") as file:
            file.write(more)
            os.fchmod(file.fileno(), 0o640)

        def change() -> None:
            (nodes.source / first).unlink()
            if not gone:
                (nodes.source / first).write_bytes(b"a new file")

        nodes.wire.before_frame[FrameType.SURVEY] = change
        await nodes.run()
        assert (nodes.target / second).read_bytes() == b"x" * size + more
        assert (nodes.target / second).stat().st_mode & 0o777 == 0o640
        assert (nodes.target / second).samefile(nodes.target / third)
        assert not (nodes.target / second).samefile(nodes.target / first)


async def test_a_name_that_was_listed_for_another_file(tmp_path: Path) -> None:
    """It is a second name of a file that was listed under its first alone."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "one").write_text("one")
        (nodes.source / "file").write_text("file")
        for other in (nodes.source / "other", tmp_path / "elsewhere"):  # so that its inode number is not reused
            os.link(nodes.source / "one", other)
        first, second = (name for name in os.listdir(nodes.source) if name != "file")

        def change() -> None:
            for name in (first, second):
                (nodes.source / name).unlink()
            (nodes.source / first).write_text("a new file")
            os.link(nodes.source / "file", nodes.source / second)

        nodes.wire.before_frame[FrameType.SURVEY] = change
        await nodes.run()
        assert (nodes.target / second).samefile(nodes.target / "file")


@pytest.mark.parametrize("most", [0, 10])
@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("size", [10, 5_000_000])
async def test_a_link_made_after_its_file_was_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, once: bool, size: int, most: int
) -> None:
    """The file was listed with one name, and its second name in another directory. No report of it arrives."""
    monkeypatch.setattr("i2core.rule.work.mirroring.UNLINKED_MOST", most)
    monkeypatch.setattr("i2core.rule.survey.lister.FIRST_FRAME_ENTRIES", 1)
    monkeypatch.setattr("i2core.rule.survey.lister.FRAME_ENTRIES", 1)
    async with open_nodes(tmp_path) as nodes:
        for name in ("one", "other"):
            (nodes.source / name).mkdir()
            (nodes.source / name / "file").write_bytes(b"x" * size)
        first, second = os.listdir(nodes.source)
        file, link = f"{first}/file", f"{second}/link"
        await nodes.run()

        def listed_top() -> None:
            nodes.wire.before_frame[FrameType.SURVEY] = listed_first

        def listed_first() -> None:
            os.link(nodes.source / file, nodes.source / link)

        nodes.wire.before_frame[FrameType.SURVEY] = listed_top
        if once:
            await nodes.run()
        else:
            async with nodes.running(compare=True):
                await until(lambda: compare_trees(nodes.source, nodes.target) == [])
        assert compare_trees(nodes.source, nodes.target) == []
        assert (nodes.target / file).samefile(nodes.target / link)
