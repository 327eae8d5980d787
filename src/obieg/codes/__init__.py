"""Identifiers, value sets and tables of the standards, as data."""
