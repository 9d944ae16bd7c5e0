"""`i2 replicate` refuses what cannot work before it touches anything, and makes the rule that was meant."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from i2core.api import Code, UsageError
from i2core.cli.main import run
from i2core.config.model import DriverChoice, OrphanAction
from i2core.node.oneshot.single import Single, Wish, inside, single_rule, split_destination


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "file").write_text("x")
    return tmp_path / "src"


def _rule(source: Path | str, destination: Path | str, **wish: object) -> Single:
    return single_rule(Wish(source=str(source), destination=str(destination), **wish))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("src", "dst"),
    [
        ("missing", "dst"),
        ("src", "src"),
        ("src", "src/deep/er"),
        ("src", "."),
        ("src", "file"),
        ("src", "file/beneath"),
        ("src", "link-to-src"),
        ("src/file", "src"),
        ("fifo", "dst"),
        ("", "dst"),
        ("src", ""),
        ("src", "bak1:"),
        ("src", "bak1:relative/dst"),
        ("src", "user@host:/dst"),
        ("src", "user@host:dst"),
        ("src", "灾备一:/dst"),
        ("src", "host::module/dst"),
        ("src", "rsync://host/dst"),
        ("src", "ssh://user@host/dst"),
        ("src", "[::1]:/dst"),
        ("src", "C:\\dst"),
        ("src", ":/dst"),
        ("src", "-h:/dst"),
        ("src", "a\udcff:/dst"),
        ("src", "a:b"),
        ("src", "/proc/dst"),
    ],
)
def test_refused_with_nothing_created(
    src: str, dst: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "a:b").mkdir()
    (tmp_path / "link-to-src").symlink_to("src")
    os.mkfifo(tmp_path / "fifo")
    before = sorted(path for path in tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert run(["replicate", src, dst, "--once", "--state-dir", str(tmp_path / "state")]) == 2
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.root
@pytest.mark.parametrize(
    ("src", "dst", "orphans"),
    [
        ("src", "shown", "keep"),
        ("src", "shown/in", "keep"),
        ("src/in", "shown", "keep"),
        ("shown", "src", "keep"),
        ("src/file", "shown", "keep"),
        ("src", "dst", "move:shown/aside"),
    ],
)
def test_a_bind_mount_of_the_source_is_refused(
    src: str, dst: str, orphans: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be copied into itself without end."""
    (source / "in").mkdir()
    (tmp_path / "shown").mkdir()
    monkeypatch.chdir(tmp_path)
    subprocess.run(["mount", "--bind", "src", "shown"], check=True)  # noqa: S607
    try:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(UsageError) as refused:
            _rule(src, dst, orphans=orphans)
        assert sorted(tmp_path.rglob("*")) == before
    finally:
        subprocess.run(["umount", "-l", "shown"], check=True)  # noqa: S607
    assert refused.value.code is Code.ILLEGAL_PATH


@pytest.mark.parametrize(
    "option",
    [
        ["--exclude", "/elsewhere"],
        ["--exclude", "."],
        ["--exclude", "src/file"],
        ["--exclude", "*.tmp"],
        ["--exclude", "[ab]"],
        ["--orphans", "burn"],
        ["--orphans", "delete:x"],
        ["--orphans", "move:"],
        ["--orphans", "move:dst/aside"],
        ["--orphans", "move:src/aside"],
        ["--key-file", "missing.key"],
        ["--verify", "maybe"],
    ],
)
def test_refused_options(option: list[str], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["replicate", "src", "dst", "--once", *option]) == 2
    assert sorted(os.listdir(tmp_path)) == ["src"]


def test_a_wrong_command_line_is_reported_in_chinese(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("I2_LANG", "zh")
    assert run(["replicate", str(source), str(source / "copy"), "--once"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "目标位于源目录之内" in line


def test_another_node_needs_a_config(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replicate", str(source), "bak1:/backup/x"]) == 2
    assert "--config" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "split"),
    [
        ("bak1:/backup/x", ("bak1", "/backup/x")),
        ("192.168.1.2:/b", ("192.168.1.2", "/b")),
        ("./bak1:/b", (None, "./bak1:/b")),
        ("/plain", (None, "/plain")),
        ("灾备 一:/b", ("灾备 一", "/b")),
        ("a:b:/c:/d", ("a:b", "/c:/d")),
        ("dir/a:/b", (None, "dir/a:/b")),
        ("n:/with\nnewline", ("n", "/with\nnewline")),
    ],
)
def test_destinations(given: str, split: tuple[str | None, str]) -> None:
    assert split_destination(given) == split


def test_a_colon_in_the_name_of_an_existing_file(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _rule(source, "./a:b").rule.pairs[0].target == os.fsencode(tmp_path / "a:b")


def test_a_missing_exclude_is_reported(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "kept").mkdir()
    command = ["replicate", str(source), str(tmp_path / "dst"), "--once", "--exclude", "later", "--exclude", "kept"]
    assert run(command) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "--exclude" in line]
    assert len(told) == 1
    assert "--exclude later" in told[0]


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("*.tmp", "--exclude-type '*.tmp'"),
        ("deep/*.tmp", "--exclude-type '*.tmp'"),
        ("cache/*", "--exclude cache excludes"),
        ("cache/**", "--exclude cache excludes"),
        ("src/file", "--exclude file"),
        ("./src/file", "--exclude file"),
    ],
)
def test_a_misspelled_exclude_gets_a_hint(
    given: str, hint: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as refused:
        _rule(source, "dst", exclude=[given])
    assert hint in refused.value.next_step


def test_an_exclude_may_be_named_by_a_symlink(source: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(source)
    made = _rule(tmp_path / "way", tmp_path / "dst", exclude=[str(tmp_path / "way" / "file")])
    assert made.rule.filters[0].options["exclude"] == [str(source / "file")]


def test_directory_rule(source: Path, tmp_path: Path) -> None:
    made = _rule(source, tmp_path / "dst", exclude=["tmp", str(source / "cache")], include_types=["*.doc"])
    pair = made.rule.pairs[0]
    assert (pair.source, pair.target) == (os.fsencode(source), os.fsencode(tmp_path / "dst"))
    assert made.rule.filters == (
        DriverChoice(
            name="glob",
            options={
                "exclude": [str(source / "tmp"), str(source / "cache")],
                "include_types": ["*.doc"],
                "exclude_types": [],
            },
        ),
    )
    assert made.rule.codecs == ()
    assert made.role is not None
    assert made.role.allow_roots == (pair.target,)


def test_a_single_file_is_put_into_the_directory_under_its_name(source: Path, tmp_path: Path) -> None:
    made = _rule(source / "file", tmp_path / "dst")
    assert made.rule.pairs[0].target == os.fsencode(tmp_path / "dst" / "file")
    assert made.role is not None
    assert made.role.allow_roots == (os.fsencode(tmp_path / "dst"),)


def test_remote_rule_compresses_by_default_and_has_no_role(source: Path) -> None:
    made = _rule(source, "bak1:/backup/x/")
    assert made.role is None
    assert (made.rule.backup, made.rule.pairs[0].target) == ("bak1", b"/backup/x")
    assert [codec.options for codec in made.rule.codecs] == [{"level": "low"}]


def test_encryption_follows_compression_and_both_ends_have_the_key(source: Path, tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(b"k" * 32)
    (tmp_path / "k").chmod(0o600)
    made = _rule(source, tmp_path / "dst", compress="high", key_file=str(tmp_path / "k"))
    assert [codec.name for codec in made.rule.codecs] == ["zstd", "aesgcm"]
    assert made.role is not None
    assert made.role.keys == {made.rule.name: made.rule.codecs[1]}


def test_orphans_may_move_beside_the_replica(source: Path, tmp_path: Path) -> None:
    made = _rule(source, tmp_path / "dst", orphans=f"move:{tmp_path}/aside")
    assert (made.rule.orphans.action, made.rule.orphans.to) == (OrphanAction.MOVE, os.fsencode(tmp_path / "aside"))
    assert made.role is not None
    assert os.fsencode(tmp_path / "aside") in made.role.allow_roots


def test_names_differ_by_pair_and_are_stable(source: Path, tmp_path: Path) -> None:
    one, again = _rule(source, tmp_path / "a"), _rule(f"{source}/../src", tmp_path / "a")
    assert one.rule.name == again.rule.name
    assert one.rule.name != _rule(source, tmp_path / "b").rule.name


def test_symlinked_parents_are_seen_through(source: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(source)
    with pytest.raises(UsageError, match="inside the source"):
        _rule(source, tmp_path / "way" / "copy")


def test_inside_is_by_component() -> None:
    assert inside(b"/a/b", b"/a")
    assert inside(b"/a", b"/")
    assert not inside(b"/ab", b"/a")
