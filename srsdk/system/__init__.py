"""Operating-system and machine differences: paths, available memory, processors, cache folders.

Uses: nothing.
"""
