"""Completion in shells: click's own scripts, plus the names of rules, files and directories."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

COMPLETE_VARIABLE = "_I2_COMPLETE"
"""Set by the scripts: the instruction for click, with the name of the shell."""


@click.command(short_help="Print a script that completes i2 in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that completes commands, options, files and names of rules.

    \b
      bash   i2 completion bash > /etc/bash_completion.d/i2
      zsh    i2 completion zsh > /usr/local/share/zsh/site-functions/_i2
      fish   i2 completion fish > ~/.config/fish/completions/i2.fish
    """
    made = get_completion_class(shell)
    assert made is not None
    context = click.get_current_context().find_root()
    # Not `source()`: for bash it also runs a shell to check its version.
    script = made(context.command, {}, "i2", COMPLETE_VARIABLE)
    click.echo(script.source_template % script.source_vars())


def files(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Lets the shell complete the name of a file."""
    return [CompletionItem(incomplete, type="file")]


def directories(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Lets the shell complete the name of a directory."""
    return [CompletionItem(incomplete, type="dir")]


def rules(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the rules of the daemon on this host; none when it does not answer."""
    from i2core.api import I2Error
    from i2core.node.control.client import control_client
    from i2core.node.daemon.paths import find_state_dir

    given = [context.params.get(key) for key in ("config_file", "state_dir")]
    config, state_dir = (Path(text) if isinstance(text, str) else None for text in given)
    try:
        with control_client(find_state_dir(config, state_dir)) as daemon:
            names = [rule["name"] for rule in daemon.rules()]
    except (I2Error, OSError):
        return []
    return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]
