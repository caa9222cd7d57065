"""Find the fastest way to run a model on this machine with timed trials, and cache the choice.

Uses: engines, errors, formats, image, inference, manifest, options, system.
"""
