"""Finds the daemon of this host for the commands that ask it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from i2core.cli.completion import directories, files

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from i2core.node.control.client import ControlClient

Command = TypeVar("Command", bound=Callable[..., Any])


def where(command: Command) -> Command:
    """Gives a command the options that find the daemon: `config_file` and `state_dir`."""
    command = click.option(
        "--state-dir", metavar="DIR", shell_complete=directories, help="State directory of the daemon."
    )(command)
    return click.option(
        "--config", "config_file", metavar="FILE", shell_complete=files, help="Config file of the daemon."
    )(command)


def daemon_of(config_file: str | None, state_dir: str | None) -> AbstractContextManager[ControlClient]:
    """The client of the daemon.

    Raises:
        I2Error: there is none here.
    """
    from i2core.node.control.client import control_client
    from i2core.node.daemon.paths import find_state_dir

    return control_client(
        find_state_dir(Path(config_file) if config_file else None, Path(state_dir) if state_dir else None)
    )
