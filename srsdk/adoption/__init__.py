"""Other people's ONNX files: what they say, what a run shows, and srsdk's boundary around them.

Uses: engines, errors, formats, manifest, system.
"""
