"""Which store keeps a rule's snapshots."""

from __future__ import annotations

from i2core.api import Code, DriverKind, DriverSpec, Probe, UsageError
from i2core.api.snapshots import SnapshotContext
from i2core.config.model import DriverChoice
from i2core.config.words import bilingual
from i2core.drivers.select import Drivers

AUTO = "auto"
KIND = DriverKind.SNAPSHOT_STORE


def choose_store(drivers: Drivers, wanted: str, node: DriverChoice, context: SnapshotContext) -> DriverSpec:
    """The store for a new snapshot: the one that the rule wants, else the node's own choice, else the best one that
    works here. Blocks: probes look at the disk.

    Raises:
        UsageError: it is not installed or does not work here; or none does (3573).
    """
    name = node.name if wanted == AUTO else wanted
    if name != AUTO:
        spec = drivers.driver(KIND, name)
        found = _probe(spec, context)
        if not found.works:
            raise UsageError(found.why, code=Code.SNAPSHOT_CREATE, obj=f"snapshot store {name}", next_step=_NEEDED)
        return spec
    refused = []
    for spec in sorted(drivers.drivers(KIND).values(), key=lambda spec: -spec.rank):
        found = _probe(spec, context)
        if found.works:
            return spec
        refused.append(f"{spec.name}: {found.why}")
    causes = "; ".join(refused)
    raise UsageError(
        bilingual(f"no store of snapshots works here: {causes}", f"此处没有可用的快照存储：{causes}"),
        code=Code.SNAPSHOT_CREATE,
        next_step=_NEEDED,
    )


def _probe(spec: DriverSpec, context: SnapshotContext) -> Probe:
    return Probe(True, "needs nothing") if spec.probe is None else spec.probe(context)


_NEEDED = bilingual(
    "give the rule a history (cdp = {}), or keep its target in a directory on btrfs or xfs; see docs/snapshots.md",
    "请为规则启用历史（cdp = {}），或将其目标目录放在 btrfs 或 xfs 上的某个目录中；参见 docs/snapshots.zh.md",
)
