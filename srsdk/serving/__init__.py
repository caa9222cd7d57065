"""HTTP service with Ray Serve, and the local demo page.

Uses: errors, image, manifest, models, srsdk.
"""
