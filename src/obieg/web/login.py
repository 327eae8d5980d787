"""Logging in and out, and what people can see and change of it: passkeys, password, sessions, where they act.

Addresses: ``/login`` (passkey or password), ``/login/totp`` (the code), ``/login/start`` (what to log in by, for
whoever is new), ``/login/facility`` (where and as whom), ``/account``, ``/logout``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from obieg.actors.people import Current, People, Proved
from obieg.actors.wezel_krajowy import WezelKrajowy
from obieg.domain.accounts import (
    PASSWORD_LENGTH_MAX,
    PASSWORD_LENGTH_MIN,
    ROLES,
    LoginRefused,
    Place,
    own_path,
    totp_text,
    totp_uri,
)
from obieg.domain.patient_login import PatientSession
from obieg.protocol import LoginAttempt
from obieg.web.kit import FormRefused, Kit, form_token, language_of, new_cookie, visiting
from obieg.web.qr import picture

HOME = "/account"
_MARK = "|"  # between organisation and role in the value of a choice; no identifier has it


class LoginPages:
    """The pages; see the module docstring."""

    def __init__(
        self, kit: Kit, people: People, patients: WezelKrajowy | None = None, homes: Mapping[str, str] | None = None
    ) -> None:
        """``patients``: how they log in, at pages of its own; what they see of their sessions is here.

        ``homes``: where people of a role work, by its code; others begin at their account.
        """
        self._kit = kit
        self._people = people
        self._patients = patients
        self._homes = homes or {}

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """For the node's web application."""
        route = self._kit.route
        return (
            route("/login", get=self._login, post=self._password, sealed=False),
            route("/login/passkey", post=self._passkey, sealed=False),
            route("/login/passkey/options", post=self._passkey_options, sealed=False),
            route("/login/totp", get=self._totp, post=self._code, sealed=False),
            route("/login/start", get=self._start, post=self._new_password),
            route("/login/start/passkey", post=self._new_passkey),
            route("/login/start/options", post=self._new_passkey_options),
            route("/login/facility", get=self._facility, post=self._choose),
            route("/account", get=self._account, sealed=False),
            route("/account/credentials", post=self._enrol_again),
            route("/account/passkey", post=self._remove_passkey),
            route("/account/session", post=self._end, sealed=False),
            route("/account/sessions", post=self._end_others, sealed=False),
            route("/logout", get=self._leaving, post=self._log_out, sealed=False),
            self._kit.static,
        )

    # log-in ---------------------------------------------------------------------------------------------------------

    async def _login(self, request: Request) -> Response:
        then = self._then(request)
        current = await self._current(request)
        if current is not None and "again" not in request.query_params:
            return self._kit.go(self._after(current.session.place, then))
        over = current is None and bool(self._kit.cookie(request, self._kit.session_cookie))
        notice = "logged_out" if "out" in request.query_params else "session_over" if over else ""
        return self._login_page(request, then, notice=notice)

    def _login_page(
        self, request: Request, then: str, *, notice: str = "", reason: str = "", login: str = "", status: int = 200
    ) -> Response:
        cookie = self._kit.cookie(request, self._kit.login_cookie) or new_cookie()
        response = self._kit.page(
            request,
            "login.html",
            status=status,
            csrf=form_token(cookie),
            next=then,
            notice=notice,
            reason=reason,
            login=login,
            passkeys=self._kit.passkeys,
            host=self._kit.site.host,
            idle_minutes=int(self._people.idle.total_seconds() // 60),
        )
        self._kit.keep(response, self._kit.login_cookie, cookie)
        if notice == "session_over":
            self._kit.keep(response, self._kit.session_cookie, "")
        return response

    async def _password(self, request: Request) -> Response:
        fields = await self._kit.form(request, self._kit.login_cookie)
        then, login = self._then(request), fields.get("login", "")
        try:
            step, token = await self._people.enter_password(login, fields.get("password", ""), visiting(request))
        except LoginRefused as refused:
            status = 429 if refused.reason == "wait" else 403
            return self._login_page(request, then, reason=refused.reason, login=login, status=status)
        response = self._kit.go(_with("/login/totp" if step == "totp" else "/login/start", then))
        self._kit.keep(response, self._kit.login_cookie, token)
        return response

    async def _totp(self, request: Request) -> Response:
        if not self._kit.cookie(request, self._kit.login_cookie):
            return self._kit.go("/login")
        return self._totp_page(request, self._then(request))

    def _totp_page(self, request: Request, then: str, *, reason: str = "", status: int = 200) -> Response:
        csrf = form_token(self._kit.cookie(request, self._kit.login_cookie))
        return self._kit.page(request, "totp.html", status=status, csrf=csrf, next=then, reason=reason)

    async def _code(self, request: Request) -> Response:
        fields = await self._kit.form(request, self._kit.login_cookie)
        then = self._then(request)
        try:
            proved = await self._people.enter_code(
                self._kit.cookie(request, self._kit.login_cookie), fields.get("code", ""), visiting(request)
            )
        except LoginRefused as refused:
            if refused.reason == "over":
                return self._login_page(request, then, reason="over", status=403)
            return self._totp_page(
                request, then, reason=refused.reason, status=429 if refused.reason == "wait" else 403
            )
        return await self._logged_in(request, proved, then)

    async def _passkey_options(self, request: Request) -> Response:
        await self._kit.form(request, self._kit.login_cookie)
        token, options = await self._people.ask_passkey(self._kit.site)
        response = self._kit.data(json.dumps({"options": json.loads(options), "csrf": form_token(token)}))
        self._kit.keep(response, self._kit.login_cookie, token)
        return response

    async def _passkey(self, request: Request) -> Response:
        fields = await self._kit.form(request, self._kit.login_cookie)
        then = self._then(request)
        try:
            proved = await self._people.enter_passkey(
                self._kit.cookie(request, self._kit.login_cookie),
                fields.get("credential", ""),
                self._kit.site,
                visiting(request),
            )
        except LoginRefused as refused:
            return self._login_page(request, then, reason=refused.reason, status=403)
        return await self._logged_in(request, proved, then)

    async def _logged_in(self, request: Request, proved: Proved, then: str) -> Response:
        """The cookie is another one than before the log-in, whose session ends: nobody can have planted it."""
        before = await self._people.session(self._kit.cookie(request, self._kit.session_cookie))
        if before is not None:
            await self._people.log_out(before, visiting(request))
        response = self._kit.go(self._after(proved.session.place, then))
        self._kit.keep(response, self._kit.session_cookie, proved.token)
        self._kit.keep(response, self._kit.login_cookie, "")
        return response

    def _after(self, place: Place | None, then: str) -> str:
        return (then or self._home(place.role)) if place is not None else _with("/login/facility", then)

    def _home(self, role: str) -> str:
        return self._homes.get(role, HOME)

    # what to log in by ----------------------------------------------------------------------------------------------

    async def _start(self, request: Request) -> Response:
        return await self._start_page(request, self._then(request))

    async def _start_page(self, request: Request, then: str, *, reason: str = "", status: int = 200) -> Response:
        token = self._kit.cookie(request, self._kit.login_cookie)
        try:
            enrolment = await self._people.enrolment(token)
        except LoginRefused:
            return self._login_page(request, then, reason="over", status=403)
        account, secret = enrolment
        return self._kit.page(
            request,
            "start.html",
            status=status,
            csrf=form_token(token),
            next=then,
            reason=reason,
            account=account,
            again=bool(account.password or account.passkeys),
            passkeys=self._kit.passkeys,
            secret=totp_text(secret),
            picture=picture(totp_uri(secret, login=account.login, issuer=self._people.issuer)),
            length_min=PASSWORD_LENGTH_MIN,
            length_max=PASSWORD_LENGTH_MAX,
        )

    async def _new_password(self, request: Request) -> Response:
        fields = await self._kit.form(request, self._kit.login_cookie)
        then, token = self._then(request), self._kit.cookie(request, self._kit.login_cookie)
        try:
            proved = await self._people.enrol_password(
                token, fields.get("password", ""), fields.get("code", ""), visiting(request)
            )
        except LoginRefused as refused:
            return await self._start_page(request, then, reason=refused.reason, status=422)
        return await self._logged_in(request, proved, then)

    async def _new_passkey_options(self, request: Request) -> Response:
        fields = await self._kit.form(request, self._kit.login_cookie)
        token = self._kit.cookie(request, self._kit.login_cookie)
        try:
            options = await self._people.ask_new_passkey(token, self._kit.site)
        except LoginRefused as refused:
            raise FormRefused(refused.reason) from None
        return self._kit.data(json.dumps({"options": json.loads(options), "csrf": fields["csrf"]}))

    async def _new_passkey(self, request: Request) -> Response:
        fields = await self._kit.form(request, self._kit.login_cookie)
        then, token = self._then(request), self._kit.cookie(request, self._kit.login_cookie)
        try:
            proved = await self._people.enrol_passkey(
                token, fields.get("credential", ""), fields.get("label", ""), self._kit.site, visiting(request)
            )
        except LoginRefused as refused:
            return await self._start_page(request, then, reason=refused.reason, status=422)
        return await self._logged_in(request, proved, then)

    # where and as whom ----------------------------------------------------------------------------------------------

    async def _facility(self, request: Request) -> Response:
        then = self._then(request)
        current = await self._current(request)
        if current is None:
            return self._kit.go(_with("/login", then))
        return self._facility_page(request, current, then)

    def _facility_page(self, request: Request, current: Current, then: str, *, reason: str = "") -> Response:
        language = language_of(request)
        chosen = current.session.place
        return self._kit.page(
            request,
            "facility.html",
            status=422 if reason else 200,
            csrf=self._csrf(request),
            next=then,
            reason=reason,
            account=current.account,
            choices=[
                (_MARK.join((p.organisation, p.role)), p.organisation_name, ROLES[p.role][language], p == chosen)
                for p in current.account.places
            ],
        )

    async def _choose(self, request: Request) -> Response:
        fields, current = await self._own_form(request)
        if current is None:
            return self._kit.go("/login")
        then = self._then(request)
        organisation, _, role = fields.get("place", "").partition(_MARK)
        try:
            await self._people.choose(current, (organisation, role), visiting(request))
        except LoginRefused as refused:
            return self._facility_page(request, current, then, reason=refused.reason)
        return self._kit.go(then or self._home(role))

    # the account ----------------------------------------------------------------------------------------------------

    async def _account(self, request: Request) -> Response:
        current = await self._current(request)
        if current is not None:
            return await self._account_page(request, current)
        if self._patients is not None and (session := await self._patient(request)) is not None:
            return self._kit.page(
                request,
                "patient.html",
                csrf=form_token(self._kit.cookie(request, self._patients.sessions.cookie_name)),
                done=request.query_params.get("done", ""),
                session=session,
                sessions=await self._patients.sessions.listed(session),
            )
        return self._kit.go(_with("/login", HOME))

    async def _account_page(self, request: Request, current: Current, *, reason: str = "") -> Response:
        language = language_of(request)
        place = current.session.place
        return self._kit.page(
            request,
            "account.html",
            status=422 if reason else 200,
            csrf=self._csrf(request),
            reason=reason,
            done=request.query_params.get("done", ""),
            account=current.account,
            session=current.session,
            place=place,
            role=ROLES[place.role][language] if place else "",
            roles={code: names[language] for code, names in ROLES.items()},
            sessions=await self._people.sessions(current),
            passkeys=await self._people.passkeys(current),
        )

    async def _enrol_again(self, request: Request) -> Response:
        _, current = await self._own_form(request)
        if current is None:
            return self._kit.go("/login")
        try:
            token = await self._people.enrol_again(current)
        except LoginRefused as refused:
            return await self._account_page(request, current, reason=refused.reason)
        response = self._kit.go("/login/start")
        self._kit.keep(response, self._kit.login_cookie, token)
        return response

    async def _remove_passkey(self, request: Request) -> Response:
        fields, current = await self._own_form(request)
        if current is None:
            return self._kit.go("/login")
        try:
            await self._people.remove_passkey(current, bytes.fromhex(fields.get("passkey", "")), visiting(request))
        except LoginRefused as refused:
            return await self._account_page(request, current, reason=refused.reason)
        except ValueError:
            raise FormRefused("it names no passkey") from None
        return self._kit.go(f"{HOME}?done=removed")

    async def _end(self, request: Request) -> Response:
        if await self._current(request) is None and (session := await self._patient(request)) is not None:
            return await self._end_of_patient(request, session)
        fields, current = await self._own_form(request)
        if current is None:
            return self._kit.go("/login")
        session_id = fields.get("session", "")
        if all(session_id != each.session_id for each in await self._people.sessions(current)):
            return self._kit.go(HOME)
        await self._people.end(current, session_id, visiting(request))
        return self._kit.go(f"{HOME}?done=ended")

    async def _end_others(self, request: Request) -> Response:
        if await self._current(request) is None and (session := await self._patient(request)) is not None:
            return await self._end_of_patient(request, session)
        _, current = await self._own_form(request)
        if current is None:
            return self._kit.go("/login")
        await self._people.end_others(current, visiting(request))
        return self._kit.go(f"{HOME}?done=ended")

    async def _leaving(self, request: Request) -> Response:
        """Asks first: a mere link could be on anybody's page."""
        current = await self._current(request)
        if current is None:
            return self._kit.go("/login?out")
        return self._kit.page(request, "logout.html", csrf=self._csrf(request), account=current.account)

    async def _log_out(self, request: Request) -> Response:
        _, current = await self._own_form(request)
        if current is not None:
            await self._people.log_out(current, visiting(request))
        response = self._kit.go("/login?out")
        self._kit.keep(response, self._kit.session_cookie, "")
        response.headers["clear-site-data"] = '"cache", "storage"'
        return response

    # patients -------------------------------------------------------------------------------------------------------

    async def _patient(self, request: Request) -> PatientSession | None:
        """Who is logged in as a patient; asked only where nobody of the staff is."""
        return await self._patients.sessions.session(request.headers.get("cookie", "")) if self._patients else None

    async def _end_of_patient(self, request: Request, session: PatientSession) -> Response:
        """Ends the session that the form names, or, where it names none, all others of the patient."""
        assert self._patients is not None  # noqa: S101 - nobody is logged in as a patient without
        fields = await self._kit.form(request, self._patients.sessions.cookie_name)
        visit = visiting(request)
        attempt = LoginAttempt(address=visit.address, agent=visit.agent, request_id=visit.request_id)
        for each in await self._patients.sessions.listed(session):
            if each.session_id == fields.get("session", each.session_id) != session.session_id:
                await self._patients.revoke(attempt, each)
        return self._kit.go(f"{HOME}?done=ended")

    # parts ----------------------------------------------------------------------------------------------------------

    async def _current(self, request: Request) -> Current | None:
        return await self._people.session(self._kit.cookie(request, self._kit.session_cookie))

    async def _own_form(self, request: Request) -> tuple[dict[str, str], Current | None]:
        """The fields of a form of somebody who is logged in; None where the session has ended meanwhile."""
        return await self._kit.form(request, self._kit.session_cookie), await self._current(request)

    def _csrf(self, request: Request) -> str:
        return form_token(self._kit.cookie(request, self._kit.session_cookie))

    @staticmethod
    def _then(request: Request) -> str:
        """Where the person wanted to go, if it is ours."""
        return own_path(request.query_params.get("next", ""))


def _with(address: str, then: str) -> str:
    return f"{address}?next={quote(then, safe='')}" if then else address
