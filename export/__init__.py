"""Turn trained weights into model files that carry what they are and how good they are.

Run as ``python -m export WEIGHTS -o gan_x4.onnx``. Needs torch and onnx; nothing here goes into the
wheel.
"""
