"""Output formats: TensorRT engines, Triton repositories, graph lint and atomic writes.

Uses: errors, graph, hashing, options, quantization, record.
"""
