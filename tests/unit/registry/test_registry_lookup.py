"""What the registry answers, and that it imports no more than it is asked for."""

from __future__ import annotations

import sys

import pytest

from i2core.api import Code, DriverKind, UsageError
from i2core.registry import Registry
from i2core.testing.site import Site


def test_drivers_come_by_kind_and_in_order_of_their_names(site: Site) -> None:
    for name in ("mid", "zed", "abc"):
        site.add(name, version=f"1.{len(name)}")
    registry = Registry.load({"zed", "abc", "mid"})
    assert registry.names(DriverKind.CODEC) == ("abc", "mid", "zed")
    assert list(registry.drivers(DriverKind.CODEC)) == ["abc", "mid", "zed"]
    assert registry.drivers(DriverKind.SINK) == {}
    assert registry.driver(DriverKind.CODEC, "mid") is registry.drivers(DriverKind.CODEC)["mid"]
    assert [(entry.name, entry.distribution, entry.version) for entry in registry.plugins] == [
        ("abc", "dist-abc", "1.3"),
        ("mid", "dist-mid", "1.3"),
        ("zed", "dist-zed", "1.3"),
    ]


def test_only_what_is_enabled_is_imported(site: Site) -> None:
    wanted, other = site.add("wanted"), site.add("other")
    Registry.load({"wanted"})
    assert wanted in sys.modules
    assert other not in sys.modules


def test_without_a_choice_all_that_is_installed_is_loaded(site: Site) -> None:
    site.add("first")
    site.add("second")
    assert {"first", "second"} <= set(Registry.load().names(DriverKind.CODEC))


def test_an_unknown_name_says_what_is_installed(site: Site) -> None:
    site.add("one")
    site.add("two")
    with pytest.raises(UsageError) as caught:
        Registry.load({"one", "two"}).driver(DriverKind.CODEC, "three")
    assert caught.value.cause == "no codec of this name can be used; installed: one, two"
    assert caught.value.obj == "codec three"
    assert caught.value.code is Code.USAGE


def test_a_name_with_a_problem_says_so(site: Site) -> None:
    site.add("bad", "import no_such_library")
    with pytest.raises(UsageError, match="no_such_library") as caught:
        Registry.load({"bad"}).driver(DriverKind.CLIENT_TRANSPORT, "bad")
    assert caught.value.code is Code.PLUGIN_BROKEN
    assert caught.value.cause.startswith("no client transport of this name can be used; installed: none; plugin bad")
