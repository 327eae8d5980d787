"""People who work here: what they prove themselves by, where and as whom they act, and how long that holds.

The rules are those of NIST SP 800-63B-4 (passwords, sessions) and RFC 6238 (codes); their numbers stand in
``codes/people.toml``. Whoever guesses is slowed down, by subject and never by organisation.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from base64 import b32encode
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol
from urllib.parse import quote

from obieg.codes.load import toml
from obieg.domain.audit import AuditEvent
from obieg.domain.documents import Value
from obieg.domain.launching import Launched

_TABLE = toml("people.toml")
_TOTP = _TABLE["totp"]
_PASSWORD = _TABLE["password"]
ROLES: dict[str, dict[str, str]] = toml("roles.toml")
PAUSES_S: tuple[int, ...] = tuple(_TABLE["lock_out"]["pauses_s"])
PASSWORD_LENGTH_MIN: int = _PASSWORD["length_min"]
PASSWORD_LENGTH_MAX: int = _PASSWORD["length_max"]
ATTEMPT = timedelta(seconds=_TABLE["time"]["attempt_s"])
ONE_TIME = timedelta(seconds=_TABLE["time"]["one_time_s"])
FRESH = timedelta(seconds=_TABLE["time"]["fresh_s"])
SEEN = timedelta(seconds=_TABLE["time"]["seen_s"])
KEPT = timedelta(seconds=_TABLE["time"]["kept_s"])
FAILURES_FORGOTTEN = timedelta(seconds=_TABLE["lock_out"]["forgotten_s"])
LOGIN_LENGTH_MAX = 64
_LOGIN = re.compile(r"[a-z0-9][a-z0-9._@+-]*")
_IDENTIFIER = re.compile(r"[0-2](?:\.\d+)+#[^#\s]+|[^#\s]+")


class LoginRefused(Exception):  # noqa: N818 - the word of the house
    """The person has not proved who they are, or may not do this; ``reason`` is a key of the pages' texts.

    ``wrong`` (which part of it is not told), ``wait`` (too many failures), ``over`` (it took too long: begin again),
    ``passkey``, ``short``, ``long``, ``guessable``, ``code``, ``stale`` (log in again first), ``last`` (nothing to log
    in by would remain), ``place``, ``assists``; of a launch ``launch_over``, ``launch_twice``, ``launch_stranger``,
    ``launch_place``, and ``launched`` (what only somebody who has logged in here may do).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Place(Value, frozen=True):
    """Where and as whom a person acts."""

    organisation: str  # root#extension
    organisation_name: str
    role: str  # code of codes/roles.toml


class Professional(Value, frozen=True):
    """For whom an assistant may act, and where."""

    organisation: str  # root#extension
    identifier: str  # root#extension
    name: str  # with title, as colleagues say it


class Account(Value, frozen=True):
    """A person who may log in here."""

    person_id: str  # UUID
    login: str  # folded
    name: str  # with title, as colleagues say it
    identifier: str  # root#extension, or the login where the person has no number: Requester.person
    created_at: datetime
    disabled: bool = False
    places: tuple[Place, ...] = ()
    assists: tuple[Professional, ...] = ()
    password: str = ""  # argon2id, PHC string format
    totp: bytes = b""  # the secret, wrapped by the node's master key
    totp_step: int = 0  # of the newest code that was used
    one_time: bytes = b""  # SHA-256 of the password of an invitation
    one_time_until: datetime | None = None
    passkeys: int = 0  # how many there are


class Passkey(Value, frozen=True):
    """A public key of WebAuthn (Web Authentication Level 2, section 4)."""

    credential_id: bytes
    person_id: str
    public_key: bytes  # COSE
    sign_count: int
    label: str
    created_at: datetime
    used_at: datetime | None = None


class Attempt(Value, frozen=True):
    """A log-in that is not over, known by a token of the browser; ``step`` is what comes next.

    ``totp``: the password is proved; ``passkey``: a challenge was given; ``enrol``: the person is proved and chooses
    by what to be known from now on.
    """

    token: bytes  # SHA-256
    step: str
    until: datetime
    person_id: str = ""
    challenge: bytes = b""
    secret: bytes = b""  # wrapped, of a TOTP that is being set up
    replaces: str = ""  # session in which the person asked for it


class Session(Value, frozen=True):
    """Somebody who is logged in."""

    session_id: str  # UUID; no secret
    person_id: str
    method: str  # passkey, password, launch
    started_at: datetime
    seen_at: datetime
    until: datetime  # at the latest
    address: str
    agent: str  # what the browser calls itself
    place: Place | None = None
    vouched_by: str = ""  # client_id of the system that launched it; "": the person logged in here
    proved_at: datetime | None = None  # when the person proved to it who they are
    acting_for: Professional | None = None  # of an assistant
    token: bytes = b""  # SHA-256 of what the cookie says; only of a new one


class Listed(NamedTuple):
    """A session with whose it is."""

    session: Session
    login: str
    name: str


class Enrolled(Value, frozen=True):
    """What a person will log in by: a password with codes, or a passkey."""

    password: str = ""
    totp: bytes = b""
    passkey: Passkey | None = None


class LogIn(Value, frozen=True):
    """All that one log-in changes."""

    session: Session
    attempt: bytes  # is over
    subject: bytes  # whose failures are forgotten
    totp_step: int | None = None  # is used up
    passkey: Passkey | None = None  # with its new counter and time
    enrolled: Enrolled | None = None  # the one-time password is used up
    replaces: str = ""  # session that this one takes the place of


class Opening(Value, frozen=True):
    """All that opening a launch changes."""

    code: bytes  # SHA-256; is used up
    session: Session
    replaces: str = ""  # session of the same browser, whoever's


class AccountStore(Protocol):
    """What ``actors/people`` needs of storage; everything raises RetryLater where the database is away."""

    async def account(self, *, login: str = "", person_id: str = "", identifier: str = "") -> Account | None:
        """By one of the three."""

    async def accounts(self) -> list[Account]:
        """All, by login."""

    async def add(self, account: Account, event: AuditEvent) -> bool:
        """False when the login or the identifier is taken."""

    async def count_failure(self, subject: bytes, now: datetime) -> bool:
        """Counts a failure before anything is looked at, so that guesses at the same time count too.

        False: nothing was counted, for the subject must wait.
        """

    async def begin(self, attempt: Attempt, event: AuditEvent | None = None) -> None:
        """Stores it."""

    async def attempt(self, token: bytes, now: datetime) -> Attempt | None:
        """One that is not over."""

    async def challenge(self, token: bytes, challenge: bytes) -> None:
        """Gives an attempt another challenge."""

    async def take_challenge(self, token: bytes, now: datetime) -> Attempt | None:
        """The attempt with its challenge, which is used up by this."""

    async def passkey(self, credential_id: bytes) -> Passkey | None:
        """By the identifier that its authenticator gave it."""

    async def passkeys(self, person_id: str) -> list[Passkey]:
        """Of a person, the oldest first."""

    async def remove_passkey(self, person_id: str, credential_id: bytes, event: AuditEvent) -> None:
        """Raises LostRace when it was the last thing to log in by."""

    async def log_in(self, done: LogIn, event: AuditEvent) -> None:
        """All in one commit. Raises LostRace when the attempt, code or invitation was used by another request."""

    async def launched(self, code: bytes, now: datetime) -> Launched | None:
        """What a code of launch stands for, until its end."""

    async def open(self, done: Opening, *events: AuditEvent) -> None:
        """All in one commit. Raises LostRace when the code was used by another request."""

    async def session(self, token: bytes, now: datetime, idle: timedelta) -> tuple[Session, Account] | None:
        """One that has not ended, of a person who is not disabled; it is used by this."""

    async def sessions(self, now: datetime, idle: timedelta, person_id: str = "") -> list[Listed]:
        """Those that have not ended, of a person or of all; the newest first."""

    async def choose(self, session_id: str, place: Place, event: AuditEvent) -> None:
        """Where the person acts from now on. Raises LostRace when the place is not theirs any more."""

    async def act_for(self, session_id: str, professional: str, event: AuditEvent) -> None:
        """For whom an assistant acts from now on; "": for nobody. Raises LostRace when they may not for this one."""

    async def assist(self, person_id: str, whom: Professional, event: AuditEvent, *, remove: bool = False) -> None:
        """Lets a person act for a professional, or no longer."""

    async def end(
        self, event: AuditEvent, *, session_id: str = "", person_id: str = "", but: str = "", reason: str = ""
    ) -> int:
        """Ends a session of the person, or all ``but`` one; how many. The event is stored when any ended."""

    async def place(self, person_id: str, place: Place, event: AuditEvent, *, remove: bool = False) -> None:
        """Gives a place to a person, or takes it."""

    async def disable(self, person_id: str, event: AuditEvent, *, disabled: bool) -> None:
        """Ends the sessions as well."""

    async def reset(self, person_id: str, one_time: bytes, until: datetime, event: AuditEvent) -> None:
        """Nothing is valid any more but the one-time password; sessions end."""

    async def record(self, event: AuditEvent) -> None:
        """Stores an audit record by itself."""

    async def forget(self, now: datetime) -> None:
        """Deletes attempts, failures and sessions that are over for long."""


# names ---------------------------------------------------------------------------------------------------------------


def fold_login(text: str) -> str:
    """As logins are compared; whatever somebody typed."""
    return unicodedata.normalize("NFKC", text).strip().casefold()[:LOGIN_LENGTH_MAX]


def is_login(text: str) -> bool:
    """Whether somebody can be given this login: letters, digits and ``. _ @ + -``."""
    return len(text) <= LOGIN_LENGTH_MAX and _LOGIN.fullmatch(text) is not None


def is_person_identifier(text: str) -> bool:
    """``root#extension`` or a name without a root."""
    return _IDENTIFIER.fullmatch(text) is not None


def subject(login: str) -> bytes:
    """Under what failures are counted: the same for logins that exist and those that do not."""
    return hashlib.sha256(b"login " + fold_login(login).encode()).digest()


def own_path(text: str) -> str:
    """A path of this node with its query, or "" for anything else: nobody is sent elsewhere after the log-in."""
    plain = text.isascii() and text.isprintable() and not set(text) & set(' \\"<>#')
    return text if plain and len(text) <= 4096 and re.match(r"/(?![/])", text) else ""


# passwords -----------------------------------------------------------------------------------------------------------

_WORDS = tuple(sorted(_TABLE["guessable"]["words"], key=len, reverse=True))
_ROWS = tuple(row for text in _TABLE["guessable"]["rows"] for row in (text, text[::-1]))
_LOOKALIKES = str.maketrans("013457@$!|+", "oieastasiit")
_WORD_GUESSES = 2  # which word, and how it is written
_RUN_MIN = 3


def check_password(password: str, about: Sequence[str] = ()) -> str:
    """What is wrong: ``short``, ``long``, ``guessable``, or "" for nothing. ``about``: what is known of the person.

    There are no rules of composition. As zxcvbn does, the password is taken apart into what a guesser would try as one:
    words of ``codes/people.toml`` and ``about``, with letters written as digits too, runs along the keyboard, the
    alphabet or the digits, repetitions, years. A word counts for two guesses, anything else for one; it takes eight.
    """
    if len(password) < PASSWORD_LENGTH_MIN:
        return "short"
    if len(password) > PASSWORD_LENGTH_MAX:
        return "long"
    known = [piece for text in about for piece in re.split(r"\W+", _fold(text)) if len(piece) >= _RUN_MIN]
    return "guessable" if _guesses(_fold(password), [*known, *_WORDS]) < _PASSWORD["guesses_min"] else ""


def _fold(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text.casefold()).replace("ł", "l")
    return "".join(c for c in folded if not unicodedata.combining(c))


def _guesses(text: str, words: Sequence[str]) -> int:
    plain = text.translate(_LOOKALIKES)
    at = guesses = 0
    while at < len(text):
        word = max((len(w) for w in words if text.startswith(w, at) or plain.startswith(w, at)), default=0)
        run = _run(text, at)
        if word > run:
            guesses += _WORD_GUESSES
        else:
            guesses += 1
        at += max(word, run, 1)
    return guesses


def _run(text: str, at: int) -> int:
    """How many characters from here on are one guess: a repetition, a sequence, a year; 0 for none."""
    longest = 0
    for step in (-1, 0, 1):
        end = at + 1
        while end < len(text) and ord(text[end]) - ord(text[end - 1]) == step:
            end += 1
        longest = max(longest, end - at)
    for row in _ROWS:
        length = _RUN_MIN
        while at + length <= len(text) and text[at : at + length] in row:
            longest = max(longest, length)
            length += 1
    if re.match(r"(?:19|20)\d\d", text[at:]):
        longest = max(longest, 4)
    length = _RUN_MIN
    while at + length <= len(text) and text[at : at + length] in text[:at]:
        longest = max(longest, length)
        length += 1
    return longest if longest >= _RUN_MIN else 0


# codes ---------------------------------------------------------------------------------------------------------------


def totp_code(secret: bytes, step: int) -> str:
    """The code of a time step (RFC 4226, section 5.3; RFC 6238, section 4)."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFF_FFFF
    digits: int = _TOTP["digits"]
    return f"{number % 10**digits:0{digits}}"


def totp_step(secret: bytes, code: str, now: datetime, used: int) -> int | None:
    """The time step whose code it is, within the window and after the one ``used`` last; None for none."""
    typed = re.sub(r"\s", "", code).encode()
    here, window = int(now.timestamp()) // _TOTP["step_s"], _TOTP["window"]
    found = None
    for step in range(here - window, here + window + 1):
        if hmac.compare_digest(totp_code(secret, step).encode(), typed) and step > used:
            found = step
    return found


def totp_secret(key: bytes) -> bytes:
    """The secret that a wrapped key holds."""
    return key[: _TOTP["secret_bytes"]]


def totp_uri(secret: bytes, *, login: str, issuer: str) -> str:
    """What authenticator apps read as a QR code (Key Uri Format)."""
    label = quote(f"{issuer}:{login}", safe="")
    return f"otpauth://totp/{label}?secret={totp_text(secret)}&issuer={quote(issuer, safe='')}"


def totp_text(secret: bytes) -> str:
    """The secret as people type it."""
    return b32encode(secret).decode().rstrip("=")
