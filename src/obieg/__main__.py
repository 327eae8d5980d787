"""``python -m obieg`` is ``obieg``."""

from obieg.ops.cli import main

main()
