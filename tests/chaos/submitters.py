"""Clients that submit and repeat until they are acknowledged, and what they were told."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import peer
from pair import HOSPITAL_REPOSITORY, Pair, Peer

PAUSE_S = 0.02
DOCUMENTS_PER_PATIENT = 100


@dataclass
class Sent:
    """One submission."""

    transaction: str
    patient: str
    set_id: str
    documents: dict[str, bytes]
    repository: str
    began_at: float
    acknowledged_at: float = 0.0  # 0: never


@dataclass
class Load:
    """Client tasks, each a thread that does one kind of transaction."""

    pair: Pair
    sent: list[Sent] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self, *, facility: int = 3, region: int = 1, register: int = 1) -> None:
        pair = self.pair
        for make, count in (
            (self._at_facility, facility), (self._at_region, region), (self._registering, register),
        ):  # fmt: skip
            for _ in range(count):
                patients = [pair.at_region().patient() for _ in range(5)]
                self.threads.append(threading.Thread(target=self._run, args=(make, patients), daemon=True))
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self.threads)

    @property
    def acknowledged(self) -> list[Sent]:
        return [s for s in self.sent if s.acknowledged_at]

    def _run(self, make: Callable[[str], tuple[Sent, Callable[[], peer.Answer]]], patients: list[str]) -> None:
        number = 0
        while not self.stopping.is_set():
            sent, send = make(patients[number // DOCUMENTS_PER_PATIENT % len(patients)])
            self.sent.append(sent)
            number += 1
            while True:  # the identical request, until it is acknowledged
                try:
                    answer = send()
                    self.answers[",".join(answer.codes) or answer.status] += 1
                    if answer.status == "Success":
                        sent.acknowledged_at = time.monotonic()
                        break
                    if set(answer.codes) - {"XDSRegistryNotAvailable", "XDSRegistryBusy", "XDSRepositoryBusy"}:
                        self.failures.append(f"{sent.transaction} {answer.errors} {answer.fault}")
                        break
                except httpx.HTTPError as error:
                    self.answers[type(error).__name__] += 1
                except Exception as error:
                    self.failures.append(f"{sent.transaction} {type(error).__name__}: {error}")
                    break
                if self.stopping.wait(0.1):
                    break
            self.stopping.wait(PAUSE_S)

    def _at_facility(self, patient: str) -> tuple[Sent, Callable[[], peer.Answer]]:
        return self._provided(patient, _mine(self.pair.at_facility), self.pair.facility_repository)

    def _at_region(self, patient: str) -> tuple[Sent, Callable[[], peer.Answer]]:
        return self._provided(patient, _mine(self.pair.at_region), self.pair.region.endpoints["repository_uid"])

    @staticmethod
    def _provided(patient: str, node: Peer, repository: str) -> tuple[Sent, Callable[[], peer.Answer]]:
        request = node.symbolic(patient, *_contents())
        documents = {e.unique_id: e.content for e in request.submission.entries}
        found = Sent("ITI-41", patient, request.submission.unique_id, documents, repository, time.monotonic())
        return found, request.send

    def _registering(self, patient: str) -> tuple[Sent, Callable[[], peer.Answer]]:
        node = _mine(self.pair.at_region)
        entries = [node.text(patient, c, repository=HOSPITAL_REPOSITORY) for c in _contents()]
        submission = node.submission(patient, *entries)
        body = submission.request()
        documents = {e.unique_id: e.content for e in entries}
        found = Sent("ITI-42", patient, submission.unique_id, documents, HOSPITAL_REPOSITORY, time.monotonic())
        return found, lambda: node.soap("register", body)


_own = threading.local()


def _mine(make: Callable[[], Peer]) -> Peer:
    """This thread's peer."""
    if not hasattr(_own, "peer"):
        _own.peer = make()
        _own.peer.http.timeout = httpx.Timeout(45)
    found: Peer = _own.peer
    return found


def _contents() -> list[bytes]:
    """One document, seldom two, seldom one that is streamed."""
    size = random.choice((0, 100, 5_000, 20_000, 60_000))
    if random.random() < 0.01:
        size = 2_500_000
    return [os.urandom(size) for _ in range(1 + (random.random() < 0.1))]


# what can be read ----------------------------------------------------------------------------------------------------


def audited(node: Any) -> Counter[tuple[str, str]]:
    """How often each (transaction, submission set) is recorded as a success."""
    rows = node.rows(
        'SELECT transaction, substring(message from \'ParticipantObjectID="([^"]*)" ParticipantObjectTypeCode="2"\') '
        "FROM audit_event WHERE outcome = 0 AND transaction IN ('ITI-41', 'ITI-42')"
    )
    return Counter(map(tuple, rows))


def check(pair: Pair, load: Load) -> dict[str, int]:
    """Compares what was acknowledged with what can be read; nothing may be half there."""
    assert not load.failures, load.failures[:5]
    region, facility = pair.at_region(), pair.at_facility()
    by_patient: dict[str, list[Sent]] = {}
    for sent in load.sent:
        by_patient.setdefault(sent.patient, []).append(sent)
    readers = {pair.facility_repository: facility, region.repository: region}
    lost: list[str] = []
    found_count = 0
    for patient, all_sent in by_patient.items():
        entries = region.found(patient).entries
        sets = Counter(region.sets(patient))
        found = Counter(peer.identifier_of(e, "entryUnique") for e in entries)
        assert set(found.values()) <= {1}, f"found more than once: {found.most_common(3)}"
        assert set(sets.values()) <= {1}, f"found more than once: {sets.most_common(3)}"
        known = {u: (s, c) for s in all_sent for u, c in s.documents.items()}
        assert set(found) <= set(known)
        for entry in entries:
            unique_id = peer.identifier_of(entry, "entryUnique")
            sent, content = known[unique_id]
            assert peer.slot_of(entry, "hash") == [hashlib.sha1(content).hexdigest()]
            assert peer.slot_of(entry, "repositoryUniqueId") == [sent.repository]
        for sent in all_sent:
            there = [u in found for u in sent.documents]
            assert all(there) or not any(there), "a part of a submission"
            assert (sent.set_id in sets) == all(there), "a set without its documents, or the reverse"
            if sent.acknowledged_at and not all(there):
                lost.append(f"{sent.transaction} {sent.set_id}: not found")
        found_count += len(found)
        for repository, reader in readers.items():
            asked = [u for u, (s, _) in known.items() if s.repository == repository]
            for some in _batches(asked, 50):
                documents = reader.retrieve(*some, repository=repository).documents
                for unique_id in some:
                    sent, content = known[unique_id]
                    assert (unique_id in documents) == (unique_id in found), f"half visible: {unique_id}"
                    if unique_id in documents and documents[unique_id] != content:
                        lost.append(f"{unique_id}: other bytes")
    assert not lost, (len(lost), lost[:5])
    _check_tables(pair)
    _check_audit(pair, load)
    return {
        "sent": len(load.sent),
        "acknowledged": len(load.acknowledged),
        "acknowledged documents": sum(len(s.documents) for s in load.acknowledged),
        "found": found_count,
        "lost": len(lost),
    }


def _batches(values: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _check_tables(pair: Pair) -> None:
    region, facility = pair.region.rows, pair.facility.rows
    assert facility("SELECT count(*) FROM stored_document WHERE state <> 'R'") == [(0,)]
    assert region("SELECT count(*) FROM stored_document WHERE state <> 'R'") == [(0,)]
    entries = dict(
        region("SELECT repository_unique_id, array_agg(unique_id ORDER BY unique_id) FROM document_entry GROUP BY 1")
    )
    for rows, repository in (
        (facility, pair.facility_repository), (region, pair.region.endpoints["repository_uid"]),
    ):  # fmt: skip
        stored = rows("SELECT array_agg(unique_id ORDER BY unique_id) FROM stored_document")[0][0]
        assert stored == entries.get(repository), "documents without entries, or entries without documents"
    provided, sets = (
        facility("SELECT count(*) FROM provided_submission"),
        region(
            "SELECT count(DISTINCT a.source) FROM document_entry d JOIN association a "
            "ON a.patient_key = d.patient_key AND a.target = d.entry_uuid WHERE d.repository_unique_id = %s",
            pair.facility_repository,
        ),
    )
    assert provided == sets
    for what, query in {
        "an entry in no set": "SELECT count(*) FROM document_entry d WHERE NOT EXISTS (SELECT FROM association a JOIN "
        "submission_set s ON s.patient_key = a.patient_key AND s.entry_uuid = a.source WHERE "
        "a.patient_key = d.patient_key AND a.target = d.entry_uuid AND a.type = 'HasMember')",
        "a set of nothing": "SELECT count(*) FROM submission_set s WHERE NOT EXISTS (SELECT FROM association a JOIN "
        "document_entry d ON d.patient_key = a.patient_key AND d.entry_uuid = a.target WHERE "
        "a.patient_key = s.patient_key AND a.source = s.entry_uuid)",
        "a locator of nothing": "SELECT count(*) FROM object_locator l WHERE NOT EXISTS "
        "(SELECT FROM registry_object o WHERE o.entry_uuid = l.entry_uuid)",
        "an object without locator": "SELECT count(*) FROM registry_object o WHERE NOT EXISTS "
        "(SELECT FROM object_locator l WHERE l.entry_uuid = o.entry_uuid)",
    }.items():
        assert region(query) == [(0,)], what


def _check_audit(pair: Pair, load: Load) -> None:
    at_region, at_facility = audited(pair.region), audited(pair.facility)
    for sent in load.acknowledged:
        here = at_facility if sent.repository == pair.facility_repository else at_region
        assert here[sent.transaction, sent.set_id], f"{sent.transaction} {sent.set_id} is not audited"
        if sent.repository == pair.facility_repository:
            assert at_region["ITI-42", sent.set_id], f"ITI-42 of {sent.set_id} is not audited"


def wait_until_served(pair: Pair, seconds: float = 60) -> None:
    """Until both nodes answer again."""

    def served() -> bool:
        with suppress(httpx.HTTPError, AssertionError):
            return pair.at_region().query(
                "GetDocuments", XDSDocumentEntryUniqueId="'2.25.1'"
            ).status == "Success" and pair.at_facility().retrieve("2.25.1").codes == ["XDSDocumentUniqueIdError"]
        return False

    peer.wait_for(served, seconds)
