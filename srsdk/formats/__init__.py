"""Read, check and rewrite model files without the libraries that run them.

Uses: errors.
"""
