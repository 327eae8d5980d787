"""The audit repository over syslog, with senders and receivers that we did not write: openssl, rsyslog, atna-audit."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import peer
import pytest
from fhir_peer import installed, valid
from test_mllp_tls import Authority

pytestmark = pytest.mark.node

NOW = "2026-11-20T08:15:00Z"
PATIENT = "P17^^^&1.2.616.77&ISO"
RECORD = (
    '<?xml version="1.0" encoding="UTF-8"?><AuditMessage><EventIdentification EventActionCode="R" EventDateTime="{now}" '
    'EventOutcomeIndicator="0"><EventID csd-code="110106" codeSystemName="DCM" originalText="Export"/><EventTypeCode '
    'csd-code="ITI-43" codeSystemName="IHE Transactions" originalText="Retrieve Document Set"/></EventIdentification>'
    '<ActiveParticipant UserID="{user}" UserIsRequestor="true" NetworkAccessPointID="10.1.2.3" '
    'NetworkAccessPointTypeCode="2"><RoleIDCode csd-code="110153" codeSystemName="DCM" originalText="Source Role ID"/>'
    '</ActiveParticipant><AuditSourceIdentification AuditSourceID="szpital"/><ParticipantObjectIdentification '
    'ParticipantObjectID="P17^^^&amp;1.2.616.77&amp;ISO" ParticipantObjectTypeCode="1" ParticipantObjectTypeCodeRole="1">'
    '<ParticipantObjectIDTypeCode csd-code="2" codeSystemName="RFC-3881" originalText="Patient Number"/>'
    "</ParticipantObjectIdentification></AuditMessage>"
)
BOM = b"\xef\xbb\xbf"


def message(user: str, *, bom: bytes = BOM, msgid: str = "IHE+RFC-3881") -> bytes:
    record = RECORD.format(now=NOW, user=user).encode()
    return f"<85>1 2026-11-20T08:15:01.5Z host app 17 {msgid} - ".encode() + bom + record


def framed(data: bytes) -> bytes:
    return str(len(data)).encode() + b" " + data


class Certificates:
    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder, "region-ca")
        self.node = self.authority.issue("node")
        self.sender = self.authority.issue("nadawca")
        self.receiver = self.authority.issue("odbiorca")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def repository(make_node: peer.MakeNode, certificates: Certificates) -> peer.Node:
    trust = certificates.authority.file.with_name("trust.json")
    trust.write_text(json.dumps({"client_cas": certificates.authority.file.name}))
    node = make_node(
        "repository",
        audit={"enabled": True, "port": 0},
        tls={"certificate_file": certificates.node.certificate, "key_file": certificates.node.key},
        trust={"file": trust},
        nodes=[{"name": "nadawca", "certificate": "CN=nadawca"}],
    )
    tls = ssl.create_default_context(cafile=str(certificates.authority.file))
    tls.load_cert_chain(certificates.sender.certificate, certificates.sender.key)
    node.http = httpx.Client(verify=tls, base_url=node.endpoints["audit_fhir"].replace("127.0.0.1", "localhost"))
    return node


def stored(node: peer.Node, since: int, count: int = 1) -> list[tuple[str, str, int, str, str, str]]:
    """(format, transaction, outcome, patient, sender, message) of what has come."""

    def rows() -> Any:
        return node.rows(
            "SELECT format, transaction, outcome, patient_id, sender, message FROM audit_event WHERE audit_id > %s "
            "ORDER BY audit_id",
            since,
        )

    peer.wait_for(lambda: len(rows()) >= count, 20)
    found: list[tuple[str, str, int, str, str, str]] = rows()
    assert len(found) == count, found
    return found


def s_client(
    node: peer.Node, certificates: Certificates, data: bytes, *more: str
) -> subprocess.CompletedProcess[bytes]:
    sender = certificates.sender
    command = [
        "openssl", "s_client", "-connect", node.endpoints["audit_tls"], "-CAfile", str(certificates.authority.file),
        "-cert", str(sender.certificate), "-key", str(sender.key), "-quiet", "-no_ign_eof", *more,
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(data)
        process.stdin.flush()
        time.sleep(1)
        out, errors = process.communicate(timeout=20)
        return subprocess.CompletedProcess(command, process.returncode, out, errors)


@pytest.mark.parametrize("bom", [BOM, b""], ids=["with-bom", "without-bom"])
def test_openssl_sends_and_the_record_is_found(repository: peer.Node, certificates: Certificates, bom: bytes) -> None:
    since = repository.last_audit()
    first, second = message("dr-nowak", bom=bom), message("dr-kowal", bom=bom, msgid="IHE+DICOM")
    s_client(repository, certificates, framed(first) + framed(second))
    found = stored(repository, since, 2)
    assert [row[5].encode() for row in found] == [first, second], "as they came"
    assert {row[:4] for row in found} == {("syslog", "ITI-43", 0, PATIENT)}
    assert all("nadawca" in row[4] for row in found), "the certificate says who sent it"

    query = "date=2026-11-20&patient.identifier=urn:oid:1.2.616.77|P17&agent.identifier=dr-kowal"
    page = repository.http.get(f"AuditEvent?{query}").json()
    resources = [e["resource"] for e in page["entry"]]
    assert {r["agent"][0]["who"]["identifier"]["value"] for r in resources} == {"dr-kowal"}
    for resource in resources:
        valid(resource)
        assert resource["source"]["observer"]["display"] == "szpital"
        assert resource["recorded"] == "2026-11-20T08:15:00.000Z"


def test_without_a_certificate_nothing_is_taken(repository: peer.Node, certificates: Certificates) -> None:
    since = repository.last_audit()
    command = ["openssl", "s_client", "-connect", repository.endpoints["audit_tls"], "-quiet", "-no_ign_eof"]
    subprocess.run(command, input=framed(message("x")), capture_output=True, timeout=20, check=False)
    assert repository.audits(since) == []


@pytest.mark.parametrize(
    ("data", "format_"),
    [
        (framed(b"<85>1 - - - - - - hello"), "syslog"),
        (framed(message("x")[:-20]), "syslog"),
        (framed(b"<85>1 - - - - - - \xff\x00\xfe"), "syslog+base64"),
        (framed(b""), "syslog"),  # a length of nothing is no length
        (b"GET / HTTP/1.1\r\n\r\n", "syslog"),
        (b"99999999 <85>1 ", "syslog"),
        (framed(message("x"))[:-7], "syslog"),
    ],
    ids=["no-record", "half-record", "no-text", "empty", "http", "too-long", "half-frame"],
)
def test_what_is_no_record_is_kept_and_an_alert_says_so(
    repository: peer.Node, certificates: Certificates, data: bytes, format_: str
) -> None:
    since = repository.last_audit()
    s_client(repository, certificates, data)
    kept, alert = stored(repository, since, 2)
    assert kept[:3] == (format_, "ITI-20", 8)
    assert alert[:3] == ("dicom", "ITI-20", 8)
    assert 'csd-code="110113"' in alert[5], "a security alert"
    assert "nadawca" in alert[5]
    page = repository.http.get("AuditEvent?date=ge2000&outcome=8&_count=2").json()
    for entry in page["entry"]:
        valid(entry["resource"])


@contextmanager
def rsyslog(folder: Path, configuration: str) -> Iterator[subprocess.Popen[bytes]]:
    daemon = shutil.which("rsyslogd", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if daemon is None:
        pytest.skip("rsyslog is not installed")
    file = folder / "rsyslog.conf"
    file.write_text(configuration)
    log = (folder / "rsyslog.log").open("wb")
    process = subprocess.Popen(
        [daemon, "-n", "-f", str(file), "-i", str(folder / "pid")], stdout=log, stderr=log, cwd=folder
    )
    try:
        time.sleep(1)
        assert process.poll() is None, (folder / "rsyslog.log").read_text()
        yield process
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def test_rsyslog_sends(repository: peer.Node, certificates: Certificates, tmp_path: Path) -> None:
    host, _, port = repository.endpoints["audit_tls"].rpartition(":")
    since = repository.last_audit()
    configuration = f"""
global(defaultNetstreamDriver="ossl" defaultNetstreamDriverCAFile="{certificates.authority.file}"
  defaultNetstreamDriverCertFile="{certificates.sender.certificate}"
  defaultNetstreamDriverKeyFile="{certificates.sender.key}" maxMessageSize="64k" workDirectory="{tmp_path}")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{tmp_path}/log" useSpecialParser="off" parseHostname="on")
action(type="omfwd" target="{host}" port="{port}" protocol="tcp" TCP_Framing="octet-counted" StreamDriver="ossl"
  StreamDriverMode="1" StreamDriverAuthMode="anon" template="RSYSLOG_SyslogProtocol23Format")
"""
    with rsyslog(tmp_path, configuration):
        for number in range(3):
            record = RECORD.format(now=NOW, user=f"rsyslog-{number}").partition("?>")[2]
            subprocess.run(
                ["logger", "-u", str(tmp_path / "log"), "--rfc5424", "--size", "60KiB", "--msgid", "IHE+RFC-3881", record],
                check=True,
                timeout=20,
            )  # fmt: skip
        found = stored(repository, since, 3)
    assert {row[:4] for row in found} == {("syslog", "ITI-43", 0, PATIENT)}
    assert [re.findall("rsyslog-.", row[5]) for row in found] == [[f"rsyslog-{n}"] for n in range(3)]


ATNA_AUDIT = """
const fs = require('fs'), atna = require(process.argv[2] + '/node_modules/atna-audit');
const [host, port, ca, cert, key] = process.argv.slice(3);
const read = (file) => fs.readFileSync(file).toString();
const audit = atna.construct.userLoginAudit(atna.constants.OUTCOME_SUCCESS, 'openhim', '127.0.0.1', 'jan', 'lekarz', '1');
const details = {interface: 'tls', host, port: Number(port), options: {ca: read(ca), cert: read(cert), key: read(key)}};
atna.send.sendAuditEvent(atna.construct.wrapInSyslog(audit), details, (error) => { if (error) { throw error } });
"""


def test_atna_audit_sends(repository: peer.Node, certificates: Certificates, tmp_path: Path) -> None:
    folder = installed("atna-audit", "atna-audit@1.0.1")
    since = repository.last_audit()
    port = repository.endpoints["audit_tls"].rpartition(":")[2]
    script = tmp_path / "send.js"
    script.write_text(ATNA_AUDIT)
    sender = certificates.sender
    subprocess.run(
        ["node", str(script), str(folder), "localhost", port, str(certificates.authority.file), str(sender.certificate),
         str(sender.key)],
        check=True, timeout=30, capture_output=True,
    )  # fmt: skip
    [row] = stored(repository, since)
    assert row[:3] == ("syslog", "ITI-20", 0)
    page = repository.http.get("AuditEvent?date=ge2000&type=http%3A%2F%2Fdicom.nema.org"
                     "%2Fresources%2Fontology%2FDCM%7C110114").json()  # fmt: skip
    [resource] = [e["resource"] for e in page["entry"]]
    valid(resource)
    assert {a["who"]["identifier"]["value"] for a in resource["agent"]} == {"openhim", "jan"}


def test_the_log_is_sent_to_rsyslog_in_order_and_again_where_it_stood_still(
    make_node: peer.MakeNode, certificates: Certificates, tmp_path: Path
) -> None:
    port = _free_port()
    received = tmp_path / "received"
    configuration = f"""
global(defaultNetstreamDriver="ossl" defaultNetstreamDriverCAFile="{certificates.authority.file}"
  defaultNetstreamDriverCertFile="{certificates.receiver.certificate}"
  defaultNetstreamDriverKeyFile="{certificates.receiver.key}" maxMessageSize="256k" workDirectory="{tmp_path}")
module(load="imtcp" StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")
input(type="imtcp" port="{port}" SupportOctetCountedFraming="on")
template(name="raw" type="string" string="%msgid% %rawmsg-after-pri%\\n")
action(type="omfile" file="{received}" template="raw")
"""
    node = make_node(
        "forwarding",
        audit_repositories=[{"name": "wojewodztwo", "address": f"localhost:{port}", "ca_file": certificates.authority.file}],
    )  # fmt: skip
    peer.wait_for(lambda: node.rows("SELECT FROM audit_position") != [], 20)
    since = node.rows("SELECT audit_id FROM audit_position")[0][0]
    for _ in range(3):
        node.patient()  # while nobody listens
    with rsyslog(tmp_path, configuration):
        for _ in range(3):
            node.patient()

        def sent() -> list[str]:
            text = received.read_text() if received.exists() else ""
            return re.findall(r"<AuditMessage>.*?</AuditMessage>", text)

        messages = [m for _, _, _, m in node.audits(since)]
        assert len(messages) == 6
        peer.wait_for(lambda: len(sent()) >= 6, 60)
        assert sent() == messages
        assert received.read_text().splitlines()[0].startswith("IHE+RFC-3881 ")
        metrics = node.http.get(f"{node.endpoints['base_url']}/metrics").text
        assert 'obieg_audit_sent_total{outcome="sent",repository="wojewodztwo"}' in metrics


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
