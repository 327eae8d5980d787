"""Where it is kept: PostgreSQL and the document store."""
