"""The roots of one session, by number: every place in a message is checked against them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from i2core.api import Place, ProtocolError, Record


class SessionRoots:
    """The targets that the greeting named; a root is an index into them."""

    def __init__(self, targets: Sequence[str]) -> None:
        self.targets = targets

    def checked(self, place: Place) -> Place:
        """The place itself.

        Raises:
            ProtocolError: the session has no such root.
        """
        if place.root >= len(self.targets):
            raise ProtocolError(f"root {place.root} does not exist")
        return place

    def check(self, records: Iterable[Record]) -> None:
        """Checks the root of each record.

        Raises:
            ProtocolError: as `checked`.
        """
        for record in records:
            if record.root >= len(self.targets):
                raise ProtocolError(f"root {record.root} does not exist")
