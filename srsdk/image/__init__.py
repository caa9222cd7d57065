"""Image files and pixel arrays: decode, encode, color, alpha, metadata, size.

Independent of engines and models.

Uses: budget, errors, options, system.
"""
