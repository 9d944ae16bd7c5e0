"""kill -9 of the backup node while it takes and removes snapshots: each one is whole or not there, and nothing of the
others is left in the journal."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from i2core.api import I2Error
from i2core.node.control.client import ControlClient, control_client
from i2core.testing.trees import compare_trees

from .daemons import RULE, Site, eventually, open_site

ROUNDS = 6


def _noted(site: Site) -> list[dict[str, object]]:
    """The snapshots that are noted on disk."""
    files = list((site.backup.state_dir / "snapshots").glob("*.json"))
    return json.loads(files[0].read_bytes().splitlines()[0])["snapshots"] if files else []


def _ask(site: Site, begin: str, number: int = 0) -> None:
    """Begins to take or to remove one; whether the node answers before it dies is no matter."""
    with contextlib.suppress(I2Error), control_client(site.backup.state_dir) as daemon:
        if begin == "taking":
            daemon.create_snapshot(RULE)
        else:
            daemon.remove_snapshot(RULE, number)


def _kept(daemon: ControlClient) -> list[int]:
    """All, once the node has put in order what the kill has left."""
    eventually("all is in order", lambda: {each["state"] for each in daemon.snapshots(RULE)} <= {"kept"})
    return [each["number"] for each in daemon.snapshots(RULE)]


@pytest.mark.slow
def test_killed_while_taking_and_removing(tmp_path: Path) -> None:
    with open_site(tmp_path, rule="cdp = {}") as site:
        site.backup.start()
        site.work.start()
        site.replicating()
        (site.source / "file").write_text("first")
        site.settled()
        with control_client(site.backup.state_dir) as daemon:
            first = daemon.await_task(daemon.create_snapshot(RULE, "first"))["number"]
        for turn in range(ROUNDS):
            (site.source / "file").write_text(f"later {turn}")
            before = {each["ident"] for each in _noted(site)}
            _ask(site, "taking")
            if turn % 2:
                eventually("it is noted", lambda known=before: {e["ident"] for e in _noted(site)} > known)  # type: ignore[misc]
            site.backup.kill()
            site.backup.start()
            with control_client(site.backup.state_dir) as daemon:
                others = [number for number in _kept(daemon) if number != first]
            if others and turn % 3 == 2:
                _ask(site, "removing", others[0])
                site.backup.kill()
                site.backup.start()
                with control_client(site.backup.state_dir) as daemon:
                    assert first in _kept(daemon)
        site.settled()
        with control_client(site.backup.state_dir) as daemon:
            for number in _kept(daemon):
                to = tmp_path / f"to-{number}"
                done = daemon.await_task(daemon.begin_recovery(RULE, {"to": str(to), "snapshot": number}))
                assert done["equal"] and done["proved"]
            assert (tmp_path / f"to-{first}" / "file").read_text() == "first"
            for number in _kept(daemon):
                assert daemon.remove_snapshot(RULE, number)
            assert daemon.snapshots(RULE) == []
        assert compare_trees(site.source, site.replica) == []
        assert "Traceback" not in site.backup.said() + site.work.said(), site.tails()
