"""Work nodes cannot reach a node's own files, under any name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from i2core.config.load import ConfigErrors, load
from i2core.config.mounts import overlap, reaches
from i2core.posix.mounts import Mount, parse_mounts
from i2core.registry import Registry

MOUNTS = parse_mounts(
    b"20 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
    b"21 20 8:2 / /backup rw - xfs /dev/sdb rw\n"
    b"22 21 8:1 /var/lib /backup/lib rw - ext4 /dev/sda1 rw\n"
    b"23 20 8:2 /own /srv/with\\040blank rw - xfs /dev/sdb rw\n"
    b"24 20 0:30 /@home /home rw - btrfs /dev/sdc rw\n"
    b"no mount\n"
)


def test_a_mount_table_is_read_with_its_escapes() -> None:
    assert Mount(23, b"8:2", b"/own", b"/srv/with blank", b"xfs", b"rw") in MOUNTS
    assert len(MOUNTS) == 5


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"/backup/state", True),
        (b"/backup", True),
        (b"/var/lib/i2", True),  # through the bind mount
        (b"/srv/with blank/state", True),  # another name of /backup/own
        (b"/var/log", False),
        (b"/backup-too", False),
        (b"/home/state", False),
        (b"/", False),
    ],
)
def test_what_is_reached_beneath_a_directory(path: bytes, found: bool) -> None:
    assert reaches(b"/backup", path, MOUNTS) is found


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (b"/backup/own", b"/srv/with blank", True),
        (b"/backup/own", b"/srv/with blank/in/it", True),
        (b"/backup", b"/srv/with blank", True),
        (b"/backup/lib", b"/var", True),
        (b"/backup/beside", b"/srv/with blank", False),
        (b"/srv/beside", b"/srv/with blank", False),
    ],
)
def test_which_directories_overlap(one: bytes, other: bytes, found: bool) -> None:
    assert overlap(one, other, MOUNTS) is overlap(other, one, MOUNTS) is found


def test_without_a_mount_table_names_decide() -> None:
    assert reaches(b"/a", b"/a/b", [])
    assert not reaches(b"/a", b"/b", [])


def node(tmp_path: Path, *, state: str = "state", config: str = "node.toml", more: str = "") -> Path:
    file = tmp_path / config
    file.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "replicas").mkdir(exist_ok=True)
    file.write_text(
        f'[node]\nname = "bak"\nstate_dir = "{tmp_path}/{state}"\n'
        f'[backup]\nplaintext = true\nlisten = "127.0.0.1"\nallow_roots = ["{tmp_path}/replicas"]\n{more}'
    )
    return file


def told(file: Path) -> str:
    with pytest.raises(ConfigErrors) as wrong:
        load(file, Registry.load())
    return str(wrong.value)


def test_own_files_beside_the_replicas_are_fine(tmp_path: Path) -> None:
    load(node(tmp_path), Registry.load())


def test_state_beneath_an_allowed_directory_is_refused(tmp_path: Path) -> None:
    assert "node.state_dir" in told(node(tmp_path, state="replicas/state"))
    assert "node.state_dir" in told(node(tmp_path, state="replicas"))


def test_state_that_a_symlink_leads_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "replicas/in").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "replicas/in")
    assert "node.state_dir" in told(node(tmp_path, state="link/state"))


def test_a_symlink_beneath_an_allowed_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "replicas").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "replicas/state").symlink_to(tmp_path / "state")
    assert "node.state_dir" in told(node(tmp_path, state="replicas/state"))


def test_config_cache_and_keys_are_refused_there(tmp_path: Path) -> None:
    assert "own config" in told(node(tmp_path, config="replicas/node.toml"))
    assert "work.cache_dir" in told(node(tmp_path, more=f'[work]\ncache_dir = "{tmp_path}/replicas/cache"\n'))
    key = tmp_path / "replicas/key"
    key.write_bytes(bytes(32))
    key.chmod(0o600)
    assert "key_file" in told(node(tmp_path, more=f'[[backup.key]]\nrule = "data1"\nkey_file = "{key}"\n'))


def test_histories_may_lie_in_an_allowed_directory_but_no_allowed_directory_in_them(tmp_path: Path) -> None:
    load(node(tmp_path, more=f'cdp_dir = "{tmp_path}/replicas/.i2/cdp"\n'), Registry.load())
    for place in ("replicas", "."):
        assert "backup.cdp_dir" in told(node(tmp_path, more=f'cdp_dir = "{tmp_path / place}"\n'))


def on_one_host(tmp_path: Path, source: str, target: str, orphans: str = "aside") -> Path:
    (tmp_path / "source").mkdir(exist_ok=True)
    return node(
        tmp_path,
        more=f'cdp_dir = "{tmp_path}/replicas/own/cdp"\n'
        '[work]\nplaintext = true\n[[work.peer]]\nname = "bak"\naddress = "127.0.0.1"\n'
        '[[rule]]\nname = "r"\nbackup = "bak"\n'
        f'orphans = {{ action = "move", to = "{tmp_path}/replicas/{orphans}" }}\n'
        f'paths = [{{ source = "{tmp_path}/{source}", target = "{tmp_path}/replicas/{target}" }}]\n',
    )


def test_histories_lie_apart_from_targets_and_sources_of_the_same_host(tmp_path: Path) -> None:
    load(on_one_host(tmp_path, "source", "target"), Registry.load())
    for target in ("own", "own/cdp", "own/cdp/deeper"):
        assert "rule.paths.target" in told(on_one_host(tmp_path, "source", target))
        assert "rule.orphans.to" in told(on_one_host(tmp_path, "source", "target", target))
    (tmp_path / "replicas/link").symlink_to(tmp_path / "replicas/own")
    assert "and cdp_dir" in told(on_one_host(tmp_path, "source", "link"))
    (tmp_path / "replicas/own").mkdir()
    assert "backup.cdp_dir" in told(on_one_host(tmp_path, "replicas/own", "target"))


@pytest.mark.root
def test_state_that_a_bind_mount_shows_there_is_refused(tmp_path: Path) -> None:
    file = node(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "replicas/shown").mkdir()
    script = (
        f"mount --make-rprivate / && mount --bind '{tmp_path}/state' '{tmp_path}/replicas/shown' && "
        f"'{sys.executable}' -m i2core.cli node run --config '{file}'"
    )
    command = ["unshare", "--mount", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert done.returncode == 2, done.stderr
    assert "node.state_dir" in done.stderr
