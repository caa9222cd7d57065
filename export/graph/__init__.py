"""ONNX graphs: build them from modules, wrap, rewrite, measure and run them in ONNX Runtime.

Uses: errors, protocol.
"""
