"""A stand-in of a hospital's own system, for demonstrations: patients on a ward, and a button that opens their record.

It does what docs/launch.md asks of such a system, and nothing else; whoever opens it is the professional it speaks of.
"""
