"""Measure speed and quality, each measurement in its own process.

Uses: machine, peers, records, workloads.
"""
