"""Upscale an image file or an array with one model or several in sequence.

Uses: errors, image, inference, options, scheduling.
"""
