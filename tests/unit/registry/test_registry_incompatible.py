"""A driver for another API version or platform is left out; the rest of its plugin works."""

from __future__ import annotations

import pytest

from i2core.api import DriverKind, UsageError
from i2core.registry import PluginProblem, Registry
from i2core.testing.site import Site

_TWO_CODECS = """
import attrs
from i2core.api import hookimpl
from i2core.testing import XOR

@hookimpl
def i2_codecs():
    return [XOR, attrs.evolve(XOR, name="unfit", {change})]
"""


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("api=99", "made for API version 99, this is 1: install a release that fits"),
        ("platforms=('beos', 'plan9')", "works on beos, plan9, this is "),
    ],
)
def test_the_driver_is_left_out_and_the_rest_stays(site: Site, change: str, what: str) -> None:
    site.add("mixed", _TWO_CODECS.format(change=change))
    registry = Registry.load({"mixed"})
    assert registry.names(DriverKind.CODEC) == ("xor",)
    assert [[spec.name for spec in entry.drivers] for entry in registry.plugins] == [["xor"]]
    (problem,) = registry.problems
    assert problem == PluginProblem("mixed", "dist-mixed", "1.0", problem.what, "unfit")
    assert problem.what.startswith(what)
    with pytest.raises(UsageError, match=r"plugin mixed \(dist-mixed 1.0\), driver unfit: "):
        registry.driver(DriverKind.CODEC, "unfit")
