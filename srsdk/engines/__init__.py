"""Inference engines: open a model file with OpenVINO, ONNX Runtime or TensorRT.

All engines implement one protocol. Only this folder imports these libraries.

Uses: errors, formats, manifest, system.
"""
