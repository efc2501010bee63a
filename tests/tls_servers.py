"""Real TLS servers on this machine, with certificates made here; each is wrong in its own way."""

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
# What servers behind TLS answer to a request in the clear.
PLAIN_REFUSAL = b"Client sent an HTTP request to an HTTPS server.\n"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A certificate with its key, in one PEM file each."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates.

    Args:
        folder: where all files go.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"CA {folder.name}")])
        self.bundle = folder / "ca.pem"
        own = self._sign(self._name, self._key, is_authority=True)
        self.bundle.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def issue(self, *, host: str = "127.0.0.1", days: int = 1, own: bool = False) -> Identity:
        """Return a certificate for a host.

        Args:
            host: its name or address.
            days: how long it holds; negative: that long ago it ended.
            own: signed by itself, not by the authority.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        certificate = self._sign(name, key, host=host, days=days, own=own)
        stem = f"{host}-{days}-{own}"
        files = Identity(certificate=self._folder / f"{stem}.pem", key=self._folder / f"{stem}.key")
        files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files

    def _sign(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        host: str = "",
        days: int = 1,
        own: bool = False,
        is_authority: bool = False,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name if own else self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 30 * DAY)
            .not_valid_after(NOW + days * DAY)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if host:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(host)]), critical=False
            )
        return builder.sign(key if own else self._key, hashes.SHA256())


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


class _Answering(BaseHTTPRequestHandler):
    """Answers every request with the server's status, type and body."""

    status, kind, body = 200, "text/plain", b"ok"
    num_requests = 0

    def _answer(self) -> None:
        type(self).num_requests += 1
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        self.send_response(self.status)
        self.send_header("Content-Type", self.kind)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.body)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _answer

    def log_message(self, *arguments: Any) -> None:
        pass


class _Listening(ThreadingHTTPServer):
    """Counts connections; a handshake that fails is the client's affair."""

    daemon_threads = True
    context: ssl.SSLContext | None = None
    num_connections = 0

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.num_connections += 1
        if self.context is not None:
            request = self.context.wrap_socket(
                request, server_side=True, do_handshake_on_connect=False
            )
            try:
                request.do_handshake()
            except ssl.SSLError:
                _let_it_read(request)
                raise
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


def _let_it_read(connection: ssl.SSLSocket) -> None:
    """Close as servers do: what the other side still sends must not drop the alert it is sent."""
    connection.settimeout(5.0)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


@dataclass
class Served:
    """A running server."""

    port: int
    server: _Listening

    @property
    def num_connections(self) -> int:
        """How often somebody connected."""
        return self.server.num_connections


@contextmanager
def serving(
    identity: Identity | None = None,
    *,
    client_authority: Path | None = None,
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    status: int = 200,
    kind: str = "text/plain",
    body: bytes = b"ok",
) -> Iterator[Served]:
    """Yield a server on 127.0.0.1.

    Args:
        identity: of the server; None: it speaks plain HTTP.
        client_authority: clients need a certificate of this authority.
        newest: version of TLS that the server speaks at most.
        status: of every answer.
        kind: content type of every answer.
        body: of every answer.
    """
    handler = type("Handler", (_Answering,), {"status": status, "kind": kind, "body": body})
    server = _Listening(("127.0.0.1", 0), handler)
    if identity is not None:
        server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.context.maximum_version = newest
        server.context.load_cert_chain(identity.certificate, identity.key)
        if client_authority is not None:
            server.context.verify_mode = ssl.CERT_REQUIRED
            server.context.load_verify_locations(client_authority)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Served(port=server.server_address[1], server=server)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
