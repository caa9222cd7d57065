"""Adapters for the libraries and networks that srsdk is compared with.

Uses: workloads.
"""
