"""What a node tells others of its patients (ITI-10, ITI-64), and what becomes of it when they do not listen."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import peer
import psycopg
import pytest
from receivers import Difficult, Inbox, SoapConsumer, acknowledgement, free_port, hl7apy_server, patient_of
from test_mllp_tls import Authority

import commanding
from hl7v3_messages import schema
from obieg.wire.xml import parse_message as parse_xml

pytestmark = pytest.mark.node

HOSPITAL, CLINIC = "1.2.616.2", "1.2.616.3"
NAMES = iter(f"{a}{b}owicz" for a in ("Abram", "Borys", "Cezar", "Dionizy", "Edward") for b in "aeiouyw")


class Region(NamedTuple):
    node: peer.Node
    everything: Inbox
    hospital: Inbox  # interested in the hospital's identifiers only
    registry: Inbox
    secured: Inbox
    difficult_port: int
    slow: Difficult
    dead_port: int
    consumer: SoapConsumer


@pytest.fixture(scope="module")
def region(make_node, tmp_path_factory, shared) -> Iterator[Region]:
    folder = tmp_path_factory.mktemp("receivers")
    authority = Authority(folder, "authority")
    server, client = authority.issue("receiver"), authority.issue("node")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    tls.load_cert_chain(server.certificate, server.key)
    tls.verify_mode = ssl.CERT_REQUIRED
    never = threading.Event()
    difficult_port, dead_port = free_port(), free_port()
    with ExitStack() as stack:
        everything, hospital, registry = (stack.enter_context(hl7apy_server()) for _ in range(3))
        secured = stack.enter_context(hl7apy_server(tls))
        slow = Difficult(0, lambda _: never.wait(120) and None)
        consumer = stack.enter_context(SoapConsumer(schema("PRPA_IN201302UV02")))
        stack.callback(slow.close)
        stack.callback(never.set)

        def subscriber(name: str, port: int, protocol: str = "pix_v2", **more: object) -> dict[str, object]:
            return {"name": name, "protocol": protocol, "address": f"127.0.0.1:{port}", **more}

        node = make_node(
            "telling",
            authorities=[{"oid": HOSPITAL, "name": "SZPITAL"}, {"oid": CLINIC, "name": "POZ"}],
            subscribers=[
                subscriber("everything", everything.port, application="HIS", facility="Szpital"),
                subscriber("hospital", hospital.port, authorities=[HOSPITAL]),
                subscriber("registry", registry.port, "xad_pid"),
                subscriber("slow", slow.port, authorities=[HOSPITAL]),
                subscriber("difficult", difficult_port, authorities=["1.2.616.7"]),
                subscriber("dead", dead_port, authorities=["1.2.616.8"]),
                {
                    "name": "consumer",
                    "protocol": "pix_v3",
                    "address": consumer.address,
                    "application": "1.2.616.44",
                    "authorities": ["1.2.616.5"],
                },
                {
                    "name": "secured",
                    "protocol": "pix_v2",
                    "address": f"mllps://localhost:{secured.port}",
                    "authorities": ["1.2.616.6"],
                    "ca_file": authority.file,
                    "certificate_file": client.certificate,
                    "key_file": client.key,
                },
            ],
        )
        yield Region(node, everything, hospital, registry, secured, difficult_port, slow, dead_port, consumer)


class Person:
    """Somebody whom no matching takes for somebody else."""

    def __init__(self) -> None:
        self.family = next(NAMES)
        self.given = uuid.uuid4().hex[:8]
        self.born = f"19{int(self.given[:4], 16) % 90 + 10}{int(self.given[4:6], 16) % 12 + 1:02}17"

    def feed(self, node: peer.Node, *identifiers: str, event: str = "A04", merged: str = "") -> None:
        message = (
            f"MSH|^~\\&|PEER|SZPITAL|||20260301||ADT^{event}^{'ADT_A39' if merged else 'ADT_A01'}|"
            f"{uuid.uuid4().hex[:20]}|P|2.3.1\rEVN|{event}|20260301\r"
            f"PID|||{'~'.join(identifiers)}||{self.family}^{self.given}||{self.born}|F\r"
        )
        if merged:
            message += f"MRG|{merged}\r"
        host, _, port = node.endpoints["mllp"].rpartition(":")
        with socket.create_connection((host, int(port)), 20) as connection:
            connection.sendall(b"\x0b" + message.encode() + b"\x1c\r")
            data = b""
            while not data.endswith(b"\x1c\r"):
                data += connection.recv(65536)
        assert b"\rMSA|AA" in data, data


def local(value: str, authority: str = HOSPITAL) -> str:
    return f"{value}^^^&{authority}&ISO"


def number() -> str:
    return uuid.uuid4().hex[:10]


def obieg(node: peer.Node, *arguments: str, expect: int = 0) -> str:
    words = (*arguments, "--settings", node.endpoints["settings"])
    done = commanding.obieg(*words, environment={**peer.free_environment(), "COLUMNS": "200"})
    assert done.returncode == expect, done.stderr
    return done.stdout + done.stderr


def about(inbox: Inbox, *values: str) -> list[set[str]]:
    """The lists in which any of these identifiers was told."""
    assert inbox.errors == []
    return [set(ids) for ids in inbox.lists() if set(ids) & set(values)]


def test_identifiers_are_told_as_they_change(region):
    node, somebody, h, c = region.node, Person(), number(), number()
    somebody.feed(node, local(h))
    peer.wait_for(lambda: about(region.hospital, h))
    assert about(region.hospital, h) == [{h}]  # only its domain of interest
    [first] = peer.wait_for(lambda: about(region.everything, h))
    assert len(first) == 2  # and the affinity-domain id
    message = region.everything.messages[-1]
    assert (message.msh.msh_5.value, message.msh.msh_6.value) == ("HIS", "Szpital")
    [cx] = [cx for cx in message.pid.pid_3 if cx.cx_1.value == h]
    assert cx.cx_4.to_er7() == f"SZPITAL&{HOSPITAL}&ISO"
    assert message.pv1.pv1_2.value == "N"

    somebody.feed(node, local(h), local(c, CLINIC))
    peer.wait_for(lambda: len(about(region.everything, h)) == 2)
    assert about(region.everything, h)[-1] == first | {c}
    somebody.family = "Zupełnie-Inna"
    somebody.feed(node, local(h), event="A08")  # demographics only
    somebody.feed(node, local(h), local("x" + h, "1.2.616.9"))
    peer.wait_for(lambda: len(about(region.everything, h)) == 3)
    assert about(region.hospital, h) == [{h}]  # nothing changed for it


def test_the_message_is_audited(region):
    somebody, h = Person(), number()
    last = region.node.last_audit()
    somebody.feed(region.node, local(h))
    found = peer.wait_for(
        lambda: [a for a in region.node.audits(last) if a[1] == "ITI-10" and h in a[3] and "Szpital|HIS" in a[3]]
    )
    [(_, _, outcome, text)] = found
    record = parse_xml(text.encode())
    assert outcome == 0
    assert record.find("EventIdentification").get("EventActionCode") == "R"
    assert record.find("EventIdentification/EventTypeCode").get("originalText") == "PIX Update Notification"
    assert {o.get("ParticipantObjectID") for o in record.iterfind("ParticipantObjectIdentification")} > {local(h)}


def test_a_merge_is_told_to_consumers_and_registries(region):
    survivor, merged = Person(), Person()
    s, m, c = number(), number(), number()
    survivor.feed(region.node, local(s))
    merged.feed(region.node, local(m), local(c, CLINIC))
    [of_survivor] = peer.wait_for(lambda: about(region.everything, s))
    [of_merged] = peer.wait_for(lambda: about(region.everything, m))
    [xad_s], [xad_m] = of_survivor - {s}, of_merged - {m, c}
    survivor.feed(region.node, local(s), event="A40", merged=local(m))
    peer.wait_for(lambda: len(about(region.everything, s)) == 2)
    assert about(region.everything, s)[-1] == {s, c, xad_s}
    peer.wait_for(lambda: len(about(region.registry, s, c)) >= 2)
    told = {}
    for message in region.registry.messages:
        group = patient_of(message)
        new, moved = (cx.cx_1.value for cx in group.pid.pid_3)
        if new == xad_s:
            told[moved] = [cx.cx_1.value for cx in group.mrg.mrg_1]
    assert told == {c: [xad_m], s: [xad_m, m]}  # m was merged into s, c only has another affinity-domain id
    later = number()
    survivor.feed(region.node, local(s), local(later, "1.2.616.9"))
    peer.wait_for(lambda: about(region.everything, later))
    assert about(region.everything, later) == [{s, c, later, xad_s}]  # m names nobody any more


def test_over_tls(region):
    somebody, x = Person(), number()
    somebody.feed(region.node, local(x, "1.2.616.6"))
    peer.wait_for(lambda: about(region.secured, x))


def test_over_soap(region):
    """ITI-46: valid by the official schema; a fault and a rejection are no refusal, an error is one."""
    node, somebody, x, y = region.node, Person(), number(), number()
    region.consumer.answers[:] = ["html", "fault", "AR"]
    somebody.feed(node, local(x, "1.2.616.5"), local(number()))
    peer.wait_for(lambda: len(region.consumer.got) == 4, 60)  # after pauses of two, four and eight seconds
    peer.wait_for(lambda: not node.rows("SELECT 1 FROM outbox WHERE destination = 'consumer'"))
    assert region.consumer.errors == []
    v3 = {"v": "urn:hl7-org:v3"}
    path = "v:controlActProcess/v:subject/v:registrationEvent/v:subject1/v:patient/v:id"
    found = [[(i.get("root"), i.get("extension")) for i in m.iterfind(path, v3)] for m in region.consumer.got]
    assert found == [[("1.2.616.5", x)]] * 4
    assert len({m.find("v:id", v3).get("extension") for m in region.consumer.got}) == 1
    assert region.consumer.got[0].find("v:receiver/v:device/v:id", v3).get("root") == "1.2.616.44"
    region.consumer.answers[:] = ["AE"]
    somebody.feed(node, local(x, "1.2.616.5"), local(y, "1.2.616.5"))
    peer.wait_for(lambda: node.rows("SELECT 1 FROM outbox WHERE destination = 'consumer' AND state = 'D'"))
    assert "1 dropped" in obieg(node, "outbox", "drop", "--all-dead", "--receiver", "consumer")


def test_a_receiver_that_does_not_answer_holds_up_no_other(region):
    peer.wait_for(lambda: region.slow.got)
    somebody, h = Person(), number()
    somebody.feed(region.node, local(h))
    peer.wait_for(lambda: about(region.hospital, h), 5)
    waiting = region.node.rows("SELECT count(*) FROM outbox WHERE destination = 'slow'")
    assert waiting[0][0] >= 1


def test_every_trouble_is_survived_and_told(region):
    """Down, ends in mid-answer, answers nonsense, rejects, refuses; then corrected and accepted."""
    node, somebody, x = region.node, Person(), number()
    somebody.feed(node, local(x, "1.2.616.7"))
    text = peer.wait_for(
        lambda: (t := obieg(node, "outbox", "list", "--receiver", "difficult")) and "does not answer" in t and t
    )
    assert "tried again at" in text
    answers = {
        "ended before the answer": lambda _: None,
        "ended": lambda m: (acknowledgement(m, "AA")[:20], None)[1],
        "HL7": lambda _: b"\x0bHTTP/1.1 400 Bad Request\x1c\r",
        "another message": lambda _: acknowledgement(b"MSH|||||||||else\r", "AA"),
        "AR": lambda m: acknowledgement(m, "AR"),
        "207": lambda m: acknowledgement(m, "AE", "ERR|||207^Application internal error^HL70357|E\r"),
    }
    with Difficult(region.difficult_port, lambda _: None) as receiver:
        for said, answer in answers.items():
            receiver.answer = answer
            before = len(receiver.got)
            obieg(node, "outbox", "retry", "--all", "--receiver", "difficult")
            peer.wait_for(lambda before=before: len(receiver.got) > before)
            row = peer.wait_for(
                lambda said=said: node.rows(
                    "SELECT last_error, attempts, state::text FROM outbox WHERE destination = 'difficult' "
                    "AND leased_until IS NULL AND last_error LIKE %s",
                    f"%{said}%",
                )
            )
            assert row[0][2] == "W"
        receiver.answer = lambda m: acknowledgement(
            m, "AE", "ERR||PID^1^3|204^Unknown key identifier^HL70357|E||||kto to\r"
        )
        obieg(node, "outbox", "retry", "--all", "--receiver", "difficult")
        peer.wait_for(lambda: node.rows("SELECT 1 FROM outbox WHERE destination = 'difficult' AND state = 'D'"))
        text = obieg(node, "outbox", "list", "--dead")
        [dead] = re.findall(r"(?m)^(\d+)  dead letter", text)
        assert "204" in text
        assert "kto to" in text
        assert f"obieg outbox retry {dead}" in text
        receiver.answer = lambda m: acknowledgement(m, "AA")
        assert "1 to be sent again" in obieg(node, "outbox", "retry", dead)
        peer.wait_for(lambda: not node.rows("SELECT 1 FROM outbox WHERE destination = 'difficult'"))
        ids = {message.split(b"|")[9] for message in receiver.got}
        assert len(ids) == 1  # one message, however often it was sent
        assert "Not found" in obieg(node, "outbox", "retry", dead, expect=1)
    refused = r'obieg_outbox_attempts_total\{outcome="refused",receiver="difficult"\} [1-9]'
    peer.wait_for(lambda: re.search(refused, metrics(node)))
    # What waits is counted every fifteen seconds.
    age = r'obieg_outbox_oldest_seconds\{receiver="slow"\} (\d+)'
    peer.wait_for(lambda: (found := re.search(age, metrics(node))) and int(found[1]) > 0)
    assert re.search(r'obieg_outbox_waiting\{receiver="slow"\} [1-9]', metrics(node))
    assert 'obieg_outbox_dead{receiver="slow"} 0.0' in metrics(node)


def metrics(node: peer.Node) -> str:
    return node.http.get(node.endpoints["registry"].partition("/services/")[0] + "/metrics").text


def test_the_newest_state_is_all_that_waits(region):
    node, somebody, x, y = region.node, Person(), number(), number()
    somebody.feed(node, local(x, "1.2.616.8"))
    somebody.feed(node, local(x, "1.2.616.8"), local(y, "1.2.616.8"))
    peer.wait_for(lambda: node.rows("SELECT 1 FROM outbox WHERE destination = 'dead' AND last_error <> ''"))
    peer.wait_for(lambda: len(node.rows("SELECT 1 FROM outbox WHERE destination = 'dead'")) == 1)
    with Difficult(region.dead_port, lambda m: acknowledgement(m, "AA")) as receiver:
        obieg(node, "outbox", "retry", "--all", "--receiver", "dead")
        peer.wait_for(lambda: receiver.got)
        assert x.encode() in receiver.got[0]
        assert y.encode() in receiver.got[0]
        peer.wait_for(lambda: not node.rows("SELECT 1 FROM outbox WHERE destination = 'dead'"))


def test_drop(region):
    node, somebody, x = region.node, Person(), number()
    somebody.feed(node, local(x, "1.2.616.8"))
    [[number_]] = peer.wait_for(
        lambda: node.rows(
            "SELECT outbox_id FROM outbox WHERE destination = 'dead' AND attempts > 0 AND leased_until IS NULL"
        )
    )
    obieg(node, "outbox", "drop", expect=2)
    obieg(node, "outbox", "drop", "--all", expect=2)
    assert "nothing to drop" in obieg(node, "outbox", "drop", "--all-dead", "--receiver", "dead")
    assert "1 dropped" in obieg(node, "outbox", "drop", str(number_))
    assert node.rows("SELECT 1 FROM outbox WHERE destination = 'dead'") == []


def test_a_sender_killed_between_sending_and_marking_repeats_once(region):
    """The receiver has it, nobody marked it: after the lease it comes once more, under the same control id."""
    node, somebody, x = region.node, Person(), number()

    def kill(message: bytes) -> bytes:
        if len(receiver.got) == 1:
            for pid in node.workers():
                os.kill(pid, signal.SIGKILL)
        return acknowledgement(message, "AA")

    with Difficult(region.dead_port, kill) as receiver:
        somebody.feed(node, local(x, "1.2.616.8"))
        peer.wait_for(lambda: receiver.got)
        [[left]] = node.rows("SELECT leased_until > now() FROM outbox WHERE destination = 'dead'")
        assert left  # nothing is lost
        peer.wait_for(node.workers)
        with psycopg.connect(node.dsn) as connection:  # two minutes pass
            connection.execute("UPDATE outbox SET leased_until = now() WHERE destination = 'dead'")
        peer.wait_for(lambda: not node.rows("SELECT 1 FROM outbox WHERE destination = 'dead'"))
        assert len(receiver.got) == 2
        assert receiver.got[0] == receiver.got[1]
