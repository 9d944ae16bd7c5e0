"""TLS 1.3 over any trio stream, with certificates that are pinned by fingerprint.

The `ssl` module cannot serve here: it accepts a client's self-signed certificate only if the certificate itself is
loaded as an authority, but a node has only fingerprints. OpenSSL can request a certificate, accept any, and return it
for comparison; pyOpenSSL offers this. OpenSSL works on a memory BIO instead of the socket, so that only trio waits, and
cancellation works as everywhere in trio.
"""

from __future__ import annotations

from pathlib import Path

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto

from i2core.api import PeerRefused, UsageError

CHUNK_BYTES = 512 * 1024
"""Bytes that are encrypted, or received, in one go; a connection holds a few of these at most."""

WELCOME = b"\x06"
"""The server's first byte, sent to a trusted peer. In TLS 1.3 the client finishes the handshake before the server has
checked its certificate: without this byte, connecting would succeed for a client that is then refused."""

_RECORD_BYTES = 16 * 1024  # RFC 8446, 5.1: the most that one record carries, and one SSL_read gives
_HANDSHAKE_BYTES = 16 * 1024
_CLOSE_S = 1.0
_SigningKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey | rsa.RSAPrivateKey
_ENABLE_PARTIAL_WRITE = 0x1  # SSL_CTX_set_mode(3); pyOpenSSL sets it but has no name for it


def _any_certificate(*_: object) -> bool:
    # Issuer and dates of a self-signed certificate prove nothing. The fingerprint is compared right after the
    # handshake, which proves that the peer has the key, and before any data is sent.
    return True


def _fingerprint_of(certificate: crypto.X509) -> str:
    # Computed by OpenSSL and not by cryptography, which would fail on a malformed certificate of a stranger.
    return "sha256:" + certificate.digest("sha256").decode("ascii").replace(":", "").lower()


def _reason(error: Exception) -> str:
    """The messages of OpenSSL, without its file and function names."""
    found = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return "; ".join(str(entry[-1]) for entry in found) or str(error) or "unknown error"


class TlsIdentity:
    """This node's certificate and key, loaded for handshakes."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """
        Raises:
            UsageError: a file cannot be read, or they do not belong together.
        """
        try:
            own = x509.load_pem_x509_certificate(certificate.read_bytes())
            private = load_pem_private_key(key.read_bytes(), password=None)
            if not isinstance(private, _SigningKey):
                raise TypeError("the key cannot sign")  # noqa: TRY301 (reported with the others, below)
            context = SSL.Context(SSL.TLS_METHOD)
            context.use_certificate(own)
            context.use_privatekey(private)
            context.check_privatekey()
        except (OSError, ValueError, TypeError, SSL.Error) as error:
            raise UsageError(
                f"the node's certificate or key cannot be used: {_reason(error)}",
                obj=str(key),
                next_step="restore both files from a backup, or remove both to get a new identity",
            ) from error
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _any_certificate)
        # Every connection does a full handshake: with session resumption, a peer could reconnect after its pin was
        # removed.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET)
        # A memory BIO accepts a whole chunk at once; with partial writes each call would return after a 16 KiB record.
        context.clear_mode(_ENABLE_PARTIAL_WRITE)
        self._context = context
        self.fingerprint = "sha256:" + own.fingerprint(hashes.SHA256()).hex()

    def client(self, transport: trio.abc.Stream) -> TlsStream:
        """A stream that will begin the handshake."""
        connection = SSL.Connection(self._context)
        connection.set_connect_state()
        return TlsStream(transport, connection)

    def server(self, transport: trio.abc.Stream) -> TlsStream:
        """A stream that will answer the handshake."""
        connection = SSL.Connection(self._context)
        connection.set_accept_state()
        return TlsStream(transport, connection)


class _OneAtATime:
    """Two tasks that send, or receive, at the same time would mix their data: the second one gets an error at once."""

    def __init__(self, complaint: str) -> None:
        self._complaint = complaint
        self._busy = False

    def __enter__(self) -> None:
        if self._busy:
            raise trio.BusyResourceError(self._complaint)
        self._busy = True

    def __exit__(self, *_: object) -> None:
        self._busy = False


class TlsStream(trio.abc.HalfCloseableStream):
    """An encrypted stream over `transport`, which it owns.

    `handshake` comes first. Cancellation as in `trio.SSLStream`: a cancelled `receive_some` loses nothing; after a
    cancelled `send_all` the stream can only be closed, and the peer sees a broken connection. A connection that ends
    without TLS's close_notify is broken (`trio.BrokenResourceError`), never an end of data."""

    def __init__(self, transport: trio.abc.Stream, connection: SSL.Connection) -> None:
        self._transport = transport
        self._tls = connection
        self.peer_address = ""
        """The numeric address of the other end, if known."""
        self._sender = _OneAtATime("another task is sending on this stream")
        self._receiver = _OneAtATime("another task is receiving on this stream")
        self._established = False
        self._said_end = False
        self._torn = False
        """Half a record may have been sent: nothing can be sent after it."""
        self._closed = False

    async def handshake(self) -> str:
        """Does the handshake, and returns the fingerprint of the peer's certificate; the peer has proved that it owns
        the key. No application data has been sent yet. The caller sets the time limit.

        Raises:
            PeerRefused: the peer does not speak TLS 1.3, or sends no certificate.
            trio.BrokenResourceError: the connection was cut.
        """
        while not self._established:
            try:
                self._tls.do_handshake()
                self._established = True
            except SSL.WantReadError:
                pass
            except SSL.Error as error:
                raise PeerRefused(
                    f"no TLS 1.3 there: {_reason(error)}", next_step="check the port, and `plaintext` on both nodes"
                ) from error
            await self._flush()
            if not self._established:
                await self._fill(_HANDSHAKE_BYTES)
        certificate = self._tls.get_peer_certificate()
        if certificate is None:
            raise PeerRefused("it sent no certificate")
        return _fingerprint_of(certificate)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypts and sends all of `data`, `CHUNK_BYTES` at a time, without copying it first."""
        with self._sender:
            self._check_sendable()
            await trio.lowlevel.checkpoint()
            with memoryview(data) as given, given.cast("B") as view:
                for start in range(0, len(view), CHUNK_BYTES):
                    with view[start : start + CHUNK_BYTES] as chunk:
                        try:
                            self._tls.send(chunk)
                        except SSL.Error as error:
                            self._torn = True
                            raise trio.BrokenResourceError(f"TLS failed: {_reason(error)}") from error
                    await self._flush()

    async def wait_send_all_might_not_block(self) -> None:
        """As for the underlying stream."""
        with self._sender:
            self._check_sendable()
            await self._transport.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Received data, at most `max_bytes` (default `CHUNK_BYTES`); ``b""`` after the peer's clean end."""
        limit = CHUNK_BYTES if max_bytes is None else max_bytes
        if limit < 1:
            raise ValueError("max_bytes must be at least 1")
        with self._receiver:
            self._check_open()
            await trio.lowlevel.checkpoint()
            while True:
                data = self._decrypt(limit)
                if data is not None:
                    return data
                await self._fill(CHUNK_BYTES)

    async def send_eof(self) -> None:
        """Ends our direction; the other one stays open."""
        with self._sender:
            self._check_open()
            await trio.lowlevel.checkpoint()
            await self._send_end()

    async def aclose(self) -> None:
        """Ends our direction if possible, and closes. A peer that does not read can delay this by one second at
        most."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        try:
            if self._established:
                with trio.move_on_after(_CLOSE_S):
                    await self._send_end()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the peer is gone already
        finally:
            await self._transport.aclose()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("the stream was closed")

    def _check_sendable(self) -> None:
        self._check_open()
        if self._said_end:
            raise trio.ClosedResourceError("this direction was ended by send_eof")
        if self._torn:
            raise trio.BrokenResourceError("an earlier send was broken off in the middle")

    async def _send_end(self) -> None:
        if self._said_end or self._torn:
            return
        self._said_end = True
        try:
            self._tls.shutdown()
        except SSL.Error as error:
            self._torn = True
            raise trio.BrokenResourceError(f"TLS failed: {_reason(error)}") from error
        await self._flush()

    def _decrypt(self, limit: int) -> bytes | None:
        """Plaintext that is already received; ``b""`` at the end; None if more must be received first."""
        parts: list[bytes] = []
        room = limit
        try:
            while room:
                part = self._tls.recv(min(room, _RECORD_BYTES))
                parts.append(part)
                room -= len(part)
        except SSL.WantReadError:
            if not parts:
                return None
        except SSL.ZeroReturnError:
            pass
        except SSL.Error as error:
            # Data decrypted before the error is authentic and is returned first; OpenSSL repeats the error at the next
            # call.
            if not parts:
                raise trio.BrokenResourceError(f"TLS failed: {_reason(error)}") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _fill(self, size: int) -> None:
        ciphertext = await self._transport.receive_some(size)
        if not ciphertext:
            raise trio.BrokenResourceError("the connection was cut")
        self._tls.bio_write(ciphertext)

    async def _flush(self) -> None:
        while True:
            try:
                # A little more than a chunk, because each record adds 22 bytes to its 16 KiB.
                ciphertext = self._tls.bio_read(CHUNK_BYTES + CHUNK_BYTES // 64)
            except SSL.WantReadError:
                return
            self._torn = True
            await self._transport.send_all(ciphertext)
            self._torn = False
