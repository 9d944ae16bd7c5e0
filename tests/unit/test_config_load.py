"""Valid files become the right values."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

import pytest

from i2core.api import DriverKind
from i2core.config.load import ConfigErrors, load
from i2core.config.model import (
    BackupRole,
    BandwidthWindow,
    Brake,
    CdpRetention,
    DriverChoice,
    First,
    HistoryTerms,
    MirrorOptions,
    NodeConfig,
    OnError,
    OrphanAction,
    Orphans,
    Pair,
    PathMapping,
    SnapshotPlan,
    Verify,
    WhenFull,
    WhenHistoryFull,
)
from i2core.config.notices import notices
from i2core.testing.named import NamedDrivers, named

EXAMPLES = Path(__file__).parents[2] / "examples/configs"
FINGERPRINT = "sha256:" + "ab" * 32

HEAD = f"""
[node]
name = "web1"
state_dir = "/nonexistent/state"
[work]
[[work.peer]]
name = "bak"
address = "192.0.2.1"
fingerprint = "{FINGERPRINT.replace("ab", "AB")}"
"""


def loaded(tmp_path: Path, text: str, *, drivers: NamedDrivers | None = None) -> NodeConfig:
    path = tmp_path / "node.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, drivers or NamedDrivers())


def with_rule(tmp_path: Path, text: str = "", *, source: str = "/etc", more: str = "") -> NodeConfig:
    return loaded(
        tmp_path,
        f'{HEAD}\n[[rule]]\nname = "r"\nbackup = "bak"\n'
        f'paths = [{{ source = "{source}", target = "/b/r" }}]\n{text}{more}',
    )


def said(error: pytest.ExceptionInfo[ConfigErrors]) -> str:
    return "\n".join(mistake.text("en") for mistake in error.value.mistakes)


def test_the_work_sample() -> None:
    config = load(EXAMPLES / "work.toml", NamedDrivers(), look_at_disk=False)
    assert (config.name, config.state_dir, config.backup) == ("web1", Path("/var/lib/i2"), None)
    assert config.work is not None
    assert (config.work.memory_limit, config.work.disk_limit) == (256_000_000, 4_096_000_000)
    assert config.work.cache_dir == Path("/var/i2data/cache")
    (rule,) = config.rules
    assert rule.pairs == (Pair(source=b"/home/data1", target=b"/backup/data1"),)
    assert rule.filters == (
        DriverChoice(name="glob", options={"exclude": ["/home/data1/tmp"], "include_types": ["*.doc", "*.docx"]}),
    )
    assert rule.codecs == (
        DriverChoice(name="zstd", options={"level": "low"}),
        DriverChoice(name="aesgcm", options={"key_file": "/etc/i2/data1.key"}),
    )
    assert rule.snapshot == SnapshotPlan(
        every_s=3600.0, start=datetime.datetime(2026, 1, 1), keep=24, when_full=WhenFull.ROTATE
    )
    assert rule.cdp == CdpRetention(detailed_days=7, daily=30, monthly=12)
    assert rule.bandwidth == (
        BandwidthWindow(days=frozenset(range(5)), first_minute=480, end_minute=1080, limit_bps=2_000_000),
    )
    assert [(notice.rule, notice.key) for notice in notices(config)] == [
        ("data1", "rule.exclude"),
    ]


def test_the_backup_sample() -> None:
    config = load(EXAMPLES / "backup.toml", NamedDrivers())
    assert config.backup is not None and config.work is None
    assert config.backup.allow_roots == (b"/backup",)
    assert config.backup.cdp_dir == b"/backup/.i2/cdp"
    assert [peer.name for peer in config.backup.peers] == ["web1"]
    assert not list(notices(config))


def test_a_peers_own_directories_lie_beneath_those_of_the_node(tmp_path: Path) -> None:
    text = (
        '[node]\nname = "b"\n[backup]\nallow_roots = ["/b"]\n[[backup.peer]]\nname = "w"\n'
        f'fingerprint = "sha256:{"1" * 64}"\nallow_roots = [PLACES]\n'
    )
    config = loaded(tmp_path, text.replace("PLACES", '"/b", "/b/w"'))
    assert config.backup is not None
    assert config.backup.peers[0].allow_roots == (b"/b", b"/b/w")
    for place in ("/c", "/bw", "/"):
        with pytest.raises(ConfigErrors, match="allow_roots"):
            loaded(tmp_path, text.replace("PLACES", f'"/b", "{place}"'))


def test_the_demo_sample_fits_any_host_unchanged() -> None:
    config = load(EXAMPLES / "demo.toml", NamedDrivers())
    assert config.backup is not None and config.work is not None
    assert config.backup.plaintext and config.work.plaintext
    ports = {config.backup.mirror_port, config.backup.replication_port}
    assert ports == {config.work.peers[0].mirror_port, config.work.peers[0].replication_port}
    assert min(ports) > 1024
    assert list(notices(config)) == []


BACKUP = '[node]\nname = "b"\nstate_dir = "/state"\n[backup]\nplaintext = true\nlisten = "::1"\nallow_roots = ["/b"]\n'


def backup_of(config: NodeConfig) -> BackupRole:
    assert config.backup is not None
    return config.backup


def test_where_histories_are_kept_and_on_which_terms(tmp_path: Path) -> None:
    usual = loaded(tmp_path, BACKUP)
    assert backup_of(usual).cdp_dir == b"/state/cdp"
    assert backup_of(usual).cdp == HistoryTerms(lock_s=0.0, grace_s=7 * 86400.0, when_full=WhenHistoryFull.SHORTEN)
    assert list(notices(usual)) == []
    own = loaded(tmp_path, f'{BACKUP}cdp_dir = "/b/c"\ncdp = {{ lock = "30d", grace = "0", when_full = "stop" }}\n')
    assert backup_of(own).cdp_dir == b"/b/c"
    assert backup_of(own).cdp == HistoryTerms(lock_s=30 * 86400.0, grace_s=0.0, when_full=WhenHistoryFull.STOP)


def test_a_rule_without_history(tmp_path: Path) -> None:
    assert with_rule(tmp_path, 'cdp = "off"\n').rules[0].cdp is None
    assert with_rule(tmp_path, "cdp = {}\n").rules[0].cdp == CdpRetention(detailed_days=7, daily=30, monthly=12)


def test_defaults(tmp_path: Path) -> None:
    (rule,) = with_rule(tmp_path).rules
    assert rule.mapping is PathMapping.ONE_TO_ONE
    assert rule.capture == DriverChoice(name="auto")
    assert rule.mirror == MirrorOptions(verify=Verify.TIME, on_error=OnError.LOG, first=First.AUTO)
    assert (rule.filters, rule.codecs, rule.bandwidth) == ((), (), ())
    assert (rule.snapshot, rule.cdp, rule.delete_target_with_rule, rule.autostart) == (None, None, False, True)
    assert (rule.orphans, rule.brake, rule.rescan_s) == (Orphans(), Brake(share=0.5, window_s=60.0, least=1000), 3600.0)


def test_fingerprints_are_given_in_lower_case(tmp_path: Path) -> None:
    work = with_rule(tmp_path).work
    assert work is not None and work.peers[0].fingerprint == FINGERPRINT


def test_paths_lose_doubled_and_trailing_slashes_only(tmp_path: Path) -> None:
    (rule,) = with_rule(tmp_path, source="//etc///", more='exclude = ["/etc//a b\\n*/"]').rules
    assert rule.pairs[0].source == b"/etc"
    assert rule.filters[0].options["exclude"] == ["/etc/a b\n*"]


def test_many_to_one_keeps_the_full_source_path(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        HEAD + '[[rule]]\nname = "r"\nbackup = "bak"\nmapping = "many-to-one"\n'
        'paths = [{ source = "/etc", target = "/b" }, { source = "/usr/lib", target = "/b/" }]\n',
    )
    assert [pair.target for pair in config.rules[0].pairs] == [b"/b/etc", b"/b/usr/lib"]


def test_a_single_file_is_a_source(tmp_path: Path) -> None:
    assert with_rule(tmp_path, source="/etc/passwd").rules[0].pairs[0].source == b"/etc/passwd"


@pytest.mark.parametrize(
    "way", ['capture = { driver = "scan", interval = 5 }\n', '[rule.capture]\ndriver = "scan"\ninterval = 5\n']
)
def test_a_driver_by_table(tmp_path: Path, way: str) -> None:
    assert with_rule(tmp_path, way).rules[0].capture == DriverChoice(name="scan", options={"interval": 5})


@pytest.mark.parametrize(
    ("word", "codecs"), [("none", ()), ("high", (DriverChoice(name="zstd", options={"level": "high"}),))]
)
def test_compress(tmp_path: Path, word: str, codecs: tuple[DriverChoice, ...]) -> None:
    assert with_rule(tmp_path, f'compress = "{word}"\n').rules[0].codecs == codecs


def test_other_drivers_can_be_chosen_everywhere(tmp_path: Path) -> None:
    drivers = NamedDrivers(
        named(DriverKind.CLIENT_TRANSPORT, "tcp"),
        named(DriverKind.CODEC, "small"),
        named(DriverKind.CODEC, "secret"),
        named(DriverKind.FILTER, "mine"),
    )
    rule = (
        '[[rule]]\nname = "r"\nbackup = "bak"\npaths = [{ source = "/etc", target = "/b" }]\n'
        'compress = { driver = "small" }\nencrypt = { driver = "secret" }\nfilters = ["mine", { driver = "mine" }]\n'
    )
    config = loaded(tmp_path, HEAD + rule, drivers=drivers)
    assert [codec.name for codec in config.rules[0].codecs] == ["small", "secret"]
    assert [choice.name for choice in config.rules[0].filters] == ["mine", "mine"]


def test_key_files(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"k" * 32)
    key.chmod(0o600)
    config = with_rule(tmp_path, f'encrypt = {{ passphrase_file = "{key}" }}\n')
    assert config.rules[0].codecs == (DriverChoice(name="aesgcm", options={"passphrase_file": str(key)}),)
    key.chmod(0o640)
    with pytest.raises(ConfigErrors, match="0640"):
        with_rule(tmp_path, f'encrypt = {{ key_file = "{key}" }}\n')


def test_keys_of_the_backup_role(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch(0o600)
    text = f'[node]\nname = "b"\n[backup]\nallow_roots = ["/b"]\n[[backup.key]]\nrule = "data1"\nkey_file = "{key}"\n'
    backup = loaded(tmp_path, text).backup
    assert backup is not None
    assert backup.keys == {"data1": DriverChoice(name="aesgcm", options={"key_file": str(key)})}


def test_orphans_brake_rescan(tmp_path: Path) -> None:
    (rule,) = with_rule(
        tmp_path,
        'orphans = { action = "move", to = "/old", archive = true }\n'
        'brake = { share = 1, window = "1h", least = 5 }\nrescan = "0"\nautostart = false\n',
    ).rules
    assert rule.orphans == Orphans(action=OrphanAction.MOVE, to=b"/old", archive=True)
    assert rule.brake == Brake(share=1.0, window_s=3600.0, least=5)
    assert (rule.rescan_s, rule.autostart) == (0.0, False)


def test_a_window_may_reach_into_the_next_day(tmp_path: Path) -> None:
    (window,) = with_rule(tmp_path, '[[rule.bandwidth]]\nhours = "22:00-06:00"\nlimit = "0"\n').rules[0].bandwidth
    assert (window.first_minute, window.end_minute, window.limit_bps) == (1320, 360, 0)
    assert window.days == frozenset(range(7))


def test_snapshot_takes_toml_times(tmp_path: Path) -> None:
    (rule,) = with_rule(tmp_path, 'snapshot = { every = "90m", start = 2026-01-01T08:30:00, keep = 64 }\n').rules
    assert rule.snapshot == SnapshotPlan(every_s=5400.0, start=datetime.datetime(2026, 1, 1, 8, 30), keep=64)


def test_snapshots_may_be_taken_by_hand_alone(tmp_path: Path) -> None:
    (rule,) = with_rule(tmp_path, 'snapshot = { store = "btrfs" }\n').rules
    assert rule.snapshot == SnapshotPlan(store="btrfs")


def test_names_can_be_read_without_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(
        f'{HEAD}[[rule]]\nname = "r"\nbackup = "bak"\npaths = [{{ source = "/nonexistent/x", target = "/b" }}]\n'
        'encrypt = { key_file = "/nonexistent/key" }\n'
    )
    assert load(path, NamedDrivers(), look_at_disk=False).rules[0].name == "r"
    with pytest.raises(ConfigErrors) as error:
        load(path, NamedDrivers())
    assert len(error.value.mistakes) == 2


def test_a_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_bytes(b"\xef\xbb\xbf" + HEAD.replace("\n", "\r\n").encode() + b"bad = 1\r\n")
    with pytest.raises(ConfigErrors) as error:
        load(path, NamedDrivers())
    assert f"{path}:10: work.peer.bad: unknown key" in said(error)


def test_symlinks_do_not_hide_that_source_and_target_are_nested(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "source")
    text = (EXAMPLES / "demo.toml").read_text("utf-8").replace("/tmp/i2-demo/replicas/licenses", f"{tmp_path}/link")
    text = text.replace("/tmp/i2-demo/replicas", f"{tmp_path}/source")
    with pytest.raises(ConfigErrors) as error:
        loaded(tmp_path, text.replace("/usr/share/common-licenses", f"{tmp_path}/source"))
    assert "same or nested on this host" in said(error)


@pytest.mark.root
def test_bind_mounts_do_not_hide_that_source_and_target_are_nested(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "shown").mkdir()
    text = (EXAMPLES / "demo.toml").read_text("utf-8").replace("/tmp/i2-demo/replicas", f"{tmp_path}/shown")
    text = text.replace("/usr/share/common-licenses", f"{tmp_path}/source")
    subprocess.run(["mount", "--bind", tmp_path / "source", tmp_path / "shown"], check=True)  # noqa: S603, S607
    try:
        with pytest.raises(ConfigErrors) as error:
            loaded(tmp_path, text)
    finally:
        subprocess.run(["umount", "-l", tmp_path / "shown"], check=True)  # noqa: S603, S607
    assert "same or nested on this host" in said(error)


def test_a_cascade_through_two_rules_is_no_mistake(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    text = (EXAMPLES / "demo.toml").read_text("utf-8").split("[[rule]]", maxsplit=1)[0]
    roots = f'"{tmp_path}/b", "{tmp_path}/c"'
    text = text.replace('"/tmp/i2-demo/replicas"', roots).replace("/tmp/i2-demo", "/nonexistent")
    for name, target in (("a", "b"), ("b", "c")):
        text += f'[[rule]]\nname = "{name}"\nbackup = "demo"\n'
        text += f'paths = [{{ source = "{tmp_path}/{name}", target = "{tmp_path}/{target}" }}]\n'
    assert [rule.name for rule in loaded(tmp_path, text).rules] == ["a", "b"]


def test_the_own_state_may_lie_in_a_source_when_excluded(tmp_path: Path) -> None:
    text = HEAD.replace("/nonexistent/state", "/usr/i2-state")
    text += '[[rule]]\nname = "r"\nbackup = "bak"\npaths = [{ source = "/usr", target = "/b" }]\n'
    assert loaded(tmp_path, text + 'exclude = ["/usr/i2-state"]\n').rules[0].filters[0].options == {
        "exclude": ["/usr/i2-state"]
    }


def test_a_backup_node_may_have_a_brake_of_its_own(tmp_path: Path) -> None:
    text = (EXAMPLES / "demo.toml").read_text("utf-8")
    config = loaded(tmp_path, text.replace("[[backup.peer]]", "brake = { share = 0.3, least = 20 }\n[[backup.peer]]"))
    assert config.backup is not None and config.backup.brake == Brake(share=0.3, least=20)
    plain = loaded(tmp_path, text)
    assert plain.backup is not None and plain.backup.brake is None
