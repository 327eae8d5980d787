"""Tokens, assertions, authorization requests and scopes of an attacker (RFC 8725, RFC 9700; IUA, SMART).

Each case is a change to something that is accepted without it: the valid twin is made by the same function just before.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

sys.path.insert(0, str(Path(__file__).parents[1] / "node"))

import oauth_peer
from oauth_peer import ASSERTION, KEYS, REDIRECT, Flow, Server, b64, landed, unb64

pytestmark = pytest.mark.node
ORDER = {"P-256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with oauth_peer.opened(tmp_path_factory.mktemp("tokens")) as found:
        yield found


class Made(NamedTuple):
    """A token in its parts, with who may sign it."""

    header: dict[str, Any]
    claims: dict[str, Any]
    key: Any


def written(part: Any) -> bytes:
    return part if isinstance(part, bytes) else json.dumps(part).encode()


def signed(algorithm: str, key: Any, data: bytes) -> bytes:
    if algorithm in ("ES256", "ES384"):
        digest, size = (hashes.SHA256(), 32) if algorithm == "ES256" else (hashes.SHA384(), 48)
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    if algorithm == "PS256":
        return bytes(key.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()))
    digest = {"RS256": hashes.SHA256(), "RS384": hashes.SHA384(), "RS512": hashes.SHA512()}[algorithm]
    return bytes(key.sign(data, padding.PKCS1v15(), digest))


def token(made: Made, *, algorithm: str = "") -> str:
    """The parts written as they stand; ``algorithm`` is what is done, whatever the header says."""
    data = f"{b64(written(made.header))}.{b64(written(made.claims))}"
    header = made.header if isinstance(made.header, dict) else {}
    return f"{data}.{b64(signed(algorithm or header['alg'], made.key, data.encode()))}"


def pem(name: str) -> bytes:
    return bytes(KEYS[name].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def with_hmac(made: Made, secret: bytes, name: str = "HS256") -> str:
    digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[name]
    data = f"{b64(written({**made.header, 'alg': name}))}.{b64(written(made.claims))}"
    return f"{data}.{b64(hmac.new(secret, data.encode(), digest).digest())}"


def with_header(**changes: Any) -> Callable[[Made], str]:
    def change(made: Made) -> str:
        header = {name: value for name, value in {**made.header, **changes}.items() if value is not ...}
        return token(made._replace(header=header), algorithm=made.header["alg"])

    return change


def with_claims(**changes: Any) -> Callable[[Made], str]:
    def change(made: Made) -> str:
        claims = {name: value for name, value in {**made.claims, **changes}.items() if value is not ...}
        return token(made._replace(claims=claims))

    return change


def at(name: str, seconds: float) -> Callable[[Made], str]:
    def change(made: Made) -> str:
        now = time.time() if isinstance(seconds, float) else int(time.time())
        return with_claims(**{name: now + seconds})(made)

    return change


def written_claims(change: Callable[[bytes], bytes]) -> Callable[[Made], str]:
    return lambda made: token(made._replace(claims=change(written(made.claims))))  # type: ignore[arg-type]


def written_header(change: Callable[[bytes], bytes]) -> Callable[[Made], str]:
    def changed(made: Made) -> str:
        return token(made._replace(header=change(written(made.header))), algorithm=made.header["alg"])  # type: ignore[arg-type]

    return changed


def of_text(change: Callable[[str], str]) -> Callable[[Made], str]:
    return lambda made: change(token(made))


def other_signature(change: Callable[[bytes], bytes]) -> Callable[[Made], str]:
    def changed(made: Made) -> str:
        head, _, signature = token(made).rpartition(".")
        return f"{head}.{b64(change(unb64(signature)))}"

    return changed


def stray_bits(text: str) -> str:
    """The same bytes, written with bits that decode to nothing."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) ^ 1]


def without_signature(algorithm: str) -> Callable[[Made], str]:
    return lambda made: f"{b64(written({**made.header, 'alg': algorithm}))}.{b64(written(made.claims))}."


def unsigned(algorithm: str) -> Callable[[Made], str]:
    def change(made: Made) -> str:
        return with_header(alg=algorithm)(made)

    return change


def raw(r: int, s: int) -> Callable[[bytes], bytes]:
    return lambda _: r.to_bytes(32, "big") + s.to_bytes(32, "big")


# Of both kinds of token; the valid one is signed by ES256 with a key id.
FORGED: dict[str, Callable[[Made], str]] = {
    "alg none": without_signature("none"),
    "alg None": without_signature("None"),
    "alg nOnE": without_signature("nOnE"),
    "alg empty": without_signature(""),
    "alg none with a signature": unsigned("none"),
    "alg missing": with_header(alg=...),
    "alg null": with_header(alg=None),
    "alg a list": with_header(alg=["ES256"]),
    "alg a number": with_header(alg=256),
    "alg in lower case": unsigned("es256"),
    "alg with a space": unsigned("ES256 "),
    "alg of ECDH": unsigned("ECDH-ES"),
    "alg of EdDSA": unsigned("EdDSA"),
    "alg ES256K": unsigned("ES256K"),
    "alg ES512": unsigned("ES512"),
    "alg ES384 with a key of P-256": unsigned("ES384"),
    "alg RS256 with a key of EC": unsigned("RS256"),
    "alg PS256 with a key of EC": unsigned("PS256"),
    "HMAC with the public key as PEM": lambda m: with_hmac(m, pem("p256")),
    "HMAC with the public key as JWK": lambda m: with_hmac(m, json.dumps(oauth_peer.public_jwk("p256")).encode()),
    "HMAC with nothing": lambda m: with_hmac(m, b""),
    "HMAC with a guess": lambda m: with_hmac(m, b"secret"),
    "HS384": lambda m: with_hmac(m, pem("p256"), "HS384"),
    "HS512": lambda m: with_hmac(m, pem("p256"), "HS512"),
    "signed by another key": lambda m: token(m._replace(key=KEYS["other"])),
    "signature of zeros": other_signature(raw(0, 0)),
    "r is zero": other_signature(lambda s: bytes(32) + s[32:]),
    "s is zero": other_signature(lambda s: s[:32] + bytes(32)),
    "r and s are the order": other_signature(raw(ORDER["P-256"], ORDER["P-256"])),
    "r and s are one": other_signature(raw(1, 1)),
    "all ones": other_signature(lambda _: b"\xff" * 64),
    "a signature in DER": other_signature(lambda s: b"\x30\x44\x02\x20" + s[:32] + b"\x02\x20" + s[32:]),
    "half a signature": other_signature(lambda s: s[:32]),
    "a longer signature": other_signature(lambda s: s + b"\0"),
    "a padded signature": other_signature(lambda s: bytes(32) + s[:32] + bytes(32) + s[32:]),
    "no signature": of_text(lambda t: t.rpartition(".")[0] + "."),
    "one bit of the signature": other_signature(lambda s: bytes([s[0] ^ 1]) + s[1:]),
    "stray bits behind the signature": of_text(stray_bits),
    "kid of nobody": with_header(kid="nobody"),
    "kid empty": with_header(kid=""),
    "kid of a path": with_header(kid="../../../../dev/null"),
    "kid of a file": with_header(kid="file:///etc/passwd"),
    "kid of an address": with_header(kid="https://evil.example/key"),
    "kid of SQL": with_header(kid="' UNION SELECT 'x' --"),
    "kid of a shell": with_header(kid="|/bin/id"),
    "kid with NUL": with_header(kid="p256\0"),
    "kid of another type": with_header(kid={"p256": 1}),
    "kid a number": with_header(kid=1),
    "kid null": with_header(kid=None),
    "kid of a thousand characters": with_header(kid="k" * 1000),
    "jku": with_header(jku="https://evil.example/jwks"),
    "x5u": with_header(x5u="https://evil.example/cert"),
    "x5c": with_header(x5c=["MIIB"]),
    "jwk of one's own": lambda m: token(
        m._replace(header={**m.header, "jwk": oauth_peer.public_jwk("other")}, key=KEYS["other"])
    ),
    "jwk of the true key": with_header(jwk=oauth_peer.public_jwk("p256")),
    "crit of something": with_header(crit=["exp"], exp=1),
    "crit empty": with_header(crit=[]),
    "b64 false": with_header(b64=False, crit=["b64"]),
    "b64 true": with_header(b64=True),
    "zip": lambda m: token(
        m._replace(header={**m.header, "zip": "DEF"}, claims=zlib.compress(written(m.claims))[2:-4])
    ),  # type: ignore[arg-type]
    "enc": with_header(enc="A256GCM"),
    "typ of something else": with_header(typ="secevent+jwt"),
    "typ of an id token's proof": with_header(typ="dpop+jwt"),
    "typ a list": with_header(typ=["JWT", "at+jwt"]),
    "header twice alg": written_header(lambda h: h[:-1] + b',"alg":"none"}'),
    "header twice kid": written_header(lambda h: h[:-1] + b',"kid":"other"}'),
    "header a list": written_header(lambda _: b"[]"),
    "header of text": written_header(lambda _: b'"ES256"'),
    "header no JSON": written_header(lambda _: b"{alg:ES256}"),
    "header in UTF-16": written_header(lambda h: h.decode().encode("utf-16")),
    "header with a mark": written_header(lambda h: b"\xef\xbb\xbf" + h),
    "header deep": written_header(lambda h: h[:-1] + b',"a":' + b"[" * 2000 + b"]" * 2000 + b"}"),
    "claims twice exp": written_claims(lambda c: c[:-1] + b',"exp":4102444800}'),
    "claims twice sub": written_claims(lambda c: c[:-1] + b',"sub":"service"}'),
    "claims twice, escaped": written_claims(lambda c: c[:-1] + b',"s\\u0075b":"service"}'),
    "claims a list": written_claims(lambda c: b"[" + c + b"]"),
    "claims of text": written_claims(lambda _: b'"x"'),
    "claims null": written_claims(lambda _: b"null"),
    "claims with NaN": written_claims(lambda c: c[:-1] + b',"a":NaN}'),
    "claims with a comment": written_claims(lambda c: c[:-1] + b"/**/}"),
    "claims with two objects": written_claims(lambda c: c + c),
    "claims not UTF-8": written_claims(lambda c: c[:-1] + b',"a":"\xff"}'),
    "claims too long": with_claims(a="x" * 20_000),
    "claims deep": with_claims(a=json.loads("[" * 60 + "]" * 60)),
    "two parts": of_text(lambda t: t.rpartition(".")[0]),
    "four parts": of_text(lambda t: t + "." + t.rpartition(".")[2]),
    "five parts": of_text(lambda t: f"{t}.e30.e30"),
    "a token in a token": of_text(lambda t: f"{t.partition('.')[0]}.{b64(t.encode())}.{t.rpartition('.')[2]}"),
    "nothing in two dots": lambda _: "..",
    "padding": of_text(lambda t: t.replace(".", "=.", 1)),
    "standard base64": of_text(lambda t: t.replace(".", "+.", 1)),
    "a line break": of_text(lambda t: t.replace(".", "\n.", 1)),
    "a space before": of_text(lambda t: " ." + t),
    "JSON serialization": of_text(
        lambda t: json.dumps(dict(zip(("protected", "payload", "signature"), t.split("."), strict=True)))
    ),
    "exp missing": with_claims(exp=...),
    "exp null": with_claims(exp=None),
    "exp as text": lambda m: with_claims(exp=str(m.claims["exp"]))(m),
    "exp true": with_claims(exp=True),
    "exp a list": lambda m: with_claims(exp=[m.claims["exp"]])(m),
    "exp an object": with_claims(exp={"$gt": 0}),
    "exp past": at("exp", -61),
    "exp zero": with_claims(exp=0),
    "exp negative": with_claims(exp=-1),
    "exp beyond 64 bits": with_claims(exp=2**64),
    "exp beyond all time": with_claims(exp=10**30),
    "exp infinite": written_claims(lambda c: c.replace(b'"exp": ', b'"exp": 1e9999, "x": ')),
    "exp to the power": written_claims(lambda c: c.replace(b'"exp": ', b'"exp": 1e300, "x": ')),
    "exp Infinity": written_claims(lambda c: c.replace(b'"exp": ', b'"exp": Infinity, "x": ')),
    "nbf to come": at("nbf", 90),
    "nbf as text": with_claims(nbf="0"),
    "nbf null": with_claims(nbf=None),
    "iat to come": at("iat", 90),
    "iat as text": with_claims(iat="now"),
    "iat an object": with_claims(iat={}),
    "iss of another": with_claims(iss="https://evil.example"),
    "iss missing": with_claims(iss=...),
    "iss a list": lambda m: with_claims(iss=[m.claims["iss"]])(m),
    "iss with a slash": lambda m: with_claims(iss=m.claims["iss"] + "/")(m),
    "iss with a space": lambda m: with_claims(iss=m.claims["iss"] + " ")(m),
    "sub missing": with_claims(sub=...),
    "sub empty": with_claims(sub=""),
    "sub a list": with_claims(sub=["service"]),
    "sub with a line": with_claims(sub="service\nadmin"),
    "aud of another": with_claims(aud="https://evil.example/fhir"),
    "aud missing": with_claims(aud=...),
    "aud empty": with_claims(aud=""),
    "aud an empty list": with_claims(aud=[]),
    "aud of several": lambda m: with_claims(aud=[m.claims["aud"], "https://evil.example"])(m),
    "aud an object": lambda m: with_claims(aud={m.claims["aud"]: True})(m),
    "aud with a slash": lambda m: with_claims(aud=m.claims["aud"] + "/")(m),
    "aud a longer address": lambda m: with_claims(aud=m.claims["aud"] + ".evil.example")(m),
    "aud in upper case": lambda m: with_claims(aud=m.claims["aud"].upper())(m),
    "aud null": with_claims(aud=None),
    "jti missing": with_claims(jti=...),
    "jti empty": with_claims(jti=""),
    "jti a number": with_claims(jti=7),
    "jti a list": with_claims(jti=["a", "b"]),
    "jti too long": with_claims(jti="j" * 256),
    "jti with NUL": with_claims(jti="a\0b"),
}


def assertion_parts(server: Server, client: str = "service") -> Made:
    return Made({"alg": "ES256", "typ": "JWT", "kid": "p256"}, server.claims(client), KEYS["p256"])


def ask(server: Server, assertion: str, **more: str) -> httpx.Response:
    data = {
        "grant_type": "client_credentials", "scope": "system/*.rs", "client_assertion_type": ASSERTION,
        "client_assertion": assertion, **more,
    }  # fmt: skip
    return server.post("token", {name: value for name, value in data.items() if value})


def refused(response: httpx.Response, *errors: str) -> None:
    assert response.status_code in (400, 401), (response.status_code, response.text)
    assert response.json()["error"] in (errors or ("invalid_client",)), response.text
    assert "access_token" not in response.json()
    assert set(response.json()) == {"error", "error_description"}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_client_assertion(server: Server, case: str) -> None:
    twin = ask(server, token(assertion_parts(server)))
    assert twin.status_code == 200, twin.text
    response = ask(server, FORGED[case](assertion_parts(server)))
    refused(response, "invalid_client")
    # Whatever is wrong, the caller is told the same.
    assert response.json()["error_description"] == "the client must prove itself by private_key_jwt"


ASSERTIONS: dict[str, Callable[[Made], str]] = {
    "exp in an hour": at("exp", 3600),
    "exp beyond five minutes and a minute": at("exp", 362),
    "iss is another client": with_claims(iss="other"),
    "sub is another client": with_claims(sub="other"),
    "another client's key": lambda m: token(
        m._replace(header={**m.header, "kid": "other"}, key=KEYS["other"])
    ),
    "an unknown client": with_claims(iss="nobody", sub="nobody"),
    "a public client": with_claims(iss="browser", sub="browser"),
    "an access token's type": with_header(typ="at+jwt"),
    "aud is the FHIR service": lambda m: with_claims(aud=m.claims["aud"].replace("/auth/token", "/fhir"))(m),
    "aud is another address of the server": lambda m: with_claims(aud=m.claims["aud"].replace("token", "revoke"))(m),
}  # fmt: skip


@pytest.mark.parametrize("case", ASSERTIONS)
def test_an_assertion_that_proves_something_else(server: Server, case: str) -> None:
    assert ask(server, token(assertion_parts(server))).status_code == 200
    refused(ask(server, ASSERTIONS[case](assertion_parts(server))), "invalid_client")


RS = {"alg": "RS256", "typ": "JWT", "kid": "rsa"}
WITH_RSA: dict[str, Callable[[Made], str]] = {
    "RS512": lambda m: token(m._replace(header={**RS, "alg": "RS512"})),
    "RS256 signed as PS256": lambda m: token(m, algorithm="PS256"),
    "PS256 signed as RS256": lambda m: token(m._replace(header={**RS, "alg": "PS256"}), algorithm="RS256"),
    "another RSA key": lambda m: token(m._replace(key=rsa.generate_private_key(65537, 2048))),
    "HMAC with the RSA key": lambda m: with_hmac(m, pem("rsa")),
    "HMAC with the modulus": lambda m: with_hmac(m, KEYS["rsa"].public_key().public_numbers().n.to_bytes(256, "big")),
    "a signature of zeros": other_signature(lambda s: bytes(len(s))),
    "a signature of one": other_signature(lambda s: bytes(len(s) - 1) + b"\1"),
    "an empty signature": of_text(lambda t: t.rpartition(".")[0] + "."),
    "ES256 with the RSA key": lambda m: token(
        m._replace(header={**RS, "alg": "ES256"}, key=KEYS["p256"])
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WITH_RSA)
def test_a_forged_assertion_of_rsa(server: Server, case: str) -> None:
    def parts() -> Made:
        return Made(RS, server.claims(), KEYS["rsa"])

    assert ask(server, token(parts())).status_code == 200
    refused(ask(server, WITH_RSA[case](parts())), "invalid_client")


def test_what_is_taken_although_it_may_look_odd(server: Server) -> None:
    """So that not everything is refused."""
    for change in (
        with_header(typ=...),
        with_header(typ="client-authentication+jwt"),
        with_header(x5t="abc", cty="x", unknown=[1, {"a": 2}]),
        with_claims(aud=[server.url("token")]),
        with_claims(aud=server.base),
        with_claims(iat=..., more={"a": [1, 2.5]}),
        with_claims(jti="j" * 255),
        at("exp", -50),
        at("exp", 350),
        at("nbf", 50),
        at("iat", 50),
        at("exp", 200.5),
    ):
        response = ask(server, change(assertion_parts(server)))
        assert response.status_code == 200, response.text


def test_a_jti_is_each_clients_own_and_holds_once(server: Server) -> None:
    jti = "the-same"
    for client in ("service", "other"):
        data = {"grant_type": "client_credentials", "scope": "system/*.rs"}
        assert server.post("token", {**data, **server.proof(client, jti=jti)}).status_code == 200
        refused(server.post("token", {**data, **server.proof(client, jti=jti)}))
        refused(server.post("introspect", {"token": "x", **server.proof(client, jti=jti)}))
        refused(server.post("revoke", {"token": "x", **server.proof(client, jti=jti)}))


REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "no grant type": ({"grant_type": None}, "invalid_request"),
    "the password grant": ({"grant_type": "password", "username": "a", "password": "b"}, "unsupported_grant_type"),
    "the implicit grant": ({"grant_type": "implicit"}, "unsupported_grant_type"),
    "token exchange": ({"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange"}, "unsupported_grant_type"),
    "a JWT as grant": ({"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer"}, "unsupported_grant_type"),
    "another client_id": ({"client_id": "other"}, "invalid_client"),
    "no assertion type": ({"client_assertion_type": None}, "invalid_client"),
    "the type of SAML": ({"client_assertion_type": ASSERTION.replace("jwt", "saml2")}, "invalid_client"),
    "a password besides": ({"client_secret": "x"}, "invalid_client"),
    "client_id alone": ({"client_assertion": None, "client_assertion_type": None, "client_id": "service"}, "invalid_client"),
    "more than is registered": ({"scope": "system/*.cruds"}, "invalid_scope"),
    "a person's scope": ({"scope": "user/*.rs"}, "invalid_scope"),
    "a patient's scope": ({"scope": "patient/*.rs"}, "invalid_scope"),
    "everything": ({"scope": "*/*.*"}, "invalid_scope"),
    "a scope with a search": ({"scope": "system/Patient.rs?name=x"}, "invalid_scope"),
    "a scope with a tab": ({"scope": "system/*.rs\tsystem/*.cruds"}, "invalid_scope"),
    "a scope with a quote": ({"scope": 'system/*.rs "'}, "invalid_scope"),
    "a thousand scopes": ({"scope": " ".join(f"system/A{'a' * (n % 50)}{chr(97 + n % 26)}.r" for n in range(1000))}, "invalid_scope"),
    "another service": ({"resource": "https://evil.example/fhir"}, "invalid_target"),
    "a service of a longer name": ({"resource": "{fhir}.evil.example"}, "invalid_target"),
}  # fmt: skip


@pytest.mark.parametrize("case", REQUESTS)
def test_a_token_request_of_an_attacker(server: Server, case: str) -> None:
    changes, error = REQUESTS[case]
    assert ask(server, server.assertion(), resource=server.fhir).status_code == 200
    data = {"grant_type": "client_credentials", "scope": "system/*.rs", **server.proof(), **changes}
    data = {n: v.replace("{fhir}", server.fhir) for n, v in data.items() if v is not None}
    refused(server.post("token", data), error)


def test_how_a_token_request_may_not_be_sent(server: Server) -> None:
    def data() -> dict[str, str]:
        return {"grant_type": "client_credentials", "scope": "system/*.rs", **server.proof()}

    assert server.post("token", data()).status_code == 200
    refused(server.http.post(server.url("token"), json=data()), "invalid_request")
    refused(server.http.post(server.url("token"), params=data()), "invalid_request")
    refused(server.http.post(server.url("token"), params={"a": "b"}, data=data()), "invalid_request")
    form = "application/x-www-form-urlencoded"
    twice = str(httpx.QueryParams([*data().items(), ("scope", "system/*.cruds")]))
    for body in (twice, "a=%ff", "a=%00", "&".join(f"a{n}=1" for n in range(60)), "x=" + "y" * 70_000):
        refused(server.http.post(server.url("token"), content=body, headers={"Content-Type": form}), "invalid_request")
    refused(server.post("token", data(), headers={"Authorization": "Basic c2VydmljZTp4"}), "invalid_client")
    refused(server.post("token", data(), headers={"Authorization": f"Bearer {server.service()}"}), "invalid_client")
    assert server.http.get(server.url("token"), params=data()).status_code == 405


# access tokens ---------------------------------------------------------------------------------------------------


def access_parts(server: Server, key: tuple[str, Any]) -> Made:
    now = int(time.time())
    claims = {
        "iss": server.base, "sub": "service", "aud": server.fhir, "client_id": "service", "exp": now + 300,
        "iat": now, "nbf": now, "jti": b64(hashlib.sha256(str(time.time_ns()).encode()).digest()),
        "scope": "system/*.rs",
    }  # fmt: skip
    return Made({"alg": "ES256", "typ": "at+jwt", "kid": key[0]}, claims, key[1])


@pytest.fixture(scope="module")
def node_key(server: Server) -> tuple[str, Any]:
    return server.signing_key()


TOKENS = {**FORGED} | {
    "typ of a plain JWT": with_header(typ="JWT"),
    "typ missing": with_header(typ=...),
    "typ of an assertion": with_header(typ="client-authentication+jwt"),
    "kid missing": with_header(kid=...),
    "exp an hour ago": at("exp", -3600),
    "iat missing": with_claims(iat=...),
    "client_id missing": with_claims(client_id=...),
    "scope missing": with_claims(scope=...),
    "scope a list": with_claims(scope=["system/*.rs"]),
    "aud is the token endpoint": lambda m: with_claims(aud=m.claims["iss"] + "/auth/token")(m),
    "aud is the issuer": lambda m: with_claims(aud=m.claims["iss"])(m),
    "aud a list of one": lambda m: with_claims(aud=[m.claims["aud"]])(m),
    "iss in http": lambda m: with_claims(iss=m.claims["iss"].replace("http:", "https:"))(m),
    "bound to a certificate": with_claims(cnf={"x5t#S256": "x" * 43}),
    "bound to a key": with_claims(cnf={"jkt": "x" * 43}),
    "bound to nothing": with_claims(cnf={}),
    "bound to null": with_claims(cnf=None),
    "of a grant that is not": with_claims(grant="00000000-0000-4000-8000-000000000000"),
    "of a grant of no form": with_claims(grant="' OR 1=1 --"),
}


@pytest.mark.parametrize("case", TOKENS)
def test_a_forged_access_token(server: Server, node_key: tuple[str, Any], case: str) -> None:
    twin = server.get("Patient?_id=x", token(access_parts(server, node_key)))
    assert twin.status_code == 200, twin.text
    shown = TOKENS[case](access_parts(server, node_key))
    response = server.get("Patient?_id=x", shown.replace("\n", "%0A"))
    assert response.status_code == 401, response.text
    assert response.headers["www-authenticate"].startswith('Bearer realm="obieg", error="invalid_token", DPoP ')
    assert response.json()["resourceType"] == "OperationOutcome"


def test_tokens_of_other_kinds_are_no_access_tokens(server: Server) -> None:
    answer = server.granted(Flow(scope="user/*.rs openid offline_access"))
    assert server.get("Patient?_id=x", answer["access_token"]).status_code == 200
    code = server.code(Flow())
    for shown in (answer["id_token"], answer["refresh_token"], server.assertion(), code):
        assert server.get("Patient?_id=x", shown).status_code == 401
    refused(ask(server, answer["access_token"]))
    refused(ask(server, answer["id_token"]))


@pytest.mark.parametrize(
    "header",
    ["Basic {0}", "DPoP {0}", "{0}", "Bearer", "Bearer {0} {0}", "Bearer {0},Bearer {0}", "Bearer: {0}", "Token {0}"],
)
def test_other_ways_to_show_a_token(server: Server, header: str) -> None:
    shown = server.service()
    for twin in (f"Bearer {shown}", f"bearer {shown}"):
        found = server.http.get(f"{server.fhir}/Patient?_id=x", headers={"Authorization": twin})
        assert found.status_code == 200
    response = server.http.get(f"{server.fhir}/Patient?_id=x", headers={"Authorization": header.format(shown)})
    assert response.status_code == 401


def test_two_tokens_at_once(server: Server) -> None:
    good = ("Authorization", f"Bearer {server.service()}")
    assert server.http.get(f"{server.fhir}/Patient?_id=x", headers=[good]).status_code == 200
    for headers in ([good, good], [good, ("Authorization", "Bearer x")], [("Authorization", "Bearer x"), good]):
        assert server.http.get(f"{server.fhir}/Patient?_id=x", headers=headers).status_code == 400


def test_a_token_in_address_or_form_is_not_read(server: Server) -> None:
    shown = server.service()
    assert server.http.get(f"{server.fhir}/Patient?_id=x&access_token={shown}").status_code == 401
    form = server.http.post(f"{server.fhir}/Patient/_search", data={"_id": "x", "access_token": shown})
    assert form.status_code == 401


# the person's side -----------------------------------------------------------------------------------------------

# Before app and address belong together nothing is sent to the address.
ADDRESSES: dict[str, dict[str, str | None]] = {
    "an unknown app": {"client_id": "nobody"},
    "no app": {"client_id": None},
    "a service": {"client_id": "service"},
    "no address": {"redirect_uri": None},
    "another site": {"redirect_uri": "https://evil.example/callback"},
    "a longer host": {"redirect_uri": "https://app.example.evil.example/callback"},
    "a user before the host": {"redirect_uri": "https://app.example@evil.example/callback"},
    "a path behind": {"redirect_uri": f"{REDIRECT}/../evil"},
    "a longer path": {"redirect_uri": f"{REDIRECT}x"},
    "a parameter": {"redirect_uri": f"{REDIRECT}?x=1"},
    "a fragment": {"redirect_uri": f"{REDIRECT}#x"},
    "another port": {"redirect_uri": "https://app.example:444/callback"},
    "the usual port": {"redirect_uri": "https://app.example:443/callback"},
    "http": {"redirect_uri": "http://app.example/callback"},
    "upper case": {"redirect_uri": "https://APP.example/callback"},
    "percent-encoding": {"redirect_uri": "https://app.example/%63allback"},
    "a backslash": {"redirect_uri": "https://evil.example\\@app.example/callback"},
    "a line break": {"redirect_uri": f"{REDIRECT}\r\nSet-Cookie: a=b"},
    "a script": {"redirect_uri": "javascript:alert(1)//app.example/callback"},
    "data": {"redirect_uri": "data:text/html,x"},
    "the app's own, of another app": {"client_id": "small", "redirect_uri": f"{oauth_peer.APP}/index.html"},
    "a wildcard": {"redirect_uri": "https://app.example/*"},
    "another port of this machine": {"redirect_uri": "http://127.0.0.1:9999/index.html"},
}


@pytest.mark.parametrize("case", ADDRESSES)
def test_an_address_that_is_not_the_apps(server: Server, case: str) -> None:
    flow = Flow()
    assert server.authorize(flow).status_code == 200
    response = server.authorize(flow, **ADDRESSES[case])
    assert response.status_code == 400
    assert "location" not in response.headers
    assert "evil" not in response.text
    assert response.headers["content-security-policy"].startswith("default-src 'none'")


ASKED: dict[str, tuple[dict[str, str | None], str]] = {
    "no challenge": ({"code_challenge": None}, "invalid_request"),
    "no challenge and no method": ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
    "no method, which means plain": ({"code_challenge_method": None}, "invalid_request"),
    "the method plain": ({"code_challenge_method": "plain"}, "invalid_request"),
    "the method s256": ({"code_challenge_method": "s256"}, "invalid_request"),
    "a short challenge": ({"code_challenge": "x" * 42}, "invalid_request"),
    "a long challenge": ({"code_challenge": "x" * 44}, "invalid_request"),
    "a challenge with padding": ({"code_challenge": "x" * 42 + "="}, "invalid_request"),
    "a challenge with a line": ({"code_challenge": "x" * 43 + "\n"}, "invalid_request"),
    "a token at once": ({"response_type": "token"}, "unsupported_response_type"),
    "an id token at once": ({"response_type": "id_token"}, "unsupported_response_type"),
    "the hybrid flow": ({"response_type": "code id_token"}, "unsupported_response_type"),
    "no response type": ({"response_type": None}, "unsupported_response_type"),
    "an answer in the fragment": ({"response_mode": "fragment"}, "invalid_request"),
    "an answer by form": ({"response_mode": "form_post"}, "invalid_request"),
    "a request object": ({"request": "eyJhbGciOiJub25lIn0.e30."}, "request_not_supported"),
    "a request elsewhere": ({"request_uri": "http://169.254.169.254/"}, "request_uri_not_supported"),
    "another service": ({"aud": "https://evil.example/fhir"}, "invalid_target"),
    "another resource": ({"resource": "https://evil.example/fhir"}, "invalid_target"),
    "no scope": ({"scope": None}, "invalid_scope"),
    "a service's scope": ({"scope": "system/*.cruds"}, "invalid_scope"),
    "an unknown scope": ({"scope": "admin"}, "invalid_scope"),
    "an invented launch": ({"scope": "launch patient/*.rs", "launch": "x"}, "invalid_request"),
    "without being asked": ({"prompt": "none"}, "consent_required"),
}


@pytest.mark.parametrize("case", ASKED)
def test_an_authorization_request_of_an_attacker(server: Server, case: str) -> None:
    flow = Flow()
    assert server.authorize(flow).status_code == 200
    changes, error = ASKED[case]
    said = landed(server.authorize(flow, **changes))
    assert (said["error"], said["state"], said["iss"]) == (error, flow.state, server.base)
    assert "code" not in said


def test_parameters_that_stand_twice(server: Server) -> None:
    flow = Flow()
    for name in ("client_id", "redirect_uri", "scope", "state", "code_challenge"):
        query = [*flow.query(server).items(), (name, "other")]
        response = server.http.get(server.url("authorize"), params=query, headers={"Cookie": "who=doctor"})
        assert response.status_code == 400
        assert "location" not in response.headers


CODES: dict[str, dict[str, Any]] = {
    "no verifier": {"code_verifier": None},
    "another verifier": {"code_verifier": "w" * 64},
    "the challenge as verifier": {"code_verifier": "{challenge}"},
    "a short verifier": {"code_verifier": "v" * 42},
    "a long verifier": {"code_verifier": "v" * 129},
    "a verifier in other letters": {"code_verifier": "ż" * 64},
    "another address": {"redirect_uri": "https://app.example/second?a=1"},
    "another public client": {"client_id": "small"},
    "an invented code": {"code": "x" * 43},
    "a code with NUL": {"code": "a%00"},
    "a code as refresh token": {"grant_type": "refresh_token", "refresh_token": "{code}"},
}


@pytest.mark.parametrize("case", CODES)
def test_a_code_in_the_wrong_hands(server: Server, case: str) -> None:
    flow = Flow()
    code = server.code(flow)
    changes = {
        n: v.replace("{challenge}", flow.challenge).replace("{code}", code) if v else v for n, v in CODES[case].items()
    }
    refused(server.exchange(flow, code, **changes), "invalid_grant")
    assert server.exchange(flow, code).status_code == 200


def test_a_confidential_apps_code_needs_its_key(server: Server) -> None:
    flow = Flow(client_id="ehr-app")
    code = server.code(flow)
    nobody = {"client_assertion": None, "client_assertion_type": None}
    refused(server.exchange(flow, code, **nobody, client_id="ehr-app"), "invalid_client")
    refused(server.exchange(flow, code, **server.proof("service")), "invalid_grant")
    refused(server.exchange(flow, code, **nobody, client_id="browser"), "invalid_grant")
    refused(server.exchange(flow, code, **nobody), "invalid_client")
    assert server.exchange(flow, code).status_code == 200


def test_nobody_answers_for_somebody_else(server: Server) -> None:
    flow = Flow()
    page = server.authorize(flow)
    question = page.text.partition('name="question" value="')[2].partition('"')[0]
    answer = {"question": question, "answer": "allow"}
    base = {"Origin": server.base}
    for headers in (
        {},
        {"Cookie": "who=nurse", **base},
        {"Cookie": "who=doctor", "Origin": "https://evil.example"},
        {"Cookie": "who=doctor", "Sec-Fetch-Site": "cross-site"},
        {"Cookie": "who=doctor", "Sec-Fetch-Site": "same-site"},
    ):
        response = server.post("consent", answer, headers=headers)
        assert response.status_code == 400, headers
        assert "location" not in response.headers
    for changed in ({"question": "x"}, {"question": "00000000-0000-4000-8000-000000000000"}, {"question": ""}):
        response = server.post("consent", {**answer, **changed}, headers={"Cookie": "who=doctor", **base})
        assert response.status_code == 400
    assert "code" in landed(server.post("consent", answer, headers={"Cookie": "who=doctor", **base}))
    assert server.post("consent", answer, headers={"Cookie": "who=doctor", **base}).status_code == 400


def test_an_app_gets_no_more_than_it_is_registered_for(server: Server) -> None:
    patient = server.patient()
    flow = Flow(client_id="small", scope="patient/*.cruds user/*.cruds openid launch/patient offline_access")
    answer = server.granted(flow, patient=patient)
    assert answer["scope"] == "patient/Patient.rs launch/patient"
    assert "refresh_token" not in answer
    assert "id_token" not in answer
    assert server.get(f"Patient/{patient}", answer["access_token"]).status_code == 200
    assert server.get(f"DocumentReference?patient={patient}", answer["access_token"]).status_code == 403


def test_what_is_missing_is_named(server: Server) -> None:
    for grant_type in ("authorization_code", "refresh_token"):
        refused(server.post("token", {"grant_type": grant_type, "client_id": "browser"}), "invalid_request")
    for name in ("introspect", "revoke"):
        refused(server.post(name, server.proof()), "invalid_request")


def test_a_refresh_token_alone_is_a_public_clients(server: Server) -> None:
    scope = "user/*.rs offline_access"
    alone = {"grant_type": "refresh_token"}
    public = server.granted(Flow(scope=scope))["refresh_token"]
    confidential = server.granted(Flow(scope=scope, client_id="ehr-app"))["refresh_token"]
    refused(server.post("token", {**alone, "refresh_token": confidential}), "invalid_client")
    refused(server.post("token", {**alone, "refresh_token": confidential, "client_id": "ehr-app"}), "invalid_client")
    refused(server.post("token", {**alone, "refresh_token": "x"}), "invalid_client")
    assert server.post("token", {**alone, "refresh_token": public}).status_code == 200
    proof = server.proof("ehr-app")
    assert server.post("token", {**alone, "refresh_token": confidential, **proof}).status_code == 200
