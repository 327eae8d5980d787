"""How a node is run: settings, wiring, command line, supervisor, demo, backup."""
