"""A record that failed in the middle: what the catalog must say afterwards is looked up on the replica.

The rows of the record stay: "until seq s it was so" is also true when s changed nothing. Rows of later records go, for
they were planned for a state that never came; those records are planned again. The steps:

    1. `Index.give_up` takes back what the catalog says of later records
    2. `correct_catalog` corrects it for the record that failed
    3. the journal is cut before the frame, and gets one that ends with this record (`journal.packing.shortened`)
    4. the index takes this frame in again, and the planner forgets the later records (`Planner.forget`)
"""

from __future__ import annotations

from i2core.api.present import STAGING, Handle, Identity
from i2core.history.index.catalog import Catalog
from i2core.history.model.rows import CatalogChange, Home, Left, Object
from i2core.history.plan.step import Step
from i2core.history.read.places import ObjectLost, Places


def correct_catalog(catalog: Catalog, places: Places, step: Step) -> list[CatalogChange]:
    """Brings the catalog, which has the changes of the step, to what stands after as much of it as was carried out;
    what it changed.

    Raises:
        OSError: the replica cannot be read.
    """
    names = dict.fromkeys((change.parent, change.name) for change in step.catalog if not isinstance(change, Object))
    oids = [change.oid for change in step.catalog if isinstance(change, Home)] + [row.oid for row in step.names]
    known = {identity: oid for oid in oids if (identity := catalog.identity(oid)) is not None}
    changes: list[CatalogChange] = []
    for parent, name in names:
        found = _found(places, step, parent, name, known) if parent != STAGING else []
        home = catalog.home(parent, name)
        if home is None or (parent, name, home[0]) not in [change[:3] for change in found]:
            changes += found
    catalog.change(changes)
    return changes


def _found(places: Places, step: Step, parent: int, name: bytes, known: dict[Identity, int]) -> list[CatalogChange]:
    """What the name leads to now."""
    handle = _child(places, parent, name)
    if handle is None:
        return [Left(parent, name)]
    identity = places.present.facts(handle).identity
    places.keep(handle)
    oid = known.get(identity)
    if oid is not None:
        return [Home(parent, name, oid, step.seq)]
    if step.made and any(isinstance(one, Home) and one[:3] == (parent, name, step.made) for one in step.catalog):
        return [Object(step.made, step.seq, identity, step.seq), Home(parent, name, step.made, step.seq)]
    return [Left(parent, name)]


def _child(places: Places, parent: int, name: bytes) -> Handle | None:
    try:
        return places.present.child(places.find(parent), name)
    except ObjectLost:
        return None
