"""The directories of a source in a fixed order, from any of them on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from i2core.api import Place
from i2core.compare.walk import directories
from i2core.config.model import OnError
from i2core.drivers.chain import FilterChain
from i2core.posix.tree import LocalTree
from i2core.rule.catalog.catalog import Catalog
from i2core.rule.life.status import RuleStatus
from i2core.rule.source.source import Source


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    for root, paths in (("one", ["a.b/c", "a/x/y", "a/z", "a0", "b"]), ("two", ["k/l"])):
        for path in paths:
            (tmp_path / root / path).mkdir(parents=True)
            (tmp_path / root / path / "file").write_bytes(b"12345")
    trees = [LocalTree(os.fsencode(tmp_path / root)) for root in ("one", "two")]
    catalog = Catalog(None)
    yield Source(
        rule="data1",
        trees=trees,
        filter=FilterChain(()),
        catalog=catalog,
        status=RuleStatus(name="data1"),
        on_error=OnError.LOG,
        say=lambda rule, code, line: None,
    )
    catalog.close(clean=False)
    for tree in trees:
        tree.close()


def test_each_directory_comes_once_before_what_is_in_it(source: Source) -> None:
    found = list(directories(source))
    paths = [(place.root, place.path) for place, _ in found]
    assert paths == [
        (0, b""),
        *((0, path) for path in (b"a", b"a/x", b"a/x/y", b"a/z", b"a.b", b"a.b/c", b"a0", b"b")),
        (1, b""),
        (1, b"k"),
        (1, b"k/l"),
    ]
    assert sum(size for _, size in found) == 6 * 5


def test_it_goes_on_after_any_directory(source: Source) -> None:
    whole = [place for place, _ in directories(source)]
    for index, place in enumerate(whole):
        assert [each for each, _ in directories(source, place)] == whole[index + 1 :]


@pytest.mark.parametrize(
    ("gone", "left"),
    [(b"a/y", [b"a/z", b"a.b", b"a.b/c", b"a0", b"b"]), (b"a.a/b/c", [b"a.b", b"a.b/c", b"a0", b"b"]), (b"c", [])],
)
def test_it_goes_on_after_a_directory_that_is_gone(source: Source, gone: bytes, left: list[bytes]) -> None:
    found = [place.path for place, _ in directories(source, Place(0, gone)) if place.root == 0]
    assert found == left
