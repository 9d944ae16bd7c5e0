"""Which orphans a rule must keep: those in directories that the source has kept in their places all the time."""

from __future__ import annotations

import pytest

from i2core.testing.sim.disk import Disk
from i2core.testing.sim.inode import Inode
from i2core.testing.sim.kernel import Kernel
from i2core.testing.sim.orphans import PlantedOrphans

SOURCE, TARGET = b"/source", b"/target"


@pytest.fixture
def kernel() -> Kernel:
    kernel = Kernel(Disk(1, lambda: 0))
    for path in (SOURCE, SOURCE + b"/d", SOURCE + b"/d/e", TARGET):
        kernel.mkdir(path)
    return kernel


@pytest.fixture
def planted(kernel: Kernel) -> PlantedOrphans:
    planted = PlantedOrphans()
    planted.plant(kernel, [TARGET], [kernel.find(SOURCE)])
    return planted


def lost(kernel: Kernel, planted: PlantedOrphans, source: Inode | None = None) -> list[str]:
    return planted.lost([source or kernel.find(SOURCE)], [kernel.find(TARGET)])


def test_each_directory_has_one(kernel: Kernel, planted: PlantedOrphans) -> None:
    assert lost(kernel, planted) == []
    for path in (b"/orphan", b"/d/orphan", b"/d/e/orphan"):
        kernel.unlink(TARGET + path)
    assert lost(kernel, planted) == [f"root 0: {path!r}: its orphan is lost" for path in (b"", b"d", b"d/e")]


def test_what_was_there_before_is_in_the_way(kernel: Kernel) -> None:
    kernel.symlink(b"../elsewhere", TARGET + b"/d")
    planted = PlantedOrphans()
    planted.plant(kernel, [TARGET], [kernel.find(SOURCE)])
    assert lost(kernel, planted) == []
    assert kernel.listdir(TARGET) == [b"d", b"orphan"]


def test_another_content_is_a_loss(kernel: Kernel, planted: PlantedOrphans) -> None:
    kernel.truncate(TARGET + b"/d/orphan", 3)
    assert lost(kernel, planted) == ["root 0: b'd': its orphan is lost"]


def test_a_directory_that_was_elsewhere_for_a_moment_may_lose_its_own(kernel: Kernel, planted: PlantedOrphans) -> None:
    kernel.rename(SOURCE + b"/d", SOURCE + b"/other")
    kernel.rename(SOURCE + b"/other", SOURCE + b"/d")
    for path in (b"/d/orphan", b"/d/e/orphan"):
        kernel.unlink(TARGET + path)
    assert lost(kernel, planted) == []
    kernel.unlink(TARGET + b"/orphan")
    assert lost(kernel, planted) == ["root 0: b'': its orphan is lost"]


def test_a_directory_that_was_removed_may_lose_its_own(kernel: Kernel, planted: PlantedOrphans) -> None:
    kernel.rmdir(SOURCE + b"/d/e")
    kernel.unlink(TARGET + b"/d/e/orphan")
    assert lost(kernel, planted) == []


def test_another_source_may_have_none_of_the_directories(kernel: Kernel, planted: PlantedOrphans) -> None:
    kernel.mkdir(b"/other")
    kernel.unlink(TARGET + b"/d/orphan")
    assert lost(kernel, planted, kernel.find(b"/other")) == []
    kernel.unlink(TARGET + b"/orphan")
    assert lost(kernel, planted, kernel.find(b"/other")) == ["root 0: b'': its orphan is lost"]
