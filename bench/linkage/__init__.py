"""How well obieg tells who is who, beside splink on the same made-up Polish people (docs/matching.md)."""
