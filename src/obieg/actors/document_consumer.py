"""Retrieves for callers of this node what lies in the repositories of others (XDS Document Consumer, ITI TF-2:3.43).

The MHD Document Responder of this node is grouped with it: access has been decided before anything is asked for. What
comes is the document that the registry describes, or nothing of it is given out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple
from urllib.parse import urlsplit

import structlog

from obieg.domain.audit import AuditEvent, AuditObject, Outcome
from obieg.domain.problems import Finding, Problem, RetryLater
from obieg.domain.registry import LocatedDocument
from obieg.domain.requester import Requester
from obieg.protocol import Content, Context, RepositoryClient, SoapQuestion, SoapRequest, Transaction

Given = tuple[Mapping[str, Content], Sequence[Finding]]  # documents by uniqueId, and what is wrong
Record = Callable[[AuditEvent], Awaitable[None]]
Vouch = Callable[[Requester, datetime], Awaitable[bytes]]

log = structlog.get_logger()


class Fetched(NamedTuple):
    """A document of another repository, with the record of how it came."""

    content: Content
    record: AuditEvent


class _Described:
    """A document that came, of the type that the registry says."""

    def __init__(self, content: Content, mime_type: str) -> None:
        self._content = content
        self.content_type = mime_type
        self.size = content.size

    def sha1(self) -> str:
        return self._content.sha1()

    def chunks(self) -> AsyncIterator[bytes]:
        return self._content.chunks()


class DocumentConsumer:
    """See the module docstring."""

    def __init__(
        self,
        repositories: Mapping[str, RepositoryClient],
        transaction: Transaction,
        write: Callable[[Sequence[LocatedDocument]], SoapQuestion],
        read: Callable[[SoapRequest], Given],
        *,
        own: str,
        bytes_max: int,
        vouch: Vouch | None,
    ) -> None:
        """``repositories`` by uniqueId; ``write`` and ``read`` are question and answer of ``transaction`` (ITI-43).

        ``own`` is who asks, as records name it. ``bytes_max``: of a document. ``vouch`` names in an assertion for whom
        is asked; None where no certificate proves this node to others.
        """
        self._repositories = repositories
        self._transaction = transaction
        self._write = write
        self._read = read
        self._own = own
        self._bytes_max = bytes_max
        self._vouch = vouch

    def reaches(self, repository_unique_id: str) -> bool:
        """Whether it is known where this repository answers."""
        return repository_unique_id in self._repositories

    async def fetch(self, found: LocatedDocument, context: Context, record: Record) -> Fetched:
        """The document; its record is for the caller to store, that of a failure is stored by ``record``.

        Raises Problem: RepositoryNotAvailable, RepositoryWithholds, RepositoryAnswerUnfit, LimitExceeded.
        """
        size = self._bytes_max if found.size is None else found.size
        if size > self._bytes_max:
            said = f"the document has {size} bytes, more than the {self._bytes_max} that are fetched from elsewhere"
            raise Problem.of("LimitExceeded", said, found.unique_id)
        source = self._repositories[found.repository_unique_id]
        try:
            documents, findings = await self._ask(source, (found,), size, context)
            content = _expected(source, found, documents.get(found.unique_id), findings)
        except Problem as problem:
            await record(self._failure(source, context, problem, context.objects))
            raise
        return Fetched(content, self._record(source, context, context.objects))

    async def fetch_some(
        self, founds: Sequence[LocatedDocument], context: Context, record: Record, within_s: float
    ) -> dict[str, Content]:
        """What comes of several within a time, by uniqueId, one message to each repository; ``record`` stores each.

        Their sizes must be known. What does not come, or is not what the registry describes, is left out.
        """
        by_repository: dict[str, list[LocatedDocument]] = {}
        for found in founds:
            by_repository.setdefault(found.repository_unique_id, []).append(found)
        several = [self._fetch_of(asked, context, record, within_s) for asked in by_repository.values()]
        return {name: content for fetched in await asyncio.gather(*several) for name, content in fetched.items()}

    async def _fetch_of(
        self, founds: Sequence[LocatedDocument], context: Context, record: Record, within_s: float
    ) -> dict[str, Content]:
        source = self._repositories[founds[0].repository_unique_id]
        objects = (*dict.fromkeys(AuditObject("patient", f.patient_id) for f in founds), *map(_object, founds))
        fetched: dict[str, Content] = {}
        try:
            async with asyncio.timeout(within_s):
                documents, findings = await self._ask(source, founds, sum(f.size or 0 for f in founds), context)
        except TimeoutError:
            await record(self._failure(source, context, _silent(source, founds[0]), objects))
            return fetched
        except Problem as problem:
            await record(self._failure(source, context, problem, objects))
            return fetched
        for found in founds:
            with suppress(Problem):
                fetched[found.unique_id] = _expected(source, found, documents.get(found.unique_id), findings)
        outcome = Outcome.SUCCESS if len(fetched) == len(founds) else Outcome.MINOR_FAILURE
        await record(self._record(source, context, objects, outcome))
        return fetched

    async def _ask(
        self, source: RepositoryClient, founds: Sequence[LocatedDocument], size: int, context: Context
    ) -> Given:
        try:
            assertion = await self._vouch(context.requester, context.received_at) if self._vouch is not None else b""
            answer = await source.ask(self._transaction, self._write(founds), assertion=assertion, size=size)
            return self._read(answer)
        except RetryLater as error:
            log.warning("a repository does not answer", repository=source.name, error=str(error))
            raise _silent(source, founds[0]) from None
        except Problem as problem:
            log.error("a repository does not give what it was asked for", repository=source.name, error=str(problem))
            said = f"{source.name} does not answer as a repository that trusts this node"
            raise _unfit(founds[0], said, str(problem)) from None

    def _record(
        self,
        source: RepositoryClient,
        context: Context,
        objects: tuple[AuditObject, ...],
        outcome: Outcome = Outcome.SUCCESS,
        detail: str = "",
    ) -> AuditEvent:
        """What this node did as a consumer (ITI TF-2:3.43.5.1); what it gave to its caller is another record."""
        return AuditEvent(
            transaction=self._transaction.id,
            event="retrieved",
            outcome=outcome,
            detail=detail,
            request_id=context.request_id,
            source_user=self._own,
            destination_user=source.address,
            destination_address=urlsplit(source.address).hostname or "",
            requester=context.requester.person or context.requester.system,
            objects=objects,
            proof=context.requester,
        )

    def _failure(
        self, source: RepositoryClient, context: Context, problem: Problem, objects: tuple[AuditObject, ...]
    ) -> AuditEvent:
        codes = " ".join(sorted({f.code for f in problem.findings}))
        outcome = Outcome.MINOR_FAILURE if codes == "RepositoryWithholds" else Outcome.SERIOUS_FAILURE
        return self._record(source, context, objects, outcome, codes)


def _object(found: LocatedDocument) -> AuditObject:
    return AuditObject("document", found.unique_id, details=(("Repository Unique Id", found.repository_unique_id),))


def _expected(
    source: RepositoryClient, found: LocatedDocument, content: Content | None, findings: Sequence[Finding]
) -> Content:
    """What came, if it is the document that the registry describes. Raises Problem."""
    if content is None:
        raise _not_given(source, found, findings)
    if (found.size is not None and content.size != found.size) or (found.hash and content.sha1() != found.hash):
        log.error("a repository gives other bytes than it has registered", repository=source.name)
        said = f"what {source.name} gives has another size or hash than the registry says"
        raise _unfit(found, said, f"size {content.size}, hash {content.sha1()}")
    return _Described(content, found.mime_type)


def _silent(source: RepositoryClient, found: LocatedDocument) -> Problem:
    said = f"the document lies at {source.name}, which does not answer now; repeat the identical request later"
    return Problem.of("RepositoryNotAvailable", said, found.unique_id)


def _unfit(found: LocatedDocument, said: str, reason: str) -> Problem:
    return Problem([Finding("RepositoryAnswerUnfit", said, found.unique_id, reason=reason)])


def _not_given(source: RepositoryClient, found: LocatedDocument, findings: Sequence[Finding]) -> Problem:
    codes = {finding.code for finding in findings if not finding.warning}
    if "XDSRepositoryBusy" in codes:
        return _silent(source, found)
    if codes <= {"XDSDocumentUniqueIdError"}:
        said = f"the document lies at {source.name}, which does not give it out: ask there"
        return Problem.of("RepositoryWithholds", said, found.unique_id)
    return _unfit(found, f"{source.name} answers with errors", " ".join(sorted(codes)))
