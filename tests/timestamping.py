"""A time-stamping authority that nobody here wrote: ``openssl ts`` behind a small HTTP server."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

_CONFIG = """
[ req ]
distinguished_name = dn
prompt = no
[ dn ]
CN = {name}
[ ca ]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[ stamps ]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[ tsa ]
default_tsa = tsa1
[ tsa1 ]
dir = {folder}
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
certs = {folder}/ca.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.3.6.1.4.1.4146.2.3
digests = sha256
ess_cert_id_alg = sha256
"""


class Authority:
    """The authority; ``failing`` makes it answer nonsense."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = folder / "ca.pem"
        self.url = ""
        self.failing = False
        self.asked = 0
        for name, section in (("ca", "ca"), ("tsa", "stamps")):
            (folder / f"{name}.cnf").write_text(_CONFIG.format(name=name, folder=folder))
            signed_by = ["-CA", self.ca, "-CAkey", folder / "ca.key"] if name == "tsa" else []
            self._openssl(
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-keyout", folder / f"{name}.key",
                "-out", folder / f"{name}.pem", "-config", folder / f"{name}.cnf", "-extensions", section, *signed_by,
            )  # fmt: skip
        (folder / "serial").write_text("01\n")

    def _openssl(self, *arguments: str | Path, given: bytes = b"") -> bytes:
        done = subprocess.run(["openssl", *map(str, arguments)], input=given, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def reply(self, query: bytes) -> bytes:
        (self.folder / "query").write_bytes(query)
        config = ("-config", self.folder / "tsa.cnf", "-section", "tsa1")
        return self._openssl("ts", "-reply", "-queryfile", self.folder / "query", *config)

    def accepts(self, token: bytes, data: bytes) -> bool:
        """What openssl itself says of a time-stamp."""
        (self.folder / "token").write_bytes(token)
        (self.folder / "data").write_bytes(data)
        command = ["openssl", "ts", "-verify", "-data", "data", "-in", "token", "-CAfile", "ca.pem"]
        return subprocess.run(command, cwd=self.folder, capture_output=True).returncode == 0


@contextmanager
def running_authority(folder: Path) -> Iterator[Authority]:
    """An authority on a free port."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    authority = Authority(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            authority.asked += 1
            answer = b"busy" if authority.failing else authority.reply(query)
            self.send_response(503 if authority.failing else 200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    authority.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield authority
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
