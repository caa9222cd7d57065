"""INT8 quantization: calibration, Q/DQ insertion and accuracy recovery.

Uses: errors, evaluation, graph, protocol, sources.
"""
