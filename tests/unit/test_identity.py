"""The identity is created once, completely, and only its owner can read it."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from i2core.api import UsageError
from i2core.node.pairing.identity import Identity

from .processes import at_once


def common_name(identity: Identity) -> str:
    certificate = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
    (attribute,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(attribute.value)


def test_created_at_the_first_start_and_kept(tmp_path: Path) -> None:
    first = Identity.load_or_create(tmp_path / "new" / "state", "web1")
    again = Identity.load_or_create(tmp_path / "new" / "state", "web1")
    assert again == first
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", first.fingerprint)
    der = ssl.PEM_cert_to_DER_cert(first.certificate.read_text())
    assert first.fingerprint == "sha256:" + hashlib.sha256(der).hexdigest()
    assert common_name(first) == "web1"
    other = Identity.load_or_create(tmp_path / "other", "web1")
    assert other.fingerprint != first.fingerprint


def test_modes_hold_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        identity = Identity.load_or_create(tmp_path / "state", "web1")
    finally:
        os.umask(before)
    assert identity.key.stat().st_mode & 0o777 == 0o600
    assert identity.key.parent.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_python_and_openssl_take_it(tmp_path: Path) -> None:
    identity = Identity.load_or_create(tmp_path, "web1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    # A trust anchor of its own, for peers that load the certificate itself.
    context.load_verify_locations(identity.certificate)


@pytest.mark.parametrize("name", ["灾备机" * 20, "a" * 300, "new\nline", "*.example; rm -rf /"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    identity = Identity.load_or_create(tmp_path, name)
    assert identity.name == name
    assert name.startswith(common_name(identity))
    assert 0 < len(common_name(identity).encode()) <= 64


def test_a_renamed_node_stays_who_it_is(tmp_path: Path) -> None:
    first = Identity.load_or_create(tmp_path, "web1")
    renamed = Identity.load_or_create(tmp_path, "web2")
    assert renamed.name == "web2"
    assert renamed.fingerprint == first.fingerprint


class Crash(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("crash_at", range(3))
def test_a_crash_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_at: int) -> None:
    """The process may end at each fsync; as in a real crash, no cleanup runs."""
    calls = 0
    real = os.fsync

    def crash(fd: int) -> None:
        nonlocal calls
        calls += 1
        if calls > crash_at:
            raise Crash
        real(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crash)
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        with pytest.raises(Crash):
            Identity.load_or_create(tmp_path, "web1")
    assert not (tmp_path / "identity").exists()
    assert list(tmp_path.iterdir()), "the crash came too early to leave anything"
    identity = Identity.load_or_create(tmp_path, "web1")
    assert list(tmp_path.iterdir()) == [identity.key.parent]


def test_a_failure_removes_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UsageError, match="No space left"):
            Identity.load_or_create(tmp_path, "web1")
    assert not list(tmp_path.iterdir())


_FINGERPRINT = """
import sys; from pathlib import Path; from i2core.node.pairing.identity import Identity
for place in sys.argv[1:]: print(Identity.load_or_create(Path(place), "web1").fingerprint)
"""


def test_starts_at_once_agree(tmp_path: Path) -> None:
    places = [str(tmp_path / str(number)) for number in range(6)]
    told = at_once(3, _FINGERPRINT, *places)
    assert len(set(told)) == 1
    assert len(set(told[0].split())) == len(places)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_a_key_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    identity = Identity.load_or_create(tmp_path, "web1")
    identity.key.chmod(mode)
    with pytest.raises(UsageError, match=f"{mode:04o}.*chmod 600"):
        Identity.load_or_create(tmp_path, "web1")
    identity.key.chmod(0o600)
    assert Identity.load_or_create(tmp_path, "web1") == identity


def test_a_symlink_is_no_key(tmp_path: Path) -> None:
    identity = Identity.load_or_create(tmp_path, "web1")
    identity.key.rename(tmp_path / "elsewhere")
    identity.key.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError):
        Identity.load_or_create(tmp_path, "web1")


@pytest.mark.parametrize("gone", ["key.pem", "certificate.pem"])
def test_half_an_identity_is_never_replaced(tmp_path: Path, gone: str) -> None:
    identity = Identity.load_or_create(tmp_path, "web1")
    left = {"key.pem": identity.certificate, "certificate.pem": identity.key}[gone]
    content = left.read_bytes()
    (tmp_path / "identity" / gone).unlink()
    with pytest.raises(UsageError, match="incomplete"):
        Identity.load_or_create(tmp_path, "web1")
    assert left.read_bytes() == content
    assert not (tmp_path / "identity" / gone).exists()


def test_damage_and_mixed_pairs_are_refused(tmp_path: Path) -> None:
    identity = Identity.load_or_create(tmp_path / "a", "web1")
    other = Identity.load_or_create(tmp_path / "b", "web1")
    identity.certificate.write_bytes(other.certificate.read_bytes())
    with pytest.raises(UsageError, match="belong together"):
        Identity.load_or_create(tmp_path / "a", "web1")
    for damage in (b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\xff" * 1000):
        identity.certificate.write_bytes(damage)
        with pytest.raises(UsageError, match="damaged"):
            Identity.load_or_create(tmp_path / "a", "web1")
    other.key.write_bytes(b"\xff")
    with pytest.raises(UsageError, match="damaged"):
        Identity.load_or_create(tmp_path / "b", "web1")


def test_a_state_dir_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(UsageError, match="state_dir"):
        Identity.load_or_create(tmp_path / "state", "web1")


def test_a_directory_that_others_may_write_is_refused(tmp_path: Path) -> None:
    identity = Identity.load_or_create(tmp_path, "web1")
    identity.key.parent.chmod(0o777)
    with pytest.raises(UsageError, match=r"0777.*chmod 700"):
        Identity.load_or_create(tmp_path, "web1")
