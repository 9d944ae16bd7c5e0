"""``i2 replicate``: a mirror and live replication without a config file."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from i2core.cli.completion import directories, files
from i2core.cli.output import document, json_option, printable, say, size, wants_json
from i2core.cli.words import words

if TYPE_CHECKING:
    from i2core.rule.life.status import RuleStatus

EXIT_NOT_ALL = 3
SKIPPED_SHOWN = 20


def default_state_dir() -> Path:
    """The state directory of a replication without a config: for root that of the daemon, else one of the user."""
    if os.geteuid() == 0:
        return Path("/var/lib/i2")
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "i2"


@click.command(short_help="Mirror a directory, then keep the copy current.")
@click.argument("source", metavar="SRC", shell_complete=files)
@click.argument("destination", metavar="DST", shell_complete=directories)
@click.option("--once", is_flag=True, help="Mirror, wait until everything is durable on the replica, then exit.")
@click.option(
    "--compare",
    is_flag=True,
    help="Ignore earlier runs and compare everything; needed when SRC or DST was replaced by another directory.",
)
@click.option(
    "--verify",
    type=click.Choice(["time", "strict"]),
    default="time",
    show_default=True,
    help="How files are compared: by size and modification time, or by content hashes on both sides.",
)
@click.option(
    "--on-error",
    type=click.Choice(["stop", "log"]),
    default="log",
    show_default=True,
    help="At a file that cannot be read: stop at once, or report it and continue (exit code 3).",
)
@click.option(
    "--first",
    type=click.Choice(["auto", "manual"]),
    default="auto",
    show_default=True,
    help="manual: the replica was seeded by hand; its files are compared and only differences are sent.",
)
@click.option(
    "--orphans",
    default="keep",
    show_default=True,
    metavar="keep|delete|move:DIR",
    help="What to do with entries of the replica that the source does not have.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATH",
    shell_complete=files,
    help="Exclude this path beneath SRC: absolute, or relative to SRC. Repeatable.",
)
@click.option(
    "--include-type", multiple=True, metavar="PATTERN", help="Only files with such names (*.doc). Repeatable."
)
@click.option("--exclude-type", multiple=True, metavar="PATTERN", help="No files with such names (*.tmp). Repeatable.")
@click.option(
    "--capture",
    metavar="NAME",
    default="auto",
    show_default=True,
    help="How changes are captured: fanotify, inotify, scan, or a plugin's driver; auto: the best that works here.",
)
@click.option(
    "--inode-flags",
    is_flag=True,
    help="Also replicate chattr flags (immutable, append-only, ...) and project ids, if DST supports them.",
)
@click.option(
    "--brake",
    type=click.Choice(["on", "off"]),
    default="on",
    show_default=True,
    help="on: stop (code 3603) before most of DST is removed, as after an accident; NODE:DIR waits for a release. "
    "off: never stop for this.",
)
@click.option(
    "--compress",
    type=click.Choice(["low", "medium", "high", "none"]),
    help="Compression in transit.  [default: none to a directory here, low to another node]",
)
@click.option(
    "--key-file",
    metavar="FILE",
    shell_complete=files,
    help="Encrypt in transit with the 256-bit key in FILE (mode 0600).",
)
@click.option(
    "--config",
    "config_file",
    metavar="FILE",
    shell_complete=files,
    help="Identity and peers of this node; needed when DST is NODE:DIR.",
)
@click.option(
    "--state-dir",
    metavar="DIR",
    shell_complete=directories,
    help="State directory of a live replication.  [default: /var/lib/i2, or ~/.local/state/i2]",
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
    compare: bool,
    config_file: str | None,
    state_dir: str | None,
    include_type: tuple[str, ...],
    exclude_type: tuple[str, ...],
    **options: Any,
) -> None:
    """Mirror SRC to DST, then replicate every change until Ctrl-C.

    DST is a directory on this host, created if missing, or NODE:DIR: a directory on the backup node NODE of the
    config file. SRC is a directory; a single file goes into DST under its own name. The mirror sends only what
    differs; nothing on DST is deleted unless --orphans asks for it. Changes made while the mirror runs are captured and
    applied after it, in order.

    \b
    Exit codes:
      0    done; without --once: ended by Ctrl-C, all changes durable on DST
      1    failed: the message gives the next step; the next run resumes
      2    wrong usage; nothing was touched
      3    done, but DST lacks something: files were skipped (they are
           listed) or are unverified, a mass delete is held, or the last
           changes are not durable yet
      130  interrupted before the mirror was done
    """
    from i2core.cli.foreground import Foreground
    from i2core.node.oneshot.single import Wish, single_rule

    single = single_rule(
        Wish(
            source=source,
            destination=destination,
            include_types=include_type,
            exclude_types=exclude_type,
            **options,
        )
    )
    for path in single.absent:
        say(words("absent", path=printable(path)))
    run = Foreground(
        single,
        once=once,
        config_file=Path(config_file) if config_file else None,
        state_dir=Path(state_dir) if state_dir else default_state_dir(),
        compare=compare,
    )
    finished = run.run()
    _conclude(context, run.status, once=once, finished=finished)


def _conclude(context: click.Context, status: RuleStatus, *, once: bool, finished: bool) -> None:
    """Prints the outcome, as text or as one JSON document, and sets the exit code."""
    for item in status.skipped[:SKIPPED_SHOWN]:
        say(f"{words('skipped')}: {printable(item.path)}: {printable(item.message)} [{item.code}]")
    if (more := status.skipped_count - SKIPPED_SHOWN) > 0:
        say(words("skipped_more", more=more))
    if not finished:
        raise KeyboardInterrupt
    behind = not once and status.behind
    with contextlib.suppress(BrokenPipeError):  # all is done, whether or not somebody reads it
        _summarize(status, once=once, as_json=wants_json(context))
    for key, is_so in (("held_at_end", status.held), ("doubtful_at_end", status.doubtful), ("behind", behind)):
        if is_so:
            say(words(key, count=status.doubtful))
    context.exit(EXIT_NOT_ALL if status.skipped_count or status.doubtful or status.held or behind else 0)


def _summarize(status: RuleStatus, *, once: bool, as_json: bool) -> None:
    summary = status.summary_json()
    if as_json:
        ended = {"state": "ended", "captured": status.captured, "held": status.held, "doubtful": status.doubtful}
        document(summary if once else summary | ended)
        return
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
