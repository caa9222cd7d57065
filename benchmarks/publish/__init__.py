"""Generate tables, plots and a history page from result files.

Uses: machine, measure, peers, records.
"""
