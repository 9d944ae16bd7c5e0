"""`check_filter` passes a good filter, and finds each way in which a filter can break its contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest

from i2core.api import Filter, FilterContext, NoConfig, Place
from i2core.testing import CHECKS, NameFilter, check_filter


class _Strict(Filter):
    def wants(self, place: Place, is_dir: bool) -> bool:
        place.path.decode()
        return True


class _Counting(Filter):
    def __init__(self) -> None:
        self._asked = 0

    def wants(self, place: Place, is_dir: bool) -> bool:
        self._asked += 1
        return self._asked % 1000 != 0


class _Truthy(Filter):
    def wants(self, place: Place, is_dir: bool) -> bool:
        return place.path  # type: ignore[return-value]


async def test_the_twin_passes() -> None:
    spec = NameFilter(b"tmp", b"new\nline.doc").spec()
    await check_filter(spec)
    await CHECKS[spec.kind](spec, None)


def test_the_twin_excludes_everything_beneath_a_name() -> None:
    twin = NameFilter(b"tmp")
    assert [twin.wants(Place(0, path), False) for path in (b"tmp", b"a/tmp/b", b"a/tmpfile")] == [False, False, True]


@pytest.mark.parametrize(
    ("filter_", "complaint"),
    [
        (_Strict, "wants raised UnicodeDecodeError"),
        (_Counting, "the same filter, asked again, answered"),
        (_Truthy, "which is not a bool"),
    ],
)
async def test_a_broken_filter_is_found(filter_: type[Filter], complaint: str) -> None:
    @asynccontextmanager
    async def open_filter(config: NoConfig, context: FilterContext) -> AsyncIterator[Filter]:
        yield filter_()

    with pytest.raises(AssertionError, match=complaint):
        await check_filter(attrs.evolve(NameFilter().spec(), open=open_filter))
