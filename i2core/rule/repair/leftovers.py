"""Names that only the replica has, in directories that are unverified with everything beneath: were they removed on the
source, and that was lost, or are they orphans?

Each record of a removal has a doubt about its name. So such a name is a removal that was lost if there is a doubt about
it, and otherwise an orphan: a doubt about the directory alone says nothing about it. Example: the attributes of `d`
cannot be set on the replica, where somebody else has put `d/x`. The one exception is a directory that was removed
itself, by one record for all that was in it, and made again: what is left in it was removed with it
(`Depth.REPLACED`).
"""

from __future__ import annotations

from collections.abc import Sequence

from i2core.api import Place
from i2core.rule.catalog.catalog import Catalog
from i2core.rule.repair.plan import RepairPlan
from i2core.rule.survey.lister import is_within


class Leftovers:
    """Judges such names, for one plan. For worker threads."""

    def __init__(self, catalog: Catalog, plan: RepairPlan) -> None:
        self._catalog = catalog
        self._removing = plan.removing
        self._doubted = {place for place, _ in plan.compared}

    def removed(self, directory: Place, names: Sequence[bytes]) -> list[bytes]:
        """Those of the names in a directory that are to be removed; the others are orphans."""
        if is_within(directory, self._removing):
            return list(names)
        # Names that failed while too many others were unverified are in no plan, but in the catalog.
        failed = self._catalog.doubts.unnumbered_in(directory, names)
        return [name for name in names if name in failed or directory.child(name) in self._doubted]
