"""Snapshots beside a replica on a real file system, between two nodes: taken while changes arrive, and read back."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from i2_store_btrfs.plugin import i2_snapshot_stores as btrfs
from i2_store_reflink.plugin import i2_snapshot_stores as reflink

from i2core.config.model import SnapshotPlan
from i2core.snapshot.driver import JOURNAL
from tests.pictures import differing, picture

from .pair import open_nodes
from .test_snapshots import KEY, read, settled

pytestmark = pytest.mark.root


@pytest.fixture(params=["xfs", "btrfs"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system of its own."""
    image, point = tmp_path / "image", tmp_path / "disk"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(400 << 20)
    try:
        for command in ([f"mkfs.{request.param}", str(image)], ["mount", "-o", "loop", str(image), str(point)]):
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this host cannot make and mount {request.param}: {error}")
    (point / "home").mkdir()
    yield point / "home"
    subprocess.run(["umount", str(point)], check=True)  # noqa: S603, S607


async def test_a_snapshot_beside_the_replica_is_what_it_was(home: Path, request: pytest.FixtureRequest) -> None:
    is_btrfs = "btrfs" in request.node.callspec.id
    async with open_nodes(home, JOURNAL, *btrfs(), *reflink()) as nodes:
        if is_btrfs:
            subprocess.run(["btrfs", "subvolume", "create", str(nodes.target)], check=True, capture_output=True)  # noqa: S603, S607
        (nodes.source / "file").write_bytes(os.urandom(1 << 20))
        (nodes.source / "d").mkdir()
        os.link(nodes.source / "file", nodes.source / "d" / "second")
        async with nodes.running(nodes.rule(snapshot=SnapshotPlan())) as status:
            await settled(nodes, status)
            with nodes.service.snapshots.of(KEY) as snapshots:
                wanted = picture(nodes.source)
                taken = await snapshots.create()
                assert taken.store == ("btrfs" if is_btrfs else "reflink")
                (nodes.source / "file").write_bytes(os.urandom(2 << 20))
                (nodes.source / "later").write_text("later")
                await settled(nodes, status)
                assert not differing(await read(snapshots, 1), wanted)
                (listed,) = await snapshots.listed(space=True)
                assert listed.bytes is not None and listed.bytes >= 1 << 20
        nodes.role = attrs.evolve(nodes.role)
        nodes.boot()
        with nodes.service.snapshots.of(KEY) as snapshots:
            assert not differing(await read(snapshots, 1), wanted)
            assert await snapshots.remove(1)
        assert sorted(os.listdir(nodes.target.parent)) == ["data1"]
