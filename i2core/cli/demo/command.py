"""``i2 demo``: starts both nodes, runs the workload, waits for the last changes, compares, and cleans up."""

from __future__ import annotations

import json
import math
import os
import signal
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import click
import trio

from i2core.api import Code, DriverKind, I2Error, StopRule
from i2core.cli.demo.pair import BACKUP, RULE, WORK, Pair
from i2core.cli.demo.past import Emptied, Past, Recovered
from i2core.cli.demo.verdict import Verdict, judge
from i2core.cli.demo.view import Figures, Lag, View, figures
from i2core.cli.demo.workload import TABLE, plant
from i2core.cli.output import document, json_option, printable, size, wants_json
from i2core.cli.words import words
from i2core.registry import Registry
from i2core.rule.life.status import State
from i2core.tasks import background

WORKLOAD = "workload"
POLL_S = 0.1
UP_S = 20.0
MIRROR_S = 60.0
DRAIN_S = 60.0
"""Limits, in seconds, after which the demo has failed: both nodes up, first mirror done, last change durable."""
MISTAKE = 0.5
"""When the table is emptied, as a share of the workload's time."""
MARKER = "workload-ended"
"""The last file that is written. Records keep their order, so when it arrives, all earlier changes have arrived."""
EXIT_DIFFERENT = 3
EXIT_INTERRUPTED = 130
END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command(short_help="Watch two nodes on this host replicate a workload.")
@click.option(
    "--seconds",
    type=click.FloatRange(1, 3600),
    default=20.0,
    show_default=True,
    help="How long the workload changes the tree.",
)
@json_option
@click.pass_context
def demo(context: click.Context, /, *, seconds: float) -> None:
    """Watch the whole system work on this host.

    Starts a work node and a backup node as two daemons, joined by TLS with pinned keys over the loopback address.
    A workload keeps changing a tree of about 2,000 files: it creates, modifies, renames and deletes files, renames
    and replaces directories, appends to a log, inserts into an SQLite database. The view shows what is captured,
    sent and applied, and how far the replica lags. Halfway a table is emptied by mistake: the log of the history shows
    when, and the state before is recovered into another directory and proved equal, while the workload goes on. Root
    also mounts it. At the end both trees are compared in full.

    Needs no privilege and no config. All data is in one temporary directory, which is removed at the end.

    \b
    Exit codes:
      0    both trees are equal, the database is intact, and the past came back
      1    a node failed
      3    the trees differ, or the past did not come back as it was
      130  ended by Ctrl-C
    """
    _find_drivers()
    view = View()
    try:
        verdict = trio.run(partial(_run, seconds, view))
    finally:
        view.close()
    if verdict is None:
        click.echo(words("demo_ended"), err=True)
        context.exit(EXIT_INTERRUPTED)
    if wants_json(context):
        document(verdict.as_json())
    else:
        for line in verdict.lines():
            click.echo(line)
    context.exit(0 if verdict.equal else EXIT_DIFFERENT)


def _find_drivers() -> None:
    """Checks that the drivers of both nodes are installed.

    Raises:
        UsageError: a plugin is not installed, or cannot be used.
    """
    registry = Registry.load()
    for kind in (DriverKind.CLIENT_TRANSPORT, DriverKind.SERVER_TRANSPORT):
        registry.driver(kind, "tcp")
    registry.driver(DriverKind.SINK, "fs")


async def _run(seconds: float, view: View) -> Verdict | None:
    """The whole demo; None when a signal ended it early. Processes and files are always removed at the end."""
    verdict = None
    with trio.open_signal_receiver(*END_SIGNALS) as signals:
        async with background() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(_cancel_at, signals, scope)
            with scope, tempfile.TemporaryDirectory(prefix="i2-demo-") as place:
                pair = Pair.beneath(Path(place))
                try:
                    verdict = await _Play(pair, view, seconds).run()
                finally:
                    pair.end_all()
    return verdict


async def _cancel_at(signals: Any, scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


@attrs.define
class _Play:
    pair: Pair
    view: View
    seconds: float
    lag: Lag = attrs.field(factory=Lag, init=False)

    async def run(self) -> Verdict:
        pair, view = self.pair, self.view
        view.line(words("demo_begin", place=pair.place))
        files = await trio.to_thread.run_sync(plant, pair.source)
        view.line(words("demo_tree", files=f"{files:,}"))
        began = time.monotonic()
        for name in (BACKUP, WORK):
            pair.start_node(name)
        await self._until(_up, UP_S, "the nodes did not come up")
        await self._until(_mirrored, MIRROR_S, "the first mirror was not done")
        view.line(words("demo_mirror", files=f"{files:,}", seconds=time.monotonic() - began, span=self.seconds))
        counts = pair.place / "counts.json"
        pair.start("i2core.cli.demo.workload", str(os.getpid()), str(pair.source), str(counts), name=WORKLOAD)
        recovered = await self._work(counts)
        view.close()
        await trio.to_thread.run_sync(pair.end, WORKLOAD)
        view.line(words("demo_drain"))
        (pair.source / MARKER).write_text("done\n")
        work, backup = await self._until(self._drained, DRAIN_S, "the last changes did not arrive")
        # The nodes are stopped first: the trees must not change while they are compared.
        for name in (WORK, BACKUP):
            await trio.to_thread.run_sync(pair.end, name)
        view.line(words("demo_compare"))
        return await trio.to_thread.run_sync(
            partial(
                judge,
                pair.source,
                pair.replica,
                operations=_read_counts(counts),
                captured=work["captured"],
                records=backup["seq"],
                lag=self.lag,
                recovered=recovered,
            )
        )

    async def _work(self, counts: Path) -> Recovered:
        """Draws while the workload runs. Meanwhile a table is emptied by mistake, and the state before comes back."""
        past, began = Past(self.pair), time.monotonic()
        await self._watch(counts, began, MISTAKE * self.seconds)
        async with background() as nursery:
            nursery.start_soon(self._watch, counts, began, math.inf)
            recovered = await self._go_back(past)
            await trio.sleep(max(0.0, began + self.seconds - time.monotonic()))
        return recovered

    async def _go_back(self, past: Past) -> Recovered:
        view = self.view
        rows = await trio.to_thread.run_sync(past.make_mistake)
        view.line(words("demo_mistake", table=TABLE, rows=f"{rows:,}"))
        await self._until(past.has_mistake, DRAIN_S, "the mistake is not in the log")
        emptied = await trio.to_thread.run_sync(past.find_mistake)
        view.line(words("demo_found", table=TABLE, time=emptied.time, seq=emptied.seq, before=emptied.before))
        recovered = await trio.to_thread.run_sync(past.recover, emptied, abandon_on_cancel=True)
        view.line(_said_of(recovered, past.place))
        if past.can_mount():
            view.line(await trio.to_thread.run_sync(_looked, past, emptied))
        return recovered

    async def _watch(self, counts: Path, began: float, until_s: float) -> None:
        """Draws while the workload, which began then, runs for so many seconds."""
        while (elapsed := time.monotonic() - began) < until_s:
            work, backup = await self._both()
            if work is not None:
                now: Figures = figures(elapsed, sum(_read_counts(counts).values()), work, backup)
                self.lag.samples_ms.append(now.lag_ms)
                await trio.to_thread.run_sync(self.view.draw, now)
            await trio.sleep(POLL_S)

    async def _until(self, condition: Any, limit_s: float, otherwise: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Polls both nodes until `condition(work, backup)`; gives their entries of the rule."""
        work: dict[str, Any] | None = None
        with trio.move_on_after(limit_s):
            while True:
                work, backup = await self._both()
                if work is not None and work["state"] == State.STOPPED.value and work["code"]:
                    raise StopRule(work["cause"], code=Code(work["code"]), obj=RULE)
                if await trio.to_thread.run_sync(condition, work, backup):
                    return work or {}, backup or {}
                await trio.sleep(POLL_S)
        state = f"the rule is {work['state']}" if work else "the work node does not answer"
        raise I2Error(
            f"{otherwise} within {limit_s:.0f} s; {state}; work node: {self.pair.last_words(WORK)}; "
            f"backup node: {self.pair.last_words(BACKUP)}"
        )

    async def _both(self) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        work = await trio.to_thread.run_sync(self.pair.rules, WORK)
        backup = await trio.to_thread.run_sync(self.pair.rules, BACKUP)
        return work[0] if work else None, backup[0] if backup else None

    def _drained(self, work: dict[str, Any] | None, backup: dict[str, Any] | None) -> bool:
        if work is None or backup is None or not (self.pair.replica / MARKER).exists():
            return False
        settled = work["state"] == State.REPLICATING.value and work["lag_seconds"] == 0
        return settled and bool(work["durable_seq"] == work["seq"] == backup["durable_seq"])


def _said_of(recovered: Recovered, place: Path) -> str:
    return words(
        "demo_recovered" if recovered.equal else "demo_recovered_differs",
        place=place,
        files=f"{recovered.files:,}",
        bytes=size(recovered.bytes),
        seconds=recovered.seconds,
        table=TABLE,
        rows=f"{recovered.rows:,}",
    )


def _looked(past: Past, emptied: Emptied) -> str:
    """Mounts the moment and looks at the table there. A host that cannot mount still has the recovered state."""
    try:
        rows = past.look(emptied)
    except I2Error as error:
        return words("demo_not_mounted", cause=printable(str(error)))
    return words("demo_mounted", point=past.point, table=TABLE, rows=f"{rows:,}")


def _read_counts(path: Path) -> dict[str, int]:
    """What the workload has done; empty before its first report."""
    if not path.exists():
        return {}
    counts: dict[str, int] = json.loads(path.read_text())
    return counts


def _up(work: dict[str, Any] | None, backup: dict[str, Any] | None) -> bool:
    del backup  # it lists the rule once the work node has connected
    return work is not None


def _mirrored(work: dict[str, Any] | None, backup: dict[str, Any] | None) -> bool:
    return work is not None and backup is not None and work["state"] == State.REPLICATING.value
