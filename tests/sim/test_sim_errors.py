"""Errors that the simulation once saw vanish."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from i2core.api import Code, StopRule
from i2core.rule.mirror.lister import Lister
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
