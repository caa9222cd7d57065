"""Training data: read, cache, degrade and generate pictures, and draw batches.

Uses: checkpoint, networks, recipe.
"""
