"""Makes what is generated and committed; each has a test that it is current."""
