"""Whether two records are about one person (Fellegi and Sunter 1969; rules for Polish people in docs/matching.md)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol

from obieg.domain.documents import Value
from obieg.domain.identifiers import PatientId
from obieg.domain.persons import Demographics


class Record(Value, frozen=True):
    """What is compared: the identifiers and demographics of one source."""

    identifiers: tuple[PatientId, ...] = ()
    demographics: Demographics = Demographics()


class Verdict(StrEnum):
    """What follows from the evidence."""

    SAME = "same"
    UNDECIDED = "undecided"  # for a person to decide
    DIFFERENT = "different"


class Evidence(Value, frozen=True):
    """One comparison: a field, how well it agrees, and how much that speaks for (+) or against (-) one person."""

    field: str
    level: str
    weight: float  # bits
    left: str = ""
    right: str = ""


class Judgement(Value, frozen=True):
    """The outcome of comparing two records."""

    verdict: Verdict
    score: float  # sum of weights with the prior, bits
    rule: str = ""  # the deterministic rule that decided, if one did
    # A fact speaks against one person that no score outweighs (two valid PESELs, two numbers of one facility, a shared
    # PESEL with another name, birth date and sex): never joined automatically, whatever other records say.
    conflict: bool = False
    evidence: tuple[Evidence, ...] = ()

    @property
    def percent(self) -> int:
        """The probability that both are one person, as the score has it."""
        if self.verdict is Verdict.SAME and self.rule:
            return 100
        return round(100 / (1 + 2 ** -max(-60.0, min(60.0, self.score))))


class Matcher(Protocol):
    """Judges pairs and says where to look for candidates."""

    def blocks(self, record: Record) -> tuple[int, ...]:
        """63-bit keys; two records of one person nearly always share one. The strongest (name and birth) first."""

    def judge(self, left: Record, right: Record) -> Judgement:
        """Compares two records; the evidence is left out."""

    def judge_patient(self, record: Record, records: Iterable[Record]) -> Judgement:
        """Whether the record is of the patient whom ``records`` (at least one) are about."""

    def explain(self, left: Record, right: Record) -> Judgement:
        """As :meth:`judge`, with the evidence."""
