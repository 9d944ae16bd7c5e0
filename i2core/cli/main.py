"""The `i2` command: finds the subcommand, and turns every outcome into an exit code and one clear line."""

from __future__ import annotations

import contextlib
import io
import locale
import os
import sys
from collections.abc import Sequence

import click
from click.shell_completion import shell_complete

from i2core import __version__
from i2core.cli.completion import COMPLETE_VARIABLE
from i2core.cli.lazy import LazyGroup
from i2core.cli.output import OutputFailed, document, error_lines, say, stdout, wants_json
from i2core.cli.words import words

EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(
    cls=LazyGroup,
    commands_at={
        "demo": ("i2core.cli.demo.command:demo", "Watch two nodes on this host replicate a workload."),
        "replicate": ("i2core.cli.replicate:replicate", "Mirror a directory, then keep the copy current. No config."),
        "node": ("i2core.cli.node:node", "Run the daemon; show identity, peers, host capabilities."),
        "rule": ("i2core.cli.rule:rule", "Show and control the rules of the daemon on this host."),
        "compare": ("i2core.cli.compare:compare", "Compare source and replica of a rule."),
        "orphans": ("i2core.cli.orphans:orphans", "List, remove and fetch files that only the replica has."),
        "scrub": ("i2core.cli.scrub:scrub", "Show how far a replica is proved equal to its source."),
        "recover": ("i2core.cli.recover:recover", "Bring data back, as they were at a moment."),
        "snapshot": ("i2core.cli.snapshot:snapshot", "Take, list and remove snapshots of a received rule."),
        "mount": ("i2core.cli.mount:mount", "Show a moment of a received rule as a file system."),
        "cdp": ("i2core.cli.cdp.group:cdp", "Look into the past of a received rule, and change what is kept of it."),
        "task": ("i2core.cli.task:task", "Show and cancel long operations, such as recoveries."),
        "codes": ("i2core.cli.codes:codes", "Explain the codes, and what to do about them."),
        "selftest": ("i2core.cli.selftest:selftest", "Run simulated failures, and check every guarantee."),
        "plugins": ("i2core.cli.plugins:plugins", "List the installed plugins; check a plugin against its contract."),
        "completion": ("i2core.cli.completion:completion", "Print a script that completes i2 in a shell."),
    },
    context_settings=_SETTINGS,
)
@click.version_option(__version__, "--version", prog_name="i2", message="%(prog)s %(version)s")
def i2() -> None:
    """Open disaster recovery for files.

    On a work node, i2 captures every change beneath chosen paths and sends the changed bytes, in order, to a
    backup node, which keeps a current replica of plain files.

    \b
    Exit codes:
      0    done
      1    failed
      2    wrong usage or config; nothing was changed
      3    done, but something differs or was skipped
      130  interrupted before it was done

    \b
    Environment:
      I2_LANG    language of the output, en or zh; default: from the locale
    """


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit code. Errors with a code become one line on stderr, never a
    traceback."""
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
        say(words("interrupted"))
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return 1  # the reader of our output went away (`i2 … | head`)
    except (Exception, BaseExceptionGroup) as error:
        return _report(error, as_json=context is not None and wants_json(context))


def _report(error: BaseException, *, as_json: bool) -> int:
    # Imported here: the contracts import trio, which `i2 --help` does not need.
    from i2core.api import I2Error
    from i2core.node.daemon.faults import as_i2error, error_json, leading

    found = leading(error)
    if isinstance(found, KeyboardInterrupt):
        say(words("interrupted"))
        return EXIT_INTERRUPTED
    if isinstance(found, OutputFailed):
        say(words("no_output", cause=found.strerror))
        return 1
    if not isinstance(found, (I2Error, OSError)):
        raise error  # a bug in i2: the traceback is the report
    known = as_i2error(found)
    for line in error_lines(known):
        say(line)
    if as_json:
        with contextlib.suppress(OSError):  # the error is reported, even if stdout fails as well
            document(error_json(known))
    return known.exit_code


def _repair_streams() -> None:
    """Makes all three standard streams usable.

    A stream that the caller closed (``>&-``) is opened on /dev/null. Otherwise the next file that is opened would get
    its descriptor number, and output would be written into that file. Characters that the stream's encoding lacks are
    written as escapes.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor number
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115 (lives as long as the process)
    sys.stdout = stdout(1, sys.stdout.encoding if sys.stdout else "utf-8")
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")


def _leave_streams() -> None:
    """Flushes both output streams, and drops their buffers when the reader is gone. Otherwise Python would flush them
    at exit, fail, and replace the exit code by its own."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _speak_utf8() -> None:
    """Restarts the process in Python's UTF-8 mode if the locale has another encoding: configs and file names are UTF-8,
    and must name the same files in every locale. Output to the terminal keeps the encoding of the locale."""
    if sys.flags.utf8_mode or sys.getfilesystemencoding() == "utf-8" or "utf8" in sys._xoptions:
        return
    os.environ["PYTHONUTF8"] = "1"  # for the processes that this one starts
    os.environ.setdefault("PYTHONIOENCODING", f"{locale.getencoding()}:backslashreplace")
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 (itself)


def main() -> None:
    """Entry point of the `i2` script."""
    _speak_utf8()
    _repair_streams()
    if asked := os.environ.get(COMPLETE_VARIABLE):
        sys.exit(shell_complete(i2, {}, "i2", COMPLETE_VARIABLE, asked))
    ending = run(sys.argv[1:])
    _leave_streams()
    # Everything is closed and flushed. Python would now free each of its objects, for a fifth of a short command's CPU.
    os._exit(ending)
