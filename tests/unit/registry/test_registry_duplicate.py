"""A name that two offer belongs to neither: which of them a rule gets must not depend on chance."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from i2core.api import DriverKind, UsageError
from i2core.registry import PluginProblem, Registry
from i2core.testing.site import CODEC_PLUGIN, Site


def test_two_distributions_with_a_plugin_of_one_name(site: Site) -> None:
    first = site.add("twin", distribution="dist-one")
    second = site.add("twin", distribution="dist-two", version="3.0")
    site.add("alone")
    registry = Registry.load({"alone", "twin"})
    assert registry.names(DriverKind.CODEC) == ("alone",)
    assert set(registry.problems) == {
        PluginProblem("twin", "dist-one", "1.0", "dist-two offers a plugin of the same name: uninstall one of them"),
        PluginProblem("twin", "dist-two", "3.0", "dist-one offers a plugin of the same name: uninstall one of them"),
    }
    assert not {first, second} & set(sys.modules), "neither may run before the administrator has chosen"


def test_two_plugins_with_a_driver_of_one_kind_and_name(site: Site) -> None:
    site.add("one", CODEC_PLUGIN.format(name="same"))
    site.add("two", CODEC_PLUGIN.format(name="same"))
    site.add("alone")
    registry = Registry.load({"alone", "one", "two"})
    assert registry.names(DriverKind.CODEC) == ("alone",)
    assert registry.problems == (
        PluginProblem("one", "dist-one", "1.0", "plugin two offers the same codec: enable or install only one", "same"),
        PluginProblem("two", "dist-two", "1.0", "plugin one offers the same codec: enable or install only one", "same"),
    )
    with pytest.raises(UsageError, match="plugin two offers the same codec"):
        registry.driver(DriverKind.CODEC, "same")


def test_enabling_one_of_them_settles_it(site: Site) -> None:
    site.add("one", CODEC_PLUGIN.format(name="same"))
    site.add("two", CODEC_PLUGIN.format(name="same"))
    registry = Registry.load({"two"})
    assert registry.names(DriverKind.CODEC) == ("same",)
    assert registry.problems == ()


def test_the_same_name_for_another_kind_is_no_duplicate(site: Site) -> None:
    site.add("codec", CODEC_PLUGIN.format(name="same"))
    site.add(
        "filter",
        "from i2core.api import hookimpl\n"
        "from i2core.testing import NameFilter\n"
        "@hookimpl\n"
        "def i2_filters(): return [NameFilter().spec('same')]\n",
    )
    registry = Registry.load({"codec", "filter"})
    assert registry.driver(DriverKind.CODEC, "same").kind is DriverKind.CODEC
    assert registry.driver(DriverKind.FILTER, "same").kind is DriverKind.FILTER
    assert registry.problems == ()


def test_an_older_copy_further_down_the_path_does_not_count(tmp_path: Path) -> None:
    for folder in ("front", "back"):
        (tmp_path / folder).mkdir()
    with Site(tmp_path / "back") as back, Site(tmp_path / "front") as front:
        back.add("copied", version="0.9")
        front.add("copied", version="1.1")
        registry = Registry.load({"copied"})
    assert registry.problems == ()
    assert [entry.version for entry in registry.plugins] == ["1.1"]
