"""What a rule of this node runs with, now: its config may have been edited since the last run."""

from __future__ import annotations

from functools import partial

import attrs

from i2core.api import ClientTransport
from i2core.compare.reading import Ends
from i2core.drivers.select import check_drivers
from i2core.node.daemon.running import RunningNode
from i2core.node.pairing.peers import reach
from i2core.rule.work.work_rule import WorkRule


def work_rule(node: RunningNode, name: str) -> WorkRule:
    """The rule with its peer, as the config has them.

    Raises:
        UsageError: a driver is missing, or the backup node is not trusted.
    """
    rule, role = next(rule for rule in node.config.rules if rule.name == name), node.config.work
    assert role is not None
    check_drivers(rule, node.registry)
    runner = node.runners[name]
    return WorkRule(
        rule=rule,
        peer=reach(node.config, rule.backup),
        memory=node.budget.memory,
        disk=node.budget.disk,
        cache_dir=role.cache_dir or node.config.state_dir / "cache",
        throttle=runner.throttle,
        view=runner.view,
        holds_back=partial(node.scrubs.holds_back, name),
    )


@attrs.frozen
class Reach:
    """How this node reaches the replicas of its rules."""

    node: RunningNode
    transport: ClientTransport

    def ends(self, name: str) -> Ends:
        """Both sides of a rule, for a compare.

        Raises:
            UsageError: as `work_rule`.
        """
        node = self.node
        return Ends(
            work=work_rule(node, name),
            drivers=node.registry,
            transport=self.transport,
            state_dir=node.config.state_dir / "rules",
        )
