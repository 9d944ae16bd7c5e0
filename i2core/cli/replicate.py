"""``i2 replicate``: a mirror and live replication without any config file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from i2core.cli.output import document, json_option, shown, size, wants_json
from i2core.cli.words import words

if TYPE_CHECKING:
    from i2core.rule.status import RuleStatus

EXIT_SKIPPED = 3
SKIPPED_SHOWN = 20


def default_state_dir() -> Path:
    """Where replication without a config keeps what it must remember: as root the daemon's place, else the user's."""
    if os.geteuid() == 0:
        return Path("/var/lib/i2")
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "i2"


@click.command(short_help="Mirror a directory, then keep the copy current.")
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST")
@click.option("--once", is_flag=True, help="Mirror, wait until all of it is durable on the replica, and end.")
@click.option(
    "--verify",
    type=click.Choice(["time", "strict"]),
    default="time",
    show_default=True,
    help="What tells that a file is the same: size and modification time, or the content's hashes on both sides.",
)
@click.option(
    "--on-error",
    type=click.Choice(["stop", "log"]),
    default="log",
    show_default=True,
    help="A file that cannot be read: stop at once, or note it and go on (exit code 3).",
)
@click.option(
    "--first",
    type=click.Choice(["auto", "manual"]),
    default="auto",
    show_default=True,
    help="manual: the replica was seeded by hand; what is there is verified and only differences are sent.",
)
@click.option(
    "--orphans",
    default="keep",
    show_default=True,
    metavar="keep|delete|move:DIR",
    help="What the mirror does with entries of the replica that the source does not have.",
)
@click.option("--exclude", multiple=True, metavar="PATH", help="Leave out this path beneath SRC. May be repeated.")
@click.option("--include-type", multiple=True, metavar="PATTERN", help="Only file names like this (*.doc). Repeatable.")
@click.option("--exclude-type", multiple=True, metavar="PATTERN", help="No file names like this (*.tmp). Repeatable.")
@click.option(
    "--capture",
    metavar="NAME",
    default="auto",
    show_default=True,
    help="How changes are seen: fanotify, inotify, scan, or what a plugin offers; auto takes the best that works here.",
)
@click.option(
    "--compress",
    type=click.Choice(["low", "medium", "high", "none"]),
    help="Compression on the way.  [default: none to a directory here, low to another node]",
)
@click.option("--key-file", metavar="FILE", help="Encrypt on the way with the 256-bit key in FILE (mode 0600).")
@click.option(
    "--config", "config_file", metavar="FILE", help="Identity and peers of this node; needed when DST is NODE:DIR."
)
@click.option(
    "--state-dir",
    metavar="DIR",
    help="Where a live replication remembers how far it came.  [default: /var/lib/i2, or ~/.local/state/i2]",
)
@json_option
@click.pass_context
def replicate(
    context: click.Context,
    /,
    *,
    source: str,
    destination: str,
    once: bool,
    config_file: str | None,
    state_dir: str | None,
    include_type: tuple[str, ...],
    exclude_type: tuple[str, ...],
    **options: Any,
) -> None:
    """Mirror SRC to DST, then replicate every change until Ctrl-C.

    DST is a directory on this host, made when missing, or NODE:DIR: a directory on the backup node NODE of the
    config file. SRC is a directory; a single file goes into DST under its own name. The mirror sends only what
    differs; nothing on DST is deleted unless --orphans says so. Changes made while the mirror runs are caught and
    applied behind it, in order.

    \b
    Exit codes:
      0    done; without --once: ended by Ctrl-C after the mirror was done
      1    failed: the message says what to do; the next run goes on from there
      2    wrong usage; nothing was touched
      3    done, but some files were skipped (they are listed)
      130  interrupted before the mirror was done
    """
    from i2core.cli.foreground import Foreground
    from i2core.node.single import Wish, single_rule

    single = single_rule(
        Wish(
            source=source,
            destination=destination,
            include_types=include_type,
            exclude_types=exclude_type,
            **options,
        )
    )
    run = Foreground(
        single,
        once=once,
        config_file=Path(config_file) if config_file else None,
        state_dir=Path(state_dir) if state_dir else default_state_dir(),
    )
    finished = run.run()
    _conclude(context, run.status, once=once, finished=finished)


def _conclude(context: click.Context, status: RuleStatus, *, once: bool, finished: bool) -> None:
    """Says how it ended, in words or as the one document, and sets the exit code."""
    for item in status.skipped[:SKIPPED_SHOWN]:
        line = f"{words('skipped')}: {shown(item.path)}: {shown(item.message)} [{item.code}]"
        click.echo(f"i2: {line}", err=True)
    if (more := status.skipped_count - SKIPPED_SHOWN) > 0:
        click.echo(f"i2: {words('skipped_more', more=more)}", err=True)
    if not finished:
        raise KeyboardInterrupt
    summary = status.summary_json()
    if wants_json(context):
        document(summary if once else summary | {"state": "ended"} | {"captured": status.captured})
    else:
        click.echo(
            words(
                "mirror_done",
                files=f"{summary['files']:,}",
                bytes=size(summary["bytes"]),
                sent_files=f"{summary['sent_files']:,}",
                sent_bytes=size(summary["sent_bytes"]),
                seconds=summary["seconds"],
            )
        )
        if not once:
            click.echo(words("live_ended", captured=status.captured, sent=status.seq, durable=status.durable_seq))
    if not once and status.durable_seq < status.seq:
        click.echo(f"i2: {words('behind')}", err=True)
    context.exit(EXIT_SKIPPED if status.skipped_count else 0)
