"""Loss terms: pixel, frequency, adversarial and perceptual.

Uses: checkpoint, data, networks, recipe.
"""
