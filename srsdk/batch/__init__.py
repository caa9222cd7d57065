"""Batch processing: match sources to targets, skip finished ones, run several at a time.

Uses: budget, errors, image, scheduling, system.
"""
