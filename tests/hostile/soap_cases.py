"""Hostile SOAP and XML: facts of the wire formats that a careful reader refuses, in every kind of message."""

from __future__ import annotations

from dataclasses import replace as altered

from field import (
    Case,
    Change,
    Request,
    after,
    before,
    each,
    encoded,
    header,
    more,
    raw,
    resub,
    sub,
    table,
    without,
)
from peer import ACTIONS, LCM, QUERY, SOAP, WSA, XDSB

FAULT = "400 Sender"
WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"


# document types --------------------------------------------------------------------------------------------------


def _bomb(levels: int, width: int) -> str:
    rows = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * width}">' for i in range(1, levels))
    return f'<!DOCTYPE x [<!ENTITY a0 "aaaaaaaaaa">{rows}]>'


IN_TEXT = ("<s:Body>", "<s:Body><!-- -->")  # a place that every envelope has
DOCTYPES = {
    "a bare DOCTYPE": before("<!DOCTYPE Envelope>"),
    "a public external subset": before('<!DOCTYPE e PUBLIC "-//X//Y" "http://127.0.0.1:9/x.dtd">'),
    "a parameter entity": before('<!DOCTYPE e [<!ENTITY % p SYSTEM "http://127.0.0.1:9/p"> %p;]>'),
    "a parameter entity that sends a file": before(
        '<!DOCTYPE e [<!ENTITY % f SYSTEM "file:///etc/passwd"><!ENTITY % d SYSTEM "http://127.0.0.1:9/d"> %d;]>'
    ),
    "an entity in an attribute": each(
        before('<!DOCTYPE e [<!ENTITY a "x">]>'), sub("<s:Body>", '<s:Body><q v="&a;"/>')
    ),
    "quadratic blow-up": each(
        before(f'<!DOCTYPE e [<!ENTITY a "{"a" * 50_000}">]>'), sub("<s:Body>", "<s:Body>" + "&a;" * 5_000)
    ),
    "a thousand million laughs": each(before(_bomb(10, 10)), sub("<s:Body>", "<s:Body>&a9;")),
    "entities that name each other": each(
        before('<!DOCTYPE e [<!ENTITY a "&b;"><!ENTITY b "&a;">]>'), sub("<s:Body>", "<s:Body>&a;")
    ),
    "an entity that holds markup": each(
        before('<!DOCTYPE e [<!ENTITY a "<evil/>">]>'), sub("<s:Body>", "<s:Body>&a;")
    ),
    "an entity of a unit file": each(
        before('<!DOCTYPE e [<!ENTITY a SYSTEM "file:///proc/self/environ">]>'), sub("<s:Body>", "<s:Body>&a;")
    ),
    "an entity of another scheme": each(
        before('<!DOCTYPE e [<!ENTITY a SYSTEM "jar:http://127.0.0.1:9/x!/y">]>'), sub("<s:Body>", "<s:Body>&a;")
    ),
    "default attributes": before('<!DOCTYPE e [<!ATTLIST s:Envelope evil CDATA "1">]>'),
    "a default namespace by DTD": before('<!DOCTYPE e [<!ATTLIST s:Envelope xmlns:s CDATA "urn:evil">]>'),
    "ids by DTD": before("<!DOCTYPE e [<!ATTLIST s:Body wsu ID #IMPLIED>]>"),
    "a notation": before('<!DOCTYPE e [<!NOTATION n SYSTEM "http://127.0.0.1:9/n">]>'),
    "an unparsed entity": before('<!DOCTYPE e [<!NOTATION n SYSTEM "n"><!ENTITY u SYSTEM "u.gif" NDATA n>]>'),
    "a DOCTYPE after a comment": before("<!-- --><!DOCTYPE e>"),
    "a DOCTYPE after much space": before('<?xml version="1.0"?>' + "\n" * 5000 + "<!DOCTYPE e>"),
    "a DOCTYPE in lower case": before("<!doctype e>"),
    "a DOCTYPE behind the envelope": after("<!DOCTYPE e>"),
    "a DOCTYPE in the Body": sub("<s:Body>", "<s:Body><!DOCTYPE e>"),
    "a conditional section": before("<!DOCTYPE e [<![INCLUDE[<!ENTITY a 'x'>]]>]>"),
    "an instruction in the subset": before("<!DOCTYPE e [<?evil?>]>"),
    "a DOCTYPE in UTF-16": lambda r: encoded("utf-16-le", mark=b"\xff\xfe")(before("<!DOCTYPE e>")(r)),
    "a DOCTYPE in UTF-16, the other way": lambda r: encoded("utf-16-be", mark=b"\xfe\xff")(before("<!DOCTYPE e>")(r)),
    "XInclude that parses as text": sub(
        "<s:Body>", '<s:Body><xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="/etc/passwd" parse="text"/>'
    ),
    "XInclude with a fallback": sub(
        "<s:Body>",
        '<s:Body><i:include xmlns:i="http://www.w3.org/2001/XInclude" href="x"><i:fallback/></i:include>',
    ),
    "a stylesheet": before('<?xml-stylesheet type="text/xsl" href="http://127.0.0.1:9/x.xsl"?>'),
    "a stylesheet behind the envelope": after('<?xml-stylesheet type="text/xsl" href="x.xsl"?>'),
    "an instruction in the header": sub("<s:Header>", "<s:Header><?evil do?>"),
}  # fmt: skip


def _root_only(change: Change) -> Change:
    """The same done to the root part of an MTOM package."""

    def changed(request: Request) -> Request:
        head, end, rest = request.body.partition(b"\r\n\r\n")
        root, cut, parts = rest.partition(b"\r\n--")
        inner = change(altered(request, body=root))
        return altered(request, body=head + end + inner.body + cut + parts)

    return changed


def _everywhere(twins: dict[str, bool], rows: dict[str, Change], expect: str) -> list[Case]:
    """Each change in each kind of message; ``twins`` says which are packages."""
    return [
        Case(f"{name}: {twin}", twin, _root_only(change) if packed else change, expect)
        for name, change in rows.items()
        for twin, packed in twins.items()
    ]


# encodings -------------------------------------------------------------------------------------------------------

ENCODINGS: dict[str, Change] = {
    "UTF-7": encoded("utf-7", "UTF-7"),
    "UTF-7 that hides every tag": raw(
        lambda b: b'<?xml version="1.0" encoding="UTF-7"?>' + b.replace(b"<s:Body", b"+ADw-s:Body")
    ),
    "EBCDIC": encoded("cp037", "EBCDIC-CP-US"),
    "EBCDIC that says nothing": encoded("cp037"),
    "UTF-32": encoded("utf-32", "UTF-32"),
    "UTF-32, big end first": encoded("utf-32-be", "UTF-32"),
    "UCS-4": encoded("utf-32-le", "UCS-4"),
    "a page of Windows": encoded("cp1250", "windows-1250"),
    "ISO-8859-2": encoded("iso8859-2", "ISO-8859-2"),
    "Shift_JIS": encoded("shift_jis", "Shift_JIS"),
    "ISO-2022-KR": encoded("iso2022_kr", "ISO-2022-KR"),
    "GB18030": encoded("gb18030", "GB18030"),
    "HZ": encoded("hz", "HZ-GB-2312"),
    "an encoding that nobody has": encoded("utf-8", "x-evil"),
    "UTF-16 said, UTF-8 sent": encoded("utf-8", "UTF-16"),
    "UTF-8 said, UTF-16 sent": encoded("utf-16-le", "UTF-8"),
    "an overlong <": raw(lambda b: b.replace(b"<s:Body>", b"\xc0\xbcs:Body>")),
    "an overlong NUL": raw(lambda b: b.replace(b"<s:Body>", b"<s:Body>\xc0\x80")),
    "half a surrogate": raw(lambda b: b.replace(b"<s:Body>", b"<s:Body>\xed\xa0\x80")),
    "a surrogate pair as two": raw(lambda b: b.replace(b"<s:Body>", b"<s:Body>\xed\xa0\xbd\xed\xb8\x80")),
    "beyond Unicode": raw(lambda b: b.replace(b"<s:Body>", b"<s:Body>\xf4\x90\x80\x80")),
    "five bytes for a character": raw(lambda b: b.replace(b"<s:Body>", b"<s:Body>\xf8\x88\x80\x80\x80")),
    "a byte that is none": raw(lambda b: b.replace(b"<s:Body>", b"<s:Body>\xff")),
    "a character cut short": raw(lambda b: b.replace(b"<s:Body>", b"<s:Body>\xc4")),
    "two marks": before(b"\xef\xbb\xbf\xef\xbb\xbf"),
    "a mark after the declaration": before(b'<?xml version="1.0"?>\xef\xbb\xbf'),
    "a NUL at the start": before(b"\0"),
    "a NUL in the text": sub("<s:Body>", "<s:Body>\0"),
    "a NUL behind": after(b"\0"),
    "a NUL by reference": sub("<s:Body>", "<s:Body>&#0;"),
    "a bell by reference": sub("<s:Body>", "<s:Body>&#7;"),
    "half a surrogate by reference": sub("<s:Body>", "<s:Body>&#xD800;"),
    "no character by reference": sub("<s:Body>", "<s:Body>&#xFFFE;"),
    "beyond Unicode by reference": sub("<s:Body>", "<s:Body>&#x110000;"),
    "a reference far beyond": sub("<s:Body>", f"<s:Body>&#{'9' * 4000};"),
    "an escape": sub("<s:Body>", "<s:Body>\x1b[31m"),
    "XML 1.1": before('<?xml version="1.1"?>'),
    "XML 2.0": before('<?xml version="2.0"?>'),
    "a version that is none": before('<?xml version="1.0&quot;?>'),
    "the declaration twice": before('<?xml version="1.0"?><?xml version="1.0"?>'),
    "space before the declaration": before(' <?xml version="1.0"?>'),
    "a charset that lies": header("Content-Type", "application/soap+xml; charset=UTF-16"),
    "a charset of Windows": header("Content-Type", "application/soap+xml; charset=windows-1250"),
    "a charset of seven bits": header("Content-Type", "application/soap+xml; charset=utf-7"),
}  # fmt: skip

# well-formedness and size ----------------------------------------------------------------------------------------


def _hashes(count: int) -> str:
    """Names that share their first letters and length."""
    return " ".join(f'a{i:07d}="1"' for i in range(count))


SHAPES: dict[str, Change] = {
    "200,000 attributes": sub("<s:Body>", f"<s:Body {_hashes(200_000)}>"),
    "101 attributes": sub("<s:Body>", f"<s:Body {_hashes(101)}>"),
    "101 attributes further in": resub(r"<(rim:AdhocQuery|rim:RegistryObjectList|parameterList|x:DocumentRequest)\b", f"<z {_hashes(101)}/><rim:x", 1),
    "200,000 namespaces": sub("<s:Body>", "<s:Body " + " ".join(f'xmlns:n{i}="urn:{i}"' for i in range(200_000)) + ">"),
    "10,000 nested namespaces": sub(
        "<s:Body>", "<s:Body>" + "".join(f'<n xmlns:n{i}="urn:{i}">' for i in range(10_000))
    ),
    "namespaces in every element": sub(
        "<s:Body>", "<s:Body>" + '<n xmlns:a="urn:a" xmlns:b="urn:b" xmlns:c="urn:c"/>' * 90_000
    ),
    "half a million elements": sub("<s:Header>", "<s:Header>" + "<b/>" * 510_000),
    "depth 65": sub("<s:Body>", "<s:Body>" + "<d>" * 65 + "</d>" * 65),
    "depth 300": sub("<s:Body>", "<s:Body>" + "<d>" * 300 + "</d>" * 300),
    "depth 100,000": sub("<s:Body>", "<s:Body>" + "<d>" * 100_000),
    "an attribute twice": sub("<s:Body>", '<s:Body a="1" a="2">'),
    "an attribute twice by two prefixes": sub(
        "<s:Body>", '<s:Body xmlns:p="urn:p" xmlns:q="urn:p" p:a="1" q:a="2">'
    ),
    "a prefix declared twice": sub("<s:Body>", '<s:Body xmlns:p="urn:p" xmlns:p="urn:q">'),
    "a prefix that is not declared": sub("<s:Body>", "<s:Body><p:x/>"),
    "the prefix xml for another": sub("<s:Body>", '<s:Body xmlns:xml="urn:evil">'),
    "the prefix xmlns": sub("<s:Body>", '<s:Body xmlns:xmlns="urn:evil">'),
    "a prefix taken back": sub("<s:Body>", '<s:Body xmlns:p="">'),
    "a prefix that is another in the Body": sub("<s:Body>", '<s:Body xmlns:s="urn:evil">'),
    "a tag not closed": sub("</s:Header>", ""),
    "tags crossed": sub("</s:Header>", "</s:Hedaer>"),
    "two elements after another": after("<x/>"),
    "text behind": after("text"),
    "text before": before("text"),
    "a < in an attribute": sub("<s:Body>", '<s:Body a="<">'),
    "no quotes": sub("<s:Body>", "<s:Body a=1>"),
    "CDATA not closed": sub("<s:Body>", "<s:Body><![CDATA[x"),
    "a comment not closed": sub("<s:Body>", "<s:Body><!-- x"),
    "a comment with two dashes": sub("<s:Body>", "<s:Body><!-- -- -->"),
    "]]> in the text": sub("<s:Body>", "<s:Body>]]>"),
    "a name of 100,000 letters": sub("<s:Body>", f"<s:Body><{'n' * 100_000}/>"),
    "an attribute of 11 MB": sub("<s:Body>", f'<s:Body a="{"x" * 11_000_000}">'),
    "XInclude's namespace alone": sub("<s:Body>", '<s:Body xmlns:xi="http://www.w3.org/2001/XInclude">'),
    "HTML": raw(lambda _: b"<html><body>hello</body></html>"),
    "JSON": raw(lambda _: b'{"resourceType":"Patient"}'),
    "nothing": raw(lambda _: b""),
    "space": raw(lambda _: b" " * 10_000),
    "binary": raw(lambda _: bytes(range(256)) * 100),
    "gzip": raw(lambda _: b"\x1f\x8b\x08\x00" + b"\0" * 100),
}  # fmt: skip


# SOAP and WS-Addressing ------------------------------------------------------------------------------------------


def _block(text: str) -> Change:
    return sub("</s:Header>", text + "</s:Header>")


def _reply(tag: str, address: str) -> Change:
    if tag == "ReplyTo":
        return resub(r"<a:ReplyTo>.*?</a:ReplyTo>", f"<a:ReplyTo><a:Address>{address}</a:Address></a:ReplyTo>")
    return _block(f"<a:{tag}><a:Address>{address}</a:Address></a:{tag}>")


ELSEWHERE = (
    "http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:22/", "http://[::1]:5432/", "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL", "javascript:alert(1)", "http://localhost@evil.example/", "ldap://evil.example/x",
    f"{WSA}/none", f"{WSA}/anonymous/../x", f"{WSA}/Anonymous", "//evil.example/",
)  # fmt: skip
SSRF = [
    Case(
        f"answers to {address} by {tag}", "query", _reply(tag, address), "400 Sender wsa:OnlyAnonymousAddressSupported"
    )
    for tag in ("ReplyTo", "FaultTo")
    for address in ELSEWHERE
]
BODIES = {
    "query": f'<q:AdhocQueryRequest xmlns:q="{QUERY}"/>',
    "submission": f'<l:SubmitObjectsRequest xmlns:l="{LCM}"/>',
    "removal": f'<l:RemoveObjectsRequest xmlns:l="{LCM}"/>',
    "retrieval": f'<x:RetrieveDocumentSetRequest xmlns:x="{XDSB}"/>',
    "v3 feed": '<h:PRPA_IN201301UV02 xmlns:h="urn:hl7-org:v3"/>',
    "v3 query": '<h:PRPA_IN201305UV02 xmlns:h="urn:hl7-org:v3"/>',
    "fault": f'<s:Fault xmlns:s="{SOAP}"/>',
    "answer": '<r:RegistryResponse xmlns:r="urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"/>',
    "unknown": '<evil xmlns="urn:evil"/>',
    "no namespace": "<AdhocQueryRequest/>",
}
OWN = {"register": "submission", "query": "query", "feed_v3": "v3 feed", "pdq_v3": "v3 query"}


def _body(text: str) -> Change:
    return resub(r"(?s)<s:Body>.*</s:Body>", f"<s:Body>{text}</s:Body>")


MISMATCHES = [
    Case(f"a {twin} whose Body is a {name}", twin, _body(body), "200 (Failure|CR|AE|AR)|400 Sender")
    for twin, own in OWN.items()
    for name, body in BODIES.items()
    if name != own
]


def _action(action: str) -> Change:
    return resub(r'(?<=mustUnderstand="1">)[^<]*(?=</a:Action>)', action)


NOT_SERVED = "400 Sender wsa:ActionNotSupported"
ADDRESSING = table(
    "query",
    {
        **{
            f"the action of {name}": (_action(ACTIONS[name]), NOT_SERVED)
            for name in ("register", "retrieve", "update", "remove", "remove_documents", "restricted_update")
        },
        "an action in capitals": (_action(ACTIONS["registry"].upper()), NOT_SERVED),
        "an action and more": (_action(ACTIONS["registry"] + "x"), NOT_SERVED),
        "an action with a fragment": (_action(ACTIONS["registry"] + "#x"), NOT_SERVED),
        "the action of an answer": (_action(ACTIONS["registry"] + "Response"), NOT_SERVED),
        "the action of a fault": (_action(f"{WSA}/fault"), NOT_SERVED),
        "an action of a megabyte": (_action("urn:" + "x" * 1_000_000), "400 Sender wsa:InvalidAddressingHeader"),
        "an action with children": (_action(f"<evil>{ACTIONS['registry']}</evil>"), "400 Sender wsa:MessageAddressingHeaderRequired"),
        "another action in Content-Type": (
            header("Content-Type", f'application/soap+xml; charset=UTF-8; action="{ACTIONS["register"]}"'),
            "400 Sender wsa:ActionMismatch",
        ),
        "another action in SOAPAction": (more(("SOAPAction", f'"{ACTIONS["register"]}"')), "400 Sender wsa:ActionMismatch"),
        "another action in SOAPAction without quotes": (more(("SOAPAction", ACTIONS["register"])), "400 Sender wsa:ActionMismatch"),
        "two actions in Content-Type": (
            header(
                "Content-Type",
                f'application/soap+xml; action="{ACTIONS["registry"]}"; action="{ACTIONS["register"]}"',
            ),
            "415 Sender",
        ),
        "two actions": (_block(f"<a:Action>{ACTIONS['registry']}</a:Action>"), "400 Sender wsa:InvalidAddressingHeader"),
        "two message ids": (_block("<a:MessageID>urn:uuid:1</a:MessageID>"), "400 Sender wsa:InvalidAddressingHeader"),
        "two To": (_block("<a:To>urn:x</a:To>"), "400 Sender wsa:InvalidAddressingHeader"),
        "two ReplyTo": (
            _block(f"<a:ReplyTo><a:Address>{WSA}/anonymous</a:Address></a:ReplyTo>"),
            "400 Sender wsa:InvalidAddressingHeader",
        ),
        "a message id of a megabyte": (resub(r"<a:MessageID>[^<]*", "<a:MessageID>" + "m" * 1_000_000), FAULT),
        "a message id of spaces": (resub(r"<a:MessageID>[^<]*", "<a:MessageID> \n "), "400 Sender wsa:MessageAddressingHeaderRequired"),
        "WS-Addressing of 2004": (
            sub(WSA, "http://schemas.xmlsoap.org/ws/2004/08/addressing", 99), "400 (Sender|MustUnderstand)",
        ),
        "another header that must be understood": (_block('<x:T xmlns:x="urn:x" s:mustUnderstand="1"/>'), "400 MustUnderstand"),
        "must be understood, in words": (_block('<x:T xmlns:x="urn:x" s:mustUnderstand="true"/>'), "400 MustUnderstand"),
        "must be understood, with space": (_block('<x:T xmlns:x="urn:x" s:mustUnderstand=" 1 "/>'), "400 MustUnderstand"),
        "must be understood, or not": (_block('<x:T xmlns:x="urn:x" s:mustUnderstand="yes"/>'), "400 (MustUnderstand|Sender)"),
        "must be understood by the next": (
            _block(f'<x:T xmlns:x="urn:x" s:mustUnderstand="1" s:role="{SOAP}/role/next"/>'), "400 MustUnderstand",
        ),
        "must be understood by the last": (
            _block(f'<x:T xmlns:x="urn:x" s:mustUnderstand="1" s:role="{SOAP}/role/ultimateReceiver"/>'),
            "400 MustUnderstand",
        ),
        "a signature beside": (
            _block('<d:Signature xmlns:d="http://www.w3.org/2000/09/xmldsig#" s:mustUnderstand="1"/>'),
            "400 MustUnderstand",
        ),
        "two Security headers": (_block(f'<w:Security xmlns:w="{WSSE}"/><w:Security xmlns:w="{WSSE}"/>'), FAULT),
        "two Bodies": (sub("</s:Body>", "</s:Body><s:Body><x/></s:Body>"), FAULT),
        "two Headers": (sub("<s:Body>", "<s:Header/><s:Body>"), FAULT),
        "the Header behind the Body": (sub("</s:Body>", "</s:Body><s:Header/>"), FAULT),
        "an element behind the Body": (sub("</s:Body>", "</s:Body><x/>"), FAULT),
        "an element before the Header": (sub("<s:Header>", "<x/><s:Header>"), FAULT),
        "text in the envelope": (sub("<s:Header>", "text<s:Header>"), FAULT),
        "text beside the Body's element": (sub("<s:Body>", "<s:Body>text"), FAULT),
        "an empty Body": (_body(""), FAULT),
        "a Body of text": (_body("hello"), FAULT),
        "two elements in the Body": (_body("<x/><y/>"), FAULT),
        "no Body": (resub(r"(?s)<s:Body>.*</s:Body>", ""), FAULT),
        "an envelope in the envelope": (raw(lambda b: b.replace(b"<s:Body>", b"<s:Body>" + b, 1)), FAULT),
        "SOAP 1.1": (sub(SOAP, "http://schemas.xmlsoap.org/soap/envelope/", 9), "400 VersionMismatch"),
        "SOAP 1.1's Content-Type": (header("Content-Type", "text/xml; charset=utf-8"), "415 Sender"),
        "SOAP 1.1 within 1.2": (
            sub("<s:Header>", '<o:Header xmlns:o="http://schemas.xmlsoap.org/soap/envelope/"/><s:Header>'), FAULT,
        ),
        "an envelope of another SOAP": (sub(SOAP, "http://www.w3.org/2002/06/soap-envelope", 9), FAULT),
        "two charsets": (header("Content-Type", "application/soap+xml; charset=utf-8; charset=utf-16"), "415 Sender"),
        "no Content-Type": (without("Content-Type"), "415 Sender"),
        "two Content-Types": (more(("Content-Type", "application/soap+xml")), "400"),
        "two Content-Types, one of a package": (more(("Content-Type", "multipart/related")), "400"),
        "a form": (header("Content-Type", "application/x-www-form-urlencoded"), "415 Sender"),
        "a form with files": (header("Content-Type", "multipart/form-data; boundary=x"), "415 Sender"),
        "compressed, it says": (more(("Content-Encoding", "gzip")), "415"),
        "compressed twice, it says": (more(("Content-Encoding", "gzip, gzip")), "415"),
        "compressed otherwise, it says": (more(("Content-Encoding", "br")), "415"),
    },
)  # fmt: skip


# ebRIM -----------------------------------------------------------------------------------------------------------


def slots(name: str, count: int, value: str = "v") -> str:
    values = f"<rim:Value>{value}</rim:Value>" * count
    return f'<rim:Slot name="{name}"><rim:ValueList>{values}</rim:ValueList></rim:Slot>'


def _in_entry(text: str) -> Change:
    return resub(r'(?<=objectType="urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1">)', text)


def _slot(name: str, *values: str) -> Change:
    """A slot of the entry with other values."""
    inner = "".join(f"<rim:Value>{v}</rim:Value>" for v in values)
    new = f'<rim:Slot name="{name}"><rim:ValueList>{inner}</rim:ValueList></rim:Slot>'
    return resub(rf'<rim:Slot name="{name}">.*?</rim:Slot>', new)


BAD = "200 Failure XDSRegistryMetadataError"
METADATA = table(
    "register",
    {
        "a slot of a million values": (_in_entry(slots("urn:x:many", 1_000_000)), "413|400 Sender"),
        "a slot of 200,000 values": (_in_entry(slots("urn:x:many", 200_000)), "400 Sender"),
        "a slot of 100,000 values": (_in_entry(slots("urn:x:many", 100_000)), "200 Failure XDSRegistryMetadataError"),
        "20,000 authors": (_in_entry(slots("authorPerson", 20_000)), "200 Failure"),
        "60,000 slots": (_in_entry(slots("urn:x:a", 1) * 60_000), "400 Sender"),
        "30,000 slots": (_in_entry(slots("urn:x:a", 1) * 30_000), "200 Failure XDSRegistryMetadataError"),
        "a slot twice": (_in_entry(slots("languageCode", 1, "pl-PL")), BAD),
        "two languages": (_slot("languageCode", "pl-PL", "en-US"), BAD),
        "a slot without a name": (_in_entry(slots("", 1)), BAD),
        "a slot that is unknown": (_in_entry(slots("evil", 1)), BAD),
        "a creationTime with SQL": (_slot("creationTime", "2024'; DROP TABLE audit_event; --"), BAD),
        "a creationTime of the year 99999": (_slot("creationTime", "99999"), BAD),
        "a creationTime with a digit of another script": (_slot("creationTime", "٢٠٢٤"), BAD),
        "a language with a line": (_slot("languageCode", "pl&#10;PL"), BAD),
        "a hash of another length": (_slot("hash", "ab" * 19), BAD),
        "a hash that is none": (_slot("hash", "z" * 40), BAD),
        "a negative size": (_slot("size", "-1"), BAD),
        "a size beyond range": (_slot("size", "9" * 30), BAD),
        "a size of 10,000 digits": (_slot("size", "9" * 10_000), BAD),
        "a size in words": (_slot("size", "many"), BAD),
        "a size with an exponent": (_slot("size", "1e3"), BAD),
        "a repository elsewhere": (_slot("repositoryUniqueId", "1.2.3.4"), "200 Failure"),
        "a repository that is a path": (_slot("repositoryUniqueId", "../../etc"), "200 Failure"),
        "an object twice": (resub(r"(<rim:ExtrinsicObject .*</rim:ExtrinsicObject>)", "", 0), "200 Failure"),
        "no submission set": (resub(r"<rim:RegistryPackage .*?</rim:RegistryPackage>", ""), "200 Failure"),
        "an id that is no UUID": (resub(r'<rim:ExtrinsicObject id="[^"]*"', '<rim:ExtrinsicObject id="../x"'), "200 Failure"),
        "an id that ends within": (resub(r'<rim:ExtrinsicObject id="[^"]*"', '<rim:ExtrinsicObject id=""'), "200 Failure"),
        "a type that is none": (sub("urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1", "urn:uuid:00000000-0000-0000-0000-000000000000"), "200 Failure|400"),
        "a mimeType with a line": (sub('mimeType="text/plain"', 'mimeType="text/plain&#13;&#10;Set-Cookie: a=b"'), BAD),
        "a mimeType that runs": (sub('mimeType="text/plain"', 'mimeType="text/html;script"'), BAD),
        "a patient of another region": (resub(r'value="[^"]*\^\^\^&amp;[0-9.]+&amp;ISO"', 'value="1^^^&amp;1.2.3&amp;ISO"', 0), "200 Failure XDS"),
        "a patient with SQL": (resub(r'value="[^"]*\^\^\^&amp;([0-9.]+)&amp;ISO"', "value=\"' OR 1=1^^^&amp;1.2.3&amp;ISO\"", 0), "200 Failure XDS"),
        "two patients": (resub(r'value="[^"]*\^\^\^&amp;[0-9.]+&amp;ISO"', 'value="1^^^&amp;1.2.3&amp;ISO"', 1), "200 Failure XDS"),
        "a uniqueId that is a path": (resub(r'(?<=identificationScheme="urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab" value=")[^"]*', "../../../etc/passwd"), BAD),
        "a uniqueId of 10,000 digits": (resub(r'(?<=identificationScheme="urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab" value=")[^"]*', "1." + "2" * 10_000), BAD),
        "a title of a megabyte": (sub("Karta informacyjna", "K" * 1_000_000), BAD),
        "an author of a megabyte": (sub("^Nowak^Anna^^^dr", "^" + "N" * 1_000_000), BAD),
        "an author with separators without end": (sub("^Nowak^Anna^^^dr", "^" * 100_000), BAD),
        "an association with itself": (resub(r'(<rim:Association [^>]*?targetObject=")[^"]*', '<rim:Association id="urn:uuid:00000000-0000-4000-8000-000000000001" associationType="urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember" sourceObject="urn:uuid:00000000-0000-4000-8000-000000000001" targetObject="urn:uuid:00000000-0000-4000-8000-000000000001'), "200 Failure"),
        "an association of an unknown kind": (sub("AssociationType:HasMember", "AssociationType:Owns"), "200 Failure"),
        "an association to nothing": (resub(r'targetObject="[^"]*"', 'targetObject="urn:uuid:00000000-0000-4000-8000-000000000009"'), "200 Failure"),
        "a symbolic link out": (resub(r'targetObject="[^"]*"', 'targetObject="file:///etc/passwd"'), "200 Failure"),
        "no objects at all": (resub(r"(?s)<rim:RegistryObjectList>.*</rim:RegistryObjectList>", "<rim:RegistryObjectList/>"), "200 Failure"),
        "two lists of objects": (sub("<rim:RegistryObjectList>", "<rim:RegistryObjectList/><rim:RegistryObjectList>"), BAD),
        "a list in the list": (sub("<rim:RegistryObjectList>", "<rim:RegistryObjectList><rim:RegistryObjectList/>"), "200 Failure|400"),
        "another element in the list": (sub("<rim:RegistryObjectList>", "<rim:RegistryObjectList><rim:Organization/>"), "200 Failure|400"),
        "an adhoc query in the list": (sub("<rim:RegistryObjectList>", '<rim:RegistryObjectList><rim:AdhocQuery id="x"/>'), "200 Failure|400"),
        "a document within": (sub("</lcm:SubmitObjectsRequest>", "<Document>x</Document></lcm:SubmitObjectsRequest>"), "200 Failure|400"),
        "a code with SQL": (resub(r'(?<=classificationScheme="urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a" )(classifiedObject="[^"]*") nodeRepresentation="[^"]*"', 'classifiedObject="x" nodeRepresentation="x\' OR 1=1 --"'), "200 Failure"),
        "a classification of another object": (resub(r'classifiedObject="[^"]*"', 'classifiedObject="urn:uuid:00000000-0000-4000-8000-000000000009"'), "200 Failure"),
        "an identifier of another object": (resub(r'registryObject="[^"]*"', 'registryObject="urn:uuid:00000000-0000-4000-8000-000000000009"'), "200 Failure"),
    },
)  # fmt: skip

# queries ---------------------------------------------------------------------------------------------------------

NASTY = {
    "a quote": "a''; DROP TABLE audit_event; --",
    "UNION": "x'' UNION SELECT * FROM patient --",
    "%": "%",
    "_": "_" * 10,
    "a backslash": "\\",
    "a backslash and %": "\\%",
    "a dollar quote": "$$;DELETE FROM patient;$$",
    "a regular expression": "(a+)+$",
    "a format": "%s%n{0}",
    "a NUL in words": "\\u0000",
    "JSON": '{"$ne":null}',
    "a template": "${7*7}{{7*7}}",
    "other quotes": "ʼ OR 1=1",
    "an LDAP filter": "*)(uid=*",
}
ASKED = ("AuthorPerson", "Title", "EntryUUID")


def _asked(name: str, value: str) -> Change:
    """One more parameter of the query."""
    escaped = value.replace("&", "&amp;").replace("<", "&lt;")
    text = f"<rim:Slot name=\"$XDSDocumentEntry{name}\"><rim:ValueList><rim:Value>('{escaped}')</rim:Value></rim:ValueList></rim:Slot>"
    return sub("</rim:AdhocQuery>", text + "</rim:AdhocQuery>")


NOTHING = "200 (Success found=0|Failure XDS\\w+ found=0)$"
INJECTED = [
    # % and _ are wildcards here, by the standard: they find what may be found.
    *(
        Case(f"{name} in AuthorPerson", "query", _asked("AuthorPerson", value), NOTHING)
        for name, value in NASTY.items()
        if name != "%"
    ),
    *(
        Case(f"{name} in an id", "get_documents", resub(r"\('[^']*'\)", f"('{value}')".replace("&", "&amp;").replace("<", "&lt;")), NOTHING)
        for name, value in NASTY.items()
    ),
    *(
        Case(f"{name} as the patient", "query", resub(r"(?<=<rim:Value>)'[^']*\^\^\^[^']*'", f"'{value}'".replace("&", "&amp;").replace("<", "&lt;")), NOTHING)
        for name, value in NASTY.items()
    ),
    *(
        Case(f"{name} as a date", "query", sub("</rim:AdhocQuery>", f'<rim:Slot name="$XDSDocumentEntryCreationTimeFrom"><rim:ValueList><rim:Value>{value}</rim:Value></rim:ValueList></rim:Slot></rim:AdhocQuery>'), "200 Failure XDS\\w+ found=0")
        for name, value in {k: v for k, v in NASTY.items() if "&" not in v}.items()
    ),
]  # fmt: skip
STATUSES = r"\('urn:oasis:names:tc:ebxml-regrep:StatusType:Approved'\)"
SYNTAX = table(
    "query",
    {
        name: (resub(STATUSES, value.replace("&", "&amp;")), "200 Failure XDS\\w+ found=0")
        for name, value in {
            "a list that is not closed": "('a','b'",
            "a text that is not closed": "('a','b)",
            "a quote alone": "'",
            "an odd number of quotes": "('a''')')",
            "no quotes": "(a,b)",
            "a comma alone": "(,)",
            "a list in a list": "(('a'))",
            "two lists": "('a')('b')",
            "text behind a list": "('a') OR 1=1",
            "a list of 100,000 brackets": "(" * 100_000,
            "nothing": "",
            "an empty list": "()",
            "100,000 values": "(" + ",".join(["'a'"] * 100_000) + ")",
            "a status that is none": "('urn:x')",
            "a status with a wildcard": "('urn:oasis:names:tc:ebxml-regrep:StatusType:%')",
        }.items()
    },
) + table(
    "query",
    {
        "an unknown query": (resub(r'<rim:AdhocQuery id="[^"]*"', '<rim:AdhocQuery id="urn:uuid:00000000-0000-0000-0000-000000000000"'), "200 Failure XDSUnknownStoredQuery"),
        "a query with SQL": (resub(r'<rim:AdhocQuery id="[^"]*"', "<rim:AdhocQuery id=\"x' OR 1=1\""), "200 Failure XDS"),
        "a query of everything": (resub(r"(?s)<rim:Slot .*</rim:Slot>", ""), "200 Failure XDSStoredQueryMissingParam"),
        "SQL as the query itself": (resub(r"(?s)<rim:Slot .*</rim:Slot>", "<rim:QueryExpression queryLanguage='SQL'>SELECT 1</rim:QueryExpression>"), "200 Failure XDS"),
        "an unknown returnType": (sub('returnType="LeafClass"', 'returnType="RepositoryItem"'), "200 Failure XDS"),
        "a parameter that is unknown": (sub("$XDSDocumentEntryStatus", "$XDSDocumentEntryStatus2"), "200 Failure XDS"),
        "a parameter with two names": (sub("$XDSDocumentEntryStatus", "$XDSDocumentEntryPatientId"), "200 Failure XDS"),
        "two patients at once": (resub(r"<rim:Value>'([^']*)'</rim:Value>", "<rim:Value>'1^^^&amp;1.2&amp;ISO'</rim:Value><rim:Value>'2^^^&amp;1.2&amp;ISO'</rim:Value>"), "200 Failure XDS"),
        "a patient in quotes of another kind": (resub(r"<rim:Value>'([^']*)'</rim:Value>", '<rim:Value>"1^^^&amp;1.2&amp;ISO"</rim:Value>'), "200 Failure XDS"),
        "10,000 parameters": (sub("</rim:AdhocQuery>", "<rim:Slot name=\"$XDSDocumentEntryAuthorPerson\"><rim:ValueList><rim:Value>('a')</rim:Value></rim:ValueList></rim:Slot>" * 10_000 + "</rim:AdhocQuery>"), "200 Failure XDSStoredQueryParamNumber found=0"),
    },
)  # fmt: skip


PATHS = {
    "a path up": "../../../../etc/passwd", "an encoded path": "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "an absolute path": "/etc/passwd",
    "a path of Windows": "..\\..\\windows\\win.ini", "a file address": "file:///etc/passwd", "a web address": "http://127.0.0.1:9/",
    "a wildcard": "*", "a percent": "%", "SQL": "' OR '1'='1", "a long one": "1." * 5000 + "1", "a line": "1.2&#10;3",
}  # fmt: skip
RETRIEVALS = [
    *(Case(f"{name} as a document", "retrieve", resub(r"(?<=<x:DocumentUniqueId>)[^<]*", value), "200 Failure XDS\\w+ found=0") for name, value in PATHS.items()),
    *(Case(f"{name} as a repository", "retrieve", resub(r"(?<=<x:RepositoryUniqueId>)[^<]*", value), "200 Failure XDS\\w+ found=0") for name, value in PATHS.items()),
    *table(
        "retrieve",
        {
            "60,000 documents": (resub(r"(<x:DocumentRequest>.*</x:DocumentRequest>)", "<x:DocumentRequest><x:RepositoryUniqueId>1.2</x:RepositoryUniqueId><x:DocumentUniqueId>1.2</x:DocumentUniqueId></x:DocumentRequest>" * 60_000), "400 Sender"),
            "30,000 documents": (resub(r"(<x:DocumentRequest>.*</x:DocumentRequest>)", "<x:DocumentRequest><x:RepositoryUniqueId>1.2</x:RepositoryUniqueId><x:DocumentUniqueId>1.2</x:DocumentUniqueId></x:DocumentRequest>" * 30_000), "200 Failure .*found=0"),
            "a document of nobody": (resub(r"(?<=<x:DocumentUniqueId>)[^<]*", ""), "200 Failure"),
            "a request of nothing": (resub(r"<x:DocumentRequest>.*</x:DocumentRequest>", ""), "200 Failure"),
        },
    ),
]  # fmt: skip


def _xop(href: str) -> Change:
    return sub('href="cid:part1@peer"', f'href="{href}"')


INCLUDES = table(
    "provide",
    {
        **{
            f"xop:Include of {href}": (_xop(href), "400 Sender|200 Failure XDSMissingDocument")
            for href in ("http://169.254.169.254/", "file:///etc/passwd", "/etc/passwd", "#part1", "cid:root@peer", "cid:..%2f..%2fetc", "cid:", "CID:part1@peer", "ftp://127.0.0.1/", "data:text/plain,x", "mid:part1@peer")
        },
        "two Includes of one part": (resub(r"(<xop:Include[^>]*/>)", '<xop:Include xmlns:xop="http://www.w3.org/2004/08/xop/include" href="cid:part1@peer"/><xop:Include xmlns:xop="http://www.w3.org/2004/08/xop/include" href="cid:part1@peer"/>'), "400|200 Failure"),
        "an Include in an Include": (resub(r"(<xop:Include[^>]*/>)", '<xop:Include xmlns:xop="http://www.w3.org/2004/08/xop/include" href="cid:part1@peer"><xop:Include href="cid:part1@peer"/></xop:Include>'), "400|200 Failure"),
        "text beside an Include": (sub("<xop:Include", "dGV4dA==<xop:Include"), "400|200 Failure"),
        "a document that no entry describes": (resub(r'<x:Document id="[^"]*"', '<x:Document id="urn:uuid:00000000-0000-4000-8000-000000000009"'), "200 Failure"),
        "a document twice": (resub(r"(?s)<x:Document id=\"([^\"]*)\">.*?</x:Document>", ""), "200 Failure"),
        "other bytes than the hash says": (raw(lambda b: b.replace(b"tresc dokumentu\r\n", b"inna tresc doku\r\n")), "200 Failure"),
        "a size of 10,000 digits, provided": (_slot("size", "9" * 10_000), "200 Failure"),
        "more bytes than the size says": (raw(lambda b: b.replace(b"tresc dokumentu\r\n", b"tresc dokumentu i wiecej\r\n")), "200 Failure"),
    },
)  # fmt: skip

MESSAGES = {"register": False, "query": False, "pdq_v3": False}
CASES = [
    *_everywhere({"query": False, "provide": True, "feed_v3": False}, DOCTYPES, FAULT),
    *_everywhere({"query": False}, ENCODINGS, FAULT),
    *_everywhere({"retrieve": True}, {n: c for n, c in ENCODINGS.items() if "charset" not in n}, FAULT),
    *_everywhere({"register": False}, SHAPES, "400 Sender|413 Sender"),
    *SSRF,
    *MISMATCHES,
    *ADDRESSING,
    *METADATA,
    *INJECTED,
    *SYNTAX,
    *RETRIEVALS,
    *INCLUDES,
]
