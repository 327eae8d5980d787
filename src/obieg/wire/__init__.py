"""Wire formats, without input or output: bytes in, plain structures out."""
