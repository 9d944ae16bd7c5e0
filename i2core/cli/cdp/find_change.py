"""``i2 cdp find-change``: finds the moment at which an answer about a file turned."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from i2core.cli.completion import rules
from i2core.cli.daemon import daemon_of, where
from i2core.cli.output import document, json_option, printable, say, table, wants_json
from i2core.cli.words import words

if TYPE_CHECKING:
    from i2core.cli.cdp.bisect import Turn
    from i2core.node.control.client import ControlClient

EXIT_SAME = 1
SKIP = 125
"""The exit code by which a command says that it can tell nothing about a version, as for git bisect run."""


@click.command("find-change", short_help="Find the moment at which an answer about a file turned.")
@click.argument("name", metavar="[PEER/]RULE", shell_complete=rules)
@click.argument("path")
@click.option("--text", metavar="TEXT", help="The question: does the file contain this text?")
@click.option("--run", "command", metavar="CMD", help="The question: does CMD FILE succeed?")
@click.option("--from", "begin", metavar="MOMENT", help="Not before this moment; default: the oldest one.")
@click.option("--to", "end", metavar="MOMENT", help="Not after this moment; default: now.")
@where
@json_option
def find_change(
    name: str,
    path: str,
    text: str | None,
    command: str | None,
    begin: str | None,
    end: str | None,
    config_file: str | None,
    state_dir: str | None,
) -> None:
    """Find the moment at which an answer about a file turned: when a text appeared in it or went away, or when a
    program could no longer read it. Of a million versions about twenty are looked at.

    PATH is a path on this node beneath the replica, or relative to it. The file is followed across its names, and
    across the objects that a program makes when it saves a file by renaming a new one over it. If the answer turned
    several times, one of the places is found: narrow it down with --from and --to.

    CMD is run by this command, as its user, with the path of a copy of the version at its end; the copy is in a private
    directory, and removed afterwards. If the file was not there then, the path leads to nothing. Exit code 0 is yes,
    125 is no answer (the version is skipped), any other is no.

    \b
    Exit codes:
      0    found
      1    the answer is the same at both ends, or the file has not changed
      2    wrong usage
    """
    from i2core.api import UsageError
    from i2core.cli.cdp.bisect import find_turn
    from i2core.config.words import bilingual

    if (text is None) == (command is None):
        raise UsageError(bilingual("give either --text or --run", "请在 --text 与 --run 中给出一个"))
    words_of_command = _command(command) if command is not None else []
    with daemon_of(config_file, state_dir) as node:
        found = node.file_versions(name, {"path": path, "from": begin, "to": end})
        look = _Look(node, name, found["versions"], os.path.basename(found["path"]), text, words_of_command)
        turn = find_turn(len(look.versions), look.answer)
    if found["more"]:
        say(words("find_more", time=look.versions[0][1]))
    if turn is None:
        if wants_json():
            document({"path": found["path"], "answer": None, "looks": look.count, "versions": len(look.versions)})
        say(words("find_same", path=printable(found["path"]), versions=len(look.versions)))
        raise click.exceptions.Exit(EXIT_SAME)
    _show(found, turn, look)


def _command(text: str) -> list[str]:
    """The words of a command that can be run."""
    from i2core.api import UsageError
    from i2core.config.words import bilingual

    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise UsageError(bilingual(f"a quote is missing ({error})", f"引号不完整（{error}）"), obj="--run") from error
    if not parts or shutil.which(parts[0]) is None:
        raise UsageError(
            bilingual("there is no such program", "没有该程序"), obj=printable(parts[0] if parts else "--run")
        )
    return parts


class _Look:
    """Looks at versions of one file, each once."""

    def __init__(
        self, node: ControlClient, name: str, versions: list[Any], file: str, text: str | None, command: list[str]
    ) -> None:
        self._node, self._name, self._file, self._text, self._command = node, name, file, text, command
        self.versions = versions
        self._answers: dict[int, bool | None] = {}

    @property
    def count(self) -> int:
        """How many were looked at."""
        return len(self._answers)

    def answer(self, number: int) -> bool | None:
        """Yes, no, or (None) there is no answer."""
        if number not in self._answers:
            seq, _, _, oid = self.versions[number]
            content = self._node.file_content(self._name, oid, seq) if oid else None
            self._answers[number] = (
                content is not None and _contains(content, os.fsencode(self._text))
                if self._text is not None
                else self._run(content, number)
            )
        return self._answers[number]

    def _run(self, content: Iterator[bytes] | None, number: int) -> bool | None:
        seq, time, _, _ = self.versions[number]
        with tempfile.TemporaryDirectory(prefix="i2-find-change-") as directory:
            path = os.path.join(directory, self._file)
            if content is not None:
                with open(path, "xb") as file:
                    file.writelines(content)
            environment = os.environ | {"I2_SEQ": str(seq), "I2_MOMENT": time}
            done = subprocess.run(  # noqa: S603 (the user's own command)
                [*self._command, path], env=environment, stdout=subprocess.DEVNULL, check=False
            )
        return None if done.returncode == SKIP else done.returncode == 0


def _contains(content: Iterator[bytes], text: bytes) -> bool:
    """Whether the text is in it, also across two pieces."""
    end = b""
    for piece in content:
        if text in end + piece:
            return True
        end = (end + piece)[-len(text) + 1 :] if len(text) > 1 else b""
    return not text


def _show(found: dict[str, Any], turn: Turn, look: _Look) -> None:
    def version(number: int) -> dict[str, Any] | None:
        if number >= len(look.versions):
            return None
        seq, time, op, oid = look.versions[number]
        return {"seq": seq, "time": time, "op": op, "object": oid}

    before, after, later = version(turn.before), version(turn.after), version(turn.after + 1)
    skipped = turn.after - turn.before - 1
    result = {"path": found["path"], "answer": turn.answer, "before": before, "change": after, "next": later}
    result |= {"skipped": skipped, "looks": look.count, "versions": len(look.versions)}
    if wants_json():
        document(result)
        return
    rows = [("find_before", before), ("find_yes" if turn.answer else "find_no", after), ("find_next", later)]
    heads = [words(key) for key in ("cdp_time", "seq", "cdp_op")]
    table(("", *heads), [(words(key), one["time"], str(one["seq"]), one["op"]) for key, one in rows if one])
    if skipped:
        click.echo(words("find_skipped", count=skipped))
    assert before is not None and after is not None
    click.echo(words("find_looks", looks=look.count, versions=len(look.versions), seq=after["seq"] - 1))
