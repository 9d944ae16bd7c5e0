"""What all tests share, of core and of the plugins alike: reasons for what is skipped, and how hard to look.

`HYPOTHESIS_PROFILE` chooses: `dev` is quick, `all` looks ten times as hard.
"""

from __future__ import annotations

import os
import resource

import pytest
from hypothesis import HealthCheck, settings

# No deadline: the machines that run this are shared, and a slow example is not a wrong one.
settings.register_profile("dev", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("all", settings.get_profile("dev"), max_examples=500, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

MEMORY_LIMIT = 8 << 30
"""Bytes of memory for the tests' process and each of its children."""


def pytest_configure() -> None:
    """A test that runs away ends in a MemoryError, and does not take the machine with it."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = MEMORY_LIMIT if hard == resource.RLIM_INFINITY else min(hard, MEMORY_LIMIT)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips tests marked `root` where they cannot run, and says so."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root"))
