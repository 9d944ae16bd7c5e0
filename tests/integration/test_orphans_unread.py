"""A mirror cannot read a directory for a moment. The repair after it does not lose what only the replica has there: the
rule says what happens to orphans."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from i2core.config.model import OrphanAction, Orphans
from i2core.wire.frame import FrameType

from .pair import open_nodes, until
from .unreadable import unreadable


@pytest.mark.parametrize("action", [*OrphanAction])
@pytest.mark.parametrize("again", [False, True], ids=["at once", "after a restart"])
async def test_orphans_are_handled_as_the_rule_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: OrphanAction, again: bool
) -> None:
    async with open_nodes(tmp_path) as nodes:
        aside = tmp_path / "backup" / "aside"
        for name in ("orphan", "beneath/orphan"):
            (nodes.target / "d" / name).parent.mkdir(parents=True, exist_ok=True)
            (nodes.target / "d" / name).write_text("somebody's")
        (nodes.source / "d" / "beneath").mkdir(parents=True)
        (nodes.source / "d" / "beneath" / "own").write_text("own")
        to = os.fsencode(aside) if action is OrphanAction.MOVE else None
        rule = nodes.rule(orphans=Orphans(action=action, to=to))
        fail = unreadable(monkeypatch, b"d")
        nodes.wire.before_frame[FrameType.SURVEY] = partial(fail, True)
        if not again:
            nodes.wire.before_close.append(partial(fail, False))
        else:
            async with nodes.running(rule):
                pass
            fail(False)
        async with nodes.running(rule) as status:
            await until((nodes.target / "d" / "beneath" / "own").exists)
            await until(lambda: status.doubtful == 0 and status.seq == status.durable_seq)
        kept = [(nodes.target / "d" / name).exists() for name in ("orphan", "beneath/orphan")]
        assert kept == [action is OrphanAction.KEEP] * 2
        moved = sorted(path.name for path in aside.rglob("*") if path.is_file())
        assert moved == (["orphan", "orphan"] if action is OrphanAction.MOVE else [])
