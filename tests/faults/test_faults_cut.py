"""Links break in every way while a server works, and while a big file is sent: afterwards both trees are equal."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from i2core.testing.trees import compare_trees
from i2core.wire.keep_alive import SILENCE_S
from i2core.wire.window import WINDOW_BYTES

from .daemons import Site, eventually, open_site
from .link import BACKUP, CUTS, WORK, Link, open_link
from .load import open_load

pytestmark = [pytest.mark.slow, pytest.mark.root]

SHORT_S = (0.2, 2.0)
LONG_S = SILENCE_S + 8
"""Longer than a peer may be silent, and than it takes to look."""
BIG_MIB = 160
LINK_MBIT = 320
SLACK = 0.06
"""Headers, questions and digests are at most this share of the bytes on the link."""


@contextmanager
def linked_site(home: Path, rule: str = "") -> Iterator[tuple[Link, Site]]:
    """Two nodes on two hosts, both running."""
    home.mkdir(exist_ok=True)
    with open_link() as link:
        within = (link.within(link.work), link.within(link.backup))
        with open_site(home, rule=rule, hosts=(WORK, BACKUP), within=within) as site:
            for node in (site.backup, site.work):
                node.start()
            yield link, site


def is_broken(site: Site) -> bool:
    """The work node reports that its link is broken."""
    return site.work.status().get("state") in ("abnormal", "invalid")


def has_sent(link: Link, size: float) -> bool:
    """So many bytes have left the work node."""
    return link.sent_bytes() > size


@pytest.mark.parametrize("capture", ["fanotify", "inotify"])
def test_short_cuts_under_load(tmp_path: Path, capture: str) -> None:
    dice = random.Random(capture)  # noqa: S311 (a seed, not a secret)
    cuts: list[str] = []
    with linked_site(tmp_path, f'capture = "{capture}"') as (link, site), open_load(site.source, 7) as load:
        site.replicating()
        for how in [*CUTS, *dice.choices(list(CUTS), k=6)]:
            time.sleep(dice.uniform(*SHORT_S))
            seconds = dice.uniform(*SHORT_S)
            cuts.append(f"{how} for {seconds:.1f} s")
            link.cut(how)
            time.sleep(seconds)
            link.heal()
        load.stop()
        site.settled(180)
        site.close()
        differences = compare_trees(site.source, site.replica)
        differences += load.check_database(site.replica, tmp_path / "aside")
        assert not differences, "\n".join([*cuts, *differences[:30], site.tails()])


def test_long_cuts_under_load(tmp_path: Path) -> None:
    """All kinds of cuts at the same time, on separate links, since most of the time is spent waiting."""
    with ExitStack() as stack:
        cases = []
        for number, how in enumerate(("nothing arrives", "no answer comes back", "silence")):
            link, site = stack.enter_context(linked_site(tmp_path / str(number)))
            load = stack.enter_context(open_load(site.source, number, mebibytes=8))
            cases.append((how, link, site, load))
        for _, _, site, _ in cases:
            site.replicating()
        for how, link, _, _ in cases:
            link.cut(how)
        ends = time.monotonic() + LONG_S
        for how, _, site, _ in cases:
            eventually(f"{how}: it is told", partial(is_broken, site), ends - time.monotonic())
        time.sleep(max(0.0, ends - time.monotonic()))
        for _, link, _, load in cases:
            link.heal()
            load.stop()
        for how, _, site, load in cases:
            site.settled(180)
            site.close()
            differences = compare_trees(site.source, site.replica)
            differences += load.check_database(site.replica, site.home / "aside")
            assert not differences, "\n".join([how, *differences[:30], site.tails()])


@pytest.mark.parametrize("how", ["both are reset", "the work node is reset"])
def test_a_cut_inside_a_big_file_costs_a_window(tmp_path: Path, how: str) -> None:
    with open_link() as link:
        within = (link.within(link.work), link.within(link.backup))
        with open_site(tmp_path, hosts=(WORK, BACKUP), within=within) as site:
            size = BIG_MIB << 20
            with open(site.source / "big", "wb") as file:
                for _ in range(BIG_MIB):
                    file.write(os.urandom(1 << 20))
            link.slow_down(LINK_MBIT)
            for node in (site.backup, site.work):
                node.start()
            for part in (0.3, 0.6):
                eventually(f"{part:.0%} is sent", partial(has_sent, link, part * size))
                link.cut(how)
                time.sleep(0.3)
                assert site.work.status()["state"] != "replicating"
                link.heal()
            site.settled()
            again = link.sent_bytes() - size
            site.close()
            assert compare_trees(site.source, site.replica) == []
            assert again < 2 * WINDOW_BYTES + SLACK * size, f"{again:,} bytes were sent again\n{site.tails()}"
            print(f"{how}: {again:,} bytes beside the {size:,} of the file")
