"""What patients permit and restrict, and whether they want to be told of each look."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from starlette.responses import Response
from starlette.routing import BaseRoute

from obieg.domain.problems import Problem
from obieg.web.patient_consents import DAYS, DAYS_USUAL, Wish, consent, notices, recognised
from obieg.web.patient_records import Document, person_name, resources
from obieg.web.patient_shell import Record, Shell

_FOUND_MAX = "20"  # that a search in the directory shows
_EVERYBODY = "everybody"
_LISTED = {"Organization": "facility", "Practitioner": "person"}  # types of the directory


class PermissionPages:
    """Pages below ``permissions``."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """For the node's web application."""
        page = self._shell.routes
        return (
            *page("/permissions", get=self._permissions),
            *page("/permissions/grant", get=self._grant, post=self._permit),
            *page("/permissions/restrict", get=self._restrict, post=self._deny),
            *page("/permissions/withdraw", get=self._ask, post=self._withdraw),
            *page("/permissions/notices", post=self._notices),
        )

    async def _permissions(self, record: Record) -> Response:
        stated = await self._shell.consents(record)
        titles = {d.id: d for d in await self._shell.documents(record)}
        return self._shell.show(
            record,
            "permissions",
            "permissions",
            permitted=[s for s in stated if not s.states and not s.restricts],
            restricted=[s for s in stated if s.restricts],
            stated=[s for s in stated if s.states and s.states != "notices"],
            asked=any(s.states == "notices" for s in stated),
            titles=titles,
        )

    # whom -----------------------------------------------------------------------------------------------------------

    async def _known(self, record: Record, found: Sequence[Document]) -> dict[str, tuple[str, str]]:
        """Facilities and people of the record and its log, by system|value: name, and which of both they are."""
        known = {d.facility_id: (d.facility, "facility") for d in found if d.facility_id and d.facility}
        lines, _ = await self._shell.log(record, others=True)
        for line in lines:
            if line.facility_id:
                known.setdefault(line.facility_id, (line.facility, "facility"))
            if line.who_id and line.who and not (line.me or line.system or line.relative):
                known.setdefault(line.who_id, (line.who, "person"))
        return {who: named for who, named in known.items() if not who.startswith("|")}  # by a number of nobody's

    async def _searched(self, record: Record, name: str, value: str) -> dict[str, tuple[str, str]]:
        """Facilities and people of the directory, by their references."""
        found: dict[str, tuple[str, str]] = {}
        for resource, kind in _LISTED.items():
            answer = await self._shell.desk.fhir(
                record.visit, "search-type", resource, parameters=[(name, value), ("_count", _FOUND_MAX)]
            )
            for each in resources(answer.body):
                called = str(each["name"]) if resource == "Organization" else person_name(each)
                if called and each.get("active", True) and recognised(each):
                    found[f"{resource}/{each['id']}"] = (called, kind)
        return found

    async def _named(self, record: Record, found: Sequence[Document], whom: str) -> tuple[str, str] | None:
        """Who is meant, as the form says it, with the name; None of somebody unknown."""
        if not whom:
            return None
        known = await self._known(record, found)
        kind, _, id_ = whom.partition("/")
        if whom not in known and kind in _LISTED:
            known = await self._searched(record, "_id", id_)
        return (whom, known[whom][0]) if whom in known else None

    # forms ----------------------------------------------------------------------------------------------------------

    async def _grant(self, record: Record) -> Response:
        return await self._form(record, "grant", ())

    async def _restrict(self, record: Record) -> Response:
        return await self._form(record, "restrict", ())

    async def _form(self, record: Record, form: str, wrong: Sequence[str]) -> Response:
        """The form; what was typed stands in it again."""
        found = [d for d in await self._shell.documents(record) if d.current]
        given = dict.fromkeys(("whom", "what", "days", "find"), "") | (record.fields or record.query)
        find = given["find"].strip()
        known = await self._known(record, found)
        if find:
            known |= await self._searched(record, "name", find)
        classes = {d.class_coding["code"]: d.class_name for d in found if d.class_coding.get("code")}
        return self._shell.show(
            record,
            form,
            "permissions",
            status=400 if wrong else 200,
            given=given,
            find=find,
            known=sorted(known.items(), key=lambda pair: (pair[1][1], pair[1][0])),
            documents=found,
            classes=classes,
            days=DAYS,
            days_usual=DAYS_USUAL,
            wrong=wrong,
        )

    async def _permit(self, record: Record) -> Response:
        return await self._record(record, "grant")

    async def _deny(self, record: Record) -> Response:
        return await self._record(record, "restrict")

    async def _record(self, record: Record, form: str) -> Response:
        fields = record.fields
        if "search" in fields:
            return await self._form(record, form, ())
        everything = await self._shell.documents(record)
        permit = form == "grant"
        whom, what = fields.get("whom", ""), fields.get("what", "")
        named = await self._named(record, everything, whom) if whom != _EVERYBODY else None
        kind, _, name = what.partition(":")
        document = next((d for d in everything if kind == "document" and d.id == name), None)
        coding = next(
            (d.class_coding for d in everything if kind == "class" and d.class_coding.get("code") == name), None
        )
        days = fields.get("days", "")
        wrong = []
        if named is None and (permit or whom != _EVERYBODY):
            wrong.append("whom")
        if what != "all" and document is None and coding is None:
            wrong.append("what")
        if permit and days not in map(str, DAYS):
            wrong.append("days")
        if not permit and what == "all" and named is None and "sure" not in fields:
            wrong.append("sure")
        if wrong:
            return await self._form(record, form, wrong)
        until = record.now + timedelta(days=int(days)) if permit and days != "0" else None
        wish = Wish(permit=permit, whom=named, document=document, class_coding=coding, until=until)
        await self._shell.desk.fhir(
            record.visit,
            "create",
            "Consent",
            body=consent(record.subject.id, record.visit.requester, record.now, wish),
        )
        return self._shell.go(record, f"/permissions?done={'granted' if permit else 'restricted'}")

    async def _ask(self, record: Record) -> Response:
        """Whether it is really meant: what ends is shown once more."""
        stated = await self._shell.consents(record)
        found = next((s for s in stated if s.id == record.query.get("consent", "")), None)
        if found is None:
            return self._shell.desk.missing(record.visit)
        titles = {d.id: d for d in await self._shell.documents(record)}
        return self._shell.show(record, "withdraw", "permissions", consent=found, titles=titles)

    async def _withdraw(self, record: Record) -> Response:
        wanted = record.fields.get("consent", "")
        if wanted not in {s.id for s in await self._shell.consents(record)}:
            return self._shell.desk.missing(record.visit)
        await self._shell.desk.fhir(record.visit, "delete", "Consent", wanted)
        return self._shell.go(record, "/permissions?done=withdrawn")

    async def _notices(self, record: Record) -> Response:
        """On or off, as the form says."""
        standing = [s for s in await self._shell.consents(record) if s.states == "notices"]
        wanted = record.fields.get("notices", "")
        if wanted not in ("on", "off"):
            raise Problem.of("DataTypeError", "on or off is expected", "notices")
        if wanted == "on" and not standing:
            body = notices(record.subject.id, record.visit.requester, record.now)
            await self._shell.desk.fhir(record.visit, "create", "Consent", body=body)
        for each in standing if wanted == "off" else ():
            await self._shell.desk.fhir(record.visit, "delete", "Consent", each.id)
        return self._shell.go(record, f"/permissions?done=notices_{wanted}")
