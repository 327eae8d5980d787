"""Stand-ins of national services, for demonstrations and tests: labelled, and never to be taken for the real ones."""
