"""Pages for people: what they share (kit), and logging in."""
