"""Looks for words in the text of a patient's documents, of those that whoever asks may see.

The newest documents that lie here are decrypted and looked through one after the other, those of other repositories as
far as these give them, within a time and a number of bytes; the answer says how many were and how many were not. The
record names the documents of which a passage was shown, and not what was asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from obieg.actors.access_control import AccessControl
from obieg.actors.document_registry import DocumentRegistry
from obieg.actors.document_repository import DocumentRepository
from obieg.actors.patient_summary import lying_elsewhere, newest_documents, unreadable
from obieg.domain.audit import AuditObject
from obieg.domain.document_store import DocumentUnreadableError
from obieg.domain.permits import Named
from obieg.domain.problems import Problem
from obieg.domain.registry import FoundDocument
from obieg.domain.sight import Sight
from obieg.domain.text_search import Passage, TextFound, TextMatch, TextQuestion, passage, stems
from obieg.mapping import ips
from obieg.protocol import AuditSink, Content, Context
from obieg.wire.cda import CdaRefused
from obieg.wire.cda_body import TooMuch
from obieg.wire.cda_content import read_content
from obieg.wire.cda_narrative import plain_text

DOCUMENTS_MAX = 200
BYTES_MAX = 64 * 1024 * 1024
TIME_S = 4.0


class Limits(NamedTuple):
    """How much of a patient's record one question looks through."""

    documents: int = DOCUMENTS_MAX
    bytes: int = BYTES_MAX
    time_s: float = TIME_S


class TextSearch:
    """See the module docstring."""

    def __init__(
        self,
        registry: DocumentRegistry,
        repository: DocumentRepository,
        audit: AuditSink,
        *,
        access: AccessControl,
        limits: Limits = Limits(),  # noqa: B008 - never changed
    ) -> None:
        self._registry = registry
        self._repository = repository
        self._audit = audit
        self._access = access
        self._limits = limits

    async def search(self, asked: TextQuestion, context: Context) -> TextFound:
        """What is found; nothing of a patient who is not known, or not to whoever asks. Raises Problem."""
        wanted = stems(asked.text)
        if not wanted:
            raise Problem.of("RequiredFieldMissing", "text says no word that could be looked for", "http.text")
        seen = await self._access.see(Named((asked.patient,)), context)
        seen.refused(context, self._registry.assigning_authority)
        seen.told(context)
        found = await self._find(asked, wanted, seen.sight, context)
        shown = (AuditObject("document", match.unique_id) for match in found.matches)
        context.objects = (AuditObject("patient", str(asked.patient)), *shown)
        if not found.looked:
            seen.told(context, shown=False)
        await self._audit.record(context.audit())
        context.audited = True
        return found

    async def _find(self, asked: TextQuestion, wanted: Sequence[str], sight: Sight, context: Context) -> TextFound:
        entries, more = await newest_documents(self._registry, asked.patient, self._limits.documents, sight)
        own = self._repository.repository_unique_id
        sources = [(entry, ips.to_source(entry)) for entry in entries]
        named = [source.unique_id for _, source in sources if source.repository_unique_id == own]
        held: dict[str, FoundDocument | Content] = {}
        if named:
            held |= await self._repository.held(named, sight)
        clock = asyncio.get_running_loop().time
        left, until, looked = self._limits.bytes, clock() + self._limits.time_s, 0
        away = lying_elsewhere((source for _, source in sources), asked.patient, self._repository, left)
        if away:
            held |= await self._repository.fetch_some(away, context, self._limits.time_s / 2)
        matches: list[TextMatch] = []
        for entry, source in sources:
            if clock() > until:
                break
            document = held.get(source.unique_id)
            if document is None or unreadable(source, own, document, left) is not None:
                continue
            left -= document.size
            try:
                data = await self._repository.read(document)
                said = await asyncio.to_thread(_look, data, source.title, wanted)
            except (CdaRefused, TooMuch, DocumentUnreadableError):
                continue
            looked += 1
            if said is not None:
                matches.append(TextMatch(entry.entry_uuid, source.unique_id, said))
        return TextFound(matches, looked, len(sources) - looked, more)


def _look(data: bytes, title: str, wanted: Sequence[str]) -> Passage | None:
    chapters = read_content(data).chapters
    return passage([(title, ""), *((c.title, plain_text(c.narrative)) for c in chapters)], wanted)
