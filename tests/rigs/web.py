"""A web server on loopback that answers as a test wants, byte by byte if need be, and remembers what it was asked."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Say = Callable[[bytes], None]
Answer = Callable[[Say], None]
"""Writes an answer, piece by piece; raises OSError once nobody listens."""


@dataclass
class Asked:
    """A request."""

    path: str
    headers: Mapping[str, str]
    connection: int


def answer(body: bytes = b"", status: int = 200, *headers: str, length: int | None = None) -> Answer:
    """An answer of one piece."""
    lines = [f"HTTP/1.1 {status} So", f"Content-Length: {len(body) if length is None else length}", *headers]
    return lambda say: say("\r\n".join([*lines, "", ""]).encode("latin-1") + body)


class Web:
    """A server; `pages` maps paths to answers, and what is not there is 404.

    Args:
        secure: Wraps its connections.
    """

    def __init__(self, secure: ssl.SSLContext | None = None) -> None:
        self.pages: dict[str, Answer] = {}
        self.asked: list[Asked] = []
        self.names: list[str | None] = []
        """What connections asked for in their TLS handshakes."""
        self.closing = threading.Event()
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                web.asked.append(Asked(self.path, dict(self.headers), id(self.connection)))
                given = web.pages.get(self.path, answer(b"nothing here", 404))
                try:
                    given(self._say)
                except OSError:
                    self.close_connection = True

            def _say(self, data: bytes) -> None:
                self.wfile.write(data)
                if web.closing.is_set():
                    raise ConnectionAbortedError

            def log_message(self, *_: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128  # as real servers have: a burst of connections overflows the usual 5, and waits

            def get_request(self) -> Any:
                request, address = super().get_request()
                if secure is not None:  # hands are shaken with the first read, in the thread of the connection
                    request = secure.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
                return request, address

            def handle_error(self, *_: Any) -> None:
                pass

        if secure is not None:
            secure.sni_callback = lambda _, name, __: self.names.append(name)  # type: ignore[assignment]
        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@dataclass
class Names:
    """What the resolver says; everything else does not exist."""

    known: dict[str, list[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def look_up(self, host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(host)
        if host not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in self.known[host]
        ]


def make_certificate(folder: Path, *names: str, days: int = 1) -> tuple[Path, ssl.SSLContext]:
    """A certificate that vouches for itself: its file, and what a server needs."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.UTC)
    kinds = [
        x509.IPAddress(ipaddress.ip_address(each)) if each[0].isdecimal() else x509.DNSName(each) for each in names
    ]
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(kinds), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "certificate.pem", folder / "key.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context
