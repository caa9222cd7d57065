"""Compare the speed of two srsdk versions.

Uses: machine, measure, records, workloads.
"""
