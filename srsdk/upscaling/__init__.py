"""Upscale an image file or an array with one model or several in sequence.

Uses: budget, errors, image, inference, options, scheduling, system.
"""
