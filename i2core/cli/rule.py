"""``i2 rule``: see and steer the rules of the daemon on this host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from i2core.cli.output import document, json_option, size, table, wants_json
from i2core.cli.words import words
from i2core.config.words import language

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from i2core.node.client import ControlClient

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group(short_help="See and steer the rules of the daemon on this host.")
def rule() -> None:
    """See and steer the rules of the daemon on this host.

    The daemon is found by its state directory: --state-dir, else the state_dir of --config, else that of
    /etc/i2/node.toml, else /var/lib/i2. On a backup node the rules that it receives are shown too.
    """


def _where(command: Command) -> Command:
    command = click.option("--state-dir", metavar="DIR", help="State directory of the daemon.")(command)
    return click.option("--config", "config_file", metavar="FILE", help="Config file of the daemon.")(command)


def _daemon(config_file: str | None, state_dir: str | None) -> AbstractContextManager[ControlClient]:
    from i2core.node.client import control_client
    from i2core.node.place import find_state_dir

    return control_client(
        find_state_dir(Path(config_file) if config_file else None, Path(state_dir) if state_dir else None)
    )


def _rules(config_file: str | None, state_dir: str | None, name: str | None) -> list[dict[str, Any]]:
    from i2core.node.running import unknown_rule

    with _daemon(config_file, state_dir) as daemon:
        found = daemon.rules()
    if name is None:
        return found
    chosen = [item for item in found if item["name"] == name]
    if not chosen:
        raise unknown_rule(name)
    return chosen


@rule.command("list", short_help="List the rules.")
@_where
@json_option
def list_(config_file: str | None, state_dir: str | None) -> None:
    """List the rules: name, role of this node in it, state, and the bandwidth that it may use now."""
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
    """A held rule is abnormal to programs; its link is well."""
    return words("held") if item["held"] else words(item["state"])


def _bandwidth(item: dict[str, Any]) -> str:
    from i2core.config.units import format_rate

    if item["role"] == "backup":
        return "-"  # the work node limits what it sends
    return words("unlimited") if item["bandwidth_bps"] is None else format_rate(item["bandwidth_bps"])


@rule.command()
@click.argument("name", metavar="[RULE]", required=False)
@_where
@json_option
def status(name: str | None, config_file: str | None, state_dir: str | None) -> None:
    """Show what the rules are doing.

    Columns: state; progress of the mirror; code of the last error; last seq sent and last seq durable on the
    replica; age and bytes of what is not durable yet; bytes waiting on disk; capture in use.

    With --json, a list of {"name", "role", "state", "reason", "percent", "code", "level", "text", "text_zh", "object",
    "cause", "cause_zh", "next_step", "next_step_zh", "seq", "durable_seq", "lag_seconds", "lag_bytes", "spool_bytes",
    "bandwidth_bps", "rpo_seconds", "rpo_actual_seconds", "rpo_broken", "capture", "held", …}; null where only the
    other node knows.
    """
    found = _rules(config_file, state_dir, name)
    if wants_json():
        document(found)
        return
    if not found:
        click.echo(words("no_rules"))
        return
    heads = (
        "rule",
        "role",
        "state",
        "percent",
        "code",
        "seq",
        "durable",
        "lag",
        "lag_bytes",
        "spool",
        "capture",
        "cause",
    )
    table([words(head) for head in heads], [_row(item) for item in found])


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    def or_dash(value: Any, form: Callable[[Any], str] = str) -> str:
        return "-" if value is None or value == "" else form(value)

    chinese = language() == "zh"
    cause, step = item["cause_zh" if chinese else "cause"], item["next_step_zh" if chinese else "next_step"]
    why = ": ".join(part for part in (item["object"], cause) if part)
    return (
        item["name"],
        words(item["role"]),
        _state(item),
        or_dash(item["percent"], lambda percent: f"{percent}%"),
        or_dash(item["code"]),
        str(item["seq"]),
        str(item["durable_seq"]),
        or_dash(item["lag_seconds"], lambda seconds: f"{seconds:.1f} s"),
        or_dash(item["lag_bytes"], size),
        or_dash(item["spool_bytes"], size),
        or_dash(item["capture"]),
        or_dash(f"{why} → {step}" if step and item["level"] != "info" else why),
    )


@rule.command(short_help="Start a rule that is stopped, by hand or by an error.")
@click.argument("name", metavar="RULE")
@click.option("--compare", is_flag=True, help="Drop what waits to be sent, and compare everything with the replica.")
@_where
@json_option
def start(name: str, compare: bool, config_file: str | None, state_dir: str | None) -> None:
    """Start a rule that is stopped, by hand or by an error. It mirrors what differs and goes on live.

    With --compare nothing is relied on that is known of the replica, and a rule that runs is started anew: when
    somebody changed the replica, or when a mass delete is held that was not meant and the files are back.
    """
    _act(name, "start", "started", config_file, state_dir, compare=compare)


@rule.command(short_help="Stop a rule.")
@click.argument("name", metavar="RULE")
@_where
@json_option
def stop(name: str, config_file: str | None, state_dir: str | None) -> None:
    """Stop a rule until it is started again, or until the daemon starts anew (unless autostart = false)."""
    _act(name, "stop", "stopped_rule", config_file, state_dir)


@rule.command()
@click.argument("name", metavar="RULE")
@_where
@json_option
def release(name: str, config_file: str | None, state_dir: str | None) -> None:
    """Let a held mass delete go on. To be run on the backup node, which holds it.

    When a rule deletes so much of the replica within a short time that it looks like an accident (brake in the
    rule's config), the backup node holds it and everything behind it. Look first whether the delete was meant.
    """
    _act(name, "release", "released", config_file, state_dir)


@rule.command()
@click.argument("name", metavar="RULE")
@_where
@json_option
def forget(name: str, config_file: str | None, state_dir: str | None) -> None:
    """Leave the targets of a rule to others. To be run on the backup node, when its work node sends it no more.

    A target belongs to the rule that wrote it first; any other is refused (3588). The data stay as they are.
    """
    _act(name, "forget", "forgotten", config_file, state_dir)


def _act(
    name: str, action: str, said: str, config_file: str | None, state_dir: str | None, *, compare: bool = False
) -> None:
    with _daemon(config_file, state_dir) as daemon:
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
        click.echo(words(said, rule=name))
