"""Long operations of a daemon: watched, cancelled, kept over restarts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio
import trio.testing

from i2core.api import Code, StopRule, UsageError
from i2core.node.daemon import tasks as module
from i2core.node.daemon.tasks import Tasks, TaskState

Show = Callable[[Mapping[str, Any]], None]


class Said(list[tuple[str, Code | None]]):
    """The lines that were said, by rule and code."""

    def __call__(self, rule: str, code: Code | None, line: str) -> None:
        self.append((rule, code))


async def _three_files(show: Show) -> dict[str, Any]:
    show({"files": 3})
    await trio.lowlevel.checkpoint()
    return {"equal": True}


async def _for_ever(show: Show) -> NoReturn:
    show({"files": 1})
    await trio.sleep_forever()


async def _fails(show: Show) -> dict[str, Any]:
    await trio.lowlevel.checkpoint()
    raise StopRule("no room", code=Code.REPLICA_FULL, obj="/to")


async def test_the_end_of_a_task_is_kept(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path / "tasks", Said())
    async with trio.open_nursery() as nursery:
        task = await tasks.begin(nursery, "recovery", "data", {"to": "/x"}, _three_files)
        assert (task.state, task.ident) == (TaskState.RUNNING, 1)
        ended = await tasks.wait(task.ident, 60)
    assert (ended.state, ended.progress, ended.result) == (TaskState.DONE, {"files": 3}, {"equal": True})
    said = Said()
    assert Tasks(tmp_path / "tasks", said).all() == [ended]
    assert said == []
    assert json.loads(json.dumps(ended.as_json()))["state"] == "done"


async def test_an_error_of_a_task_ends_that_task_alone(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path, Said())
    async with trio.open_nursery() as nursery:
        failing = await tasks.begin(nursery, "recovery", "a", {}, _fails)
        other = await tasks.begin(nursery, "recovery", "b", {}, _for_ever)
        failed = await tasks.wait(failing.ident, 60)
        assert failed.state is TaskState.FAILED
        assert failed.error is not None and failed.error["code"] == Code.REPLICA_FULL.value
        assert tasks.get(other.ident).state is TaskState.RUNNING
        assert tasks.cancel(other.ident)
        assert (await tasks.wait(other.ident, 60)).state is TaskState.CANCELLED
    assert not tasks.cancel(other.ident)
    assert [task.state for task in Tasks(tmp_path, Said()).all()] == [TaskState.FAILED, TaskState.CANCELLED]


async def test_a_task_that_the_daemon_broke_off_is_told(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        task = await Tasks(tmp_path, Said()).begin(nursery, "recovery", "data", {}, _for_ever)
        nursery.cancel_scope.cancel()
    said = Said()
    again = Tasks(tmp_path, said)
    assert said == [("data", Code.TASK_INTERRUPTED)]
    assert again.get(task.ident).state is TaskState.INTERRUPTED
    said.clear()
    assert Tasks(tmp_path, said).get(task.ident).state is TaskState.INTERRUPTED  # told once
    assert said == []


async def test_waiting_has_an_end(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    tasks = Tasks(tmp_path, Said())
    async with trio.open_nursery() as nursery:
        task = await tasks.begin(nursery, "recovery", "data", {}, _for_ever)
        assert (await tasks.wait(task.ident, 60)).state is TaskState.RUNNING
        nursery.cancel_scope.cancel()


async def test_old_tasks_are_forgotten_and_numbers_never_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 2)
    tasks = Tasks(tmp_path, Said())
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            await tasks.wait((await tasks.begin(nursery, "recovery", "data", {}, _three_files)).ident, 60)
    assert [task.ident for task in tasks.all()] == [3, 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000003.json", "00000004.json"]
    with pytest.raises(UsageError, match="no such task"):
        tasks.get(1)
    (tmp_path / "00000004.json").write_text("{")  # damaged: left out, and its number is not used again
    again = Tasks(tmp_path, Said())
    assert [task.ident for task in again.all()] == [3]
    async with trio.open_nursery() as nursery:
        assert (await again.begin(nursery, "recovery", "data", {}, _three_files)).ident == 5


async def test_a_task_that_cannot_be_noted_is_not_begun(tmp_path: Path) -> None:
    (tmp_path / "tasks").write_text("in the way")
    begun = []

    async def work(show: Show) -> dict[str, Any]:
        begun.append(True)
        return {}

    (tmp_path / "tasks").unlink()
    tasks = Tasks(tmp_path / "tasks", Said())
    (tmp_path / "tasks").write_text("in the way")
    async with trio.open_nursery() as nursery:
        with pytest.raises(OSError, match=r"exists|directory"):
            await tasks.begin(nursery, "recovery", "data", {}, work)
    assert not begun and tasks.all() == []
