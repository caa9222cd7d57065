"""Export trained weights to ONNX files and TensorRT engines with embedded metadata and scores.

Run as ``python -m export WEIGHTS -o gan_x4.onnx``. Needs torch and onnx; not part of the wheel.
"""
