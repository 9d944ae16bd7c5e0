"""The source is on a file system that is unmounted while its rule is at rest."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from i2core.api import Change, Code, Lost, Op, Place
from i2core.testing.trees import compare_trees

from .pair import Nodes, open_nodes, until

pytestmark = pytest.mark.root
Mount = Callable[[Path], None]
ROOT = Place(0, b"")


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mounts a new file system, and unmounts it at the end."""
    points: list[Path] = []

    def mount_it(point: Path) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "none", point], check=True)  # noqa: S603, S607
        points.append(point)

    yield mount_it
    for point in points:
        subprocess.run(["umount", "-l", point], check=False, capture_output=True)  # noqa: S603, S607


async def unmounted(nodes: Nodes) -> None:
    """Unmounts it; retries until the rule is at rest."""
    await until(lambda: subprocess.run(["umount", nodes.source], check=False).returncode == 0)  # noqa: S603, S607


@pytest.mark.parametrize("told", ["root", "file"])
async def test_nothing_is_removed_and_the_loss_is_held(tmp_path: Path, mount: Mount, told: str) -> None:
    async with open_nodes(tmp_path) as nodes:
        mount(nodes.source)
        for number in range(300):
            (nodes.source / f"{number}").write_bytes(b"x")
        async with nodes.running() as status:
            (nodes.source / "1").write_bytes(b"changed")
            nodes.capture.tell(Change(Op.MODIFY, Place(0, b"1")))
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])
            await unmounted(nodes)
            (nodes.source / "stray").touch()
            if told == "file":
                nodes.capture.tell(Change(Op.REMOVE, Place(0, b"1")), Change(Op.CREATE, Place(0, b"stray")))
            else:
                nodes.capture.tell(Lost(ROOT, "the directory was unmounted or moved"))
            await until(lambda: status.held)
            assert len(list(nodes.target.iterdir())) == 300
            assert Code.SOURCE_GONE in nodes.codes()
