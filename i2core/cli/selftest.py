"""``i2 selftest``: checks the guarantees of this version with histories of two simulated nodes, each made from a
seed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from i2core.cli.output import document, json_option, printable, wants_json
from i2core.cli.words import words

if TYPE_CHECKING:
    from i2core.testing.sim.campaign import Campaign

_LINES = 40
_EVERY = 500
"""Without a terminal, one progress line after so many histories."""


@click.command(short_help="Run simulated failures, and check every guarantee.")
@click.option("--seeds", "count", type=click.IntRange(1), default=200, show_default=True, help="How many histories.")
@click.option("--first", type=click.IntRange(0), default=1, show_default=True, help="The first seed.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, help="Processes.  [default: one a core]")
@click.option("--replay", type=click.IntRange(0), metavar="SEED", help="Play one seed, and print every step.")
@json_option
@click.pass_context
def selftest(context: click.Context, count: int, first: int, jobs: int, replay: int | None) -> None:
    """Play histories of two simulated nodes with injected failures.

    The real code of both nodes runs on a simulated clock, network, kernel and disk. Nodes are killed or lose
    power at any step, connections break or hang, disks fill up, clocks jump, another work node takes over. After each
    history the replica must equal the source, and everything that was acknowledged as durable must have survived.
    Nothing on this host is touched except a directory in memory for SQLite files.

    A seed gives one history, the same on every host with the same version. A failing seed is printed; --replay plays
    it again.

    \b
    Exit codes:
      0  every guarantee was kept
      1  a guarantee was broken: the seeds are printed
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
        click.echo(f"  {printable(line)}")


def _replay(context: click.Context, seed: int) -> None:
    from i2core.testing.sim.campaign import run

    campaign = run(seed, 1, 1, lambda _: None, in_full=True)
    (verdict,) = campaign.kept
    if wants_json(context):
        document(verdict)
    else:
        for line in (*verdict["plan"], *verdict["trace"], *verdict["violation"].splitlines()):
            click.echo(printable(line))
    context.exit(1 if verdict["violation"] else 0)
