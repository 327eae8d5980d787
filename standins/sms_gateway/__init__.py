"""A stand-in of an SMS gateway: takes messages over HTTP, sends nothing to anybody, and shows what it took."""
