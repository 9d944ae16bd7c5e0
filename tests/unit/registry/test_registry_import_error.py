"""A plugin that cannot be imported is reported, and does not affect others."""

from __future__ import annotations

import pytest

from i2core.api import DriverKind
from i2core.registry import PluginProblem, Registry
from i2core.testing.site import Site


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import no_such_library", "cannot be imported: ModuleNotFoundError: No module named 'no_such_library'"),
        ("assert False, 'not today'", "cannot be imported: AssertionError: not today"),
        ("import sys; sys.exit(3)", "cannot be imported: SystemExit: 3"),
        ("raise RuntimeError", "cannot be imported: RuntimeError"),
        ("raise ValueError('two\\nlines')", "cannot be imported: ValueError: two lines"),
    ],
)
def test_it_is_reported_and_the_others_load(site: Site, source: str, what: str) -> None:
    site.add("broken", source, version="2.5")
    site.add("aaa")
    site.add("zzz")
    registry = Registry.load({"aaa", "broken", "zzz"})
    assert registry.names(DriverKind.CODEC) == ("aaa", "zzz")
    assert registry.problems == (PluginProblem("broken", "dist-broken", "2.5", what),)


def test_a_syntax_error_names_file_and_line(site: Site) -> None:
    module = site.add("broken", "def :")
    (problem,) = Registry.load({"broken"}).problems
    assert problem.what.startswith("cannot be imported: SyntaxError")
    assert f"{module}.py, line 1" in problem.what


def test_an_entry_point_without_its_module(site: Site) -> None:
    site.add_metadata("gone", "[i2core.plugins]\ngone = gone_module\n")
    (problem,) = Registry.load({"gone"}).problems
    assert problem.what == "cannot be imported: ModuleNotFoundError: No module named 'gone_module'"


def test_ctrl_c_during_an_import_is_no_problem_of_the_plugin(site: Site) -> None:
    site.add("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        Registry.load({"slow"})
