"""Registered keys, the node's own keys, and tokens, beside PyJWT as a second reader and writer."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from obieg.actors.keyring import SHOWN_AFTER, SHOWN_BEFORE, SIGNS, Keyring
from obieg.domain.authorization import SigningKey
from obieg.wire import jwt

SMALL = rsa.generate_private_key(65537, 1024)
RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())


def jwk(key: Any, **more: Any) -> dict[str, Any]:
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey) else ECAlgorithm
    row = {k: v for k, v in json.loads(algorithm.to_jwk(key)).items() if k != "key_ops"} | more
    return {name: value for name, value in row.items() if value is not ...}


def test_keys_are_found_by_their_ids() -> None:
    rows = [
        jwk(RSA.public_key(), kid="a"),
        jwk(P256.public_key()),
        jwk(RSA.public_key(), kid="b", alg="PS256"),
        jwk(P256.public_key(), kid="c", use="enc"),
        jwk(P256.public_key(), kid="d", key_ops=["deriveBits"]),
    ]
    keys = jwt.read_keys({"keys": rows})
    assert set(keys) == {"a", "b", keys[next(k for k in keys if k not in "ab")].thumbprint()}
    assert jwt.read_keys({"keys": []}) == {}


BAD_KEYS: dict[str, Any] = {
    "RSA of 1024 bits": jwk(SMALL.public_key()),
    "RSA with exponent 3": jwk(rsa.generate_private_key(3, 2048).public_key()),
    "a private RSA key": jwk(RSA),
    "a private EC key": jwk(P256),
    "a secret": json.loads(HMACAlgorithm.to_jwk(b"secret" * 8)),
    "Ed25519": json.loads(OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key())),
    "P-521": jwk(ec.generate_private_key(ec.SECP521R1()).public_key()),
    "secp256k1": jwk(ec.generate_private_key(ec.SECP256K1()).public_key()),
    "RSA for HS256": jwk(RSA.public_key(), alg="HS256"),
    "RSA for RS512": jwk(RSA.public_key(), alg="RS512"),
    "RSA for ES256": jwk(RSA.public_key(), alg="ES256"),
    "P-256 for ES384": jwk(P256.public_key(), alg="ES384"),
    "P-256 for none": jwk(P256.public_key(), alg="none"),
    "a short x": jwk(P256.public_key(), x="AAAA"),
    "no y": jwk(P256.public_key(), y=...),
    "a point beside the curve": jwk(P256.public_key(), y=jwk(P256.public_key())["x"]),
    "a number as id": jwk(P256.public_key(), kid=7),
    "an empty id": jwk(P256.public_key(), kid=""),
    "EC called RSA": jwk(P256.public_key(), kty="RSA"),
    "no modulus": {"kty": "RSA", "n": "!", "e": "AQAB"},
    "nothing": {},
    "a text": "key",
}


@pytest.mark.parametrize("what", BAD_KEYS)
def test_keys_that_are_not_taken(what: str) -> None:
    with pytest.raises(ValueError, match="key"):
        jwt.read_keys({"keys": [jwk(P256.public_key(), kid="good"), BAD_KEYS[what]]})


def test_sets_that_are_none() -> None:
    row = jwk(P256.public_key(), kid="a")
    for jwks in ({}, {"keys": {}}, {"keys": None}, {"keys": [row, row]}, {"keys": [row] * 101}):
        with pytest.raises(ValueError, match="key"):
            jwt.read_keys(jwks)


@pytest.mark.parametrize("alg", ["RS256", "RS384", "PS256", "ES256", "ES384"])
def test_what_pyjwt_writes_is_read(alg: str) -> None:
    key = {"R": RSA, "P": RSA}.get(alg[0]) or ec.generate_private_key(
        ec.SECP256R1() if alg == "ES256" else ec.SECP384R1()
    )
    keys = jwt.read_keys({"keys": [jwk(key.public_key(), kid="k"), jwk(P256.public_key(), kid="other", alg="ES256")]})
    for headers in ({"kid": "k"}, {}):
        token = jwt.read(pyjwt.encode({"a": "ż"}, key, alg, headers=headers), types={"jwt"})
        assert token.claims == {"a": "ż"}
        if headers or alg != "ES256":  # without a name, of two keys that fit neither is taken
            jwt.verify(token, keys)
        else:
            with pytest.raises(jwt.JwtRefused):
                jwt.verify(token, keys)
    with pytest.raises(jwt.JwtRefused):
        jwt.read(pyjwt.encode({}, key, alg), types={"at+jwt"})


def test_pyjwt_reads_what_is_written() -> None:
    pair = jwt.new_key()
    text = jwt.write({"iss": "x", "n": [1, "ż"]}, pair, "k", typ="at+jwt")
    public = ECAlgorithm.from_jwk(jwt.public_jwk(pair, "k"))
    assert pyjwt.decode(text, public, algorithms=["ES256"]) == {"iss": "x", "n": [1, "ż"]}  # type: ignore[arg-type]
    again = jwt.key_pair(jwt.public_jwk(pair, "k"), jwt.private_value(pair))
    jwt.verify(jwt.read(jwt.write({}, again, "k", typ="JWT"), types={"jwt"}), {"k": pair})


# the node's keys -------------------------------------------------------------------------------------------------


class Keys:
    """The store of keys, in memory."""

    def __init__(self) -> None:
        self.stored: list[SigningKey] = []

    async def keys(self) -> list[SigningKey]:
        await asyncio.sleep(0)
        return sorted(self.stored, key=lambda key: key.signs_from)

    async def add_key(self, key: SigningKey, *, unless_after: datetime) -> None:
        if not any(k.signs_from > unless_after for k in self.stored):
            self.stored.append(key)

    async def forget_keys(self, before: datetime) -> None:
        later = [k.signs_from for k in self.stored if k.signs_from < before]
        self.stored = [k for k in self.stored if not any(at > k.signs_from for at in later)]


async def test_a_key_is_shown_before_it_signs_and_after() -> None:
    store: Any = Keys()
    now = datetime(2026, 1, 1, tzinfo=UTC)
    first = Keyring(store, lambda: now)
    await first.renew()
    await Keyring(store, lambda: now).renew()
    [original] = store.stored
    assert (await first.current())[0] == original.key_id

    now += SIGNS - SHOWN_BEFORE + timedelta(seconds=1)
    for worker in (first, Keyring(store, lambda: now)):
        await worker.renew()
    assert len(store.stored) == 2
    shown = (await first.jwks())["keys"]
    assert len(shown) == 2
    assert (await first.current())[0] == original.key_id

    now += SHOWN_BEFORE
    following = (await first.current())[0]
    assert following != original.key_id
    await first.renew()
    assert await first.key(original.key_id) is not None

    now += SHOWN_AFTER + timedelta(seconds=1)
    await first.renew()
    assert [k.key_id for k in store.stored] == [following]
    later = Keyring(store, lambda: now)
    assert await later.key(original.key_id) is None

    assert all(await asyncio.gather(*(later.key(following) for _ in range(5))))
    fresh = Keyring(store, lambda: now)
    assert all(await asyncio.gather(*(fresh.key(following) for _ in range(5))))

    seen_by_others = await first.rotate()
    assert (await first.current())[0] == seen_by_others
    assert len((await first.jwks())["keys"]) == 2
