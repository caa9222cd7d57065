"""Videos that are read from, or written to, an open file such as a pipe: in one pass."""
