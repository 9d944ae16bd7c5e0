"""``i2 node``: the daemon of this host, its identity, its peers (`pairing`), its log
(`log`), and the capabilities of the host (`doctor`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from i2core.cli.completion import files
from i2core.cli.log import log
from i2core.cli.output import document, json_option, table, wants_json
from i2core.cli.pairing import join, peers, revoke, token
from i2core.cli.words import words

if TYPE_CHECKING:
    from i2core.node.daemon.doctor import Finding

_CONFIG_HELP = "Config file of the node.  [default: /etc/i2/node.toml]"


def _config_path(given: str | None) -> Path:
    from i2core.node.daemon.paths import DEFAULT_CONFIG

    return Path(given) if given else DEFAULT_CONFIG


@click.group(short_help="Run the daemon; show identity, peers, host capabilities.")
def node() -> None:
    """Run the daemon of this host; show its identity, its peers, and the host's capabilities."""


@node.command()
@click.option("--config", "config_file", metavar="FILE", shell_complete=files, help=_CONFIG_HELP)
def run(config_file: str | None) -> None:
    """Run the daemon in the foreground until SIGTERM or Ctrl-C.

    All mistakes of the config are reported at once, before anything is changed (exit code 2). Each rule is
    independent: when one stops with an error, the others keep running, and `i2 rule start` starts it again. Each
    event is logged as one line on stderr, and as JSON in STATE_DIR/log/node.jsonl.
    """
    import trio

    from i2core.config.load import load
    from i2core.node.daemon.ports import check_ports
    from i2core.node.daemon.supervisor import run_node
    from i2core.posix.descriptors import raise_limit
    from i2core.registry import Registry

    raise_limit()
    registry = Registry.load()
    config = load(_config_path(config_file), registry, look_further=check_ports)
    trio.run(run_node, config, registry)


@node.command("id", short_help="Print this node's name and fingerprint.")
@click.option("--config", "config_file", metavar="FILE", shell_complete=files, help=_CONFIG_HELP)
@json_option
def id_(config_file: str | None) -> None:
    """Print this node's name and fingerprint; create its key first if it has none.

    Add the fingerprint to the config of each node that must trust this one. Only the [node] table of the
    config is read, so this works before the peers are filled in.
    """
    from i2core.node.daemon.paths import node_place
    from i2core.node.pairing.identity import Identity

    place = node_place(_config_path(config_file))
    identity = Identity.load_or_create(place.state_dir, place.name)
    if wants_json():
        document({"name": place.name, "fingerprint": identity.fingerprint})
    else:
        click.echo(f"{place.name}  {identity.fingerprint}")


for _command in (log, token, join, peers, revoke):
    node.add_command(_command)


@node.command()
@click.option(
    "--config",
    "config_file",
    metavar="FILE",
    shell_complete=files,
    help="Check the sources and directories of this config.",
)
@json_option
def doctor(config_file: str | None) -> None:
    """Show what works on this host, what does not, and why.

    Checks the captures for the config's sources (without --config: for /), privileges, limits, system calls and
    plugins. Reads only. Exit code 0 when a rule could run here, 1 when not.
    """
    from i2core.config.load import load
    from i2core.node.daemon.doctor import examine
    from i2core.registry import Registry

    registry = Registry.load()
    config = load(Path(config_file), registry, look_at_disk=False) if config_file else None
    findings = examine(registry, config)
    if wants_json():
        document([finding.as_json() for finding in findings])
    else:
        mark = {True: words("doctor_ok"), False: words("doctor_no")}
        table(["", "", ""], [(mark[finding.works], finding.what, _why(finding)) for finding in findings])
    if any(finding.needed and not finding.works for finding in findings):
        raise click.exceptions.Exit(1)


def _why(finding: Finding) -> str:
    return f"{finding.why} → {finding.next_step}" if finding.next_step else finding.why
