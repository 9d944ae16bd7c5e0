"""Every end of `i2` has an exit code and one clear line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from i2core.api import Code, StopRule, UsageError
from i2core.cli import main
from i2core.cli.output import json_option, printable, size
from i2core.registry import Registry


def _ending_in(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Puts a command ``i2 fail [--json]`` in place that raises `error`."""

    @click.command()
    @json_option
    def fail() -> None:
        raise error

    monkeypatch.setattr(main.i2, "get_command", lambda ctx, name: fail if name == "fail" else None)


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2_LANG", "en")


@pytest.mark.parametrize(
    "command",
    [
        "demo",
        "replicate",
        *(f"node {name}" for name in ("run", "id", "peers", "doctor")),
        *(f"rule {name}" for name in ("list", "status", "start", "stop", "release")),
        *(f"plugins {name}" for name in ("list", "check")),
    ],
)
def test_each_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([*command.split(), "--help"]) == 0
    assert "Usage: i2 " + command in capsys.readouterr().out


def _completed(*words: str) -> list[str]:
    done = _i2(COMP_WORDS=" ".join(["i2", *words]), COMP_CWORD=str(len(words)), _I2_COMPLETE="bash_complete")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["completion", shell]) == 0
    assert "_I2_COMPLETE" in capsys.readouterr().out


def test_completion_knows_commands_options_files_and_rules(tmp_path: Path) -> None:
    assert _completed("repl") == ["plain,replicate"]
    assert _completed("node", "do") == ["plain,doctor"]
    assert "plain,--exclude" in _completed("replicate", "--ex")
    assert _completed("replicate", "/h") == ["file,/h"]
    assert _completed("node", "log", "--config", "/e") == ["file,/e"]
    assert _completed("rule", "status", "--state-dir", str(tmp_path), "") == [""], "no daemon, no names"


def test_completion_imports_no_command() -> None:
    script = (
        "import os, sys; os.environ.update(_I2_COMPLETE='bash_complete', COMP_WORDS='i2 repl', COMP_CWORD='1')\n"
        "from i2core.cli.main import main\n"
        "try: main()\n"
        "finally: print(sorted({'trio', 'rich', 'httpx', 'stevedore'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script]
    out = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
    assert out.splitlines() == ["plain,replicate", "[]"]


@pytest.mark.parametrize("locale", ["POSIX", "C", "C.UTF-8"])
@pytest.mark.parametrize("mode", ["", "0"])
def test_names_are_utf8_in_every_locale(locale: str, mode: str, tmp_path: Path) -> None:
    (tmp_path / "源").mkdir()
    (tmp_path / "源" / "é").write_text("x")
    places = [f"{tmp_path}/源", f"{tmp_path}/目标"]
    done = _i2("replicate", *places, "--once", LC_ALL=locale, I2_LANG="zh", PYTHONUTF8=mode, PYTHONCOERCECLOCALE=mode)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "目标" / "é").read_text() == "x"


def test_a_config_is_the_same_in_every_locale(tmp_path: Path) -> None:
    config = tmp_path / "n.toml"
    config.write_text(f'[node]\nname = "节点"\nstate_dir = "{tmp_path}/状态"\n', encoding="utf-8")
    done = _i2("node", "id", "--config", str(config), LC_ALL="POSIX", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "状态").is_dir()


def _help_of(command: click.Command, *words: str) -> Iterator[tuple[str, ...]]:
    """The words of the command, and of all commands beneath it."""
    yield words
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None
            yield from _help_of(found, *words, name)


@pytest.mark.parametrize("words", list(_help_of(main.i2)), ids=" ".join)
def test_help_fits_a_terminal(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main.run([*words, "--help"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 80] == []


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("i2 ")


def test_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["rplicate"]) == 2
    assert "rplicate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (StopRule("no space left", code=Code.REPLICA_FULL, obj="/r/a"), 1),
        (UsageError("is a file", obj="/r"), 2),
        (PermissionError(13, "Permission denied", "/var/lib/i2"), 1),
        (KeyboardInterrupt(), 130),
        (ExceptionGroup("", [ExceptionGroup("", [UsageError("is a file")])]), 2),
        (BaseExceptionGroup("", [KeyboardInterrupt()]), 130),
    ],
)
def test_exit_codes_without_a_traceback(
    error: BaseException, exit_code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _ending_in(monkeypatch, error)
    assert main.run(["fail"]) == exit_code
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err


def test_error_line_says_what_where_why_next_and_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _ending_in(monkeypatch, StopRule("No space left on device", code=Code.REPLICA_FULL, obj="/r/a\nb"))
    main.run(["fail"])
    line = capsys.readouterr().err
    for part in ("3606", "disk full", "/r/a\\nb", "No space left on device", "free space"):
        assert part in line


def test_error_line_in_chinese(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("I2_LANG", "zh")
    _ending_in(monkeypatch, StopRule("No space left on device", code=Code.REPLICA_FULL, obj="/r/a"))
    main.run(["fail"])
    line = capsys.readouterr().err
    assert "灾备机磁盘已满" in line
    assert "下一步" in line


def test_json_error_is_one_document(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _ending_in(monkeypatch, StopRule("full", code=Code.REPLICA_FULL, obj="/r/\udcff"))
    assert main.run(["fail", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "state": "failed",
        "code": 3606,
        "object": "/r/\udcff",
        "message": "full",
        "message_zh": f"{Code.REPLICA_FULL.text.zh}：full",
        "next": Code.REPLICA_FULL.text.next_en,
        "next_zh": Code.REPLICA_FULL.text.next_zh,
        "exit_code": 1,
    }
    assert "\\udcff" in err


def test_each_mistake_has_its_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from i2core.config.mistakes import ConfigErrors, Mistake
    from i2core.config.words import both

    mistakes = [Mistake("f.toml", 3, "rule.name", both("bad")), Mistake("f.toml", 5, "node", both("worse"))]
    _ending_in(monkeypatch, ConfigErrors(mistakes))
    assert main.run(["fail"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert ["f.toml:3: rule.name: bad" in lines[0], "f.toml:5: node: worse" in lines[1]] == [True, True]


def test_an_internal_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    _ending_in(monkeypatch, ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError):
        main.run(["fail"])


def test_closed_output_is_no_traceback(tmp_path: Path) -> None:
    config = tmp_path / "n.toml"
    config.write_text(f'[node]\nname = "a"\nstate_dir = "{tmp_path}/s"\n')
    command = f"{sys.executable} -m i2core.cli node id --config {config} | true"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)  # noqa: S603
    assert "Traceback" not in done.stderr


def test_shown_escapes_what_could_fool_a_terminal() -> None:
    assert printable("a\nb\x1b[31m\udcffü") == "a\\nb\\x1b[31m\\udcffü"


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB")])
def test_sizes_for_people(count: int, text: str) -> None:
    assert size(count) == text


def test_a_demo_without_its_plugins_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    core = Registry.load(enabled=["builtin"])
    monkeypatch.setattr(Registry, "load", lambda: core)
    assert main.run(["demo"]) == 2
    assert "install its plugin" in capsys.readouterr().err


@pytest.mark.parametrize("group", [[], ["node"], ["rule"], ["plugins"]])
def test_no_command_of_a_group_is_cut_short(group: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([*group, "--help"]) == 0
    assert "..." not in capsys.readouterr().out.partition("Commands:")[2]


def _i2(*arguments: str, stdout: int = subprocess.PIPE, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        [sys.executable, "-m", "i2core.cli", *arguments],
        env=os.environ | environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


def test_closed_streams_are_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "file").write_text("x")
    command = f"{sys.executable} -m i2core.cli replicate {tmp_path}/src {tmp_path}/dst --once <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0  # noqa: S603, S607
    assert (tmp_path / "dst" / "file").read_text() == "x"


def test_an_encoding_that_has_no_chinese_gets_escapes() -> None:
    done = _i2("codes", I2_LANG="zh", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "\\u7f51\\u7edc\\u8fde\\u63a5\\u9519\\u8bef" in done.stdout  # 网络连接错误


OUTPUTS = {
    "a table": ["codes"],
    "a document": ["codes", "--json"],
    "lines": ["codes", "3607"],
    "help": ["--help"],
    "a summary": ["replicate", "src", "dst", "--once"],
    "a summary for programs": ["replicate", "src", "dst", "--once", "--json"],
}


@pytest.fixture
def _with_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "file").write_text("x")


@pytest.mark.usefixtures("_with_a_source")
@pytest.mark.parametrize("what", OUTPUTS)
def test_output_that_cannot_be_written_is_one_line(what: str) -> None:
    with open("/dev/full", "w") as full:
        done = _i2(*OUTPUTS[what], stdout=full.fileno(), I2_LANG="en")
    assert done.returncode == 1
    *progress, line = done.stderr.splitlines()
    assert line == "i2: error: the output cannot be written: No space left on device"
    assert bool(progress) == what.startswith("a summary")


@pytest.mark.usefixtures("_with_a_source")
@pytest.mark.parametrize("what", ["a summary", "a summary for programs"])
def test_a_run_does_not_fail_for_want_of_a_reader(what: str, tmp_path: Path) -> None:
    """As with ``| true``."""
    reader, writer = os.pipe()
    os.close(reader)
    done = _i2(*OUTPUTS[what], stdout=writer, I2_LANG="en")
    os.close(writer)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr
    assert (tmp_path / "dst" / "file").read_text() == "x"
