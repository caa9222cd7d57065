"""Batch processing: match sources to targets, skip finished ones, run several at a time.

Uses: errors, scheduling, system.
"""
