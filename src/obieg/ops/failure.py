"""What an operator is told when something expected goes wrong: what happened, what it means, what to do now."""

from __future__ import annotations


class Failure(Exception):  # noqa: N818 - the word of the house: it is shown to people, not handled
    """An expected failure of a command. The command line prints its three parts and ends with ``exit_code``."""

    def __init__(self, what: str, meaning: str, remedy: str, *, exit_code: int = 1) -> None:
        super().__init__(what, meaning, remedy)
        self.what = what
        self.meaning = meaning
        self.remedy = remedy
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.what} {self.meaning} {self.remedy}"
