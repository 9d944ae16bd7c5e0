"""A distribution whose metadata cannot be read is reported, and hides no other."""

from __future__ import annotations

import pytest

from i2core.api import DriverKind
from i2core.registry import Registry
from i2core.testing.site import Site


def test_a_malformed_entry_points_file(site: Site) -> None:
    site.add_metadata("dist-torn", "[i2core.plugins]\nno equals sign here\n", version="4.0")
    site.add("good")
    registry = Registry.load({"good"})
    assert registry.names(DriverKind.CODEC) == ("good",)
    (problem,) = registry.problems
    assert (problem.plugin, problem.distribution, problem.version) == ("dist-torn", "dist-torn", "4.0")
    assert problem.what.startswith("metadata cannot be read: ")


@pytest.mark.parametrize("file", ["entry_points.txt", "METADATA"])
def test_bytes_that_are_no_text(site: Site, file: str) -> None:
    site.add("torn")
    (site.root / "dist_torn-1.0.dist-info" / file).write_bytes(b"\xff\xfe[i2core.plugins]\n\x80")
    site.add("good")
    registry = Registry.load({"good"})
    assert registry.names(DriverKind.CODEC) == ("good",)
    assert [problem.what.split(":")[0] for problem in registry.problems] == ["metadata cannot be read"]


def test_a_malformed_entry_point(site: Site) -> None:
    site.add_metadata("dist-odd", "[i2core.plugins]\nodd = not a module!\n")
    site.add("good")
    registry = Registry.load({"good", "odd"})
    assert registry.names(DriverKind.CODEC) == ("good",)
    assert [problem.plugin for problem in registry.problems] == ["odd"]
    assert registry.problems[0].what.startswith("cannot be imported: ")
