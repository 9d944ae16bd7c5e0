"""A plugin whose hooks break their contract is reported as a whole, and does not affect others."""

from __future__ import annotations

import pytest

from i2core.api import DriverKind
from i2core.api.hooks import Hooks
from i2core.registry import HOOK_KINDS, Registry
from i2core.testing.site import Site

_HEAD = """
import attrs
from i2core.api import DriverKind, hookimpl
from i2core.testing import XOR

"""


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("@hookimpl\ndef i2_codecs(): raise LookupError('no table')", "hook i2_codecs failed: LookupError: no table"),
        ("@hookimpl\ndef i2_codecs(): raise SystemExit", "hook i2_codecs failed: SystemExit"),
        ("@hookimpl\ndef i2_codecs():\n    yield XOR\n    1 / 0", "hook i2_codecs failed: ZeroDivisionError"),
        ("@hookimpl\ndef i2_codecs(): return XOR", "hook i2_codecs failed: TypeError"),
        ("@hookimpl\ndef i2_codecs(config): return ()", "hooks do not fit API version 1: PluginValidationError"),
        ("@hookimpl\ndef i2_codices(): return ()", "hooks do not fit API version 1: PluginValidationError"),
        ("@hookimpl\ndef i2_codecs(): return [XorCodec]", "hook i2_codecs failed: NameError"),
        ("@hookimpl\ndef i2_codecs(): return ['xor']", "hook i2_codecs returned str instead of DriverSpec"),
        ("@hookimpl\ndef i2_sinks(): return [XOR]", "hook i2_sinks returned a driver of another kind"),
        ("@hookimpl\ndef i2_codecs(): return [XOR, XOR]", "offers the codec xor twice"),
        (
            "@hookimpl\ndef i2_codecs(): return [attrs.evolve(XOR, config=dict)]",
            "driver xor lacks an open function or an attrs class as its config",
        ),
        (
            "@hookimpl\ndef i2_codecs(): return [attrs.evolve(XOR, open=None)]",
            "driver xor lacks an open function or an attrs class as its config",
        ),
    ],
)
def test_it_is_reported_and_the_others_load(site: Site, source: str, what: str) -> None:
    site.add("broken", _HEAD + source)
    site.add("aaa")
    site.add("zzz")
    registry = Registry.load({"aaa", "broken", "zzz"})
    assert registry.names(DriverKind.CODEC) == ("aaa", "zzz")
    (problem,) = registry.problems
    assert (problem.plugin, problem.distribution, problem.version) == ("broken", "dist-broken", "1.0")
    assert problem.what.startswith(what)


def test_one_bad_hook_takes_the_whole_plugin_out(site: Site) -> None:
    """Half a plugin would cause a surprise at a bad time."""
    site.add("half", _HEAD + "@hookimpl\ndef i2_codecs(): return [XOR]\n@hookimpl\ndef i2_sinks(): raise OSError")
    registry = Registry.load({"half"})
    assert registry.names(DriverKind.CODEC) == ()
    assert registry.plugins == ()


@pytest.mark.parametrize("answer", ["return [XOR]", "return (XOR,)", "yield XOR"])
def test_a_hook_may_return_any_iterable(site: Site, answer: str) -> None:
    site.add("good", f"{_HEAD}@hookimpl\ndef i2_codecs(): {answer}")
    registry = Registry.load({"good"})
    assert (registry.names(DriverKind.CODEC), registry.problems) == (("xor",), ())


def test_a_plugin_may_have_nothing_for_this_version(site: Site) -> None:
    site.add("empty", "")
    registry = Registry.load({"empty"})
    assert [(entry.name, entry.drivers) for entry in registry.plugins] == [("empty", ())]
    assert registry.problems == ()


def test_every_hook_has_its_kinds_and_every_kind_its_hook() -> None:
    assert set(HOOK_KINDS) == {name for name in vars(Hooks) if name.startswith("i2_")}
    assert sorted(kind.value for kinds in HOOK_KINDS.values() for kind in kinds) == sorted(k.value for k in DriverKind)
