"""`check_filter`: the contract of every filter; and `NameFilter`, which excludes the names that a test gives it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from i2core.api import DriverKind, DriverSpec, Filter, FilterContext, NoConfig, Place
from i2core.config.options import structure_options

ROOTS = (b"/srv/data", b"/srv/data/nested", b"/srv/b\xff\n", b"/")
"""The roots that the check opens a filter for."""

_NAMES = (
    b"report.doc",
    b"REPORT.DOC",
    b"tmp",
    b".hidden",
    b"new\nline.doc",
    b"\xff\xfe bad utf-8 \x80.doc",
    b"n" * 255,
    b" blanks ",
    b"-rf",
    b"[a-z]*?\\",
    "名字.docx".encode(),
)


class NameFilter(Filter):
    """Excludes the given names, and everything beneath directories with such a name."""

    def __init__(self, *unwanted: bytes) -> None:
        self._unwanted = frozenset(unwanted)

    def wants(self, place: Place, is_dir: bool) -> bool:
        return self._unwanted.isdisjoint(place.path.split(b"/"))

    def spec(self, name: str = "name") -> DriverSpec:
        """A driver that always opens this filter."""

        @asynccontextmanager
        async def open_name(config: NoConfig, context: FilterContext) -> AsyncIterator[Filter]:
            yield self

        return DriverSpec(kind=DriverKind.FILTER, name=name, summary="excludes names, for tests", open=open_name)


async def check_filter(spec: DriverSpec, options: Mapping[str, Any] | None = None) -> None:
    """Checks the contract of a filter. `options` as in a config file; None takes ``spec.example``.

    Raises:
        AssertionError: the filter breaks the contract; the message says where.
        UsageError: the options do not fit the driver.
    """
    config = structure_options(spec, spec.example if options is None else options)
    context = FilterContext(roots=ROOTS)
    async with spec.open(config, context) as asked, spec.open(config, context) as fresh:
        for filter_ in (asked, fresh):
            assert isinstance(filter_, Filter), f"open gave {type(filter_).__name__}, which is not a Filter"
        questions = _questions()
        answers = {question: _ask(asked, *question) for question in questions}
        # If answers depended on earlier questions, they would differ between a mirror and live replication.
        questions.reverse()
        for filter_, which in (
            (asked, "the same filter, asked again,"),
            (fresh, "another filter with the same options"),
        ):
            for place, is_dir in questions:
                now = _ask(filter_, place, is_dir)
                assert now == answers[place, is_dir], f"{place}: {which} answered {now}, the first answer was {not now}"


def _questions() -> list[tuple[Place, bool]]:
    paths = [b"", *_NAMES]
    paths += [parent + b"/" + name for parent in _NAMES for name in _NAMES]
    paths += [b"/".join([b"deep"] * 60 + [name]) for name in _NAMES]
    return [(Place(root, path), is_dir) for root in range(len(ROOTS)) for path in paths for is_dir in (True, False)]


def _ask(filter_: Filter, place: Place, is_dir: bool) -> bool:
    try:
        answer = filter_.wants(place, is_dir)
    except Exception as error:
        raise AssertionError(f"{place}, {is_dir=}: wants raised {error!r}") from error
    assert isinstance(answer, bool), f"{place}, {is_dir=}: wants answered {answer!r}, which is not a bool"
    return answer
