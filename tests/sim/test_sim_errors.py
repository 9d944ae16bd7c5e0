"""Errors that once were lost in the simulation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from i2core.api import Code, LinkError, StopRule
from i2core.rule.backup.service import BackupService
from i2core.rule.survey.lister import Lister
from i2core.testing.sim.history import play
from i2core.wire.listing import Chunk


@pytest.mark.parametrize("seed", range(5))
def test_an_error_of_the_listing_stops_the_rule(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    def frames(self: Lister, scopes: Iterable[object]) -> Iterator[list[Chunk]]:
        if scopes:
            raise StopRule("cannot be read", code=Code.READ_SOURCE)
        yield []

    monkeypatch.setattr(Lister, "frames", frames)
    assert "stops: cannot be read" in play(seed).violation


def test_handing_over_is_retried_when_the_positions_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    real, tries = BackupService.hand_over, 0

    async def hand_over(self: BackupService, *arguments: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise LinkError("cannot read the positions")
        return await real(self, *arguments)

    monkeypatch.setattr(BackupService, "hand_over", hand_over)
    for seed in range(200):  # until one has somebody who hands over
        tries = 0
        violation = play(seed).violation
        if tries:
            break
    assert tries > 1
    assert not violation
