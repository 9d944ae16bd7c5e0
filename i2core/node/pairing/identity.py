"""The identity of this node: a key created at the first start, and the certificate that peers pin by its fingerprint.

Trust depends on the fingerprint alone. So the certificate needs no authority, its dates do not matter, and its name is
for people only. A key that others may read, or half an identity, is refused and never silently replaced: after a change
of the identity every peer must pin the new fingerprint.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import shutil
import stat
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from i2core.api import UsageError
from i2core.config.words import bilingual
from i2core.node.pairing.private_file import locked_directory, read_private, write_new
from i2core.posix.durable import sync_path

_DIRECTORY = "identity"
_UNFINISHED = ".identity.new"
_NO_END = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)  # RFC 5280, 4.1.2.5
_COMMON_NAME_BYTES = 64


@attrs.frozen(kw_only=True)
class Identity:
    """The identity of one node, kept in ``<state_dir>/identity`` (0700)."""

    name: str
    """The name in the config; the certificate has an older one if the node was renamed."""
    certificate: Path
    """PEM, self-signed, ECDSA on P-256: every TLS 1.3 library must support that (RFC 8446, 9.1)."""
    key: Path
    """PEM, PKCS #8, 0600."""
    fingerprint: str
    """``"sha256:<64 hex digits>"`` of the DER certificate, lower case."""

    @classmethod
    def load_or_create(cls, state_dir: Path, name: str) -> Identity:
        """The node's identity; created durably if there is none. Safe against a crash at any point, and against two
        starts at the same time.

        Raises:
            UsageError: the identity is incomplete or damaged, its key can be read by others or belongs to another
                user, or the directory cannot be written. Nothing was changed.
        """
        directory = state_dir / _DIRECTORY
        try:
            if not directory.exists():
                _create(state_dir, name)
            return cls._load(directory, name)
        except OSError as error:
            raise UsageError(
                f"cannot use the node's identity: {error.strerror or error}",
                obj=str(error.filename or directory),
                next_step="check state_dir and its permissions",
            ) from error

    @classmethod
    def _load(cls, directory: Path, name: str) -> Identity:
        certificate, key = directory / "certificate.pem", directory / "key.pem"
        for path in (certificate, key):
            if not path.exists():
                raise UsageError(
                    bilingual("the node's identity is incomplete", "节点身份不完整"),
                    obj=str(path),
                    next_step=_restore(),
                )
        mode = stat.S_IMODE(directory.stat().st_mode)
        if mode & 0o022:
            raise UsageError(
                bilingual(
                    f"others may replace the node's identity (mode {mode:04o})",
                    f"其他用户可以替换节点身份（权限 {mode:04o}）",
                ),
                obj=str(directory),
                next_step=bilingual(
                    "chmod 700 if no other user did; else remove the directory for a new identity",
                    "若无人替换过，请 chmod 700；否则删除该目录以生成新身份",
                ),
            )
        try:
            private = load_pem_private_key(read_private(key, unseen=True), password=None)
            shown = x509.load_pem_x509_certificate(certificate.read_bytes())
            own, theirs = (
                public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
                for public in (private.public_key(), shown.public_key())
            )
        except (ValueError, TypeError) as error:
            raise UsageError(
                bilingual("the node's identity is damaged", "节点身份已损坏"), obj=str(directory), next_step=_restore()
            ) from error
        if own != theirs:
            raise UsageError(
                bilingual("key and certificate do not belong together", "密钥与证书不匹配"),
                obj=str(directory),
                next_step=_restore(),
            )
        return cls(name=name, certificate=certificate, key=key, fingerprint=fingerprint_of(shown))


def _restore() -> str:
    return bilingual(
        "restore the directory from a backup, or remove it for a new identity, whose fingerprint all peers must pin",
        "从备份恢复该目录，或删除它以生成新身份并告知所有对端",
    )


def fingerprint_of(certificate: x509.Certificate) -> str:
    """``"sha256:<64 hex digits>"`` over the DER encoding, lower case: what peers pin."""
    return "sha256:" + hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def _create(state_dir: Path, name: str) -> None:
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked_directory(state_dir) as held:
        if (state_dir / _DIRECTORY).exists():
            return  # another start was faster
        unfinished = state_dir / _UNFINISHED
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            unfinished.mkdir(mode=0o700)
            key = ec.generate_private_key(ec.SECP256R1())
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            write_new(unfinished / "key.pem", pem)
            write_new(unfinished / "certificate.pem", _self_signed(key, name).public_bytes(Encoding.PEM), 0o644)
            sync_path(unfinished)
            # Both files get their names in one step, by the rename of their directory.
            unfinished.rename(state_dir / _DIRECTORY)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        os.fsync(held)


def _self_signed(key: ec.EllipticCurvePrivateKey, name: str) -> x509.Certificate:
    # X.520 limits a common name to 64; a longer node name is cut at a character boundary.
    common = name.encode()[:_COMMON_NAME_BYTES].decode(errors="ignore")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # One day back, because the peer's clock may be slow.
        .not_valid_before(datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1))
        .not_valid_after(_NO_END)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .sign(key, hashes.SHA256())
    )
