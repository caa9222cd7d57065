"""A survey of other people's architectures: which export, run and quantize, as a table.

Uses: options, pipeline, protocol, record, sources.
"""
