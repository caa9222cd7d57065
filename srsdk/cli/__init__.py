"""Command line interface, with one module per command.

Uses: adoption, autotune, batch, chain, doctor, engines, errors, formats, image, inference,
manifest, models, options, ray, scheduling, serving, srsdk, system, upscaler, video.
"""
