"""Hostile FHIR over REST: searches, bodies, addresses, and what a node could be made to fetch or to tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace as altered
from typing import Any
from urllib.parse import quote

from field import (
    JSON,
    Case,
    Change,
    Request,
    add_path,
    after,
    before,
    each,
    encoded,
    header,
    method,
    more,
    path,
    raw,
    resub,
    sub,
    table,
    without,
)

BAD = "400 "
REFUSED = "4(00|03|04|05|06|09|10|12|13|15|22) "


def _json(change: Callable[[dict[str, Any]], object]) -> Change:
    """A change of the resource itself."""

    def changed(request: Request) -> Request:
        resource = json.loads(request.body)
        change(resource)
        return altered(request, body=json.dumps(resource, separators=(",", ":")).encode())

    return changed


def put(key: str, value: Any) -> Change:
    return _json(lambda r: r.__setitem__(key, value))


def at(*keys: str | int, value: Any) -> Change:
    def change(resource: Any) -> None:
        for key in keys[:-1]:
            resource = resource[key]
        resource[keys[-1]] = value

    return _json(change)


# searches --------------------------------------------------------------------------------------------------------

INJECTED = {
    "SQL": "x'; DROP TABLE patient; --", "UNION": "(SELECT 1)", "a quote": "'", "two quotes": '"', "a backslash": "\\",
    "a path": "../../etc/passwd", "a template": "${7*7}", "a line": "a\r\nSet-Cookie: a=b", "an escape": "\x1b[2J",
}  # fmt: skip
RESULT_PARAMETERS = (
    "_sort",
    "_include",
    "_revinclude",
    "_has:Observation:patient:code",
    "_filter",
    "_elements",
    "_summary",
    "_contained",
    "_total",
)
SEARCHES = [
    Case(f"{what} in {name} of {twin}", twin, add_path(("&" if twin != "metadata" else "?") + f"{name}={quote(value)}"), BAD)
    for twin in ("strict_search", "people", "organisations")
    for name in RESULT_PARAMETERS
    for what, value in (("SQL", INJECTED["SQL"]), ("UNION", INJECTED["UNION"]))
]  # fmt: skip
SEARCHES += [
    *(Case(f"{what} as a patient", "strict_search", path(f"/fhir/DocumentReference?patient={quote(value)}"), "400 |200 Bundle found=0") for what, value in INJECTED.items()),
    *(Case(f"{what} as a status", "strict_search", add_path(f"&status={quote(value)}"), "400 |200 Bundle found=0") for what, value in INJECTED.items()),
    *(Case(f"{what} as a family name", "people", path(f"/fhir/Patient?birthdate=1980-01-01&family={quote(value)}"), "4(00|22) |200 Bundle found=0") for what, value in INJECTED.items()),
    *(Case(f"{what} as a date", "people", path(f"/fhir/Patient?family=Kowalska&birthdate={quote(value)}"), BAD) for what, value in INJECTED.items()),
    *(Case(f"{what} as an identifier", "people", path(f"/fhir/Patient?identifier={quote(value)}"), "400 |200 Bundle found=0") for what, value in INJECTED.items()),
    *(Case(f"{what} as a modifier", "people", add_path(f"&given:{quote(value)}=x"), BAD) for what, value in INJECTED.items()),
    *(Case(f"{what} as a name", "organisations", path(f"/fhir/Organization?name={quote(value)}"), "400 |200 Bundle found=0") for what, value in INJECTED.items()),
    *table(
        "people",
        {
            "a name that matches everybody": (path("/fhir/Patient?family=%25"), "4(00|22) |200 Bundle found=0"),
            "a name of one letter": (path("/fhir/Patient?family=K"), "4(00|22) |200 Bundle found=0"),
            "a name of underscores": (path("/fhir/Patient?family=________"), "4(00|22) |200 Bundle found=0"),
            "a name of everybody's first letter, contained": (path("/fhir/Patient?family:contains=a"), "4(00|22) "),
            "nothing asked": (path("/fhir/Patient"), "4(00|22) "),
            "an empty name": (path("/fhir/Patient?family="), "4(00|22) "),
            "a name of a megabyte": (path("/fhir/Patient?family=" + "K" * 60_000), "400 |431|200 Bundle found=0"),
            "201 parameters": (path("/fhir/Patient?family=Kowalska" + "&given=a" * 200), "413 "),
            "a thousand alternatives": (path("/fhir/Patient?birthdate=1980-01-01&family=" + ",".join(["K"] * 1000)), "413 "),
            "_count of a thousand million": (add_path("&_count=1000000000"), "400 |200 Bundle found=[1-9]"),
            "_count beyond range": (add_path("&_count=" + "9" * 100), "400 |200 Bundle found=[1-9]"),
            "_count below nothing": (add_path("&_count=-1"), BAD),
            "_count in words": (add_path("&_count=all"), BAD),
            "_count with an exponent": (add_path("&_count=1e9"), BAD),
            "_count twice": (add_path("&_count=1&_count=1000"), BAD),
            "_count in other digits": (add_path("&_count=%D9%A1"), BAD),
            "a chain to another person": (add_path("&link.other.family=x"), BAD),
            "a chain through everything": (path("/fhir/DocumentReference?patient.organization.partof.name=x"), BAD),
            "a token with two bars": (path("/fhir/Patient?identifier=a%7Cb%7Cc"), "400 |200 Bundle found=0"),
            "a token of a bar": (path("/fhir/Patient?identifier=%7C"), "40[04] "),
            "half an encoding": (path("/fhir/Patient?family=%"), "4(00|22) |200 Bundle found=0"),
            "an encoding that is none": (path("/fhir/Patient?family=%zz"), "400 |200 Bundle found=0"),
            "a NUL": (path("/fhir/Patient?family=K%00owalska"), BAD),
            "overlong bytes": (path("/fhir/Patient?family=%C0%AF"), BAD),
            "half a surrogate": (path("/fhir/Patient?family=%ED%A0%80"), BAD),
            "Latin bytes": (path("/fhir/Patient?family=%B3"), BAD),
            "a format that runs": (add_path("&_format=text/html"), "406"),
            "a prefix of a date that is none": (path("/fhir/Patient?family=Kowalska&birthdate=xx1980"), BAD),
            "a date of the year 99999": (path("/fhir/Patient?family=Kowalska&birthdate=99999"), BAD),
            "a date that never was": (path("/fhir/Patient?family=Kowalska&birthdate=1980-02-30"), BAD),
            "a parameter of the last page": (add_path("&page=2"), BAD),
            "a page that was never given": (add_path("&_page=AAAA"), BAD),
        },
    ),
]  # fmt: skip

# addresses -------------------------------------------------------------------------------------------------------

IDS = {
    "up": "..%2f..%2f..%2fetc%2fpasswd", "up twice encoded": "%252e%252e%252f", "a NUL": "a%00b", "SQL": "'%20OR%20'1'='1",
    "65 letters": "a" * 65, "10,000 letters": "a" * 10_000, "a star": "*", "a percent": "%25", "an underscore": "_", "nothing": "%20",
    "a line": "a%0d%0ab", "a backslash": "..%5c..%5c", "a number": "1", "another type": "Patient%2f1", "Unicode": "%F0%9F%98%80",
}  # fmt: skip
ADDRESSES = [
    Case(f"{what} as the id of a {kind}", "read_document", path(f"/fhir/{kind}/{name}"), REFUSED)
    for kind in ("Patient", "DocumentReference", "Binary", "List", "Organization", "Subscription")
    for what, name in IDS.items()
]
ADDRESSES += table(
    "read_binary",
    {
        "content under the id of its entry": (lambda r: altered(r, path=r.path + "0"), "404"),
        "content by a cut id": (lambda r: altered(r, path=r.path[:-1]), "404"),
        "content by a path": (lambda r: altered(r, path=r.path + "/../../../master.key"), "404"),
        "content by an encoded path": (lambda r: altered(r, path=r.path + "%2f..%2fmaster.key"), "404"),
        "content in another letter": (lambda r: altered(r, path=r.path.replace("Binary/", "binary/")), "404"),
        "content deleted": (method("DELETE"), "405"),
        "content replaced": (each(method("PUT"), raw(lambda _: b"x"), more(("Content-Type", "text/plain"))), "405"),
        "its history": (add_path("/_history"), "404"),
        "an old version": (add_path("/_history/1"), "404"),
    },
) + table(
    "read_document",
    {
        "a version that was": (add_path("/_history/0"), "404"),
        "a history": (add_path("/_history"), "404"),
        "an operation that is none": (add_path("/$evil"), "404"),
        "deep below": (add_path("/a/b/c/d"), "404"),
        "the files of the node": (path("/fhir/../settings.toml"), "404"),
        "the files of the node, encoded": (path("/fhir/%2e%2e/settings.toml"), "404"),
        "two slashes": (path("//fhir/metadata"), "404"),
        "a page that is not there": (path("/admin"), "404"),
        "files": (path("/static/../../etc/passwd"), "404"),
        "TRACE": (method("TRACE"), "40[0-9]"),
        "OPTIONS": (method("OPTIONS"), "405"),
        "PATCH": (each(method("PATCH"), more(("Content-Type", "application/json-patch+json")), raw(lambda _: b"[]")), "405"),
        "DELETE": (method("DELETE"), "405"),
        "PROPFIND": (method("PROPFIND"), "40[05]"),
        "an override of the method": (each(method("POST"), more(("X-HTTP-Method-Override", "DELETE"))), "405"),
        "Accept of something else": (header("Accept", "text/html"), "406"),
        "Accept of a script": (header("Accept", "application/javascript"), "406"),
        "two Accepts that disagree": (header("Accept", "application/fhir+json;fhirVersion=3.0"), "406"),
        "If-None-Match of another's": (more(("If-None-Match", 'W/"999"')), "200"),
        "a host with a script": (header("Host", 'evil"><script>'), "400"),
        "a host with a path": (header("Host", "evil.example/x"), "400"),
        "a host of two": (header("Host", "a.example, b.example"), "400"),
        "two hosts": (more(("Host", "a.example"), ("Host", "b.example")), "400"),
        "a host with a person": (header("Host", "a@b.example"), "400"),
        "two Authorizations": (more(("Authorization", "Bearer a"), ("Authorization", "Bearer b")), "400"),
        "two If-Match": (more(("If-Match", 'W/"1"'), ("If-Match", 'W/"2"')), "400"),
        "two cookies": (more(("Cookie", "a=b"), ("Cookie", "a=c")), "400"),
    },
)  # fmt: skip
# Whether somebody is there may not be told by a condition: known and unknown are answered alike.
ADDRESSES += [
    Case(f"{name} of nobody", "read_patient", each(path("/fhir/Patient/nobody-1"), more((name, value))), "404")
    for name, value in (("If-None-Match", "*"), ("If-None-Match", 'W/"1"'), ("If-Match", 'W/"1"'), ("If-Modified-Since", "Mon, 01 Jan 2035 00:00:00 GMT"))
    if not (name == "If-None-Match" and value == 'W/"1"')
]  # fmt: skip

# bodies ----------------------------------------------------------------------------------------------------------


def _inner(text: str) -> Change:
    """More of the resource, as it is written."""
    return raw(lambda b: b[:-1] + text.encode() + b"}")


BODIES: dict[str, tuple[Change, str]] = {
    "a key twice": (_inner(',"birthDate":"1990-01-01"'), BAD),
    "the type twice": (_inner(',"resourceType":"Organization"'), BAD),
    "the type twice in disguise": (_inner(',"resource\\u0054ype":"Organization"'), BAD),
    "an identifier twice": (_inner(',"identifier":[]'), BAD),
    "a number without bounds": (_inner(',"multipleBirthInteger":1e9999'), BAD),
    "an exponent without room": (_inner(',"extension":[{"url":"urn:x","valueDecimal":1e99999999999999999999}]'), BAD),
    "a number of 10,000 digits": (_inner(f',"multipleBirthInteger":{"9" * 10_000}'), BAD),
    "a decimal without end": (_inner(f',"extension":[{{"url":"urn:x","valueDecimal":0.{"1" * 10_000}}}]'), BAD),
    "minus nothing": (_inner(',"multipleBirthInteger":-0.0'), BAD),
    "Infinity": (_inner(',"multipleBirthInteger":Infinity'), BAD),
    "NaN": (_inner(',"multipleBirthInteger":NaN'), BAD),
    "octal": (_inner(',"multipleBirthInteger":010'), BAD),
    "hexadecimal": (_inner(',"multipleBirthInteger":0x10'), BAD),
    "true in capitals": (_inner(',"active":True'), BAD),
    "a comma too many": (_inner(","), BAD),
    "a comment": (_inner("/* */"), BAD),
    "single quotes": (_inner(",'active':true"), BAD),
    "a key without quotes": (_inner(",active:true"), BAD),
    "__proto__": (_inner(',"__proto__":{"admin":true}'), BAD),
    "constructor": (_inner(',"constructor":{"prototype":{"a":1}}'), BAD),
    "an operator": (_inner(',"$where":"sleep(1)"'), BAD),
    "an empty key": (_inner(',"":1'), BAD),
    "a class to be made": (_inner(',"@type":"java.lang.Runtime"'), BAD),
    "a Python object": (_inner(',"py/object":"os.system"'), BAD),
    "half a surrogate": (_inner(',"language":"\\ud800"'), BAD),
    "two halves the wrong way": (_inner(',"language":"\\udc00\\ud800"'), BAD),
    "a NUL": (_inner(',"language":"a\\u0000"'), BAD),
    "a control character": (_inner(',"language":"a\\u0007"'), BAD),
    "a raw control character": (_inner(',"language":"a\x07"'), BAD),
    "a raw line end": (_inner(',"language":"a\n"'), BAD),
    "depth 65": (_inner(',"extension":' + "[" * 65 + "]" * 65), BAD),
    "depth 100,000": (_inner(',"extension":' + "[" * 100_000), BAD),
    "objects 100,000 deep": (_inner(',"extension":' + '{"a":' * 100_000), BAD),
    "half a million values": (_inner(',"given":[' + "1," * 510_000 + "1]"), BAD),
    "colliding keys": (_inner("," + ",".join(f'"k{i}":1' for i in range(50_000))), BAD),
    "an array": (raw(lambda b: b"[" + b + b"]"), BAD),
    "two resources": (raw(lambda b: b + b), BAD),
    "text behind": (after("x"), BAD),
    "a NUL behind": (after(b"\0"), BAD),
    "half of it": (raw(lambda b: b[: len(b) // 2]), BAD),
    "nothing": (raw(lambda _: b""), BAD),
    "null": (raw(lambda _: b"null"), BAD),
    "a text": (raw(lambda _: b'"Patient"'), BAD),
    "a mark": (before(b"\xef\xbb\xbf"), BAD),
    "UTF-16": (encoded("utf-16"), BAD),
    "UTF-16 without a mark": (encoded("utf-16-le"), BAD),
    "UTF-32": (encoded("utf-32-le"), BAD),
    "a byte that is none": (raw(lambda b: b.replace(b"Feed", b"F\xffed")), BAD),
    "overlong bytes": (raw(lambda b: b.replace(b"Feed", b"F\xc0\x80ed")), BAD),
    "another type": (put("resourceType", "Organization"), REFUSED),
    "a type that is none": (put("resourceType", "Evil"), REFUSED),
    "a type that is a number": (put("resourceType", 1), BAD),
    "no type": (_json(lambda r: r.pop("resourceType")), BAD),
    "an id that is a path": (put("id", "../../x"), BAD),
    "an id of 65": (put("id", "a" * 65), BAD),
    "identifier without system": (put("identifier", [{"value": "1"}]), REFUSED),
    "an identifier of another": (put("identifier", [{"system": "urn:oid:1.2.3.9", "value": "x"}]), REFUSED),
    "an identifier with SQL": (at("identifier", 0, "value", value="' OR 1=1 --"), REFUSED),
    "an identifier of a megabyte": (at("identifier", 0, "value", value="9" * 1_000_000), REFUSED),
    "10,000 identifiers": (put("identifier", [{"system": "urn:oid:1.2.3", "value": str(i)} for i in range(10_000)]), REFUSED),
    "10,000 names": (put("name", [{"family": "X"}] * 10_000), REFUSED),
    "a birth date that never was": (put("birthDate", "1980-02-30"), BAD),
    "a birth date of a number": (put("birthDate", 1980), BAD),
    "a gender that is none": (put("gender", "x"), BAD),
    "rules that must be known": (put("implicitRules", "http://evil.example/rules"), REFUSED),
    "an extension that must be known": (put("modifierExtension", [{"url": "http://evil.example/not", "valueBoolean": True}]), REFUSED),
    "somebody contained": (put("contained", [{"resourceType": "Patient", "id": "a", "contained": [{"resourceType": "Patient"}]}]), REFUSED),
    "a link to oneself in another region": (put("link", [{"other": {"reference": "http://169.254.169.254/Patient/1"}, "type": "replaced-by"}]), REFUSED),
    "a link that is a script": (put("link", [{"other": {"reference": "javascript:alert(1)"}, "type": "replaced-by"}]), REFUSED),
    "a photo of elsewhere": (put("photo", [{"contentType": "image/png", "url": 7}]), BAD),
    "a resource in the wrong place": (put("managingOrganization", {"resourceType": "Organization"}), BAD),
}  # fmt: skip
TYPES: dict[str, tuple[Change, str]] = {
    "no Content-Type": (without("Content-Type"), "415"),
    "text": (header("Content-Type", "text/plain"), "415"),
    "HTML": (header("Content-Type", "text/html"), "415"),
    "a form": (header("Content-Type", "application/x-www-form-urlencoded"), "415"),
    "XML that is JSON": (header("Content-Type", "application/fhir+xml"), BAD),
    "JSON of another version": (header("Content-Type", "application/fhir+json; fhirVersion=3.0"), "415"),
    "two versions": (header("Content-Type", "application/fhir+json; fhirVersion=4.0; fhirVersion=3.0"), "415"),
    "another charset": (header("Content-Type", "application/fhir+json; charset=utf-16"), "415"),
    "Latin": (header("Content-Type", "application/fhir+json; charset=iso-8859-2"), "415"),
    "two types in one": (header("Content-Type", "application/fhir+json, text/html"), "415"),
    "two Content-Types": (more(("Content-Type", "application/fhir+xml")), "400"),
    "patch": (header("Content-Type", "application/json-patch+json"), "415"),
    "ndjson": (header("Content-Type", "application/ndjson"), "415"),
    "multipart": (header("Content-Type", "multipart/form-data; boundary=x"), "415"),
    "a type alone": (header("Content-Type", "json"), "415"),
    "compressed, it says": (more(("Content-Encoding", "gzip")), "415"),
    "compressed by another": (more(("Content-Encoding", "zstd")), "415"),
    "If-Match of another version": (more(("If-Match", 'W/"99"')), "4(04|09|12) "),
    "If-Match that is none": (more(("If-Match", "x")), BAD),
    "If-None-Exist in the wrong place": (more(("If-None-Exist", "identifier=x")), "422 "),
    "by nobody": (path("/fhir/Patient"), REFUSED),
    "by everybody": (path("/fhir/Patient?family=X"), REFUSED),
    "by two": (path("/fhir/Patient?identifier=urn:oid:1.2.3%7C1&identifier=urn:oid:1.2.3%7C2"), REFUSED),
    "by an address": (path("/fhir/Patient/1"), "4(04|05) "),
}  # fmt: skip

SCRIPTS = {
    "a script": "<script>alert(1)</script>", "an image that runs": '<img src="x" onerror="alert(1)"/>', "a frame": '<iframe src="http://evil.example/"/>',
    "a form": '<form action="http://evil.example/"><input name="p"/></form>', "a link that runs": '<a href="javascript:alert(1)">x</a>',
    "a style": "<style>*{background:url(http://evil.example)}</style>", "SVG": '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "an object": '<object data="x.swf"/>', "a base": '<base href="http://evil.example/"/>', "a meta": '<meta http-equiv="refresh" content="0"/>',
    "a style in place": '<p style="background:url(javascript:alert(1))">x</p>', "a handler": '<p onmouseover="alert(1)">x</p>',
    "MathML": '<math xmlns="http://www.w3.org/1998/Math/MathML"><maction/></math>', "an embed": '<embed src="x"/>', "video": '<video src="x"/>',
    "another link": '<link rel="stylesheet" href="http://evil.example/"/>', "a data link": '<a href="data:text/html,x">x</a>',
    "a link that runs, spaced": '<a href=" java&#10;script:alert(1)">x</a>', "a button": "<button>x</button>", "a template": "<template>x</template>",
}  # fmt: skip
NARRATIVES = [
    Case(f"{name} in a narrative", "validate", put("text", {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{text}x</div>'}), "narrative refused")
    for name, text in SCRIPTS.items()
] + [
    Case(f"{name} as a narrative", "validate", put("text", {"status": "generated", "div": text}), "narrative refused")
    for name, text in {
        "no div": "<p>x</p>", "no namespace": "<div>x</div>", "a DOCTYPE": '<!DOCTYPE div [<!ENTITY a "x">]><div xmlns="http://www.w3.org/1999/xhtml">&a;</div>',
        "a div that ends early": '<div xmlns="http://www.w3.org/1999/xhtml">x</div><script/>', "nothing": '<div xmlns="http://www.w3.org/1999/xhtml"> </div>',
        "an instruction": '<div xmlns="http://www.w3.org/1999/xhtml"><?php x?>x</div>',
    }.items()
]  # fmt: skip

# what the node could be made to fetch -----------------------------------------------------------------------------

INSIDE = {
    "the cloud's metadata": "http://169.254.169.254/latest/meta-data/", "this machine": "http://127.0.0.1:9/", "this machine by name": "http://localhost:9/",
    "this machine in IPv6": "http://[::1]/", "this machine, mapped": "http://[::ffff:127.0.0.1]/", "this machine as a number": "http://2130706433/",
    "this machine in octal": "http://0177.0.0.1/", "any address": "http://0.0.0.0/", "a private net": "http://10.0.0.1/", "another private net": "https://192.168.1.1/x",
    "a file": "file:///etc/passwd", "gopher": "gopher://127.0.0.1:6379/_x", "FTP": "ftp://10.0.0.1/x", "a script": "javascript:alert(1)", "data": "data:text/plain,x",
    "with a password": "http://user:secret@127.0.0.1/", "multicast": "http://224.0.0.1/", "link-local": "http://[fe80::1]/", "IPv6 private": "http://[fd00::1]/",
    "a short form": "http://127.1/", "hexadecimal": "http://0x7f000001/", "carrier NAT": "http://100.64.0.1/", "nothing": "http:///x", "a line": "http://a.example/\r\nHost: b",
}  # fmt: skip
FETCHED = [
    *(Case(f"told at {name}", "subscription", at("channel", "endpoint", value=address), REFUSED) for name, address in INSIDE.items()),
    *(
        Case(
            f"content at {name}", "publish",
            _json(lambda r, a=address: (r["content"][0]["attachment"].pop("data"), r["content"][0]["attachment"].__setitem__("url", a))), REFUSED,
        )
        for name, address in INSIDE.items()
    ),
    *table(
        "subscription",
        {
            "a header of the message": (at("channel", "header", value=["Host: evil.example"]), REFUSED),
            "a header with a line": (at("channel", "header", value=["X-A: b\r\nHost: evil.example"]), REFUSED),
            "by mail": (at("channel", "type", value="email"), REFUSED),
            "by websocket": (at("channel", "type", value="websocket"), REFUSED),
            "active at once": (put("status", "active"), REFUSED),
            "of everything": (put("criteria", "Patient?"), REFUSED),
        },
    ),
    *table(
        "publish",
        {
            "content of another type": (at("content", 0, "attachment", "contentType", value="text/html"), REFUSED),
            "a type with a line": (at("content", 0, "attachment", "contentType", value="text/plain\r\nX: y"), REFUSED),
            "another size": (at("content", 0, "attachment", "size", value=1), REFUSED),
            "another hash": (at("content", 0, "attachment", "hash", value="AAAA"), REFUSED),
            "broken base64": (at("content", 0, "attachment", "data", value="!!!!"), REFUSED),
            "a patient elsewhere": (at("subject", "reference", value="http://169.254.169.254/Patient/1"), REFUSED),
            "a patient who is not known": (at("subject", "reference", value="Patient/nobody"), REFUSED),
            "a patient who is a path": (at("subject", "reference", value="Patient/../Practitioner/1"), REFUSED),
            "a patient by a question": (at("subject", "reference", value="Patient?family=Kowalska"), REFUSED),
            "a document that it replaces, of nobody": (put("relatesTo", [{"code": "replaces", "target": {"reference": "DocumentReference/nobody"}}]), REFUSED),
            "two contents": (_json(lambda r: r["content"].append(r["content"][0])), REFUSED),
            "superseded at once": (put("status", "entered-in-error"), REFUSED),
            "an identifier that is a path": (at("masterIdentifier", "value", value="../../etc/passwd"), REFUSED),
            "an author who is contained nowhere": (put("author", [{"reference": "#nobody"}]), REFUSED),
        },
    ),
]  # fmt: skip


def _bundle(*entries: dict[str, Any], kind: str = "transaction") -> Change:
    body = {"resourceType": "Bundle", "type": kind, "entry": list(entries)}
    return lambda request: Request("/fhir", json.dumps(body).encode(), JSON, "POST")


def _do(verb: str, url: str, resource: Any = None) -> dict[str, Any]:
    return {"request": {"method": verb, "url": url}, **({"resource": resource} if resource else {})}


PERSON = {"resourceType": "Patient", "name": [{"family": "X"}]}
BUNDLES = table(
    "feed",
    {
        "a bundle that deletes": (_bundle(_do("DELETE", "Patient/1")), REFUSED),
        "a bundle that deletes by a question": (_bundle(_do("DELETE", "Patient?family=Kowalska")), REFUSED),
        "a bundle that reads": (_bundle(_do("GET", "Patient/1")), REFUSED),
        "a bundle that patches": (_bundle(_do("PATCH", "Patient/1", PERSON)), REFUSED),
        "a bundle that writes elsewhere": (_bundle(_do("POST", "http://169.254.169.254/", PERSON)), REFUSED),
        "a bundle that changes by a question": (_bundle(_do("PUT", "Patient?identifier=x", PERSON)), REFUSED),
        "a batch": (_bundle(_do("GET", "Patient?family=K"), kind="batch"), REFUSED),
        "a history as a bundle": (_bundle(kind="history"), REFUSED),
        "a bundle of nothing": (_bundle(), REFUSED),
        "a bundle in a bundle": (_bundle(_do("POST", "Bundle", {"resourceType": "Bundle", "type": "transaction"})), REFUSED),
        "10,000 entries": (_bundle(*[_do("GET", "Patient/1")] * 10_000), REFUSED),
        "an entry without a request": (_bundle({"resource": PERSON}), REFUSED),
        "a bundle of another guide": (
            lambda r: Request("/fhir", json.dumps({"resourceType": "Bundle", "type": "transaction", "meta": {"profile": ["http://evil.example/x"]}}).encode(), JSON, "POST"),
            REFUSED,
        ),
    },
)  # fmt: skip
OPERATIONS = [
    *table(
        "match",
        {
            "nobody to match": (put("parameter", []), REFUSED),
            "two to match": (_json(lambda r: r["parameter"].append(r["parameter"][0])), REFUSED),
            "an organisation to match": (at("parameter", 0, "resource", value={"resourceType": "Organization", "name": "x"}), REFUSED),
            "a person without anything": (at("parameter", 0, "resource", value={"resourceType": "Patient"}), "4\\d\\d "),
            "a count beyond range": (_json(lambda r: r["parameter"].append({"name": "count", "valueInteger": 1000000000})), "400 |200 Bundle"),
            "a count below nothing": (_json(lambda r: r["parameter"].append({"name": "count", "valueInteger": -1})), REFUSED),
            "a parameter that is a resource": (_json(lambda r: r["parameter"].append({"name": "evil", "resource": {"resourceType": "Evil"}})), REFUSED),
            "a parameter without a name": (_json(lambda r: r["parameter"].append({"valueString": "x"})), REFUSED),
            "by GET": (each(method("GET"), raw(lambda _: b"")), "405"),
        },
    ),
    *table(
        "pix",
        {
            "nobody asked for": (path("/fhir/Patient/$ihe-pix"), REFUSED),
            "two asked for": (add_path("&sourceIdentifier=urn:oid:1.2%7C1"), REFUSED),
            "an unknown domain": (path("/fhir/Patient/$ihe-pix?sourceIdentifier=urn:oid:1.2.3.4.5%7C1"), REFUSED),
            "a target that is unknown": (add_path("&targetSystem=urn:oid:1.2.3.4.5"), REFUSED),
            "a target with SQL": (add_path("&targetSystem=%27%20OR%201=1"), REFUSED),
            "a number with wildcards": (lambda r: altered(r, path=r.path.rpartition("%7C")[0] + "%7C%25"), REFUSED),
        },
    ),
    *table(
        "read_patient",
        {
            "everything of nobody": (path("/fhir/Patient/nobody/$everything"), "404"),
            "a summary of nobody": (path("/fhir/Patient/nobody/$summary"), "404"),
            "a summary of a question": (path("/fhir/Patient/$summary?identifier=%25"), REFUSED),
            "an export without asking for it": (path("/fhir/$export"), REFUSED),
            "an export of a type that is none": (each(path("/fhir/$export?_type=Evil"), more(("Prefer", "respond-async"))), REFUSED),
            "an export since a time that is none": (each(path("/fhir/$export?_since=x"), more(("Prefer", "respond-async"))), REFUSED),
            "an export as a program": (each(path("/fhir/$export?_outputFormat=text/html"), more(("Prefer", "respond-async"))), REFUSED),
            "the state of another's export": (path("/fhir/$export-status?job=1"), REFUSED),
            "a file of another's export": (path("/fhir/$export-file?job=..%2f..&file=1"), REFUSED),
        },
    ),
]  # fmt: skip

XML_BODIES: dict[str, tuple[Change, str]] = {
    "a DOCTYPE": (before("<!DOCTYPE Patient>"), BAD),
    "an exponent without room": (sub("<name>", '<extension url="urn:x"><valueDecimal value="1e99999999999999999999"/></extension><name>'), REFUSED),
    "an entity": (each(before('<!DOCTYPE p [<!ENTITY a SYSTEM "file:///etc/passwd">]>'), sub('value="Feed"', 'value="&a;"')), BAD),
    "a thousand laughs": (each(before('<!DOCTYPE p [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>'), sub('value="Feed"', 'value="&b;"')), BAD),
    "an instruction": (before('<?xml-stylesheet href="x"?>'), BAD),
    "XInclude": (sub("<name>", '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="x"/><name>'), BAD),
    "UTF-7": (encoded("utf-7", "UTF-7"), BAD),
    "EBCDIC": (encoded("cp037", "EBCDIC-CP-US"), BAD),
    "UTF-32": (encoded("utf-32", "UTF-32"), BAD),
    "Latin": (encoded("iso8859-2", "ISO-8859-2"), BAD),
    "another namespace": (sub("http://hl7.org/fhir", "urn:evil"), BAD),
    "no namespace": (sub(' xmlns="http://hl7.org/fhir"', ""), BAD),
    "an element of another namespace": (sub("<name>", '<x xmlns="urn:evil"/><name>'), BAD),
    "text beside": (sub("<name>", "text<name>"), BAD),
    "an attribute that is unknown": (sub("<name>", '<name evil="1">'), BAD),
    "a value without an attribute": (resub(r'<family value="[^"]*"/>', "<family>Feed</family>"), BAD),
    "elements out of order": (resub(r"(<identifier>.*</identifier>)(<name>.*</name>)", '<name><family value="X"/></name><identifier><value value="1"/></identifier>'), REFUSED),
    "200,000 attributes": (sub("<name>", "<name " + " ".join(f'a{i}="1"' for i in range(200_000)) + ">"), BAD),
    "200,000 namespaces": (sub("<name>", "<name " + " ".join(f'xmlns:a{i}="u"' for i in range(200_000)) + ">"), BAD),
    "depth 65": (sub("<name>", "<extension>" * 65 + "</extension>" * 65 + "<name>"), BAD),
    "JSON": (raw(lambda _: b'{"resourceType":"Patient"}'), BAD),
    "nothing": (raw(lambda _: b""), BAD),
    "a script as a type": (raw(lambda _: b'<script xmlns="http://www.w3.org/1999/xhtml"/>'), BAD),
}  # fmt: skip

CASES = [
    *SEARCHES,
    *ADDRESSES,
    *(Case(f"feed: {n}", "feed", c, e) for n, (c, e) in {**BODIES, **TYPES}.items()),
    *(Case(f"XML feed: {n}", "feed_xml", c, e) for n, (c, e) in XML_BODIES.items()),
    *NARRATIVES,
    *FETCHED,
    *BUNDLES,
    *OPERATIONS,
]
