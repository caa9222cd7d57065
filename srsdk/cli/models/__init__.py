"""Commands about model files: list, fetch, remove, verify."""
