"""Translation between wire formats and the domain, driven by the tables in ``codes``."""
