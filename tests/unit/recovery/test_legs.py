"""Which directories of a rule come to which destinations, and what several of them have done together."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import pytest

from i2core.api import UsageError
from i2core.config.model import DriverChoice, Pair, Rule
from i2core.node.daemon.recovery_legs import legs_of
from i2core.node.daemon.recovery_tasks import FromBackup, merged
from i2core.recovery.order import Extra


@pytest.fixture
def rule(tmp_path: Path) -> Rule:
    """A rule with two directories, one in the other's parent."""
    sources = [tmp_path / "one", tmp_path / "two"]
    for source in sources:
        source.mkdir()
    pairs = tuple(Pair(source=os.fsencode(source), target=b"/backup" + os.fsencode(source)) for source in sources)
    return Rule(name="data1", backup="bak1", pairs=pairs)


def test_everything_comes_to_a_named_directory(rule: Rule) -> None:
    (leg,) = legs_of("data1", rule, "/to", ["a"], Extra.DELETE)
    assert (leg.to, leg.root, leg.paths) == ("/to", "", ["a"])


def test_each_directory_comes_to_its_original_place(rule: Rule) -> None:
    one, two = (os.fsdecode(pair.source) for pair in rule.pairs)
    assert [(leg.to, leg.root) for leg in legs_of("data1", rule, None, [], Extra.KEEP)] == [(one, one), (two, two)]
    chosen = legs_of("data1", rule, None, [f"{two}/f", f"{two}/g/"], Extra.KEEP)
    assert [(leg.root, leg.paths) for leg in chosen] == [(two, [f"{two}/f", f"{two}/g/"])]


@pytest.mark.parametrize("path", ["f", "/elsewhere", "/"])
def test_a_path_that_is_in_none_of_them(rule: Rule, path: str) -> None:
    with pytest.raises(UsageError, match="in no directory of the rule"):
        legs_of("data1", rule, None, [path], Extra.KEEP)


def test_what_the_rule_excludes_is_never_taken_for_extra(rule: Rule) -> None:
    """The backup node does not know what is excluded, so it would be removed."""
    filtered = attrs.evolve(rule, filters=(DriverChoice(name="glob"),))
    assert legs_of("data1", filtered, None, [], Extra.KEEP)
    assert legs_of("data1", rule, None, [], Extra.DELETE)
    for extra in (Extra.DELETE, Extra.ASIDE):
        with pytest.raises(UsageError, match="would count as extra"):
            legs_of("data1", filtered, None, [], extra)


def test_single_files_have_no_extra_files_beside_them(rule: Rule) -> None:
    file = Path(os.fsdecode(rule.pairs[0].source)) / "f"
    file.touch()
    single = attrs.evolve(rule, pairs=(Pair(source=os.fsencode(file), target=b"/backup/f"),))
    (leg,) = legs_of("data1", single, None, [], Extra.KEEP)
    assert leg.to == os.fsdecode(file.parent)
    with pytest.raises(UsageError, match="would count as extra"):
        legs_of("data1", single, None, [], Extra.DELETE)


def test_a_rule_of_another_node_needs_a_directory() -> None:
    with pytest.raises(UsageError, match="no original places"):
        legs_of("web1/data1", None, None, [], Extra.KEEP)


def test_figures_of_several_destinations_are_added() -> None:
    one = {"to": "/a", "files": 1, "failed": [], "proved": True, "equal": True, "aside": None, "moment": "m", "seq": 7}
    two = {"to": "/b", "files": 2, "failed": ["x"], "proved": False, "equal": False, "aside": "/x"}
    found = merged([one, two | {"moment": "m", "seq": 7}])
    assert found == {"to": "/a, /b", "files": 3, "failed": ["x"], "proved": False, "equal": False, "aside": "/x"} | {
        "moment": "m",
        "seq": 7,
    }
    plans = [{"totals": {"create": {"count": 1, "size": 5, "newer": 0}}}, {"totals": {"keep": {"count": 1}}}]
    totals = {"create": {"count": 1, "size": 5, "newer": 0}, "keep": {"count": 1, "size": 0, "newer": 0}}
    assert merged(plans) == {"totals": totals}


def test_paths_of_any_bytes_are_asked_for() -> None:
    leg = legs_of("data1", None, os.fsdecode(b"/to\xff"), [os.fsdecode(b"b\xfe")], Extra.KEEP)[0]
    order = FromBackup(backup="bak1", legs=[leg], to=[leg.to]).order("data1", leg)
    assert (order.to.encode("latin-1"), order.paths[0].encode("latin-1")) == (b"/to\xff", b"b\xfe")
