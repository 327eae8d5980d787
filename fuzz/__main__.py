"""``python -m fuzz [NAME…] [--time S]``: each target for S seconds, from its corpus on; what breaks it is kept in it."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from fuzz.targets import CORPUS, TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(TARGETS)}; none: all.")
    parser.add_argument("--time", type=int, default=60, metavar="S", help="Seconds for each.")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given, more = parser.parse_known_args()
    if given.one:
        return _run(given.one, more)
    if unknown := set(given.names) - TARGETS.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}: {', '.join(TARGETS)}")
    broken = []
    for name in given.names or TARGETS:
        print(f"{name}: {given.time} s", flush=True)
        with tempfile.TemporaryDirectory(prefix="obieg-fuzz-") as new:
            command = [
                sys.executable, "-m", "fuzz", "--one", name, f"-max_total_time={given.time}", "-timeout=10", "-rss_limit_mb=1024",
                "-max_len=65536", "-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={CORPUS / name}/found-", new, str(CORPUS / name),
            ]  # fmt: skip
            if subprocess.run(command, check=False).returncode:
                broken.append(name)
    print(f"broken: {', '.join(broken)}" if broken else "nothing broke")
    return bool(broken)


def _run(name: str, arguments: list[str]) -> int:
    import atheris

    with atheris.instrument_imports(include=["obieg"]):
        import importlib

        for module in [m for m in sys.modules if m.startswith("obieg") or m == "fuzz.targets"]:
            del sys.modules[module]
        targets = importlib.import_module("fuzz.targets")
    atheris.Setup([str(Path(sys.argv[0])), *arguments], targets.TARGETS[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
