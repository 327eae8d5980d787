"""The keys that sign heads of the audit's tree. Outside the database, so that who holds it signs no other past.

A key file has PEM blocks of Ed25519 private keys, of which the last signs and all check. Signatures and the text by
which others know a key are those of https://c2sp.org/signed-note.
"""

from __future__ import annotations

import os
import stat
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from obieg.domain.sealing import NotANote, split_note, write_note
from obieg.storage.keys import KeyFileError

_ED25519 = b"\x01"
_ID_BYTES = 4
_BEGIN = b"-----BEGIN"


class Verifier:
    """Checks the signatures of one key."""

    def __init__(self, name: str, public: bytes) -> None:
        self.name = name
        self.id = sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:_ID_BYTES]
        self.text = f"{name}+{self.id.hex()}+{b64encode(_ED25519 + public).decode('ascii')}"
        self._public = Ed25519PublicKey.from_public_bytes(public)

    @classmethod
    def of(cls, text: str) -> Verifier:
        """The key that a text names; ValueError for none."""
        name, _, rest = text.partition("+")
        _, _, encoded = rest.partition("+")
        try:
            key = b64decode(encoded, validate=True)
        except Base64Error as error:
            raise ValueError(str(error)) from None
        if key[:1] != _ED25519:
            raise ValueError("only Ed25519 keys are known")
        found = cls(name, key[1:])
        if found.text != text:
            raise ValueError("the name of the key and the key do not belong together")
        return found

    def signed(self, note: str) -> bool:
        """Whether this key signed the note."""
        try:
            body, signatures = split_note(note)
        except NotANote:
            return False
        for name, signature in signatures:
            if name == self.name and signature[:_ID_BYTES] == self.id:
                try:
                    self._public.verify(signature[_ID_BYTES:], body.encode())
                except InvalidSignature:
                    continue
                return True
        return False


class SealKeys:
    """The keys of one node."""

    def __init__(self, path: Path, name: str) -> None:
        """Raises :class:`KeyFileError` where the file cannot be used."""
        try:
            with path.open("rb") as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                    raise KeyFileError(f"{path} can be read by others; run: chmod 600 {path}")
                blocks = [_BEGIN + block for block in file.read().split(_BEGIN)[1:]]
            keys = [load_pem_private_key(block, None) for block in blocks]
        except FileNotFoundError:
            raise KeyFileError(f"the key file {path} is missing; put back its copy") from None
        except (ValueError, TypeError) as error:
            raise KeyFileError(f"{path} holds no keys: {error}") from None
        if not keys or not all(isinstance(key, Ed25519PrivateKey) for key in keys):
            raise KeyFileError(f"{path} must hold Ed25519 keys only, at least one")
        self._keys = [key for key in keys if isinstance(key, Ed25519PrivateKey)]
        self.verifiers = [Verifier(name, key.public_key().public_bytes_raw()) for key in self._keys]

    def sign(self, body: str) -> str:
        """The note with this body."""
        newest = self.verifiers[-1]
        return write_note(body, [(newest.name, newest.id + self._keys[-1].sign(body.encode()))])

    def signed(self, note: str) -> bool:
        """Whether one of these keys signed the note."""
        return any(verifier.signed(note) for verifier in self.verifiers)


def create_seal_keys(path: Path) -> None:
    """Makes a file with one key unless there is one already."""
    if not path.exists():
        key = Ed25519PrivateKey.generate()
        _write_new(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), path)


def put_back_seal_keys(content: bytes, path: Path) -> None:
    """Puts back a key file from a backup; one that stands here already must hold those keys."""
    if not path.exists():
        _write_new(content, path)
    elif content not in path.read_bytes():
        raise KeyFileError(f"{path} holds other keys than the backup; move it away first")


def _write_new(pem: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(fresh, path)  # unlike a rename, refuses an existing file
    except FileExistsError:
        return
    finally:
        fresh.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
