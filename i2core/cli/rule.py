"""``i2 rule``: show and control the rules of the daemon on this host."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from i2core.cli.completion import rules
from i2core.cli.daemon import daemon_of, where
from i2core.cli.output import document, json_option, size, table, wants_json
from i2core.cli.words import words
from i2core.config.words import language

if TYPE_CHECKING:
    pass

Command = TypeVar("Command", bound=Callable[..., Any])

FULL_SOON_S = 24 * 3600
"""As `retention.forecast.SAID_BELOW_S`: what is farther away is no news."""
EXIT_NOT_ALL = 3
"""The same meaning as in every command: done, but something differs or was skipped."""


@click.group(short_help="Show and control the rules of the daemon on this host.")
def rule() -> None:
    """Show and control the rules of the daemon on this host.

    The daemon is found by its state directory: --state-dir, else the state_dir of --config, else that of
    /etc/i2/node.toml, else /var/lib/i2. On a backup node, the rules that it receives are shown too.
    """


def _rules(config_file: str | None, state_dir: str | None, name: str | None) -> list[dict[str, Any]]:
    from i2core.node.control.errors import unknown_rule

    with daemon_of(config_file, state_dir) as daemon:
        found = daemon.rules()
    if name is None:
        return found
    chosen = [item for item in found if item["name"] == name]
    if not chosen:
        raise unknown_rule(name)
    return chosen


@rule.command("list", short_help="List the rules.")
@where
@json_option
def list_(config_file: str | None, state_dir: str | None) -> None:
    """List the rules: name, role of this node, state, and current bandwidth limit."""
    found = _rules(config_file, state_dir, None)
    if wants_json():
        document([{key: item[key] for key in _LISTED} for item in found])
    elif not found:
        click.echo(words("no_rules"))
    else:
        heads = [words(key) for key in ("rule", "role", "state", "bandwidth")]
        rows = [(item["name"], words(item["role"]), _state(item), _bandwidth(item)) for item in found]
        table(heads, rows)


_LISTED = ("name", "role", "state", "percent", "code", "bandwidth_bps")


def _state(item: dict[str, Any]) -> str:
    """In JSON a held rule has the state abnormal; its link works, so people see "held" instead."""
    return words("held") if item["held"] else words(item["state"])


def _bandwidth(item: dict[str, Any]) -> str:
    from i2core.config.units import format_rate

    if item["role"] == "backup":
        return "-"  # the work node limits what it sends
    return words("unlimited") if item["bandwidth_bps"] is None else format_rate(item["bandwidth_bps"])


@rule.command()
@click.argument("name", metavar="[RULE]", required=False, shell_complete=rules)
@where
@json_option
def status(name: str | None, config_file: str | None, state_dir: str | None) -> None:
    """Show what the rules are doing.

    Columns: state; progress of the mirror; code of the last error; age of the oldest change that is not durable on the
    replica ("-": unknown, because the rule is stopped or not mirrored yet); objects that were skipped; unverified
    objects, which differ from the source or may differ; last seq sent and last seq durable; on a backup node, whether
    the history keeps what was promised, or when its disk is full; bytes that are not durable yet; bytes waiting on
    disk; capture in use; cause and next step. A narrow terminal shows fewer columns; a pipe gets all.

    With --json, a list of {"name", "role", "state", "reason", "percent", "code", "level", "text", "text_zh", "object",
    "cause", "cause_zh", "next_step", "next_step_zh", "seq", "durable_seq", "lag_seconds", "lag_bytes", "spool_bytes",
    "bandwidth_bps", "rpo_seconds", "rpo_actual_seconds", "rpo_broken", "capture", "held", "skipped", "doubtful",
    "history", …};
    null where only the other node has the value, or where it is unknown.

    Exit code 3 when something was skipped, is unverified or is held, or when an error stopped a rule; else 0.
    """
    found = _rules(config_file, state_dir, name)
    if wants_json():
        document(found)
    elif not found:
        click.echo(words("no_rules"))
    else:
        rows = [_row(item) for item in found]
        table([words(head) for head in rows[0]], [tuple(row.values()) for row in rows], spare=list(map(words, _SPARE)))
    if any(item["skipped"] or item["doubtful"] or item["held"] or item["reason"] == "fault" for item in found):
        raise click.exceptions.Exit(EXIT_NOT_ALL)


_SPARE = ("history", "spool", "capture", "lag_bytes", "durable", "seq", "role", "percent", "code")
"""Columns that a narrow terminal omits, in this order."""


def _history(found: dict[str, Any] | None) -> str:
    """The worst that there is to say of it."""
    if found is None:
        return "-"
    if found["full_in_seconds"] is not None and found["full_in_seconds"] < FULL_SOON_S:
        return words("history_full_in", hours=max(found["full_in_seconds"] // 3600, 1))
    return words("history_met" if found["objective_met"] else "history_not_met")


def _row(item: dict[str, Any]) -> dict[str, str]:
    def or_dash(value: Any, form: Callable[[Any], str] = str) -> str:
        return "-" if value is None or value == "" else form(value)

    chinese = language() == "zh"
    cause, step = item["cause_zh" if chinese else "cause"], item["next_step_zh" if chinese else "next_step"]
    why = ": ".join(part for part in (item["object"], cause) if part)
    if not why and (item["skipped"] or item["doubtful"]):
        why = words("named_in_log", rule=item["name"])
    return {
        "rule": item["name"],
        "role": words(item["role"]),
        "state": _state(item),
        "percent": or_dash(item["percent"], lambda percent: f"{percent}%"),
        "code": or_dash(item["code"]),
        "lag": or_dash(item["lag_seconds"], lambda seconds: f"{seconds:.1f} s"),
        "skipped": or_dash(item["skipped"]),
        "doubtful": or_dash(item["doubtful"]),
        "seq": str(item["seq"]),
        "durable": str(item["durable_seq"]),
        "history": _history(item["history"]),
        "lag_bytes": or_dash(item["lag_bytes"], size),
        "spool": or_dash(item["spool_bytes"], size),
        "capture": or_dash(item["capture"]),
        "cause": or_dash(f"{why} → {step}" if step and item["level"] != "info" else why),
    }


@rule.command(short_help="Start a rule that was stopped by hand or by an error.")
@click.argument("name", metavar="RULE", shell_complete=rules)
@click.option("--compare", is_flag=True, help="Drop unsent changes, and compare everything with the replica.")
@where
@json_option
def start(name: str, compare: bool, config_file: str | None, state_dir: str | None) -> None:
    """Start a rule that was stopped by hand or by an error. It sends what changed meanwhile, then replicates live.

    With --compare, i2 ignores what it knows of the replica and compares everything; a running rule is restarted. Use it
    after the replica was changed by hand, or when an accidental mass delete is held and the files are back.
    """
    _act(name, "start", "started", config_file, state_dir, compare=compare)


@rule.command(short_help="Stop a rule.")
@click.argument("name", metavar="RULE", shell_complete=rules)
@where
@json_option
def stop(name: str, config_file: str | None, state_dir: str | None) -> None:
    """Stop a rule until it is started again, or until the daemon restarts (unless autostart = false)."""
    _act(name, "stop", "stopped_rule", config_file, state_dir)


@rule.command()
@click.argument("name", metavar="[PEER/]RULE", shell_complete=rules)
@where
@json_option
def release(name: str, config_file: str | None, state_dir: str | None) -> None:
    """Let what a replica holds continue. Run this on the backup node, which holds it.

    When a rule deletes so much of the replica that it looks like an accident (brake in the config of the rule or of
    the backup node), the backup node holds it and everything after it. Check first that the delete was intended.
    Only the held part is released: later removals are measured against the files that are left then.

    A replica that was turned back (i2 cdp rewind) refuses its work node. Once it is released, start the rule there: it
    compares everything, and makes the replica equal to its files again.

    If several work nodes have a rule of that name, name it as PEER/RULE.
    """
    _act(name, "release", "released", config_file, state_dir)


@rule.command()
@click.argument("name", metavar="[PEER/]RULE", shell_complete=rules)
@where
@json_option
def forget(name: str, config_file: str | None, state_dir: str | None) -> None:
    """Free the targets of a rule for others. Run this on the backup node, when its work node no longer sends the rule.

    A target belongs to the rule that wrote it first; any other is refused (3588). The data stay as they are.
    If several work nodes have a rule of that name, name it as PEER/RULE.
    """
    _act(name, "forget", "forgotten", config_file, state_dir)


@rule.command("hand-over", short_help="Let another work node take over the targets of a rule.")
@click.argument("name", metavar="[PEER/]RULE", shell_complete=rules)
@click.option("--to", "heir", metavar="PEER[/RULE]", required=True, help="The work node that may take over.")
@where
@json_option
def hand_over(name: str, heir: str, config_file: str | None, state_dir: str | None) -> None:
    """Let another work node take over the targets of a rule. Run this on the backup node.

    A target belongs to the rule of the work node that wrote it first; every other work node is refused. After this
    command the rule of the other work node may write the same targets. Once it connects, the first work node is refused
    for good (3588). The permission is good for one takeover, and the data stay as they are until the new owner mirrors.
    """
    peer, slash, rule_name = heir.partition("/")
    heir = f"{peer}/{rule_name}" if slash else f"{peer}/{name.rpartition('/')[2]}"
    with daemon_of(config_file, state_dir) as daemon:
        done = daemon.hand_over(name, heir)
    if wants_json():
        document({"name": name, "action": "hand-over", "done": done})
    else:
        click.echo(words("handed_over" if done else "nothing_known", rule=name, heir=heir))


def _act(
    name: str, action: str, outcome: str, config_file: str | None, state_dir: str | None, *, compare: bool = False
) -> None:
    with daemon_of(config_file, state_dir) as daemon:
        done = daemon.act(name, action, compare=compare)
        idle = action == "start" and not done
        found = next((each for each in daemon.rules() if each["name"] == name), None) if idle else None
    if wants_json():
        document({"name": name, "action": action, "done": done})
    elif found is not None:
        why = "waits" if found["reason"] == "bandwidth" else "runs"
        click.echo(words(why, rule=name, state=words(found["state"])))
    elif action == "forget" and not done:
        click.echo(words("nothing_known", rule=name))
    elif action == "release" and not done:
        click.echo(words("nothing_held", rule=name))
    else:
        click.echo(words(outcome, rule=name))
