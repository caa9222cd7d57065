"""Evaluate networks: metrics, test sets, reports and picture sheets.

Uses: checkpoint, data, networks, recipe.
"""
