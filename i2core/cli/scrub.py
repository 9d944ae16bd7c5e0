"""``i2 scrub``: how far a replica is proved equal, and what is held back."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import click

from i2core.cli.completion import files, rules
from i2core.cli.daemon import daemon_of, where
from i2core.cli.output import document, json_option, printable, size, table, wants_json
from i2core.cli.words import words

EXIT_HELD = 3


@click.command(short_help="Show how far a replica is proved equal to its source.")
@click.argument("name", metavar="RULE", shell_complete=rules)
@click.option("--now", is_flag=True, help="Begin a pass now.")
@click.option(
    "--accept",
    metavar="PATH",
    multiple=True,
    shell_complete=files,
    help="The source's content of this file is right: send it.",
)
@where
@json_option
def scrub(name: str, now: bool, accept: tuple[str, ...], config_file: str | None, state_dir: str | None) -> None:
    """Show how far the replica of a rule is proved equal to its source, by the scrub of its config. For the work node.

    A file is held back if its content changed on the source while size and time did not: a disk may have damaged it.
    The replica keeps its content until you accept the source's with --accept.

    Exit code 3 when files are held back.
    """
    with daemon_of(config_file, state_dir) as node:
        if now or accept:
            node.act_on_scrub(name, {"now": now, "accept": list(accept)})
        found = node.scrub(name)
    if wants_json():
        document(found)
    else:
        table(("", ""), _rows(found))
    if found["held_back"]:
        raise click.exceptions.Exit(EXIT_HELD)


def _rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    proved, done = found["proved_at"], found["scrub"]
    rows = [(words("scrub_proved"), words("scrub_never") if proved is None else _time(proved))]
    if done is not None:
        amount = f"{done['files']:,} {words('files')}  {size(done['bytes'])}"
        rows.append((words("scrub_pass"), f"{_time(done['began_ns'] / 1e9)}  {amount}"))
        if done["healed"]:
            rows.append((words("scrub_healed"), str(done["healed"])))
    rows.append((words("scrub_held"), str(found["held_back"] or 0)))
    return rows + [("", f"{_time(held['since_ns'] / 1e9)}  {printable(held['path'])}") for held in found["held"]]


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="seconds")
