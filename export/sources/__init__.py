"""Sources of an export: a checkpoint, third-party weights, a torch module, an ONNX file.

Uses: errors, graph, hashing, protocol.
"""
