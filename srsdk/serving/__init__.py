"""Pictures over HTTP: one process, Ray Serve, and the local demo page.

Uses: budget, errors, image, manifest, models, options, scheduling, srsdk, system.
"""
