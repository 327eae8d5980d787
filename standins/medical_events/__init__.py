"""A stand-in of P1's service of medical events (ZM), for demonstrations and tests: it makes events up."""
