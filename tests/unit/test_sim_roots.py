"""Where a simulated backup node may write: in its targets, wherever they were created, moved and mounted."""

from __future__ import annotations

import pytest

from i2core.testing.sim.disk import Disk
from i2core.testing.sim.kernel import Kernel
from i2core.testing.sim.roots import Replicas

TARGET = b"/sim/replica0/data"


@pytest.fixture
def kernel() -> Kernel:
    kernel = Kernel(Disk(1, lambda: 0))
    for path in (b"/sim", b"/sim/replica0"):
        kernel.mkdir(path)
    return kernel


@pytest.fixture
def replicas(kernel: Kernel) -> Replicas:
    disk = Disk(20, lambda: 0)
    kernel.mount(b"/sim/replica0", disk)
    kernel.mkdir(TARGET)
    replicas = Replicas(kernel, [TARGET], [disk])
    replicas.known = True
    return replicas


def test_a_target_that_was_made_again_is_one_after_its_disk_was_away_too(kernel: Kernel, replicas: Replicas) -> None:
    """The backup node creates it again, and ends before its sink is open. Then it starts while the disk is not
    mounted."""
    first = kernel.find(TARGET)
    replicas.move_away(0)
    kernel.mkdir(TARGET)
    made = kernel.find(TARGET)
    replicas.unmount(0)
    realms = replicas.realms()
    replicas.heal()
    assert kernel.find(TARGET) is made
    assert made in realms
    assert first not in realms


def test_the_bare_mount_point_is_no_target(kernel: Kernel, replicas: Replicas) -> None:
    replicas.unmount(0)
    bare = kernel.find(b"/sim/replica0")
    kernel.mkdir(TARGET)
    assert not {bare, kernel.find(TARGET)} & set(replicas.realms())
    assert replicas.lacks_a_root()


def test_beside_a_target_that_is_missing_it_may_be_made(kernel: Kernel, replicas: Replicas) -> None:
    beside = replicas.move_away(0)
    assert beside in replicas.realms()
    replicas.unmount(0)
    assert beside in replicas.realms()
