"""The documents are right: commands exist, links resolve, configs load, languages agree."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from i2core.cli.main import i2
from i2core.config.load import load
from i2core.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "bench/README.md", "plugins/*/README.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
)
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
PLACE = re.compile(r"`([\w/]+\.py):([\w.]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
I2 = re.compile(r"^(?:\S*/)?i2 +(.+)$")


def fences(text: str, language: str) -> list[str]:
    return [body for found, body in FENCE.findall(text) if found == language]


def command_lines(text: str) -> Iterator[list[str]]:
    """The words after ``i2`` of every command line in shell blocks and in inline code."""
    lines = [line.strip().removeprefix("$ ") for body in fences(text, "sh") for line in body.splitlines()]
    for line in [*lines, *INLINE.findall(FENCE.sub("", text))]:
        if found := I2.match(line):
            yield shlex.split(found[1], comments=True)


def wrong_use(words: list[str]) -> str | None:
    """The part of this command line that does not exist; None when everything does."""
    command: click.Command = i2
    context = click.Context(i2, info_name="i2")
    for at, word in enumerate(words):
        if not isinstance(command, click.Group) or word.startswith("-"):
            break
        found = command.get_command(context, word)
        if found is None:
            return f"no command {' '.join(words[: at + 1])}"
        command = found
    known = {
        option for parameter in command.get_params(context) for option in parameter.opts + parameter.secondary_opts
    }
    given = [word.split("=")[0] for word in words if word.startswith("-") and word != "-"]
    unknown = [option for option in given if option not in known]
    return f"no option {unknown[0]} of {command.name}" if unknown else None


def test_the_checker_sees_what_is_wrong() -> None:
    assert wrong_use(["replicate", "A", "B", "--once"]) is None
    assert wrong_use(["replicate", "A", "B", "--twice"]) == "no option --twice of replicate"
    assert wrong_use(["rule", "dance"]) == "no command rule dance"
    assert list(command_lines("Say `i2 demo` or\n```sh\n.venv/bin/i2 rule list  # all\n```\n")) == [
        ["rule", "list"],
        ["demo"],
    ]


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_commands_exist(path: Path) -> None:
    wrong = {" ".join(["i2", *words]): why for words in command_lines(path.read_text()) if (why := wrong_use(words))}
    assert not wrong


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_links_resolve(path: Path) -> None:
    text = FENCE.sub("", path.read_text())
    inside = [
        target.split("#")[0] for target in LINK.findall(text) if "://" not in target and not target.startswith("#")
    ]
    assert [target for target in inside if not (path.parent / target).exists()] == []


def has_name(tree: ast.AST, dotted: str) -> bool:
    """True when the module defines this function, class or ``Class.method``."""
    name, _, rest = dotted.partition(".")
    defined = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in ast.iter_child_nodes(tree) if isinstance(node, defined) and node.name == name]
    return bool(found) and (not rest or has_name(found[0], rest))


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_functions_stand_where_a_document_says(path: Path) -> None:
    named = PLACE.findall(path.read_text())
    missing = [
        f"{file}:{name}"
        for file, name in named
        if not (ROOT / file).is_file() or not has_name(ast.parse((ROOT / file).read_text()), name)
    ]
    assert missing == []
    assert named or path.name != "reading-guide.md"


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_configs_load(path: Path, tmp_path: Path) -> None:
    registry = Registry.load()
    for number, body in enumerate(fences(path.read_text(), "toml")):
        if "[node]" not in body:
            continue  # a fragment, of alternatives perhaps
        config = tmp_path / f"{number}.toml"
        config.write_text(body)
        assert load(config, registry, look_at_disk=False).name


@pytest.mark.parametrize("english", [p for p in DOCUMENTS if p.with_suffix(".zh.md").exists()], ids=lambda p: p.name)
def test_languages_agree(english: Path) -> None:
    """Both languages show the same commands and configs, comments aside, and as many headings and tables' rows."""

    def skeleton(path: Path) -> tuple[list[str], int, int]:
        text = path.read_text()
        code = [re.sub(r"\s*#.*", "", body) for _, body in FENCE.findall(text)]
        rest = FENCE.sub("", text)
        return code, len(re.findall(r"^#+ ", rest, re.MULTILINE)), len(re.findall(r"^\|", rest, re.MULTILINE))

    assert skeleton(english) == skeleton(english.with_suffix(".zh.md"))


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        word for path in DOCUMENTS for word in re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text(), re.MULTILINE)
    }
    assert named
    assert named <= targets


def test_decisions_are_numbered_in_a_row() -> None:
    """They are referred to by their numbers."""
    text = (ROOT / "docs/design/decisions.md").read_text()
    numbers = [int(each) for each in re.findall(r"^## (\d+)\. ", text, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
