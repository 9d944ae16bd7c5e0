"""The catalog of a rule's snapshots, on the backup node's disk: a small file for each rule, replaced atomically."""

from __future__ import annotations

from pathlib import Path

from i2core.api import Code, LinkError, StopRule
from i2core.posix.durable import replace_durably
from i2core.rule.backup.replica.state_files import PASSING_HERE, read_file, rule_key, unkept
from i2core.rule.sealed_text import sealed, unsealed
from i2core.snapshot.catalog import Catalog


class CatalogFile:
    """A `Catalog` on disk. Blocks."""

    def __init__(self, directory: Path, peer: str, rule: str) -> None:
        self._path = directory / f"{rule_key(peer, rule)}.json"

    def exists(self) -> bool:
        """True when there is one, whole or not."""
        return self._path.exists()

    def load(self) -> Catalog:
        """The catalog; an empty one where there is none.

        Raises:
            StopRule: it is damaged. Nothing is taken or removed then, for nobody knows what is there.
            LinkError: it cannot be read now.
        """
        try:
            return Catalog.decode(unsealed(read_file(self._path)))
        except FileNotFoundError:
            return Catalog()
        except OSError as error:
            if error.errno in PASSING_HERE:
                raise LinkError(f"cannot read the snapshots: {error.strerror}", obj=str(self._path)) from error
            raise self._damaged(error.strerror or "") from error
        except ValueError as error:
            raise self._damaged(str(error)) from error

    def save(self, catalog: Catalog) -> None:
        """Replaces the file so that a power cut leaves the old or the new one.

        Raises:
            StopRule: it cannot be written.
            LinkError: it cannot be written now.
        """
        try:
            replace_durably(self._path, sealed(catalog.encode()))
        except OSError as error:
            raise unkept(error, self._path, "the list of snapshots") from error

    def _damaged(self, why: str) -> StopRule:
        return StopRule(
            f"the list of the rule's snapshots cannot be read: {why}",
            code=Code.CDP_DESCRIPTION,
            obj=str(self._path),
            next_step="restore the file from a backup of the state directory; or move it away: the snapshots are not "
            "listed any more then, and have to be removed by hand",
        )
