"""Image files and pixel arrays: decode, encode, color, alpha, metadata, size.

Independent of engines and models.

Uses: errors, options, system.
"""
