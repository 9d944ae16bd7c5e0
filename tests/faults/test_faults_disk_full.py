"""A disk fills up under a running node: the rule stops with its code and damages nothing, or continues without that
disk. When there is room again, a start by hand makes both trees equal."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from i2core.testing.trees import compare_trees

from .daemons import Site, eventually, open_site
from .disk import Disk, small_disk
from .load import Load, open_load

pytestmark = [pytest.mark.slow, pytest.mark.root]

REPLICA_FULL, WORK_FULL = 3606, 3610
OLD = b"what stood here before the disk was full" * 1000
PLACES = 50
TICK_S = 0.1
LIMIT_S = 90.0
MEBIBYTES = 16
"""Of the big file: the disks are small."""


def fill_until_stopped(site: Site, disk: Disk, work: Callable[[int], None]) -> dict[str, object]:
    """Keeps the disk full while the source changes; returns the status of the rule when it has stopped."""
    deadline, turn = time.monotonic() + LIMIT_S, 0
    while site.work.status().get("state") != "stopped":
        assert time.monotonic() < deadline, f"it does not stop: {site.work.status()}\n{site.tails()}"
        disk.fill()
        work(turn)
        turn += 1
        time.sleep(TICK_S)
    return site.work.status()


def bring_together(site: Site, load: Load) -> None:
    """Starts the rule by hand, as its next step says; then both trees must be equal."""
    site.work.act("start")
    site.replicating()
    load.stop()
    site.settled()
    site.close()
    assert compare_trees(site.source, site.replica) == [], site.tails()
    assert load.check_database(site.replica, site.home / "aside") == []
    assert "Traceback" not in site.work.said() + site.backup.said(), site.tails()


def documents(site: Site) -> Callable[[int], None]:
    """Replaces documents as an editor does, one after the other, each by a long one that does not fit."""

    def save(turn: int) -> None:
        document = site.source / f"document{turn % PLACES}"
        fresh = document.with_suffix(".swp")
        fresh.write_bytes(os.urandom(400_000))
        fresh.replace(document)

    return save


def new_files(site: Site) -> Callable[[int], None]:
    """Makes files with long names, which the catalog has to note."""

    def create(turn: int) -> None:
        for number in range(200):
            (site.source / f"{turn:05}{number:0200}").touch()

    return create


def torn(site: Site) -> list[str]:
    """Documents on the replica whose content the source never had."""
    found = []
    for number in range(PLACES):
        content = (site.replica / f"document{number}").read_bytes()
        if content != OLD and len(content) != 400_000:
            found.append(f"document{number}: {len(content)} bytes")
    return found


def test_the_replicas_disk_fills_up_under_load(tmp_path: Path) -> None:
    with small_disk(tmp_path / "replicas", 96) as disk, open_site(tmp_path) as site:
        for number in range(PLACES):
            (site.source / f"document{number}").write_bytes(OLD)
        with open_load(site.source, 1, mebibytes=MEBIBYTES) as load:
            for node in site.nodes:
                node.start()
            site.replicating()
            status = fill_until_stopped(site, disk, documents(site))
            assert (status["code"], status["reason"]) == (REPLICA_FULL, "fault"), status
            assert str(status["object"]).startswith(str(disk.place)), status
            assert status["next_step"]
            assert torn(site) == []
            assert site.backup.alive
            disk.make_room()
            bring_together(site, load)


def test_the_backup_nodes_own_disk_fills_up_under_load(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "backup.state", 8) as disk,
        open_site(tmp_path) as site,
        open_load(site.source, 2, mebibytes=MEBIBYTES) as load,
    ):
        for node in site.nodes:
            node.start()
        site.replicating()
        status = fill_until_stopped(site, disk, lambda turn: None)
        assert (status["code"], status["reason"]) == (REPLICA_FULL, "fault"), status
        assert str(status["object"]).startswith(str(disk.place)), status
        assert site.backup.alive
        disk.make_room()
        bring_together(site, load)


def test_the_work_nodes_own_disk_fills_up_under_load(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "work.state", 32) as disk,
        open_site(tmp_path) as site,
        open_load(site.source, 3, mebibytes=MEBIBYTES) as load,
    ):
        for node in site.nodes:
            node.start()
        site.replicating()
        status = fill_until_stopped(site, disk, new_files(site))
        assert (status["code"], status["reason"]) == (WORK_FULL, "fault"), status
        assert str(status["object"]).startswith(str(disk.place)), status
        assert site.work.alive
        disk.make_room()
        bring_together(site, load)


def test_a_full_cache_stops_nothing(tmp_path: Path) -> None:
    """Changes that do not fit in the spool are only marked, and checked when the link is back."""
    with small_disk(tmp_path / "cache", 8) as disk:
        role = f'cache_dir = "{disk.place}"\nmemory_limit = "1MB"'
        with open_site(tmp_path, work_role=role) as site, open_load(site.source, 4, mebibytes=MEBIBYTES) as load:
            for node in site.nodes:
                node.start()
            site.replicating()
            disk.fill()
            site.backup.kill()
            eventually("much has changed", lambda: site.work.status().get("captured", 0) > 3000)
            load.stop()
            assert site.work.status()["state"] in ("abnormal", "invalid")
            site.backup.start()
            site.settled()
            site.close()
            assert compare_trees(site.source, site.replica) == [], site.tails()
            assert load.check_database(site.replica, tmp_path / "aside") == []
