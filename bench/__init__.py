"""Measures a node beside PostgreSQL doing the same work: ``python -m bench``, docs/benchmarks.md."""
