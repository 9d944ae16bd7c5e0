"""A site of its own for each test of the registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from i2core.testing.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """An empty directory of distributions on ``sys.path``."""
    with Site(tmp_path) as site:
        yield site
