"""A name that two plugins offer belongs to neither: which one a rule gets must not depend on chance."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from i2core.api import Code, DriverKind, UsageError
from i2core.config.load import load
from i2core.config.mistakes import ConfigErrors
from i2core.drivers.select import check_drivers
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


RULES = """
[node]
name = "n"
[work]
[[work.peer]]
name = "bak"
address = "192.0.2.1"
fingerprint = "sha256:9b74c9897bac770ffc029102a200c5de2f1e0d3c4b5a69788796a5b4c3d2e1f0"
[[rule]]
name = "needs it"
backup = "bak"
paths = [{ source = "/etc", target = "/b/1" }]
compress = { driver = "same" }
[[rule]]
name = "does not"
backup = "bak"
paths = [{ source = "/usr", target = "/b/2" }]
"""


@pytest.mark.parametrize("second", [CODEC_PLUGIN.format(name="same"), "raise RuntimeError('no library')"])
def test_rules_that_do_not_need_it_run(second: str, site: Site, tmp_path: Path) -> None:
    """There is a second offer, and a plugin that does not load: the config is valid, and the rule that needs the driver
    reports why it cannot run."""
    broken = "raise" in second
    if not broken:
        site.add("one", CODEC_PLUGIN.format(name="same"))
    site.add("same", second, distribution="dist-two")
    path = tmp_path / "n.toml"
    path.write_text(RULES)
    registry = Registry.load({"builtin", "transport_tcp", "same"} | (set() if broken else {"one"}))
    needs, does_not = load(path, registry).rules
    check_drivers(does_not, registry)
    with pytest.raises(UsageError) as refused:
        check_drivers(needs, registry)
    assert refused.value.code is Code.PLUGIN_BROKEN
    for named in ["plugin same (dist-two 1.0)", *([] if broken else ["plugin one (dist-one 1.0)"])]:
        assert named in refused.value.cause


def test_a_plugin_that_might_offer_it_is_named(site: Site, tmp_path: Path) -> None:
    site.add("whatever", "raise RuntimeError('no library')")
    path = tmp_path / "n.toml"
    path.write_text(RULES)
    with pytest.raises(ConfigErrors) as refused:
        load(path, Registry.load({"builtin", "transport_tcp", "whatever"}))
    assert "plugin whatever (dist-whatever 1.0): cannot be imported: RuntimeError: no library" in str(refused.value)


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
