"""Which SQLite files of a simulated history find damage: those of the work node, which are meant by the accident."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from i2core.testing.sim.machine import Machine, running
from i2core.testing.sim.plan import plan
from i2core.testing.sim.world import STATE, World


@pytest.fixture
def world() -> Iterator[World]:
    world = World(plan(1))
    yield world
    world.close()


@pytest.mark.parametrize("path", ["", STATE.decode() + "/known"], ids=["temporary", "a file"])
def test_the_backup_node_finds_none(world: World, path: str) -> None:
    world.databases.sqlite.statements_left = 1
    token = running.set(Machine("backup"))
    try:
        database = world.databases.sqlite.connect(path)
        assert database.execute("SELECT 7").fetchone() == (7,)
        database.close()
    finally:
        running.reset(token)
    assert world.databases.sqlite.statements_left == 1


def test_the_work_node_finds_it(world: World) -> None:
    world.databases.sqlite.statements_left = 1
    token = running.set(Machine("work1"))
    try:
        database = world.databases.sqlite.connect("")
        with pytest.raises(sqlite3.DatabaseError, match="malformed"):
            database.execute("SELECT 7")
        database.close()
    finally:
        running.reset(token)
