"""kill -9 of either node, three hundred times, while a server works: afterwards both trees are equal, and the database
on the replica holds every transaction."""

from __future__ import annotations

import random
import time
from pathlib import Path

import attrs
import pytest

from i2core.testing.trees import compare_trees

from .daemons import Node, Site, open_site
from .load import open_load

KILLS = 50
"""In each episode."""
LIFE_S = (0.2, 1.5)
"""Shortest and longest time from a start to the next kill; short ones are more frequent."""
LONGEST_SHOWN = 30
DEFECTS = ("Traceback", "[3601]", "InvalidTransition")
"""What no node ever says."""


@attrs.frozen(kw_only=True)
class Episode:
    """One pair of nodes, and how it is killed. The seed decides which node is killed, and when."""

    seed: int
    capture: str = "fanotify"
    tls: bool = True
    compress: str = "none"
    mirrored: bool = True
    """The kills begin when the first mirror is done; else while it is under way."""
    window: str = "memory_limit = '256MB'"


EPISODES = [
    Episode(seed=1),
    Episode(seed=2, capture="inotify", tls=False),
    Episode(seed=3, compress="low", mirrored=False),
    Episode(seed=4, tls=False, window="memory_limit = '2MB'\ndisk_limit = '64MB'"),
    Episode(seed=5, capture="inotify", mirrored=False, tls=False),
    Episode(seed=6, tls=False, window="memory_limit = '2MB'\ndisk_limit = '2MB'"),
]


@attrs.define
class Killer:
    """Kills nodes and starts them again, at random."""

    site: Site
    dice: random.Random
    begun_s: float = attrs.field(factory=time.monotonic)
    history: list[str] = attrs.field(factory=list)
    kills: int = 0

    def run(self, kills: int) -> None:
        """Runs until there were so many kills."""
        while self.kills < kills:
            shortest, longest = LIFE_S
            time.sleep(self.dice.triangular(shortest, longest, shortest))
            fall = self.dice.random()
            both = list(self.site.nodes)
            victims = both if fall < 0.1 else [both[0]] if fall < 0.55 else [both[1]]
            for node in victims:
                self._kill(node)
            self.dice.shuffle(victims)
            for node in victims:
                # A node that is killed again before it is up: sometimes.
                node.start(wait=self.dice.random() < 0.9)

    def _kill(self, node: Node) -> None:
        self.history.append(f"{time.monotonic() - self.begun_s:.2f} {node.name}")
        node.kill()
        self.kills += 1


def _report(episode: Episode, killer: Killer, differences: list[str]) -> str:
    shown = differences[:LONGEST_SHOWN]
    if len(differences) > len(shown):
        shown.append(f"… and {len(differences) - len(shown)} more")
    return "\n".join([f"{episode}", "killed at: " + ", ".join(killer.history), *shown, killer.site.tails()])


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.parametrize("episode", EPISODES, ids=lambda episode: f"seed{episode.seed}")
def test_both_nodes_killed_under_load(episode: Episode, tmp_path: Path) -> None:
    dice = random.Random(episode.seed)  # noqa: S311 (a seed, not a secret)
    rule = f'capture = "{episode.capture}"\ncompress = "{episode.compress}"'
    with (
        open_site(tmp_path, tls=episode.tls, rule=rule, work_role=episode.window) as site,
        open_load(site.source, episode.seed) as load,
    ):
        for node in site.nodes:
            node.start()
        if episode.mirrored:
            site.replicating()
        killer = Killer(site, dice)
        killer.run(KILLS)
        load.stop()
        for node in site.nodes:
            if not node.alive:
                node.start()
        site.settled()
        # What it calls safe is safe already, whatever dies now.
        site.close()
        differences = compare_trees(site.source, site.replica)
        differences += load.check_database(site.replica, tmp_path / "aside")
        said = "\n".join(node.said() for node in site.nodes)
        differences += [f"a node says {defect}" for defect in DEFECTS if defect in said]
        assert not differences, _report(episode, killer, differences)
        print(f"{episode}: {killer.kills} kills, {load.done}")
