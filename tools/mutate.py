"""Changes the rules of access in every way that mutmut knows, and counts which changes their tests notice.

Run: ./run mutate. What is changed, and by which tests it must be noticed, stands in pyproject.toml ([tool.mutmut]). The
changes stay in mutants/ afterwards: ``python -m mutmut show NAME`` prints one.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MUTANTS = ROOT / "mutants"
NOTICED_PERCENT_MIN = 95


def mutmut(*arguments: str) -> None:
    """Raises CalledProcessError, for instance if the tests fail without any change."""
    subprocess.run([sys.executable, "-m", "mutmut", *arguments], cwd=ROOT, check=True)


def main() -> None:
    """Ends the process with 1 if too many changes go unnoticed."""
    shutil.rmtree(MUTANTS, ignore_errors=True)  # what an earlier run remembers is not asked
    mutmut("run")
    mutmut("export-cicd-stats")
    mutmut("results")
    counts = json.loads((MUTANTS / "mutmut-cicd-stats.json").read_text("utf-8"))
    noticed = counts["killed"] + counts["timeout"]
    percent = 100 * noticed / counts["total"]
    print(f"{noticed} of {counts['total']} changes are noticed: {percent:.1f} % (at least {NOTICED_PERCENT_MIN} %)")
    sys.exit(percent < NOTICED_PERCENT_MIN)


if __name__ == "__main__":
    main()
