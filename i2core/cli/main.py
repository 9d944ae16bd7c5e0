"""The `i2` command: finds the subcommand, and turns every ending into an exit code and one clear line."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence

import click

from i2core import __version__
from i2core.cli.lazy import LazyGroup
from i2core.cli.output import document, error_lines, wants_json
from i2core.cli.words import words

EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(
    cls=LazyGroup,
    commands_at={
        "demo": ("i2core.cli.demo.command:demo", "See it work: two nodes on this host, and a workload to look at."),
        "replicate": ("i2core.cli.replicate:replicate", "Mirror a directory, then keep the copy current. No config."),
        "node": ("i2core.cli.node:node", "Run the daemon; show its identity, its peers, what this host can do."),
        "rule": ("i2core.cli.rule:rule", "See and steer the rules of the daemon on this host."),
        "codes": ("i2core.cli.codes:codes", "Say what the codes mean, and what to do."),
        "selftest": ("i2core.cli.selftest:selftest", "Play simulated disasters, and see that every promise is kept."),
        "plugins": ("i2core.cli.plugins:plugins", "List what is installed; check a plugin against its contract."),
    },
    context_settings=_SETTINGS,
)
@click.version_option(__version__, "--version", prog_name="i2", message="%(prog)s %(version)s")
def i2() -> None:
    """Open disaster recovery for files.

    On a work node, i2 catches every change under chosen paths and carries the changed bytes, in order, to a
    backup node, where a replica of plain files is always the present.

    \b
    Exit codes:
      0    done
      1    failed
      2    wrong usage or config; nothing was changed
      3    done, but something differs or was skipped
      130  interrupted before it was done

    \b
    Environment:
      I2_LANG    language of the lines that i2 prints, en or zh; without it the locale decides
    """


def run(arguments: Sequence[str]) -> int:
    """Runs one command line; gives its exit code. Errors with a code become one line on stderr, never a traceback."""
    context: click.Context | None = None
    try:
        with i2.make_context("i2", list(arguments)) as context:
            i2.invoke(context)
        return 0
    except click.exceptions.Exit as ending:
        return ending.exit_code
    except click.ClickException as mistake:
        mistake.show()
        return mistake.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo(f"i2: {words('interrupted')}", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`i2 … | head`): what Python flushes at exit has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, BaseExceptionGroup) as error:
        return _report(error, as_json=context is not None and wants_json(context))


def _report(error: BaseException, *, as_json: bool) -> int:
    # Imported here: the contracts bring trio, which `i2 --help` need not wait for.
    from i2core.api import I2Error
    from i2core.node.faults import as_i2error, error_json, leading

    found = leading(error)
    if isinstance(found, KeyboardInterrupt):
        click.echo(f"i2: {words('interrupted')}", err=True)
        return EXIT_INTERRUPTED
    if not isinstance(found, (I2Error, OSError)):
        raise error  # a mistake of ours: the traceback is the report
    known = as_i2error(found)
    for line in error_lines(known):
        click.echo(line, err=True)
    if as_json:
        # Where it was the output that could not be written, neither can this be.
        with contextlib.suppress(OSError):
            document(error_json(known))
    return known.exit_code


def _mend_streams() -> None:
    """Makes all three standard streams usable: a closed one (``>&-``) leads nowhere, lest the next file that is opened
    takes its number; and what an encoding does not have is written as an escape."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115 (lives as long as the process)
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Entry point of the `i2` script."""
    _mend_streams()
    sys.exit(run(sys.argv[1:]))
