"""The names in a directory of a replica that has too many for one answer: page by page, in constant memory."""

from __future__ import annotations

from collections.abc import Generator, Iterable

import trio

from i2core.api.threads import in_thread

NAME_COST = 64
"""Memory of a name besides its own bytes."""
NAMES_BYTES = 4 * 1024 * 1024
"""Memory of all the names that one `Sink.look` gives, with `NAME_COST` for each."""
PAGE_BYTES = 1024 * 1024
"""What the names of one page may take."""


class NamePages:
    """The names in one directory, in any order. Holds the directory open until it is closed."""

    def __init__(self, pages: Generator[list[bytes], None, None], first: list[bytes] | None = None) -> None:
        """`pages` is gone through in worker threads. `first` was read from it already; None: nothing was."""
        self._pages = pages
        self._first = first

    async def next(self) -> list[bytes]:
        """The next page; empty after the last.

        Raises:
            OSError: the directory cannot be read.
        """
        if self._first is not None:
            first, self._first = self._first, None
            await trio.lowlevel.checkpoint()
            return first
        return await in_thread(_next, self._pages)

    def close(self) -> None:
        """Lets the directory go."""
        self._pages.close()


def _next(pages: Generator[list[bytes], None, None]) -> list[bytes]:
    return next(pages, [])


def paged(names: Iterable[bytes]) -> Generator[list[bytes], None, None]:
    """The names in pages of `PAGE_BYTES`."""
    page: list[bytes] = []
    size = 0
    for name in names:
        size += len(name) + NAME_COST
        if size > PAGE_BYTES and page:
            yield page
            page, size = [], len(name) + NAME_COST
        page.append(name)
    if page:
        yield page
