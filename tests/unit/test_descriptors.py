"""How many files this process may open, and how many its caches keep open."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from i2core.posix.descriptors import may_keep


@pytest.mark.parametrize(("soft", "kept"), [(1024, 64), (256, 32), (16, 4), (resource.RLIM_INFINITY, 64)])
def test_a_cache_keeps_a_share_of_the_limit(soft: int, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, soft))
    assert may_keep(64) == kept


def test_the_limit_is_raised_as_far_as_possible() -> None:
    code = (
        "import resource; from i2core.posix.descriptors import raise_limit\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard)); raise_limit()\n"
        "assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603
