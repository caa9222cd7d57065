"""Run one picture through one engine: tiling, slots, pixel conversion and output checks.

Uses: engines, errors, formats, image, manifest, scheduling, system.
"""
