"""Rules with the same name from two work nodes are never confused."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from i2core.api import UsageError
from i2core.config.model import BackupRole
from i2core.registry import Registry
from i2core.rule.backup.replica.position import Position, PositionFile, known_positions
from i2core.rule.backup.replica.replica import Replica
from i2core.rule.backup.service import BackupService


@pytest.fixture
def service(tmp_path: Path) -> BackupService:
    role = BackupRole(allow_roots=(b"/replicas",))
    return BackupService(role, registry=Registry.load(), state_dir=tmp_path, say=lambda *line: None)


async def held(service: BackupService, tmp_path: Path, nursery: trio.Nursery, *peers: str) -> dict[str, Replica]:
    """A rule of each peer, all of one name, whose deletes are held."""
    replicas = {peer: Replica("data1", peer, tmp_path / "positions", lambda *line: None) for peer in peers}
    for replica in replicas.values():
        service._replicas.keep(replica).is_received = True
        nursery.start_soon(replica.deletes.wait, "too many")
    await trio.testing.wait_all_tasks_blocked()
    return replicas


async def test_a_release_names_the_peer_of_the_rule(service: BackupService, tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        replicas = await held(service, tmp_path, nursery, "web1", "evil")
        with pytest.raises(UsageError, match="evil/data1, web1/data1"):
            await service.release("data1")
        assert all(replica.deletes.reason for replica in replicas.values())
        assert not await service.release("data1", "stranger")
        assert await service.release("data1", "web1")
        await trio.testing.wait_all_tasks_blocked()
        assert [peer for peer, replica in replicas.items() if replica.deletes.reason] == ["evil"]
        assert not await service.release("data1", "web1"), "nothing is held any more"
        nursery.cancel_scope.cancel()


async def test_the_only_one_of_that_name_needs_no_peer(service: BackupService, tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        await held(service, tmp_path, nursery, "web1")
        assert await service.release("data1")


def test_forgetting_names_the_peer_of_the_rule(service: BackupService, tmp_path: Path) -> None:
    positions = tmp_path / "positions"
    for peer in ("web1", "evil"):
        PositionFile(positions, peer, "data1").save(Position("data1", peer, epoch=1, targets=["/replicas/a"]))
    with pytest.raises(UsageError, match="evil/data1, web1/data1"):
        service.forget("data1")
    assert len(known_positions(positions)) == 2
    assert service.forget("data1", "evil")
    assert [each.peer for each in known_positions(positions)] == ["web1"]
    assert service.forget("data1")
    assert not service.forget("data1")


async def test_handing_over_names_the_peer_of_the_rule(service: BackupService, tmp_path: Path) -> None:
    positions = tmp_path / "positions"
    for peer in ("web1", "evil"):
        PositionFile(positions, peer, "data1").save(Position("data1", peer, epoch=1, targets=["/replicas/a"]))
    with pytest.raises(UsageError, match="evil/data1, web1/data1"):
        await service.hand_over("data1", None, "web2", "data1")
    assert await service.hand_over("data1", "web1", "web2", "data2")
    assert {each.peer: each.heir for each in known_positions(positions)} == {"web1": ["web2", "data2"], "evil": []}
    assert not await service.hand_over("data2", None, "web2", "data2")
