"""A plugin that is enabled and not installed is reported, and does not affect others."""

from __future__ import annotations

from i2core.api import DriverKind
from i2core.registry import PluginProblem, Registry
from i2core.testing.site import Site


def test_it_is_reported_and_the_others_load(site: Site) -> None:
    site.add("present")
    registry = Registry.load(["missing", "present"])
    assert registry.names(DriverKind.CODEC) == ("present",)
    assert registry.problems == (PluginProblem("missing", "", "", "not installed"),)
    assert str(registry.problems[0]) == "plugin missing: not installed"
