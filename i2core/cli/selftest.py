"""``i2 selftest``: does this version keep its promises? Histories of two simulated nodes, each from a seed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from i2core.cli.output import document, json_option, shown, wants_json
from i2core.cli.words import words

if TYPE_CHECKING:
    from i2core.testing.sim.campaign import Campaign

_LINES = 40
_EVERY = 500
"""Where no terminal is, a line behind so many histories."""


@click.command(short_help="Play simulated disasters, and see that every promise is kept.")
@click.option("--seeds", "count", type=click.IntRange(1), default=200, show_default=True, help="How many histories.")
@click.option("--first", type=click.IntRange(0), default=1, show_default=True, help="The first seed.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, help="Processes.  [default: one a core]")
@click.option("--replay", type=click.IntRange(0), metavar="SEED", help="Play one history, and print all of it.")
@json_option
@click.pass_context
def selftest(context: click.Context, count: int, first: int, jobs: int, replay: int | None) -> None:
    """Play histories of two simulated nodes with everything that can go wrong.

    The real code of both nodes runs on a simulated clock, network, kernel and disk. Machines are killed and lose their
    power at any step, connections break or fall silent, disks fill up, clocks jump, another work node takes over. After
    each history the replica must equal the source, and all that was called durable must have survived. Nothing on this
    host is touched but a directory in memory for SQLite files.

    A seed is one history, the same on every host with the same version: a failing one is printed, and plays again with
    --replay.

    \b
    Exit codes:
      0  every promise was kept
      1  one was broken: the seeds are printed
    """
    if replay is not None:
        _replay(context, replay)
        return
    from i2core.testing.sim.campaign import run

    if sys.stderr.isatty():
        with click.progressbar(length=count, file=sys.stderr) as bar:
            campaign = run(first, count, jobs, lambda _: bar.update(1))
    else:
        campaign = run(first, count, jobs, _plain)
    found = campaign.as_json()
    if wants_json(context):
        document(found)
    else:
        for failed in found["failed"]:
            _print_failed(failed)
        rate = f"{found['histories_per_cpu_hour']:,}"
        key = "selftest_failed" if campaign.violations else "selftest_kept"
        click.echo(words(key, **_figures(found), rate=rate))
    context.exit(1 if campaign.violations else 0)


def _figures(found: dict[str, Any]) -> dict[str, str]:
    names = ("histories", "violations", "steps")
    return {name: f"{found[name]:,}" for name in names} | {"hours": f"{found['simulated_seconds'] / 3600:,.1f}"}


def _plain(campaign: Campaign) -> None:
    if campaign.histories % _EVERY == 0:
        click.echo(f"i2: {campaign.histories} / {campaign.violations}", err=True)


def _print_failed(failed: dict[str, Any]) -> None:
    click.echo(words("selftest_seed", seed=failed["seed"]))
    for line in (*failed["plan"], *failed["trace"][-_LINES:], *failed["violation"].splitlines()):
        click.echo(f"  {shown(line)}")


def _replay(context: click.Context, seed: int) -> None:
    from i2core.testing.sim.campaign import run

    campaign = run(seed, 1, 1, lambda _: None, in_full=True)
    (verdict,) = campaign.kept
    if wants_json(context):
        document(verdict)
    else:
        for line in (*verdict["plan"], *verdict["trace"], *verdict["violation"].splitlines()):
            click.echo(shown(line))
    context.exit(1 if verdict["violation"] else 0)
